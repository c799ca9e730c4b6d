/**
 * The settings that a policy may hold: which values each takes, whether an operator policy may hold it too, and what
 * comes of a policy and an operator policy that both do. Names and texts are RabbitMQ's. Settings that mean nothing on
 * one machine (`ha-…`, `queue-leader-locator` and their like) are checked, kept, shown, and without effect.
 * [RabbitMQ: policies, operator policies]
 */
import { type FieldTable, type FieldValue, fieldTypeName } from '../fields.ts';
import { BrokerError } from '../port.ts';

/** Two kinds of policy: those of the users of a virtual host, and those of its operator, which limit the former. */
export type PolicyKind = 'user' | 'operator';

interface Setting {
  /** Ends the sentence `<value> is not a valid …`. */
  readonly noun: string;
  accepts(value: FieldValue): boolean;
  /** Absent: not a setting of operator policies. */
  merge?(value: FieldValue, operatorValue: FieldValue): FieldValue;
}

type Merge = NonNullable<Setting['merge']>;

function isInteger(value: FieldValue): value is number | bigint {
  return typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
}

const lower: Merge = (value, operatorValue) => (Number(value) <= Number(operatorValue) ? value : operatorValue);
const higher: Merge = (value, operatorValue) => (Number(value) >= Number(operatorValue) ? value : operatorValue);
const operators: Merge = (_value, operatorValue) => operatorValue;
/** A negative limit is none; of two, the one that limits counts. */
const lowerLimit: Merge = (value, operatorValue) =>
  Number(value) < 0 || Number(operatorValue) < 0 ? higher(value, operatorValue) : lower(value, operatorValue);

function integer(noun: string, min: number, merge?: Merge, max = Number.POSITIVE_INFINITY): Setting {
  const accepts = (value: FieldValue): boolean => isInteger(value) && value >= min && value <= max;
  return merge === undefined ? { noun, accepts } : { noun, accepts, merge };
}

function text(noun: string, merge?: Merge): Setting {
  const accepts = (value: FieldValue): boolean => typeof value === 'string';
  return merge === undefined ? { noun, accepts } : { noun, accepts, merge };
}

function word(noun: string, words: readonly string[], merge?: Merge): Setting {
  const accepts = (value: FieldValue): boolean => typeof value === 'string' && words.includes(value);
  return merge === undefined ? { noun, accepts } : { noun, accepts, merge };
}

const LEADER_LOCATORS = ['client-local', 'balanced', 'random', 'least-leaders'];
const PROMOTIONS = ['always', 'when-synced'];
/** Octets in a segment of a stream; RabbitMQ's bound. */
const STREAM_SEGMENT_BYTES_MAX = 3_000_000_000;

const SETTINGS: ReadonlyMap<string, Setting> = new Map<string, Setting>([
  ['alternate-exchange', text('alternate exchange name')],
  ['consumer-disconnected-timeout', integer('consumer disconnected timeout', 0)],
  ['consumer-timeout', integer('consumer timeout', 0)],
  ['dead-letter-exchange', text('dead letter exchange name')],
  ['dead-letter-routing-key', text('dead letter routing key')],
  ['dead-letter-strategy', word('dead letter strategy', ['at-most-once', 'at-least-once'])],
  ['delayed-retry-type', word('delayed retry type', ['all', 'failed', 'returned', 'disabled'], operators)],
  ['delayed-retry-min', integer('delayed retry minimum delay', 1, higher)],
  ['delayed-retry-max', integer('delayed retry maximum delay', 1, lower)],
  ['delayed-retry-multiplier', integer('delayed retry multiplier', 1, lower, 1000)],
  ['delivery-limit', integer('delivery limit', Number.NEGATIVE_INFINITY, lowerLimit)],
  ['expires', integer('queue expiry', 1, lower)],
  ['max-length', integer('maximum length', 0, lower)],
  ['max-length-bytes', integer('maximum length in bytes', 0, lower)],
  ['message-ttl', integer('message TTL', 0, lower)],
  ['overflow', word('overflow value', ['drop-head', 'reject-publish', 'reject-publish-dlx'], operators)],
  ['queue-mode', word('queue-mode value', ['default', 'lazy'])],
  // From here on: without effect.
  ['queue-version', integer('queue-version value', 1, operators, 2)],
  ['max-in-memory-length', integer('maximum memory in bytes', 0, lower)],
  ['max-in-memory-bytes', integer('maximum memory in bytes', 0, lower)],
  ['max-age', { noun: 'max age', accepts: (value) => typeof value === 'string' && /^0*[1-9]\d*[YMDhms]$/.test(value) }],
  ['stream-max-segment-size-bytes', integer('segment size', 0, undefined, STREAM_SEGMENT_BYTES_MAX)],
  ['stream-filter-size-bytes', integer('filter size', 16, undefined, 255)],
  ['initial-cluster-size', integer('cluster size', 0)],
  ['target-group-size', integer('qq target count value', 1, higher)],
  ['member-placement-tag', text('member-placement-tag value', operators)],
  ['queue-leader-locator', word('queue leader locator value', LEADER_LOCATORS)],
  ['queue-master-locator', word('master locator', ['client-local', 'min-masters', 'random'], operators)],
  ['ha-mode', word('ha-mode', ['all', 'exactly', 'nodes'])],
  ['ha-params', { noun: 'ha-params value', accepts: (value) => isInteger(value) || Array.isArray(value) }],
  ['ha-sync-mode', word('ha-sync-mode', ['automatic', 'manual'])],
  ['ha-sync-batch-size', integer('ha-sync-batch-size', 1)],
  ['ha-promote-on-shutdown', word('ha-promote-on-shutdown', PROMOTIONS)],
  ['ha-promote-on-failure', word('ha-promote-on-failure', PROMOTIONS)],
]);

/** A policy with one of these is meant for streams and applies to no other kind of queue. */
const STREAM_SETTINGS: readonly string[] = ['max-age', 'stream-max-segment-size-bytes'];

/** False for a policy whose settings are meant for another type of queue. */
export function fitsQueueType(definition: FieldTable, queueType: string): boolean {
  return queueType === 'stream' || !STREAM_SETTINGS.some((name) => name in definition);
}

/** The precondition-failed with which RabbitMQ refuses a policy or parameter. */
export function validationError(reason: string): BrokerError {
  return new BrokerError('precondition-failed', `Validation failed\n\n${reason}\n`);
}

/** Throws precondition-failed for an empty definition, an unknown setting, and a value that a setting does not take. */
export function checkPolicyDefinition(definition: FieldTable, kind: PolicyKind): void {
  const entries = Object.entries(definition);
  if (entries.length === 0) throw validationError('no policy provided');
  const settingOf = (name: string): Setting | undefined => {
    const setting = SETTINGS.get(name);
    return kind === 'operator' && setting?.merge === undefined ? undefined : setting;
  };
  const unknown = entries.filter(([name]) => settingOf(name) === undefined).map(([name]) => name);
  const settings = kind === 'operator' ? 'operator policy settings' : 'policy settings';
  if (unknown.length > 0) throw validationError(`${unknown.join(', ')} are not recognised ${settings}`);
  for (const [name, value] of entries) {
    const setting = settingOf(name);
    if (setting?.accepts(value) === false) throw validationError(`${valueText(value)} is not a valid ${setting.noun}`);
  }
  checkDelayedRetry(definition);
}

function checkDelayedRetry(definition: FieldTable): void {
  const type = definition['delayed-retry-type'];
  const min = definition['delayed-retry-min'];
  const max = definition['delayed-retry-max'];
  if (type !== undefined && type !== 'disabled' && min === undefined) {
    throw validationError(`delayed-retry-min is required when delayed-retry-type is ${type}`);
  }
  if (min !== undefined && max !== undefined && Number(max) < Number(min)) {
    throw validationError(`delayed-retry-max (${max}) must not be smaller than delayed-retry-min (${min})`);
  }
}

/** What the two definitions come to together; both have been checked. [B23] */
export function mergeDefinitions(definition: FieldTable, operatorDefinition: FieldTable): FieldTable {
  const merged: Record<string, FieldValue> = { ...definition, ...operatorDefinition };
  for (const [name, operatorValue] of Object.entries(operatorDefinition)) {
    const value = definition[name];
    if (value !== undefined) merged[name] = SETTINGS.get(name)?.merge?.(value, operatorValue) ?? operatorValue;
  }
  return merged;
}

function valueText(value: FieldValue): string {
  if (typeof value === 'string') return JSON.stringify(value);
  return isInteger(value) || typeof value === 'boolean' ? String(value) : `a ${fieldTypeName(value)}`;
}
