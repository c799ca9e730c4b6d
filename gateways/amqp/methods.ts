/**
 * The methods of AMQP 0-9-1 as a table, and their arguments as octets [AMQP 1.2 to 1.9, 4.2.4]: one line a method, from
 * which the types of the arguments follow. Consecutive bits share octets, lowest bit first.
 */

import { decodeTable, encodeTable } from '../../broker/encoding/field-tables.ts';
import { CutOff, OctetReader, OctetWriter, SHORT_STRING_BYTES_MAX } from '../../broker/encoding/octets.ts';
import { ProtocolError } from '../../broker/encoding/protocol-error.ts';
import type { FieldTable } from '../../broker/fields.ts';
import { FRAME_END, FRAME_METHOD } from './constants.ts';
import { octetsText } from './errors.ts';

/**
 * `name` is a short string that must be UTF-8, `text` one of which only people read; `longstr` decodes to a view on the
 * octets received and is encoded from a string, too.
 */
interface ArgumentTypes {
  bit: boolean;
  octet: number;
  short: number;
  long: number;
  longlong: number;
  name: string;
  text: string;
  longstr: Uint8Array | string;
  table: FieldTable;
}

type ArgumentType = keyof ArgumentTypes;

const BINDING = { destination: 'name', source: 'name', routingKey: 'name', noWait: 'bit', arguments: 'table' } as const;
const CLOSE = { replyCode: 'short', replyText: 'text', classId: 'short', methodId: 'short' } as const;
const TUNE = { channelMax: 'short', frameMax: 'long', heartbeat: 'short' } as const;
const SETTLE = { deliveryTag: 'longlong', multiple: 'bit' } as const;

/** Class, method, arguments in the order of the wire. */
const METHODS = {
  'connection.start': [
    10,
    10,
    {
      versionMajor: 'octet',
      versionMinor: 'octet',
      serverProperties: 'table',
      mechanisms: 'longstr',
      locales: 'longstr',
    },
  ],
  'connection.start-ok': [
    10,
    11,
    { clientProperties: 'table', mechanism: 'text', response: 'longstr', locale: 'text' },
  ],
  'connection.secure': [10, 20, { challenge: 'longstr' }],
  'connection.secure-ok': [10, 21, { response: 'longstr' }],
  'connection.tune': [10, 30, TUNE],
  'connection.tune-ok': [10, 31, TUNE],
  'connection.open': [10, 40, { virtualHost: 'name', capabilities: 'text', insist: 'bit' }],
  'connection.open-ok': [10, 41, { knownHosts: 'text' }],
  'connection.close': [10, 50, CLOSE],
  'connection.close-ok': [10, 51, {}],
  'connection.blocked': [10, 60, { reason: 'text' }],
  'connection.unblocked': [10, 61, {}],
  'connection.update-secret': [10, 70, { newSecret: 'longstr', reason: 'text' }],
  'connection.update-secret-ok': [10, 71, {}],

  'channel.open': [20, 10, { outOfBand: 'text' }],
  'channel.open-ok': [20, 11, { channelId: 'longstr' }],
  'channel.flow': [20, 20, { active: 'bit' }],
  'channel.flow-ok': [20, 21, { active: 'bit' }],
  'channel.close': [20, 40, CLOSE],
  'channel.close-ok': [20, 41, {}],

  'access.request': [
    30,
    10,
    { realm: 'text', exclusive: 'bit', passive: 'bit', active: 'bit', write: 'bit', read: 'bit' },
  ],
  'access.request-ok': [30, 11, { ticket: 'short' }],

  'exchange.declare': [
    40,
    10,
    {
      ticket: 'short',
      exchange: 'name',
      type: 'name',
      passive: 'bit',
      durable: 'bit',
      autoDelete: 'bit',
      internal: 'bit',
      noWait: 'bit',
      arguments: 'table',
    },
  ],
  'exchange.declare-ok': [40, 11, {}],
  'exchange.delete': [40, 20, { ticket: 'short', exchange: 'name', ifUnused: 'bit', noWait: 'bit' }],
  'exchange.delete-ok': [40, 21, {}],
  'exchange.bind': [40, 30, { ticket: 'short', ...BINDING }],
  'exchange.bind-ok': [40, 31, {}],
  'exchange.unbind': [40, 40, { ticket: 'short', ...BINDING }],
  'exchange.unbind-ok': [40, 51, {}],

  'queue.declare': [
    50,
    10,
    {
      ticket: 'short',
      queue: 'name',
      passive: 'bit',
      durable: 'bit',
      exclusive: 'bit',
      autoDelete: 'bit',
      noWait: 'bit',
      arguments: 'table',
    },
  ],
  'queue.declare-ok': [50, 11, { queue: 'name', messageCount: 'long', consumerCount: 'long' }],
  'queue.bind': [
    50,
    20,
    { ticket: 'short', queue: 'name', exchange: 'name', routingKey: 'name', noWait: 'bit', arguments: 'table' },
  ],
  'queue.bind-ok': [50, 21, {}],
  'queue.purge': [50, 30, { ticket: 'short', queue: 'name', noWait: 'bit' }],
  'queue.purge-ok': [50, 31, { messageCount: 'long' }],
  'queue.delete': [50, 40, { ticket: 'short', queue: 'name', ifUnused: 'bit', ifEmpty: 'bit', noWait: 'bit' }],
  'queue.delete-ok': [50, 41, { messageCount: 'long' }],
  'queue.unbind': [
    50,
    50,
    { ticket: 'short', queue: 'name', exchange: 'name', routingKey: 'name', arguments: 'table' },
  ],
  'queue.unbind-ok': [50, 51, {}],

  'basic.qos': [60, 10, { prefetchSize: 'long', prefetchCount: 'short', global: 'bit' }],
  'basic.qos-ok': [60, 11, {}],
  'basic.consume': [
    60,
    20,
    {
      ticket: 'short',
      queue: 'name',
      consumerTag: 'name',
      noLocal: 'bit',
      noAck: 'bit',
      exclusive: 'bit',
      noWait: 'bit',
      arguments: 'table',
    },
  ],
  'basic.consume-ok': [60, 21, { consumerTag: 'name' }],
  'basic.cancel': [60, 30, { consumerTag: 'name', noWait: 'bit' }],
  'basic.cancel-ok': [60, 31, { consumerTag: 'name' }],
  'basic.publish': [
    60,
    40,
    { ticket: 'short', exchange: 'name', routingKey: 'name', mandatory: 'bit', immediate: 'bit' },
  ],
  'basic.return': [60, 50, { replyCode: 'short', replyText: 'text', exchange: 'name', routingKey: 'name' }],
  'basic.deliver': [
    60,
    60,
    { consumerTag: 'name', deliveryTag: 'longlong', redelivered: 'bit', exchange: 'name', routingKey: 'name' },
  ],
  'basic.get': [60, 70, { ticket: 'short', queue: 'name', noAck: 'bit' }],
  'basic.get-ok': [
    60,
    71,
    { deliveryTag: 'longlong', redelivered: 'bit', exchange: 'name', routingKey: 'name', messageCount: 'long' },
  ],
  'basic.get-empty': [60, 72, { clusterId: 'text' }],
  'basic.ack': [60, 80, SETTLE],
  'basic.reject': [60, 90, { deliveryTag: 'longlong', requeue: 'bit' }],
  'basic.recover-async': [60, 100, { requeue: 'bit' }],
  'basic.recover': [60, 110, { requeue: 'bit' }],
  'basic.recover-ok': [60, 111, {}],
  'basic.nack': [60, 120, { ...SETTLE, requeue: 'bit' }],

  'confirm.select': [85, 10, { noWait: 'bit' }],
  'confirm.select-ok': [85, 11, {}],

  'tx.select': [90, 10, {}],
  'tx.select-ok': [90, 11, {}],
  'tx.commit': [90, 20, {}],
  'tx.commit-ok': [90, 21, {}],
  'tx.rollback': [90, 30, {}],
  'tx.rollback-ok': [90, 31, {}],
} as const satisfies Record<string, readonly [number, number, Readonly<Record<string, ArgumentType>>]>;

/** e.g. `queue.declare-ok` */
export type MethodName = keyof typeof METHODS;

/** The arguments of method `M` by name. */
export type MethodArguments<M extends MethodName> = {
  readonly [A in keyof (typeof METHODS)[M][2]]: (typeof METHODS)[M][2][A] extends ArgumentType
    ? ArgumentTypes[(typeof METHODS)[M][2][A]]
    : never;
};

interface MethodShape {
  readonly name: MethodName;
  /** Class in the upper, method in the lower 16 bits. */
  readonly id: number;
  readonly fields: readonly (readonly [string, ArgumentType])[];
}

const SHAPES: readonly MethodShape[] = (Object.keys(METHODS) as MethodName[]).map((name) => {
  const [classId, methodId, fields] = METHODS[name];
  return { name, id: classId * 0x10000 + methodId, fields: Object.entries(fields) };
});
const BY_NAME = new Map(SHAPES.map((shape) => [shape.name, shape]));
const BY_ID = new Map(SHAPES.map((shape) => [shape.id, shape]));

/** All methods, for tests and tables. */
export const METHOD_NAMES: readonly MethodName[] = SHAPES.map((shape) => shape.name);

/** The method of that id on the wire; undefined when there is none. */
export function methodName(id: number): MethodName | undefined {
  return BY_ID.get(id)?.name;
}

export function methodId(name: MethodName): number {
  return BY_NAME.get(name)?.id ?? 0;
}

/**
 * Decodes the arguments of `name`, which are all of `octets[start, end)`. `longstr`s are views on `octets`.
 * Throws `ProtocolError` 501 for cut off or surplus octets and names that are not UTF-8, 502 for malformed tables.
 */
export function decodeArguments<M extends MethodName>(
  name: M,
  octets: Uint8Array,
  start: number,
  end: number,
): MethodArguments<M> {
  try {
    return readArguments(name, new OctetReader(octets, start, end, 501));
  } catch (error) {
    if (!(error instanceof CutOff)) throw error;
    const shown = octetsText(octets.subarray(start, Math.min(end, start + SHORT_STRING_BYTES_MAX)));
    throw new ProtocolError(501, `cannot decode ${shown}`, error.offset);
  }
}

function readArguments<M extends MethodName>(name: M, reader: OctetReader): MethodArguments<M> {
  const result: Record<string, unknown> = {};
  let bits = 0;
  let bitsUsed = 8;
  for (const [field, type] of BY_NAME.get(name)?.fields ?? []) {
    if (type === 'bit') {
      if (bitsUsed === 8) {
        bits = reader.octet();
        bitsUsed = 0;
      }
      result[field] = ((bits >> bitsUsed) & 1) === 1;
      bitsUsed += 1;
    } else {
      bitsUsed = 8;
      result[field] = readArgument(reader, type);
    }
  }
  if (reader.at !== reader.end) throw new CutOff(501, 'octets after the last argument', reader.at);
  return result as MethodArguments<M>;
}

function readArgument(reader: OctetReader, type: Exclude<ArgumentType, 'bit'>): unknown {
  switch (type) {
    case 'octet':
      return reader.octet();
    case 'short':
      return reader.short();
    case 'long':
      return reader.long();
    case 'longlong':
      return reader.longLong();
    case 'name':
      return reader.name();
    case 'text':
      return reader.text();
    case 'longstr':
      return reader.longString();
    case 'table':
      return decodeTable(reader);
  }
}

/** A whole method frame. Texts are cut to 255 octets. The caller owns the result. */
export function encodeMethod<M extends MethodName>(channel: number, name: M, args: MethodArguments<M>): Uint8Array {
  const shape = BY_NAME.get(name) as MethodShape;
  const values = args as Readonly<Record<string, unknown>>;
  const writer = new OctetWriter();
  writer.octet(FRAME_METHOD);
  writer.short(channel);
  const size = writer.beginLength();
  writer.long(shape.id);
  let bits = 0;
  let bitsUsed = 0;
  const endBits = (): void => {
    if (bitsUsed > 0) writer.octet(bits);
    bits = 0;
    bitsUsed = 0;
  };
  for (const [field, type] of shape.fields) {
    if (type === 'bit') {
      if (bitsUsed === 8) endBits();
      if (values[field]) bits |= 1 << bitsUsed;
      bitsUsed += 1;
    } else {
      endBits();
      writeArgument(writer, type, values[field]);
    }
  }
  endBits();
  writer.endLength(size);
  writer.octet(FRAME_END);
  return writer.octets;
}

function writeArgument(writer: OctetWriter, type: Exclude<ArgumentType, 'bit'>, value: unknown): void {
  switch (type) {
    case 'octet':
      writer.octet(value as number);
      break;
    case 'short':
      writer.short(value as number);
      break;
    case 'long':
      writer.long(value as number);
      break;
    case 'longlong':
      writer.longLong(value as number);
      break;
    case 'name':
    case 'text':
      writer.shortString(value as string);
      break;
    case 'longstr':
      writer.longString(value as string | Uint8Array);
      break;
    case 'table':
      encodeTable(writer, value as FieldTable);
      break;
  }
}
