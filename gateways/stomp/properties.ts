/**
 * The property block of a STOMP message: the header lines of its SEND that are not transport, as a MESSAGE frame of
 * STOMP 1.2 has them, so that from SEND to MESSAGE they are copied and never decoded.
 *
 * ```
 * block    { name ":" value LF } [ NUL typed ]
 * typed    JSON { "p": properties, "h": headers }: what lines cannot say, see typed-fields.ts
 * ```
 *
 * A line is shown to STOMP peers; what stands under `typed` overrides the line of the same name for everybody else. So
 * whatever an AMQP peer or the broker itself (`x-death`) has put into a message survives the block with its type.
 * A line `destination` says where the SEND was addressed, when that is not what address and broker would make of it.
 */
import type { FieldTable, FieldValue } from '../../broker/fields.ts';
import type { MessageProperties, PropertiesChange, PropertiesCodec } from '../../broker/message.ts';
import { escapeText, unescapeOctets } from './escapes.ts';
import { HEADER_IDS, type HeaderName, headerId, headerName, identify } from './header-names.ts';
import { COLON, LF, NUL, readDecimal } from './octets.ts';
import { fieldAsText, fromJson, type Json, tableFromJson, toJson } from './typed-fields.ts';

/** The address by which a STOMP peer replies to a queue of another session. */
export const REPLY_QUEUE_PREFIX = '/reply-queue/';

type TextProperty =
  | 'contentType'
  | 'contentEncoding'
  | 'correlationId'
  | 'replyTo'
  | 'expiration'
  | 'messageId'
  | 'type'
  | 'userId'
  | 'appId'
  | 'clusterId';

/** Properties and the headers that say them, in the order in which they are written. */
const PROPERTY_HEADERS: readonly (readonly [TextProperty | 'deliveryMode' | 'priority' | 'timestamp', HeaderName])[] = [
  ['contentType', 'content-type'],
  ['contentEncoding', 'content-encoding'],
  ['deliveryMode', 'persistent'],
  ['priority', 'priority'],
  ['correlationId', 'correlation-id'],
  ['replyTo', 'reply-to'],
  ['expiration', 'expiration'],
  ['messageId', 'amqp-message-id'],
  ['timestamp', 'timestamp'],
  ['type', 'type'],
  ['userId', 'user-id'],
  ['appId', 'app-id'],
  ['clusterId', 'cluster-id'],
];
const PROPERTY_OF = new Map<string, string>(PROPERTY_HEADERS.map(([property, header]) => [header, property]));
/** The same by the numbers of the headers, so that no string is made of a name. */
const PROPERTY_OF_ID: readonly (string | undefined)[] = Array.from({ length: HEADER_IDS }, (_, id) =>
  PROPERTY_OF.get(headerName(id) ?? ''),
);
const DESTINATION = headerId('destination');

const OCTETS_OF_NOTHING = Buffer.alloc(0);

/** What the lines of a block cannot say. */
interface Typed {
  /** Properties by their names in `MessageProperties`. */
  p?: Record<string, Json>;
  /** Headers; there even when empty, if the message has headers that no line shows. */
  h?: Record<string, Json>;
}

/** Where the lines of the block `octets[start, end)` end: at its NUL, or at `end`. */
export function linesEnd(octets: Uint8Array, start: number, end: number): number {
  // Only JSON ends in anything but a line feed.
  if (end === start || octets[end - 1] === LF) return end;
  return octets.indexOf(NUL, start);
}

/** Calls `visit` with the offsets of each line: its start, its colon, its line feed. */
function eachLine(block: Uint8Array, end: number, visit: (start: number, colon: number, to: number) => void): void {
  for (let start = 0; start < end; ) {
    const to = block.indexOf(LF, start);
    visit(start, block.indexOf(COLON, start), to);
    start = to + 1;
  }
}

function readTyped(block: Uint8Array, end: number): Typed {
  return end === block.length ? {} : JSON.parse(Buffer.from(block.subarray(end + 1)).toString());
}

/** Decodes a block; texts that are not UTF-8 come out with U+FFFD. The first of repeated headers counts. */
function decode(block: Uint8Array): MessageProperties {
  const properties: Record<string, unknown> = {};
  const headers: Record<string, FieldValue> = Object.create(null);
  const end = linesEnd(block, 0, block.length);
  let hasHeaders = false;
  eachLine(block, end, (start, colon, to) => {
    const id = identify(block, start, colon);
    const property = PROPERTY_OF_ID[id];
    if (property !== undefined) properties[property] ??= decodeProperty(property, block, colon + 1, to);
    else if (id !== DESTINATION) {
      const name = unescapeOctets(block, start, colon, 12);
      if (name in headers) return;
      headers[name] = unescapeOctets(block, colon + 1, to, 12);
      hasHeaders = true;
    }
  });
  const typed = readTyped(block, end);
  for (const [name, value] of Object.entries(typed.p ?? {})) properties[name] = fromJson(value);
  Object.assign(headers, tableFromJson(typed.h ?? {}));
  if (hasHeaders || typed.h !== undefined) properties.headers = headers;
  return properties;
}

function decodeProperty(property: string, block: Uint8Array, start: number, end: number): string | number | undefined {
  switch (property) {
    case 'deliveryMode':
      return 2;
    case 'priority':
    case 'timestamp':
      return readDecimal(block, start, end);
    case 'replyTo': {
      // To everybody else the address of a queue is its name.
      const address = unescapeOctets(block, start, end, 12);
      return address.startsWith(REPLY_QUEUE_PREFIX) ? address.slice(REPLY_QUEUE_PREFIX.length) : address;
    }
    default:
      return unescapeOctets(block, start, end, 12);
  }
}

/** Encodes properties such that `decode` gives them back. Never throws. */
function encode(properties: MessageProperties): Uint8Array {
  const typed: Typed = {};
  let lines = '';
  for (const [property, header] of PROPERTY_HEADERS) {
    const value = properties[property];
    if (value === undefined) continue;
    const shown = shownProperty(property, value);
    if (shown !== undefined) lines += `${header}:${escapeText(shown)}\n`;
    if (shown === undefined || !isSaidBy(property, value)) {
      typed.p ??= {};
      typed.p[property] = toJson(value);
    }
  }
  const { headers } = properties;
  if (headers !== undefined) lines += headerLines(headers, typed);
  return blockOf(lines, typed);
}

/** The value of a property's line; undefined when it has none. */
function shownProperty(property: string, value: string | number): string | undefined {
  if (property === 'deliveryMode') return value === 2 ? 'true' : undefined;
  return typeof value === 'number' && !(Number.isSafeInteger(value) && value >= 0) ? undefined : String(value);
}

/** Whether the line of a property says all of it. */
function isSaidBy(property: string, value: string | number): boolean {
  if (typeof value === 'number') return true;
  return !value.includes('\0') && !(property === 'replyTo' && value.startsWith(REPLY_QUEUE_PREFIX));
}

/** Lines of headers; what they do not say goes to `typed`, and that there are headers, if no line says it. */
function headerLines(headers: FieldTable, typed: Typed): string {
  let lines = '';
  const kept: Record<string, Json> = Object.create(null);
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined) continue;
    const line = headerLine(name, value);
    lines += line;
    if (line === '' || typeof value !== 'string' || value.includes('\0')) kept[name] = toJson(value);
  }
  if (lines === '' || Object.keys(kept).length > 0) typed.h = kept;
  return lines;
}

/** The line of a header; '' for one that would pass for something else: a name of ours, or none. */
function headerLine(name: string, value: FieldValue): string {
  if (name === '' || name.includes('\0') || isReserved(name)) return '';
  return `${escapeText(name)}:${escapeText(fieldAsText(value))}\n`;
}

/** Names that in a MESSAGE or a block say something of their own. */
function isReserved(name: string): boolean {
  return PROPERTY_OF.has(name) || RESERVED.has(name);
}

const RESERVED: ReadonlySet<string> = new Set<HeaderName>([
  'destination',
  'content-length',
  'receipt',
  'receipt-id',
  'transaction',
  'subscription',
  'message-id',
  'ack',
  'redelivered',
]);

function blockOf(lines: string, typed: Typed): Uint8Array {
  if (typed.p === undefined && typed.h === undefined) {
    return lines === '' ? OCTETS_OF_NOTHING : Buffer.from(lines);
  }
  return Buffer.from(`${lines}\0${JSON.stringify(typed)}`);
}

/** A new block with `change` applied; untouched lines and typed values stay as they are, new headers come last. */
function rewrite(block: Uint8Array, change: PropertiesChange): Uint8Array {
  const end = linesEnd(block, 0, block.length);
  const typed = readTyped(block, end);
  const pieces: Uint8Array[] = [];
  eachLine(block, end, (start, colon, to) => {
    const name = unescapeOctets(block, start, colon, 12);
    const property = PROPERTY_OF.get(name);
    const isChanged = property === undefined ? Object.hasOwn(change.headers ?? {}, name) : property in change;
    if (!isChanged) pieces.push(block.subarray(start, to + 1));
  });
  let lines = '';
  for (const [property, header] of PROPERTY_HEADERS) {
    if (property !== 'expiration' && property !== 'replyTo') continue;
    if (!(property in change)) continue;
    if (typed.p !== undefined) delete typed.p[property];
    const value = change[property];
    if (value === undefined) continue;
    lines += `${header}:${escapeText(value)}\n`;
    if (!isSaidBy(property, value)) typed.p = { ...typed.p, [property]: value };
  }
  if (change.headers !== undefined) {
    const added: Typed = {};
    for (const name of Object.keys(change.headers)) if (typed.h !== undefined) delete typed.h[name];
    const set = Object.entries(change.headers).filter((entry): entry is [string, FieldValue] => entry[1] !== undefined);
    lines += headerLines(Object.fromEntries(set), added);
    const kept = { ...typed.h, ...added.h };
    if (typed.h !== undefined || Object.keys(kept).length > 0) typed.h = kept;
  }
  const { p, h } = typed;
  const rest = { ...(p && Object.keys(p).length > 0 && { p }), ...(h && { h }) };
  return Buffer.concat([...pieces, blockOf(lines, rest)]);
}

/** The codec that STOMP messages carry. */
export const STOMP_PROPERTIES: PropertiesCodec = { name: 'stomp', decode, encode, rewrite };
