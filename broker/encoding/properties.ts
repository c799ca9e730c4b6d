/**
 * The property block of basic content [AMQP 1.8.2, 4.2.6.1]: 16 flags, highest first, and the properties that are set.
 *
 * ```
 * 15 content-type(s)  14 content-encoding(s)  13 headers(table)  12 delivery-mode(1)  11 priority(1)
 * 10 correlation-id(s)  9 reply-to(s)  8 expiration(s)  7 message-id(s)  6 timestamp(8)  5 type(s)
 *  4 user-id(s)  3 app-id(s)  2 cluster-id(s)  1 unused  0 more flags follow (never used: refused)
 * ```
 */
import type { FieldValue } from '../fields.ts';
import { type MessageProperties, type PropertiesChange, type PropertiesCodec, Trait } from '../message.ts';
import { decodeTable, encodeField, encodeTable, readLength, scanField, scanHeaders } from './field-tables.ts';
import { decodeText, OctetReader, OctetWriter } from './octets.ts';
import { ProtocolError } from './protocol-error.ts';

const CONTENT_TYPE = 1 << 15;
const CONTENT_ENCODING = 1 << 14;
const HEADERS = 1 << 13;
const DELIVERY_MODE = 1 << 12;
const PRIORITY = 1 << 11;
const CORRELATION_ID = 1 << 10;
const REPLY_TO = 1 << 9;
const EXPIRATION = 1 << 8;
const MESSAGE_ID = 1 << 7;
const TIMESTAMP = 1 << 6;
const TYPE = 1 << 5;
const USER_ID = 1 << 4;
const APP_ID = 1 << 3;
const CLUSTER_ID = 1 << 2;
const RESERVED = 3;

type PropertyKind = 'text' | 'table' | 'octet' | 'timestamp';

/** Name, kind and flag of each property, in the order of the block. */
const PROPERTIES: readonly {
  readonly name: keyof MessageProperties;
  readonly kind: PropertyKind;
  readonly flag: number;
}[] = [
  { name: 'contentType', kind: 'text', flag: CONTENT_TYPE },
  { name: 'contentEncoding', kind: 'text', flag: CONTENT_ENCODING },
  { name: 'headers', kind: 'table', flag: HEADERS },
  { name: 'deliveryMode', kind: 'octet', flag: DELIVERY_MODE },
  { name: 'priority', kind: 'octet', flag: PRIORITY },
  { name: 'correlationId', kind: 'text', flag: CORRELATION_ID },
  { name: 'replyTo', kind: 'text', flag: REPLY_TO },
  { name: 'expiration', kind: 'text', flag: EXPIRATION },
  { name: 'messageId', kind: 'text', flag: MESSAGE_ID },
  { name: 'timestamp', kind: 'timestamp', flag: TIMESTAMP },
  { name: 'type', kind: 'text', flag: TYPE },
  { name: 'userId', kind: 'text', flag: USER_ID },
  { name: 'appId', kind: 'text', flag: APP_ID },
  { name: 'clusterId', kind: 'text', flag: CLUSTER_ID },
];

function malformed(what: string, offset: number): ProtocolError {
  return new ProtocolError(502, `malformed properties: ${what}`, offset);
}

/**
 * Checks the property block `octets[start, end)` as a whole, so that decoding it later cannot throw, and answers its
 * `Trait` bits. Allocates nothing. Throws `ProtocolError` 502.
 */
export function scanProperties(octets: Uint8Array, start: number, end: number): number {
  if (end - start < 2) throw malformed('no flags', start);
  const flags = ((octets[start] as number) << 8) | (octets[start + 1] as number);
  let at = start + 2;
  let traits = 0;
  if ((flags & RESERVED) !== 0) throw malformed('a reserved flag is set', start);
  if ((flags & CONTENT_TYPE) !== 0) at = skipText(octets, at, end);
  if ((flags & CONTENT_ENCODING) !== 0) at = skipText(octets, at, end);
  if ((flags & HEADERS) !== 0) {
    traits = scanHeaders(octets, at, end);
    at += 4 + readLength(octets, at);
  }
  if ((flags & DELIVERY_MODE) !== 0 && octets[at++] === 2) traits |= Trait.persistent;
  if ((flags & PRIORITY) !== 0 && octets[at++] !== 0) traits |= Trait.priority;
  if ((flags & ~(HEADERS | DELIVERY_MODE | PRIORITY)) !== 0) {
    if ((flags & CORRELATION_ID) !== 0) at = skipText(octets, at, end);
    if ((flags & REPLY_TO) !== 0) {
      at = skipText(octets, at, end);
      traits |= Trait.replyTo;
    }
    if ((flags & EXPIRATION) !== 0) {
      at = skipText(octets, at, end);
      traits |= Trait.expiration;
    }
    if ((flags & MESSAGE_ID) !== 0) at = skipText(octets, at, end);
    if ((flags & TIMESTAMP) !== 0) at += 8;
    if ((flags & TYPE) !== 0) at = skipText(octets, at, end);
    if ((flags & USER_ID) !== 0) {
      at = skipText(octets, at, end);
      traits |= Trait.userId;
    }
    if ((flags & APP_ID) !== 0) at = skipText(octets, at, end);
    if ((flags & CLUSTER_ID) !== 0) at = skipText(octets, at, end);
  }
  if (at !== end) throw malformed(at < end ? 'octets after the last property' : 'they end too early', start);
  return traits;
}

/** The offset after the short string at `at`; past `end` when it is cut off, which the last check then sees. */
function skipText(octets: Uint8Array, at: number, end: number): number {
  return at < end ? at + 1 + (octets[at] as number) : end + 1;
}

/** Decodes a property block; texts that are not UTF-8 come out with U+FFFD. Throws `ProtocolError` 502. */
export function decodeProperties(block: Uint8Array): MessageProperties {
  const reader = new OctetReader(block, 0, block.length, 502);
  const flags = reader.short();
  const properties: Record<string, unknown> = {};
  for (const { name, kind, flag } of PROPERTIES) {
    if ((flags & flag) !== 0) properties[name] = decodeProperty(reader, kind);
  }
  if (reader.at !== block.length) throw malformed('octets after the last property', reader.at);
  return properties;
}

function decodeProperty(reader: OctetReader, kind: PropertyKind): unknown {
  switch (kind) {
    case 'text':
      return reader.text();
    case 'table':
      return decodeTable(reader);
    case 'octet':
      return reader.octet();
    case 'timestamp':
      return reader.longLong();
  }
}

/** Encodes properties. Never throws: texts are cut to 255 octets, numbers wrap to the width of their field. */
export function encodeProperties(properties: MessageProperties): Uint8Array {
  const writer = new OctetWriter();
  let flags = 0;
  writer.short(0);
  for (const { name, flag } of PROPERTIES) {
    const value = properties[name];
    if (value === undefined) continue;
    flags |= flag;
    if (typeof value === 'string') writer.shortString(value);
    else if (typeof value === 'object') encodeTable(writer, value);
    else if (name === 'timestamp') writer.longLong(value > 0 ? Math.floor(value) : 0);
    else writer.octet(value);
  }
  writer.patchShort(0, flags);
  return writer.octets;
}

/** A new block with `change` applied; untouched properties and headers keep their octets. Throws `ProtocolError`. */
function rewriteProperties(block: Uint8Array, change: PropertiesChange): Uint8Array {
  const reader = new OctetReader(block, 0, block.length, 502);
  const writer = new OctetWriter();
  let flags = reader.short();
  writer.short(0);
  for (const { name, kind, flag } of PROPERTIES) {
    const start = reader.at;
    const present = (flags & flag) !== 0;
    if (present) skipProperty(reader, kind);
    if (name === 'headers' && change.headers !== undefined) {
      if (rewriteHeaders(writer, present ? block.subarray(start, reader.at) : undefined, change.headers)) flags |= flag;
    } else if ((name === 'expiration' || name === 'replyTo') && name in change) {
      const value = change[name];
      if (value === undefined) flags &= ~flag;
      else {
        flags |= flag;
        writer.shortString(value);
      }
    } else if (present) {
      writer.raw(block.subarray(start, reader.at));
    }
  }
  writer.patchShort(0, flags);
  return writer.octets;
}

function skipProperty(reader: OctetReader, kind: PropertyKind): void {
  if (kind === 'text') reader.take(reader.octet());
  else if (kind === 'table') reader.take(reader.long());
  else reader.take(kind === 'octet' ? 1 : 8);
}

/**
 * Writes `table` (encoded, with its size; absent: none) with `change` applied: names keep their place, new ones come
 * last. False when there is nothing to write.
 */
function rewriteHeaders(
  writer: OctetWriter,
  table: Uint8Array | undefined,
  change: { readonly [name: string]: FieldValue | undefined },
): boolean {
  const added = new Map(Object.entries(change));
  if (table === undefined && [...added.values()].every((value) => value === undefined)) return false;
  const size = writer.beginLength();
  const end = table?.length ?? 0;
  for (let at = 4; table !== undefined && at < end; ) {
    const nameEnd = at + 1 + (table[at] as number);
    const next = scanField(table, nameEnd, end, 1);
    const name = decodeText(table, at + 1, nameEnd);
    if (!Object.hasOwn(change, name)) writer.raw(table.subarray(at, next));
    else writeHeader(writer, name, added.get(name));
    added.delete(name);
    at = next;
  }
  for (const [name, value] of added) writeHeader(writer, name, value);
  writer.endLength(size);
  return true;
}

function writeHeader(writer: OctetWriter, name: string, value: FieldValue | undefined): void {
  if (value === undefined) return;
  writer.shortString(name);
  encodeField(writer, value);
}

/** The codec that AMQP 0-9-1 messages carry. */
export const AMQP_PROPERTIES: PropertiesCodec = {
  name: 'amqp-0-9-1',
  decode: decodeProperties,
  encode: encodeProperties,
  rewrite: rewriteProperties,
};
