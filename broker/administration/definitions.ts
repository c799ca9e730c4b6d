/**
 * Reading definitions: from the JSON document that RabbitMQ exports (of a whole broker, or of one virtual host, whose
 * entries name none) to the model's own terms. Only the form is checked here; whether it fits what is there, in
 * definitions-import.ts. Unknown keys are ignored, at every level. [B24; RabbitMQ: definitions]
 */

import { DEFAULT_HASHING_ALGORITHM, isHashingAlgorithm } from '../access/password.ts';
import type { FieldTable } from '../fields.ts';
import { type BindingSpec, BrokerError, type ExchangeDeclaration, type QueueDeclaration } from '../port.ts';
import type {
  Definitions,
  HashingAlgorithm,
  Permission,
  Policy,
  PolicyScope,
  TopicPermission,
  UserLimits,
  UserSpec,
  VhostLimits,
  VhostSpec,
} from './administration.ts';
import { checkDepth, tableFromEntries } from './json-fields.ts';
import type { GlobalParameter, Parameter } from './parameters.ts';

/** Under these components of `parameters`, RabbitMQ keeps what Warren keeps elsewhere. */
export const VHOST_LIMITS_COMPONENT = 'vhost-limits';
export const OPERATOR_POLICY_COMPONENT = 'operator_policy';

/** Something in a virtual host. */
export type In<Thing> = Thing & { readonly vhost: string };

/** A definitions document, read. What a document leaves out of a user or virtual host is undefined: keep what is there. */
export interface ReadDefinitions {
  readonly users: readonly UserSpec[];
  readonly vhosts: readonly VhostSpec[];
  readonly vhostLimits: readonly { readonly vhost: string; readonly limits: VhostLimits }[];
  readonly permissions: readonly Permission[];
  readonly topicPermissions: readonly TopicPermission[];
  readonly parameters: readonly Parameter[];
  readonly globalParameters: readonly GlobalParameter[];
  readonly policies: readonly Policy[];
  readonly operatorPolicies: readonly Policy[];
  readonly exchanges: readonly In<ExchangeDeclaration>[];
  readonly queues: readonly In<QueueDeclaration>[];
  readonly bindings: readonly In<BindingSpec>[];
}

/**
 * Reads a document. `vhost` is the virtual host that everything goes into: users, permissions and other virtual hosts
 * in the document are then left alone. Without it every entry must name its own. Throws precondition-failed with the
 * place of what cannot be, e.g. `definitions: queues[3].durable should be a boolean`.
 */
export function readDefinitions(document: Definitions, vhost?: string): ReadDefinitions {
  const whole = <Entry>(section: string, read: (entry: EntryReader) => Entry): Entry[] =>
    vhost === undefined ? readSection(document, section, vhost, read) : [];
  const each = <Entry>(section: string, read: (entry: EntryReader) => Entry): Entry[] =>
    readSection(document, section, vhost, read);
  const parameters = each('parameters', (entry) => ({ entry, component: entry.text('component') }));
  const among = (component: string): EntryReader[] =>
    parameters.filter((parameter) => parameter.component === component).map(({ entry }) => entry);
  const elsewhere = [VHOST_LIMITS_COMPONENT, OPERATOR_POLICY_COMPONENT];
  return {
    users: whole('users', (entry) => readUser(entry, legacyHashing(document))),
    vhosts: whole('vhosts', readVhost),
    vhostLimits: among(VHOST_LIMITS_COMPONENT).map(readVhostLimits),
    permissions: whole('permissions', readPermission),
    topicPermissions: whole('topic_permissions', readTopicPermission),
    parameters: parameters
      .filter(({ component }) => !elsewhere.includes(component))
      .map(({ entry, component }) => ({
        vhost: entry.vhost(),
        component,
        name: entry.text('name'),
        value: entry.json('value'),
      })),
    globalParameters: whole('global_parameters', (entry) => ({
      name: entry.text('name'),
      value: entry.json('value'),
    })),
    policies: each('policies', (entry) => readPolicy(entry, entry)),
    operatorPolicies: among(OPERATOR_POLICY_COMPONENT).map((entry) => readPolicy(entry, entry.entry('value'))),
    exchanges: each('exchanges', readExchange),
    queues: each('queues', readQueue),
    bindings: each('bindings', readBinding),
  };
}

function readSection<Entry>(
  document: Definitions,
  section: string,
  vhost: string | undefined,
  read: (entry: EntryReader) => Entry,
): Entry[] {
  const entries = Object.hasOwn(document, section) ? document[section] : undefined;
  if (entries === undefined) return [];
  if (!Array.isArray(entries)) throw malformed(`${section} should be an array`);
  return entries.map((entry: unknown, index) => read(new EntryReader(entry, `${section}[${index}]`, vhost)));
}

/** Before 3.6, RabbitMQ hashed with MD5 and did not say so. */
function legacyHashing(document: Definitions): HashingAlgorithm {
  const version = document.rabbitmq_version ?? document.rabbit_version;
  const [major = 0, minor = 0] = typeof version === 'string' ? version.split('.').map(Number) : [4];
  return major < 3 || (major === 3 && minor < 6) ? 'rabbit_password_hashing_md5' : DEFAULT_HASHING_ALGORITHM;
}

function readUser(entry: EntryReader, algorithmUnsaid: HashingAlgorithm): UserSpec {
  const name = entry.text('name');
  const password = entry.optional('password', (key) => entry.text(key));
  const passwordHash = entry.optional('password_hash', (key) => entry.text(key));
  const limits = entry.optional('limits', (key): UserLimits => readUserLimits(entry.table(key)));
  const hashingAlgorithm = entry.optional('hashing_algorithm', (key) => entry.text(key)) ?? algorithmUnsaid;
  if (!isHashingAlgorithm(hashingAlgorithm)) throw entry.malformed('hashing_algorithm', 'a known hashing algorithm');
  return {
    name,
    ...(password === undefined ? {} : { password }),
    ...(passwordHash === undefined ? {} : { passwordHash }),
    // What is hashed here and now is not hashed with MD5.
    ...(password === undefined ? { hashingAlgorithm } : {}),
    tags: entry.optional('tags', (key) => entry.words(key)) ?? [],
    ...(limits === undefined ? {} : { limits }),
  };
}

/** `metadata` is where RabbitMQ since 3.8 keeps what is also, since 3.11, beside it. */
function readVhost(entry: EntryReader): VhostSpec {
  const metadata = entry.optional('metadata', (key) => entry.entry(key));
  const description =
    entry.optional('description', (key) => entry.text(key)) ??
    metadata?.optional('description', (key) => metadata.text(key));
  const tags =
    entry.optional('tags', (key) => entry.words(key)) ?? metadata?.optional('tags', (key) => metadata.words(key));
  const type =
    entry.optional('default_queue_type', (key) => entry.text(key)) ??
    metadata?.optional('default_queue_type', (key) => metadata.text(key));
  return {
    name: entry.text('name'),
    ...(description === undefined ? {} : { description }),
    ...(tags === undefined ? {} : { tags }),
    ...(type === undefined || type === 'undefined' ? {} : { defaultQueueType: type }),
  };
}

function readVhostLimits(entry: EntryReader): { readonly vhost: string; readonly limits: VhostLimits } {
  const limits = entry.table('value');
  return {
    vhost: entry.vhost(),
    limits: {
      ...numberFrom(limits, 'max-connections', 'maxConnections'),
      ...numberFrom(limits, 'max-queues', 'maxQueues'),
    },
  };
}

function readUserLimits(limits: FieldTable): UserLimits {
  return {
    ...numberFrom(limits, 'max-connections', 'maxConnections'),
    ...numberFrom(limits, 'max-channels', 'maxChannels'),
  };
}

/** What is no integer comes out as NaN, which is refused where limits are checked. */
function numberFrom<Key extends string>(
  limits: FieldTable,
  name: string,
  key: Key,
): { readonly [key in Key]?: number } {
  const value = limits[name];
  if (value === undefined) return {};
  const number = typeof value === 'number' || typeof value === 'bigint' ? Number(value) : Number.NaN;
  return { [key]: number } as { readonly [key in Key]?: number };
}

function readPermission(entry: EntryReader): Permission {
  return {
    vhost: entry.vhost(),
    user: entry.text('user'),
    configure: entry.text('configure'),
    write: entry.text('write'),
    read: entry.text('read'),
  };
}

function readTopicPermission(entry: EntryReader): TopicPermission {
  return {
    vhost: entry.vhost(),
    user: entry.text('user'),
    exchange: entry.text('exchange'),
    write: entry.text('write'),
    read: entry.text('read'),
  };
}

/** `value` is the entry itself, or that of the parameter as which an operator policy is kept. */
function readPolicy(entry: EntryReader, value: EntryReader): Policy {
  return {
    vhost: entry.vhost(),
    name: entry.text('name'),
    pattern: value.text('pattern'),
    // Which words there are is checked with the rest of the policy.
    applyTo: (value.optional('apply-to', (key) => value.text(key)) ?? 'all') as PolicyScope,
    priority: value.optional('priority', (key) => value.number(key)) ?? 0,
    definition: value.table('definition'),
  };
}

function readExchange(entry: EntryReader): In<ExchangeDeclaration> {
  return {
    vhost: entry.vhost(),
    exchange: entry.text('name'),
    type: entry.text('type'),
    durable: entry.flag('durable', true),
    autoDelete: entry.flag('auto_delete', false),
    internal: entry.flag('internal', false),
    arguments: entry.table('arguments'),
  };
}

function readQueue(entry: EntryReader): In<QueueDeclaration> {
  return {
    vhost: entry.vhost(),
    queue: entry.text('name'),
    durable: entry.flag('durable', true),
    autoDelete: entry.flag('auto_delete', false),
    arguments: entry.table('arguments'),
  };
}

function readBinding(entry: EntryReader): In<BindingSpec> {
  const destinationKind = entry.text('destination_type');
  if (destinationKind !== 'queue' && destinationKind !== 'exchange') {
    throw entry.malformed('destination_type', "'queue' or 'exchange'");
  }
  return {
    vhost: entry.vhost(),
    source: entry.text('source'),
    destination: entry.text('destination'),
    destinationKind,
    bindingKey: entry.optional('routing_key', (key) => entry.text(key)) ?? '',
    arguments: entry.table('arguments'),
  };
}

function malformed(reason: string): BrokerError {
  return new BrokerError('precondition-failed', `definitions: ${reason}`);
}

/** One entry of a section; complaints name its place. A value of null counts as absent. */
class EntryReader {
  readonly #values: { readonly [key: string]: unknown };
  readonly #place: string;
  readonly #vhost: string | undefined;

  constructor(value: unknown, place: string, vhost: string | undefined) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw malformed(`${place} should be an object`);
    }
    this.#values = value as { readonly [key: string]: unknown };
    this.#place = place;
    this.#vhost = vhost;
  }

  malformed(key: string, wanted: string): BrokerError {
    return malformed(`${this.#place}.${key} should be ${wanted}`);
  }

  /** Undefined when absent. */
  value(key: string): unknown {
    return Object.hasOwn(this.#values, key) ? (this.#values[key] ?? undefined) : undefined;
  }

  optional<Value>(key: string, read: (key: string) => Value): Value | undefined {
    return this.value(key) === undefined ? undefined : read(key);
  }

  text(key: string): string {
    const value = this.value(key);
    if (typeof value !== 'string') throw this.malformed(key, 'a string');
    return value;
  }

  number(key: string): number {
    const value = this.value(key);
    if (typeof value !== 'number') throw this.malformed(key, 'a number');
    return value;
  }

  flag(key: string, unsaid: boolean): boolean {
    const value = this.value(key) ?? unsaid;
    if (typeof value !== 'boolean') throw this.malformed(key, 'a boolean');
    return value;
  }

  /** An array of strings, or one string with commas between them. */
  words(key: string): readonly string[] {
    const value = this.value(key);
    const words = typeof value === 'string' ? value.split(',').map((word) => word.trim()) : value;
    if (!Array.isArray(words) || !words.every((word) => typeof word === 'string')) {
      throw this.malformed(key, 'an array of strings');
    }
    return words.filter((word) => word !== '');
  }

  /** An object; or what older exports make of one: an array of pairs. Empty when absent. */
  table(key: string): FieldTable {
    const value = this.value(key) ?? {};
    const entries = Array.isArray(value) ? value : typeof value === 'object' ? Object.entries(value) : undefined;
    if (entries === undefined || !entries.every(isPair)) throw this.malformed(key, 'an object');
    return this.#within(key, () => tableFromEntries(entries));
  }

  /** Anything at all, as it came. Undefined when absent. */
  json(key: string): unknown {
    const value = this.value(key);
    this.#within(key, () => checkDepth(value));
    return value;
  }

  #within<Value>(key: string, read: () => Value): Value {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw malformed(`${this.#place}.${key} is ${error.message}`);
    }
  }

  entry(key: string): EntryReader {
    return new EntryReader(this.value(key), `${this.#place}.${key}`, this.#vhost);
  }

  /** The virtual host that everything goes into, or else the entry's own. */
  vhost(): string {
    if (this.#vhost !== undefined) return this.#vhost;
    if (this.value('vhost') === undefined) {
      throw malformed(
        `${this.#place} names no virtual host: definitions of one virtual host are imported into one that is named`,
      );
    }
    return this.text('vhost');
  }
}

function isPair(value: unknown): value is readonly [string, unknown] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string';
}
