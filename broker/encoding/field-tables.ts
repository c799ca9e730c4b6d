/**
 * Field tables and arrays on the wire [AMQP 4.2.5.5], with the type octets that are in real use (RabbitMQ's errata):
 *
 * ```
 * table     size(4) { name(short string) field }
 * array     size(4) { field }
 * field     type(1) value
 *           t bool(1)   b B int(1)   s U u int(2)   I i int(4)   l L int(8)   f float(4)   d double(8)
 *           D decimal: scale(1) unscaled(4)   S long string   x octets: size(4)   T seconds(8)   A array   F table   V void
 * ```
 *
 * What has passed `scanTable` is decoded without errors. How values correspond to JavaScript's: `broker/fields.ts`;
 * besides, an unsigned 32-bit integer above the signed range becomes a bigint, so that it stays an integer.
 */
import { Decimal, type FieldTable, type FieldValue, isFieldTable } from '../fields.ts';
import { Trait } from '../message.ts';
import { decodeText, type OctetReader, type OctetWriter } from './octets.ts';
import { ProtocolError } from './protocol-error.ts';

/** Tables and arrays may lie in each other this deep. */
export const TABLE_DEPTH_MAX = 64;

/** The last moment a Date can tell; timestamps beyond it decode to this. */
const DATE_MAX_SECONDS = 8.64e12;
const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;

const BOOLEAN = 0x74;
const INT8 = 0x62;
const UINT8 = 0x42;
const INT16 = 0x73;
const INT16_SPECIFICATION = 0x55;
const UINT16 = 0x75;
const INT32 = 0x49;
const UINT32 = 0x69;
const INT64 = 0x6c;
const INT64_SPECIFICATION = 0x4c;
const FLOAT = 0x66;
const DOUBLE = 0x64;
const DECIMAL = 0x44;
const LONG_STRING = 0x53;
const OCTETS = 0x78;
const TIMESTAMP = 0x54;
const ARRAY = 0x41;
const TABLE = 0x46;
const VOID = 0x56;

/** Octets of the value by its type octet: as many; -1 = a 32-bit length and so much; -2 = array, -3 = table; 255 = none. */
const SHAPES = new Int16Array(256).fill(255);
for (const type of [BOOLEAN, INT8, UINT8]) SHAPES[type] = 1;
for (const type of [INT16, INT16_SPECIFICATION, UINT16]) SHAPES[type] = 2;
for (const type of [INT32, UINT32, FLOAT]) SHAPES[type] = 4;
for (const type of [INT64, INT64_SPECIFICATION, DOUBLE, TIMESTAMP]) SHAPES[type] = 8;
SHAPES[DECIMAL] = 5;
SHAPES[VOID] = 0;
SHAPES[LONG_STRING] = -1;
SHAPES[OCTETS] = -1;
SHAPES[ARRAY] = -2;
SHAPES[TABLE] = -3;

function malformed(what: string, offset: number): ProtocolError {
  return new ProtocolError(502, `malformed table: ${what}`, offset);
}

/**
 * Checks the table that begins at `at` (with its size) and lies before `end`, and answers the offset after it.
 * Allocates nothing. Throws `ProtocolError` 502.
 */
export function scanTable(octets: Uint8Array, at: number, end: number, depth = 1): number {
  let next = startOfItems(octets, at, end, depth);
  const itemsEnd = endOfItems(octets, at);
  while (next < itemsEnd) next = scanField(octets, scanName(octets, next, itemsEnd), itemsEnd, depth);
  return next;
}

/** `scanTable` for the headers of a message: answers the `Trait` bits that follow from them. */
export function scanHeaders(octets: Uint8Array, at: number, end: number): number {
  let traits = Trait.headers;
  let next = startOfItems(octets, at, end, 1);
  const itemsEnd = endOfItems(octets, at);
  while (next < itemsEnd) {
    const value = scanName(octets, next, itemsEnd);
    traits |= traitOfHeader(octets, next + 1, value - next - 1);
    next = scanField(octets, value, itemsEnd, 1);
  }
  return traits;
}

function scanArray(octets: Uint8Array, at: number, end: number, depth: number): number {
  let next = startOfItems(octets, at, end, depth);
  const itemsEnd = endOfItems(octets, at);
  while (next < itemsEnd) next = scanField(octets, next, itemsEnd, depth);
  return next;
}

function startOfItems(octets: Uint8Array, at: number, end: number, depth: number): number {
  if (depth > TABLE_DEPTH_MAX) throw malformed(`nested deeper than ${TABLE_DEPTH_MAX}`, at);
  if (at + 4 > end || endOfItems(octets, at) > end) throw malformed('it ends too early', at);
  return at + 4;
}

function endOfItems(octets: Uint8Array, at: number): number {
  return at + 4 + readLength(octets, at);
}

/** The offset after the name at `at`. */
function scanName(octets: Uint8Array, at: number, end: number): number {
  const next = at + 1 + (octets[at] as number);
  if (next > end) throw malformed('a name ends too early', at);
  return next;
}

/** Checks the field at `at`, type octet included, and answers the offset after it. Throws `ProtocolError` 502. */
export function scanField(octets: Uint8Array, at: number, end: number, depth: number): number {
  if (at >= end) throw malformed('a name without a value', at);
  const type = octets[at] as number;
  const shape = SHAPES[type] as number;
  if (shape === -1) {
    const next = at + 5 <= end ? at + 5 + readLength(octets, at + 1) : end + 1;
    if (next > end) throw malformed('a string ends too early', at);
    return next;
  }
  if (shape === -3) return scanTable(octets, at + 1, end, depth + 1);
  if (shape === -2) return scanArray(octets, at + 1, end, depth + 1);
  if (shape === 255) throw malformed(`unknown type octet ${type}`, at);
  if (at + 1 + shape > end) throw malformed('a value ends too early', at);
  return at + 1 + shape;
}

/** The 32 bits at `at`, which must lie within `octets`. */
export function readLength(octets: Uint8Array, at: number): number {
  const upper = ((octets[at] as number) << 24) | ((octets[at + 1] as number) << 16);
  return (upper | ((octets[at + 2] as number) << 8) | (octets[at + 3] as number)) >>> 0;
}

const HEADER_TRAITS: readonly (readonly [string, number])[] = [
  ['CC', Trait.copies],
  ['BCC', Trait.copies],
  ['x-delay', Trait.delay],
  ['x-deliver-at', Trait.delay],
];

/** The traits by the length of a header's name, so that most names are dismissed by that alone. */
const TRAITS_BY_LENGTH = Array.from({ length: 256 }, (_, length) =>
  HEADER_TRAITS.filter(([name]) => name.length === length).map(([name, trait]) => ({ name, trait })),
);

function traitOfHeader(octets: Uint8Array, at: number, length: number): number {
  for (const { name, trait } of TRAITS_BY_LENGTH[length] ?? []) {
    let index = 0;
    while (index < length && octets[at + index] === name.charCodeAt(index)) index += 1;
    if (index === length) return trait;
  }
  return 0;
}

/** Decodes the table of which the size is next. Throws `ProtocolError` where `scanTable` would, at the latest. */
export function decodeTable(reader: OctetReader, depth = 1): FieldTable {
  const table: Record<string, FieldValue> = Object.create(null);
  const end = beginItems(reader, depth);
  while (reader.at < end) {
    const name = reader.text();
    table[name] = decodeField(reader, depth);
  }
  return endItems(reader, end, table);
}

function decodeArray(reader: OctetReader, depth: number): FieldValue[] {
  const items: FieldValue[] = [];
  const end = beginItems(reader, depth);
  while (reader.at < end) items.push(decodeField(reader, depth));
  return endItems(reader, end, items);
}

function beginItems(reader: OctetReader, depth: number): number {
  if (depth > TABLE_DEPTH_MAX) throw malformed(`nested deeper than ${TABLE_DEPTH_MAX}`, reader.at);
  const length = reader.long();
  const start = reader.take(length);
  reader.at = start;
  return start + length;
}

function endItems<T>(reader: OctetReader, end: number, result: T): T {
  if (reader.at !== end) throw malformed('its items overrun its size', end);
  return result;
}

/** Decodes the field of which the type octet is next. */
export function decodeField(reader: OctetReader, depth = 1): FieldValue {
  const at = reader.at;
  const type = reader.octet();
  switch (type) {
    case BOOLEAN:
      return reader.octet() !== 0;
    case INT8:
      return reader.signed(1);
    case UINT8:
      return reader.octet();
    case INT16:
    case INT16_SPECIFICATION:
      return reader.signed(2);
    case UINT16:
      return reader.short();
    case INT32:
      return reader.signed(4);
    case UINT32: {
      const value = reader.long();
      return value > 0x7fffffff ? BigInt(value) : value;
    }
    case INT64:
    case INT64_SPECIFICATION:
      return reader.signedLongLong();
    case FLOAT:
      return reader.float(4);
    case DOUBLE:
      return reader.float(8);
    case DECIMAL:
      return new Decimal(reader.octet(), reader.signed(4));
    case LONG_STRING: {
      reader.longString();
      return textBefore(reader, at + 5);
    }
    case OCTETS:
      return new Uint8Array(reader.longString());
    case TIMESTAMP:
      return new Date(Math.min(reader.longLong(), DATE_MAX_SECONDS) * 1000);
    case ARRAY:
      return decodeArray(reader, depth + 1);
    case TABLE:
      return decodeTable(reader, depth + 1);
    case VOID:
      return null;
    default:
      throw malformed(`unknown type octet ${type}`, at);
  }
}

function textBefore(reader: OctetReader, start: number): string {
  return decodeText(reader.octets, start, reader.at);
}

/**
 * Writes a table with its size. Never throws: names are cut to 255 octets, a bigint beyond 64 bits becomes the nearest
 * one, a Date that is none becomes 0, and what lies deeper than `TABLE_DEPTH_MAX` becomes void.
 */
export function encodeTable(writer: OctetWriter, table: FieldTable, depth = 1): void {
  const size = writer.beginLength();
  for (const [name, value] of Object.entries(table)) {
    if (value === undefined) continue;
    writer.shortString(name);
    encodeField(writer, value, depth);
  }
  writer.endLength(size);
}

/** Writes one field, type octet and value; see `encodeTable`. */
export function encodeField(writer: OctetWriter, value: FieldValue, depth = 1): void {
  switch (typeof value) {
    case 'boolean':
      writer.octet(BOOLEAN);
      writer.octet(value ? 1 : 0);
      break;
    case 'number':
      encodeNumber(writer, value);
      break;
    case 'bigint':
      writer.octet(INT64);
      writer.signedLongLong(value < INT64_MIN ? INT64_MIN : value > INT64_MAX ? INT64_MAX : value);
      break;
    case 'string':
      writer.octet(LONG_STRING);
      writer.longString(value);
      break;
    default:
      encodeObject(writer, value, depth);
  }
}

function encodeNumber(writer: OctetWriter, value: number): void {
  if (value === (value | 0) && !Object.is(value, -0)) {
    writer.octet(INT32);
    writer.long(value);
  } else {
    writer.octet(DOUBLE);
    writer.double(value);
  }
}

function encodeObject(writer: OctetWriter, value: Exclude<FieldValue, string>, depth: number): void {
  if (value instanceof Uint8Array) {
    writer.octet(OCTETS);
    writer.longString(value);
  } else if (value instanceof Date) {
    const seconds = Math.floor(value.getTime() / 1000);
    writer.octet(TIMESTAMP);
    writer.longLong(Math.max(seconds, 0));
  } else if (value instanceof Decimal) {
    writer.octet(DECIMAL);
    writer.octet(value.scale);
    writer.long(value.unscaled);
  } else if (depth < TABLE_DEPTH_MAX && Array.isArray(value)) {
    writer.octet(ARRAY);
    const size = writer.beginLength();
    for (const item of value) encodeField(writer, item, depth + 1);
    writer.endLength(size);
  } else if (depth < TABLE_DEPTH_MAX && typeof value === 'object' && isFieldTable(value)) {
    writer.octet(TABLE);
    encodeTable(writer, value, depth + 1);
  } else {
    writer.octet(VOID);
  }
}
