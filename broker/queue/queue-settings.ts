/**
 * What the arguments of a queue and the policies on it come to. Arguments are checked when the queue is declared;
 * policy values have been checked when the policy was set. Where both say something, the lower number counts, and
 * otherwise the argument. [RabbitMQ: queue arguments, policies]
 */
import { type FieldTable, type FieldValue, fieldTypeName } from '../fields.ts';
import { BrokerError } from '../port.ts';

export type Overflow = 'drop-head' | 'reject-publish' | 'reject-publish-dlx';

/** Backoff for requeued messages: `min(minMs * attempts, maxMs)`, or with a multiplier `minMs * multiplier^(attempts-1)`. */
export interface DelayedRetry {
  /** Which returns wait: failed (basic.reject, a lost channel), returned (basic.nack), or all. */
  readonly type: 'all' | 'failed' | 'returned';
  readonly minMs: number;
  readonly maxMs: number;
  readonly multiplier: number | undefined;
}

export interface QueueSettings {
  readonly messageTtlMs: number | undefined;
  readonly expiresMs: number | undefined;
  readonly maxLength: number;
  readonly maxLengthBytes: number;
  readonly overflow: Overflow;
  readonly deadLetterExchange: string | undefined;
  readonly deadLetterRoutingKey: string | undefined;
  readonly deliveryLimit: number;
  /** 0 = not a priority queue. */
  readonly maxPriority: number;
  readonly singleActiveConsumer: boolean;
  readonly delayedRetry: DelayedRetry | undefined;
  /** 0 = none. */
  readonly consumerTimeoutMs: number;
  /** Whether redelivered messages carry `x-delivery-count`. */
  readonly countsDeliveries: boolean;
  /** Whether messages carry the time of their arrival here, in the header `x-arrived-at`. */
  readonly stampsArrivals: boolean;
}

/** A rule for one argument: undefined when the value will do, else what is wrong, in RabbitMQ's words. */
type Rule = (value: FieldValue, all: FieldTable) => string | typeof WRONG_TYPE | undefined;

/** Of the arguments that name something, RabbitMQ says in other words that their type is wrong. */
const WRONG_TYPE = Symbol('wrong type');

const isInteger = (value: FieldValue): value is number | bigint =>
  typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));

/** Largest time in milliseconds: 100 years, RabbitMQ's own bound for timers. */
export const TIME_MAX_MS = 100 * 365 * 24 * 3600 * 1000;

function integer(min: number, max = Number.MAX_SAFE_INTEGER, tooLarge = 'value_too_large'): Rule {
  return (value) => {
    if (!isInteger(value)) return `{unacceptable_type,${fieldTypeName(value)}}`;
    if (value < 0) return `{value_negative,${value}}`;
    if (value < min) return `{value_zero,${value}}`;
    return value > max ? `{${tooLarge},${value}}` : undefined;
  };
}

const text: Rule = (value) => (typeof value === 'string' ? undefined : `{unacceptable_type,${fieldTypeName(value)}}`);

const name: Rule = (value) => (typeof value === 'string' ? undefined : WRONG_TYPE);

function oneOf(complaint: string, ...words: string[]): Rule {
  return (value) => text(value, {}) ?? (words.includes(String(value)) ? undefined : complaint);
}

const bool: Rule = (value) => (typeof value === 'boolean' ? undefined : `{unacceptable_type,${fieldTypeName(value)}}`);

/** Every queue argument that means something; only these are compared when a queue is declared again. */
const RULES: { readonly [argument: string]: Rule } = {
  'x-expires': integer(1, TIME_MAX_MS),
  'x-message-ttl': integer(0, TIME_MAX_MS),
  'x-dead-letter-exchange': name,
  'x-dead-letter-routing-key': (value, all) =>
    name(value, all) ?? ('x-dead-letter-exchange' in all ? undefined : 'routing_key_but_no_dlx_defined'),
  'x-max-length': integer(0, Number.POSITIVE_INFINITY),
  'x-max-length-bytes': integer(0, Number.POSITIVE_INFINITY),
  'x-overflow': oneOf('invalid_overflow', 'drop-head', 'reject-publish', 'reject-publish-dlx'),
  'x-max-priority': integer(0, 255, 'max_value_exceeded'),
  'x-delivery-limit': integer(0),
  'x-single-active-consumer': bool,
  'x-queue-mode': oneOf('invalid_queue_mode', 'default', 'lazy'),
  'x-queue-type': oneOf('unsupported_queue_type', 'classic', 'quorum'),
  'x-delayed-retry-type': oneOf('invalid_delayed_retry_type', 'disabled', 'all', 'failed', 'returned'),
  'x-delayed-retry-min': integer(1, TIME_MAX_MS),
  'x-delayed-retry-max': integer(1, TIME_MAX_MS),
  'x-delayed-retry-multiplier': integer(1, 1000),
  'x-consumer-timeout': integer(0, TIME_MAX_MS),
};

/** Arguments that take part in the equivalence check. */
export const QUEUE_ARGUMENTS: readonly string[] = Object.keys(RULES);

/** Throws precondition-failed for the first argument that cannot be. */
export function checkQueueArguments(queue: string, vhost: string, args: FieldTable): void {
  for (const name of QUEUE_ARGUMENTS) {
    const value = args[name];
    if (value === undefined) continue;
    const complaint = RULES[name]?.(value, args);
    if (complaint === undefined) continue;
    throw new BrokerError(
      'precondition-failed',
      complaint === WRONG_TYPE
        ? `invalid type '${fieldTypeName(value)}' for arg '${name}' in queue '${queue}' in vhost '${vhost}'`
        : `invalid arg '${name}' for queue '${queue}' in vhost '${vhost}': ${complaint}`,
    );
  }
}

/** `classic` or `quorum`. */
export function queueTypeOf(args: FieldTable): string {
  return args['x-queue-type'] === 'quorum' ? 'quorum' : 'classic';
}

/** The settings that `args` (checked) and the effective definition of the policies on the queue come to. */
export function queueSettings(args: FieldTable, policy: FieldTable, defaultConsumerTimeoutMs: number): QueueSettings {
  const number = (key: string): number | undefined => {
    // A policy may say -1 for none.
    const values = [args[`x-${key}`], policy[key]].filter(
      (value) => value !== undefined && isInteger(value) && value >= 0,
    );
    return values.length > 0 ? Math.min(...values.map(Number)) : undefined;
  };
  const string = (key: string): string | undefined => {
    const value = args[`x-${key}`] ?? policy[key];
    return typeof value === 'string' ? value : undefined;
  };
  const deliveryLimit = number('delivery-limit');
  return {
    messageTtlMs: number('message-ttl'),
    expiresMs: number('expires'),
    maxLength: number('max-length') ?? Number.POSITIVE_INFINITY,
    maxLengthBytes: number('max-length-bytes') ?? Number.POSITIVE_INFINITY,
    overflow: (string('overflow') ?? 'drop-head') as Overflow,
    deadLetterExchange: string('dead-letter-exchange'),
    deadLetterRoutingKey: string('dead-letter-routing-key'),
    deliveryLimit: deliveryLimit ?? Number.POSITIVE_INFINITY,
    maxPriority: Number(args['x-max-priority'] ?? 0),
    singleActiveConsumer: args['x-single-active-consumer'] === true,
    delayedRetry: delayedRetry(string('delayed-retry-type'), number),
    consumerTimeoutMs: number('consumer-timeout') ?? defaultConsumerTimeoutMs,
    countsDeliveries: deliveryLimit !== undefined || queueTypeOf(args) === 'quorum',
    // Not compared when the queue is declared again: other doors need not know of it.
    stampsArrivals: args['x-stamp-arrivals'] === true,
  };
}

/** A minimum alone switches the delay on, for every kind of return. [RabbitMQ 4.3; LavinMQ for the multiplier] */
function delayedRetry(type: string | undefined, number: (key: string) => number | undefined): DelayedRetry | undefined {
  const minMs = number('delayed-retry-min');
  if (minMs === undefined || type === 'disabled') return undefined;
  return {
    type: type === 'failed' || type === 'returned' ? type : 'all',
    minMs,
    maxMs: number('delayed-retry-max') ?? TIME_MAX_MS,
    multiplier: number('delayed-retry-multiplier'),
  };
}

/** How long attempt number `attempts` (from 1) waits. */
export function retryDelayMs(retry: DelayedRetry, attempts: number): number {
  const { minMs, maxMs, multiplier } = retry;
  return Math.min(maxMs, multiplier === undefined ? minMs * attempts : minMs * multiplier ** (attempts - 1));
}

/** A consumer's `x-priority`: any signed integer, 0 when absent; throws precondition-failed otherwise. */
export function consumerPriority(args: FieldTable, queue: string, vhost: string): number {
  const value = args['x-priority'];
  if (value === undefined) return 0;
  if (isInteger(value)) return Number(value);
  throw new BrokerError(
    'precondition-failed',
    `invalid arg 'x-priority' for queue '${queue}' in vhost '${vhost}': {unacceptable_type,${fieldTypeName(value)}}`,
  );
}

/** The strings in a CC or BCC header; throws precondition-failed when it is no array. [RabbitMQ: other elements are ignored] */
export function copyKeys(headers: FieldTable, name: 'CC' | 'BCC'): readonly string[] {
  const value = headers[name];
  if (value === undefined) return [];
  if (Array.isArray(value)) return value.filter((key) => typeof key === 'string');
  throw new BrokerError(
    'precondition-failed',
    `invalid message: {unacceptable_type_in_header,"${name}",${fieldTypeName(value)}}`,
  );
}
