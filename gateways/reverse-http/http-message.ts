/**
 * HTTP messages as octets, `message/http` [RFC 9112 §10.1], and what of a head goes on to the next connection.
 *
 *   request line or status line CRLF, name ": " value CRLF …, CRLF, body
 *
 * Heads keep the names, the order and the values in which `node:http` has read them.
 */
import { STATUS_CODES } from 'node:http';

/** Names and values in turn, as `IncomingMessage.rawHeaders`. */
export type RawHeaders = readonly string[];

export interface RequestHead {
  readonly method: string;
  readonly target: string;
  /** e.g. `1.1` */
  readonly version: string;
  readonly headers: RawHeaders;
}

export interface ResponseHead {
  readonly status: number;
  readonly reason: string;
  readonly headers: RawHeaders;
}

/** Methods that may be sent again when nobody knows whether the first time counted [RFC 9110 §9.2.2]. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'PROPFIND', 'REPORT', 'SEARCH']);

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method);
}

/** Header fields that speak of one connection only [RFC 9110 §7.6.1], and those that frame a body. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'content-length',
  'expect',
]);

/** The value of a field, in lower-case `name`; undefined when it is absent. */
export function headerValue(headers: RawHeaders, name: string): string | undefined {
  for (let index = 0; index + 1 < headers.length; index += 2) {
    if (headers[index]?.toLowerCase() === name) return headers[index + 1];
  }
  return undefined;
}

/** How often a field occurs, in lower-case `name`. */
export function headerCount(headers: RawHeaders, name: string): number {
  return headers.filter((one, index) => index % 2 === 0 && one.toLowerCase() === name).length;
}

/** All fields but one, in lower-case `name`. */
export function withoutHeader(headers: RawHeaders, name: string): RawHeaders {
  return headers.filter((_one, index) => headers[index - (index % 2)]?.toLowerCase() !== name);
}

/** The fields that go on to the next connection: none that speaks of this one, none that frames the body. */
export function endToEndHeaders(headers: RawHeaders, without: ReadonlySet<string> = NOTHING): string[] {
  const named = headerValue(headers, 'connection')?.toLowerCase().split(/[ ,]+/) ?? [];
  const kept: string[] = [];
  for (let index = 0; index + 1 < headers.length; index += 2) {
    const name = headers[index] ?? '';
    const lowerName = name.toLowerCase();
    if (HOP_BY_HOP.has(lowerName) || named.includes(lowerName) || without.has(lowerName)) continue;
    kept.push(name, headers[index + 1] ?? '');
  }
  return kept;
}

const NOTHING: ReadonlySet<string> = new Set();

/** What has been acted on before the trailers come; read from there it would be something else. [RFC 9110 §6.5.1] */
const NEVER_TRAILERS: ReadonlySet<string> = new Set([
  ...['host', 'authorization', 'cookie', 'set-cookie', 'www-authenticate', 'requesting-client', 'location'],
  ...['content-type', 'content-encoding', 'content-range', 'cache-control', 'range', 'max-forwards'],
]);

/** The fields after a body that go on to the next connection, as names with their values. */
export function trailerFields(trailers: RawHeaders): [string, string][] {
  const kept = endToEndHeaders(trailers, NEVER_TRAILERS);
  return kept.flatMap((name, index): [string, string][] => (index % 2 === 0 ? [[name, kept[index + 1] ?? '']] : []));
}

/** A request as it was received: the body is framed as its head says; `trailers` only follow chunks. */
export function encodeRequest(head: RequestHead, body: Buffer, trailers: RawHeaders = []): Buffer {
  const line = `${head.method} ${head.target} HTTP/${head.version}`;
  const isChunked = headerValue(head.headers, 'transfer-encoding') !== undefined;
  return encode(line, head.headers, isChunked ? asChunks(body, trailers) : body);
}

/**
 * A response with its body framed by a length, or with trailers in chunks. `framed` false: it has none (HEAD, 204, 304),
 * whatever length it tells.
 */
export function encodeResponse(head: ResponseHead, body: Buffer, framed: boolean, trailers: RawHeaders = []): Buffer {
  const line = statusLine(head);
  const headers = endToEndHeaders(head.headers);
  const last = framed ? trailerFields(trailers).flat() : [];
  if (last.length > 0) return encode(line, [...headers, 'Transfer-Encoding', 'chunked'], asChunks(body, last));
  const length = framed ? String(body.length) : headerValue(head.headers, 'content-length');
  if (length !== undefined) headers.push('Content-Length', length);
  return encode(line, headers, body);
}

/** A response that is none yet: 1xx, with these fields as they are. */
export function encodeInterim(head: ResponseHead): Buffer {
  return encode(statusLine(head), head.headers, Buffer.alloc(0));
}

function statusLine({ status, reason }: ResponseHead): string {
  return `HTTP/1.1 ${status} ${reason || (STATUS_CODES[status] ?? '')}`;
}

function encode(startLine: string, headers: RawHeaders, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${startLine}\r\n${fieldLines(headers)}\r\n`, 'latin1'), body]);
}

function fieldLines(headers: RawHeaders): string {
  let lines = '';
  for (let index = 0; index + 1 < headers.length; index += 2) lines += `${headers[index]}: ${headers[index + 1]}\r\n`;
  return lines;
}

function asChunks(body: Buffer, trailers: RawHeaders): Buffer {
  const last = Buffer.from(`0\r\n${fieldLines(trailers)}\r\n`, 'latin1');
  if (body.length === 0) return last;
  return Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n'), last]);
}

/** Has a response to `method` with this status a body at all? [RFC 9112 §6.3] */
export function hasBody(method: string, status: number): boolean {
  return method !== 'HEAD' && status >= 200 && status !== 204 && status !== 304;
}

/** The method of a request in octets; '' when they are none. */
export function methodOf(octets: Uint8Array): string {
  return /^[!-~]{1,32}(?= )/.exec(Buffer.from(octets.subarray(0, 33)).toString('latin1'))?.[0] ?? '';
}
