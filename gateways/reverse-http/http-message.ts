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

/** A request as it was received: the body is framed as its head says. */
export function encodeRequest(head: RequestHead, body: Buffer): Buffer {
  const line = `${head.method} ${head.target} HTTP/${head.version}`;
  const isChunked = headerValue(head.headers, 'transfer-encoding') !== undefined;
  return encode(line, head.headers, isChunked ? asChunks(body) : body);
}

/** A response with its body framed by a length. `framed` false: it has none (HEAD, 204, 304), whatever length it tells. */
export function encodeResponse(head: ResponseHead, body: Buffer, framed: boolean): Buffer {
  const line = `HTTP/1.1 ${head.status} ${head.reason || (STATUS_CODES[head.status] ?? '')}`;
  const headers = endToEndHeaders(head.headers);
  const length = framed ? String(body.length) : headerValue(head.headers, 'content-length');
  if (length !== undefined) headers.push('Content-Length', length);
  return encode(line, headers, body);
}

function encode(startLine: string, headers: RawHeaders, body: Buffer): Buffer {
  let head = `${startLine}\r\n`;
  for (let index = 0; index + 1 < headers.length; index += 2) head += `${headers[index]}: ${headers[index + 1]}\r\n`;
  return Buffer.concat([Buffer.from(`${head}\r\n`, 'latin1'), body]);
}

function asChunks(body: Buffer): Buffer {
  const last = Buffer.from('0\r\n\r\n');
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
