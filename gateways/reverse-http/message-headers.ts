/**
 * Message properties as HTTP fields, one for each:
 *
 *   Content-Type, Content-Encoding      the same
 *   AMQP-Delivery-Mode, AMQP-Priority, AMQP-Timestamp      numbers
 *   AMQP-Correlation-Id, AMQP-Reply-To, AMQP-Expiration, AMQP-Message-Id, AMQP-Type, AMQP-User-Id, AMQP-App-Id,
 *   AMQP-Cluster-Id      texts
 *   AMQP-Headers         the header table, as a JSON object
 *
 * A text that is not all printable ASCII is in the field with a star, `AMQP-Type*: UTF-8''h%C3%A4` [RFC 8187].
 */
import type { IncomingHttpHeaders } from 'node:http';
import { Decimal, type FieldTable, type FieldValue } from '../../broker/fields.ts';
import type { Message, MessageProperties } from '../../broker/message.ts';
import { HttpError } from './http-error.ts';

const TEXTS = {
  correlationId: 'AMQP-Correlation-Id',
  replyTo: 'AMQP-Reply-To',
  expiration: 'AMQP-Expiration',
  messageId: 'AMQP-Message-Id',
  type: 'AMQP-Type',
  userId: 'AMQP-User-Id',
  appId: 'AMQP-App-Id',
  clusterId: 'AMQP-Cluster-Id',
} as const satisfies Partial<Record<keyof MessageProperties, string>>;

/** Field and largest value. */
const NUMBERS = {
  deliveryMode: ['AMQP-Delivery-Mode', 2],
  priority: ['AMQP-Priority', 255],
  timestamp: ['AMQP-Timestamp', Number.MAX_SAFE_INTEGER],
} as const satisfies Partial<Record<keyof MessageProperties, readonly [string, number]>>;

const HEADERS = 'AMQP-Headers';
/** Octets of a text property [AMQP 4.2.5.3]. */
const TEXT_BYTES_MAX = 255;
const PRINTABLE = /^[\x20-\x7e]*$/;

/** Every field that a message can have, for lists of what web pages may read. */
export const MESSAGE_FIELDS: readonly string[] = [
  'AMQP-Redelivered',
  ...Object.values(NUMBERS).map(([field]) => field),
  ...['AMQP-Exchange', 'AMQP-Routing-Key', ...Object.values(TEXTS), HEADERS].flatMap((field) => [field, `${field}*`]),
];

/** The properties that a request's fields ask for. Throws HttpError 400. */
export function propertiesOf(headers: IncomingHttpHeaders): MessageProperties {
  const properties: Record<string, unknown> = {};
  const contentType = headers['content-type'];
  const contentEncoding = headers['content-encoding'];
  if (contentType !== undefined) properties.contentType = checkText('Content-Type', contentType);
  if (contentEncoding !== undefined) properties.contentEncoding = checkText('Content-Encoding', contentEncoding);
  for (const [property, field] of Object.entries(TEXTS)) {
    const text = readText(headers, field);
    if (text !== undefined) properties[property] = checkText(field, text);
  }
  for (const [property, [field, max]] of Object.entries(NUMBERS)) {
    const text = headers[field.toLowerCase()];
    if (text === undefined) continue;
    if (typeof text !== 'string' || !/^\d{1,16}$/.test(text) || Number(text) > max) {
      throw new HttpError(400, `${field} takes a number from 0 to ${max}`);
    }
    properties[property] = Number(text);
  }
  const table = readText(headers, HEADERS);
  if (table !== undefined) properties.headers = readTable(table);
  return properties;
}

function readText(headers: IncomingHttpHeaders, field: string): string | undefined {
  const starred = headers[`${field.toLowerCase()}*`];
  if (typeof starred === 'string') {
    const [, encoded] = /^utf-8'[^']*'(.*)$/i.exec(starred) ?? [];
    try {
      return decodeURIComponent(encoded ?? '%');
    } catch {
      throw new HttpError(400, `${field}* takes UTF-8''and-percent-encoding`);
    }
  }
  const plain = headers[field.toLowerCase()];
  return typeof plain === 'string' ? Buffer.from(plain, 'latin1').toString('utf8') : undefined;
}

function checkText(field: string, text: string): string {
  if (Buffer.byteLength(text) > TEXT_BYTES_MAX) throw new HttpError(400, `${field} is longer than 255 octets`);
  return text;
}

function readTable(json: string): FieldTable {
  try {
    const value: unknown = JSON.parse(json);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as FieldTable;
  } catch {
    // Said below.
  }
  throw new HttpError(400, `${HEADERS} takes a JSON object`);
}

/** The fields that tell a message's address and properties. */
export function fieldsOf(message: Message, redelivered: boolean): Record<string, string> {
  const { properties, exchange, routingKey } = message;
  const { contentType = '', contentEncoding } = properties;
  const fields: Record<string, string> = {
    'Content-Type': contentType !== '' && PRINTABLE.test(contentType) ? contentType : 'application/octet-stream',
    'AMQP-Redelivered': String(redelivered),
  };
  if (contentEncoding !== undefined && PRINTABLE.test(contentEncoding)) fields['Content-Encoding'] = contentEncoding;
  writeText(fields, 'AMQP-Exchange', exchange);
  writeText(fields, 'AMQP-Routing-Key', routingKey);
  for (const [property, field] of Object.entries(TEXTS)) {
    const text = properties[property as keyof typeof TEXTS];
    if (text !== undefined) writeText(fields, field, text);
  }
  for (const [property, [field]] of Object.entries(NUMBERS)) {
    const number = properties[property as keyof typeof NUMBERS];
    if (number !== undefined) fields[field] = String(number);
  }
  if (properties.headers !== undefined) writeText(fields, HEADERS, tableText(properties.headers));
  return fields;
}

function writeText(fields: Record<string, string>, field: string, text: string): void {
  // Spaces at the ends would be lost.
  if (PRINTABLE.test(text) && text === text.trim()) fields[field] = text;
  else fields[`${field}*`] = `UTF-8''${encodeURIComponent(wellFormed(text))}`;
}

/** Half a surrogate pair cannot be encoded. */
function wellFormed(text: string): string {
  return Buffer.from(text, 'utf8').toString('utf8');
}

/** A field table as JSON in printable ASCII; what JSON has no word for becomes a text, octets in base64. */
function tableText(table: FieldTable): string {
  const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(plain(table)).replace(/[^\x20-\x7e]/g, escaped);
}

function plain(value: FieldValue): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (value instanceof Date || value instanceof Decimal)
    return value instanceof Date ? value.toISOString() : String(value);
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, plain(field)]));
}

/** A message as one JSON object, for event streams. */
export function jsonOf(message: Message, redelivered: boolean): string {
  const { headers, ...properties } = message.properties;
  const { text, isText } = textOf(message.body);
  return JSON.stringify({
    exchange: message.exchange,
    routingKey: message.routingKey,
    redelivered,
    properties,
    headers: plain(headers ?? {}),
    body: text,
    ...(!isText && { bodyEncoding: 'base64' }),
  });
}

/** Octets as a text: themselves if they are UTF-8, else base64. */
export function textOf(body: Uint8Array): { readonly text: string; readonly isText: boolean } {
  const octets = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const text = octets.toString('utf8');
  return Buffer.from(text, 'utf8').equals(octets)
    ? { text, isText: true }
    : { text: octets.toString('base64'), isText: false };
}
