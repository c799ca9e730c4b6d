/**
 * One message of an archive as an object of JSON, and back. Nothing is lost: properties that JSON with a few tags cannot
 * say to the octet are given as octets, too. docs/durability.md describes the format for people.
 *
 * ```
 * {"vhost":"/","queue":"orders","exchange":"shop","routing_key":"order.new",
 *  "properties":{"delivery_mode":2,"headers":{"attempt":1}},"body":"aGVsbG8="}
 * ```
 *
 * A header is null, a boolean, a number, a string or an array as in JSON; every other value is an object with one key,
 * which says what it is: `{"long":"9007199254740993"}`, `{"timestamp":1700000000}`, `{"binary":"AAE="}`,
 * `{"decimal":[2,314]}` (scale, unscaled), `{"table":{…}}`.
 */
import { TABLE_DEPTH_MAX } from '../encoding/field-tables.ts';
import { AMQP_PROPERTIES, scanProperties } from '../encoding/properties.ts';
import { Decimal, type FieldTable, type FieldValue, isFieldTable } from '../fields.ts';
import { Message, type MessageProperties } from '../message.ts';

/** A parsed line is not what it should be; the message names the key. */
export class EntryError extends Error {
  override readonly name = 'EntryError';
}

/** Whose message it is: a queue's, or that of an exchange that delays. */
export interface Keeper {
  readonly vhost: string;
  readonly kind: 'queue' | 'exchange';
  readonly name: string;
}

/** A message with all that its keeper knows of it. Times are counted from the making of the archive. */
export interface ArchivedMessage {
  readonly keeper: Keeper;
  readonly message: Message;
  /** How often it came back from a consumer; above 0 it is delivered as redelivered. */
  readonly returnCount: number;
  /** Until it expires or, with an exchange that delays, is due; milliseconds, Infinity = never. */
  readonly expiresInMs: number;
  /** How much longer it is held back for a delayed retry; milliseconds, 0 = it is not. */
  readonly heldForMs: number;
}

/** Parsed JSON with names. */
export type JsonObject = { readonly [name: string]: unknown };

/** Octets of the body in one line; strings cannot be much longer than a body can. A multiple of 3, as base64 goes. */
export const BODY_BYTES_PER_LINE = 48 * 1024 * 1024;

type PropertyName = keyof MessageProperties;

/** The properties and their names in an archive, which are those of RabbitMQ's JSON. */
const PROPERTY_NAMES: readonly (readonly [PropertyName, string])[] = [
  ['contentType', 'content_type'],
  ['contentEncoding', 'content_encoding'],
  ['headers', 'headers'],
  ['deliveryMode', 'delivery_mode'],
  ['priority', 'priority'],
  ['correlationId', 'correlation_id'],
  ['replyTo', 'reply_to'],
  ['expiration', 'expiration'],
  ['messageId', 'message_id'],
  ['timestamp', 'timestamp'],
  ['type', 'type'],
  ['userId', 'user_id'],
  ['appId', 'app_id'],
  ['clusterId', 'cluster_id'],
];

/** The largest number of each property that is one. */
const NUMBERS_MAX: { readonly [name in PropertyName]?: number } = {
  deliveryMode: 255,
  priority: 255,
  timestamp: Number.MAX_SAFE_INTEGER,
};

/** The lines of a message, without their ends: one, or more when its body is longer than `BODY_BYTES_PER_LINE`. */
export function* encodeEntry(archived: ArchivedMessage, bodyBytesPerLine = BODY_BYTES_PER_LINE): Generator<string> {
  const { keeper, message, returnCount, expiresInMs, heldForMs } = archived;
  const block = message.encodedProperties(AMQP_PROPERTIES);
  const properties = encodeProperties(message.properties);
  const head = {
    vhost: keeper.vhost,
    [keeper.kind === 'queue' ? 'queue' : 'delaying_exchange']: keeper.name,
    exchange: message.exchange,
    routing_key: message.routingKey,
    properties,
    ...(saysAll(properties, block) ? {} : { property_block: base64(block) }),
    ...(returnCount > 0 ? { return_count: returnCount } : {}),
    ...(expiresInMs === Number.POSITIVE_INFINITY ? {} : { expires_in_ms: expiresInMs }),
    ...(heldForMs > 0 ? { held_for_ms: heldForMs } : {}),
  };
  const body = message.body;
  for (let at = 0; at === 0 || at < body.length; at += bodyBytesPerLine) {
    const piece = base64(body.subarray(at, at + bodyBytesPerLine));
    const more = at + bodyBytesPerLine < body.length ? { more: true } : {};
    yield JSON.stringify({ ...(at === 0 ? head : {}), body: piece, ...more });
  }
}

/** Whether `properties`, written as JSON, come back as the octets of `block`. */
function saysAll(properties: JsonObject, block: Uint8Array): boolean {
  try {
    const read: JsonObject = JSON.parse(JSON.stringify(properties));
    return Buffer.compare(AMQP_PROPERTIES.encode(decodeProperties(read)), block) === 0;
  } catch (error) {
    if (error instanceof EntryError) return false;
    throw error;
  }
}

/** True when the next line goes on with the body of the same message. */
export function hasMore(line: JsonObject): boolean {
  const { more = false } = line;
  if (typeof more !== 'boolean') throw new EntryError('more should be true or false');
  return more;
}

/** The message of one or more parsed lines, see `hasMore`. Throws EntryError. */
export function decodeEntry(lines: readonly JsonObject[]): ArchivedMessage {
  const [head = {}] = lines;
  const block = decodeBlock(head);
  const bodies = lines.map((line) => octetsOf(line.body, 'body'));
  const content = concatenate([block, ...bodies]);
  const blockEnd = block.length;
  const message = new Message(
    textOf(head.exchange, 'exchange', 255),
    textOf(head.routing_key, 'routing_key', 255),
    content,
    0,
    blockEnd,
    blockEnd,
    content.length,
    AMQP_PROPERTIES,
    scanProperties(block, 0, blockEnd),
  );
  return {
    keeper: decodeKeeper(head),
    message,
    returnCount: millisecondsOf(head.return_count ?? 0, 'return_count'),
    expiresInMs:
      head.expires_in_ms === undefined ? Number.POSITIVE_INFINITY : millisecondsOf(head.expires_in_ms, 'expires_in_ms'),
    heldForMs: millisecondsOf(head.held_for_ms ?? 0, 'held_for_ms'),
  };
}

function decodeKeeper(head: JsonObject): Keeper {
  const vhost = textOf(head.vhost, 'vhost');
  if (head.delaying_exchange === undefined) return { vhost, kind: 'queue', name: textOf(head.queue, 'queue') };
  if (head.queue !== undefined) throw new EntryError('queue and delaying_exchange are both there; only one can be');
  return { vhost, kind: 'exchange', name: textOf(head.delaying_exchange, 'delaying_exchange') };
}

/** The property block: what `property_block` says counts, for it says more. */
function decodeBlock(head: JsonObject): Uint8Array {
  if (head.property_block === undefined) {
    return AMQP_PROPERTIES.encode(decodeProperties(objectOf(head.properties ?? {}, 'properties')));
  }
  const block = octetsOf(head.property_block, 'property_block');
  try {
    scanProperties(block, 0, block.length);
  } catch (error) {
    throw new EntryError(`property_block is no property block of AMQP 0-9-1: ${String(error)}`);
  }
  return block;
}

function encodeProperties(properties: MessageProperties): JsonObject {
  const result: Record<string, unknown> = {};
  for (const [property, name] of PROPERTY_NAMES) {
    const value = properties[property];
    if (value !== undefined) result[name] = typeof value === 'object' ? encodeTable(value) : value;
  }
  return result;
}

function decodeProperties(json: JsonObject): MessageProperties {
  const unknown = Object.keys(json).find((name) => !PROPERTY_NAMES.some(([, known]) => known === name));
  if (unknown !== undefined) throw new EntryError(`properties.${unknown}: there is no such property`);
  const properties: Record<string, unknown> = {};
  for (const [property, name] of PROPERTY_NAMES) {
    const value = json[name];
    const place = `properties.${name}`;
    const max = NUMBERS_MAX[property];
    if (value === undefined) continue;
    if (property === 'headers') properties.headers = decodeTable(value, place);
    else if (max === undefined) properties[property] = textOf(value, place, 255);
    else properties[property] = integerOf(value, place, 0, max);
  }
  return properties;
}

function encodeTable(table: FieldTable): JsonObject {
  const result: Record<string, unknown> = Object.create(null);
  for (const [name, value] of Object.entries(table)) result[name] = encodeField(value);
  return result;
}

function encodeField(value: FieldValue): unknown {
  if (typeof value === 'bigint') return { long: String(value) };
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) return { binary: base64(value) };
  if (value instanceof Date) return { timestamp: value.getTime() / 1000 };
  if (value instanceof Decimal) return { decimal: [value.scale, value.unscaled] };
  return isFieldTable(value) ? { table: encodeTable(value) } : value.map(encodeField);
}

function decodeTable(json: unknown, place: string, depth = 1): FieldTable {
  const table: Record<string, FieldValue> = Object.create(null);
  for (const [name, value] of Object.entries(objectOf(json, place))) {
    table[name] = decodeField(value, `${place}.${name}`, depth);
  }
  return table;
}

function decodeField(json: unknown, place: string, depth: number): FieldValue {
  if (json === null || typeof json === 'boolean' || typeof json === 'number' || typeof json === 'string') return json;
  if (depth >= TABLE_DEPTH_MAX) throw new EntryError(`${place} is nested deeper than ${TABLE_DEPTH_MAX}`);
  if (Array.isArray(json)) {
    return json.map((item: unknown, index) => decodeField(item, `${place}[${index}]`, depth + 1));
  }
  const tagged = objectOf(json, place);
  const [[tag = '', value] = [], ...others] = Object.entries(tagged);
  const decode = TAGS.get(tag);
  if (decode === undefined || others.length > 0) {
    throw new EntryError(`${place} should be an object with one key: ${[...TAGS.keys()].join(', ')}`);
  }
  return decode(value, `${place}.${tag}`, depth + 1);
}

const INT64_MAX = 2n ** 63n - 1n;
const INT32_MAX = 2 ** 31 - 1;

/** What an object with one key stands for, by that key. */
const TAGS: ReadonlyMap<string, (value: unknown, place: string, depth: number) => FieldValue> = new Map([
  ['long', decodeLong],
  ['timestamp', (value: unknown, place: string) => new Date(integerOf(value, place, 0, 8.64e12) * 1000)],
  ['binary', octetsOf],
  ['decimal', decodeDecimal],
  ['table', decodeTable],
]);

function decodeLong(value: unknown, place: string): FieldValue {
  const number = /^-?\d{1,19}$/.test(textOf(value, place)) ? BigInt(String(value)) : undefined;
  if (number !== undefined && number <= INT64_MAX && number >= -INT64_MAX - 1n) return number;
  throw new EntryError(`${place} should be a 64-bit integer, as a string of digits`);
}

function decodeDecimal(value: unknown, place: string): FieldValue {
  const [scale, unscaled] = Array.isArray(value) ? (value as unknown[]) : [];
  return new Decimal(
    integerOf(scale, `${place}[0]`, 0, 255),
    integerOf(unscaled, `${place}[1]`, -INT32_MAX - 1, INT32_MAX),
  );
}

function objectOf(value: unknown, place: string): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new EntryError(`${place} should be an object`);
}

function textOf(value: unknown, place: string, bytesMax = Number.POSITIVE_INFINITY): string {
  if (typeof value !== 'string') throw new EntryError(`${place} should be a string`);
  if (value.length > bytesMax / 3 && Buffer.byteLength(value) > bytesMax)
    throw new EntryError(`${place} is longer than ${bytesMax} octets`);
  return value;
}

function integerOf(value: unknown, place: string, min: number, max: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  throw new EntryError(`${place} should be a whole number from ${min} to ${max}`);
}

function millisecondsOf(value: unknown, place: string): number {
  return integerOf(value, place, 0, Number.MAX_SAFE_INTEGER);
}

/** What base64 may consist of; `Buffer` would pass over everything else in silence. */
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

function octetsOf(value: unknown, place: string): Uint8Array {
  const text = textOf(value, place);
  if (text.length % 4 !== 0 || !BASE64.test(text)) throw new EntryError(`${place} should be base64`);
  return Buffer.from(text, 'base64');
}

function base64(octets: Uint8Array): string {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString('base64');
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
