/**
 * Where each response of an `application/http` pipeline ends [RFC 9112 §10.2]. Nothing is read here but what frames a
 * body; each part is then read by `node:http`, which refuses whatever is ambiguous.
 */
import { HttpError } from './http-error.ts';
import { hasBody } from './http-message.ts';

const CARRIAGE_RETURN = 0x0d;
const LINE_FEED = 0x0a;
/** Octets of one head. */
const HEAD_BYTES_MAX = 64 * 1024;

/** Cuts `octets` into the responses to requests with these methods. Throws HttpError 400 if they are not as many. */
export function splitResponses(octets: Buffer, methods: readonly string[]): Buffer[] {
  const parts: Buffer[] = [];
  let at = 0;
  for (const method of methods) {
    const end = endOfResponse(octets, at, method);
    parts.push(octets.subarray(at, end));
    at = end;
  }
  const isOver = octets.subarray(at).every((octet) => octet === CARRIAGE_RETURN || octet === LINE_FEED);
  if (!isOver) throw new HttpError(400, 'there are octets after the end of the response');
  return parts;
}

/**
 * The response to a request with this method, when there is one in `octets`. Throws HttpError 400 for octets after its
 * end, unless they are a body in answer to HEAD: simple applications answer that as they would GET, and in a message of
 * its own it can be taken for nothing else.
 */
export function onlyResponse(octets: Buffer, method: string): Buffer {
  if (method === 'HEAD') return octets.subarray(0, endOfResponse(octets, 0, method));
  const [only = octets] = splitResponses(octets, [method]);
  return only;
}

function endOfResponse(octets: Buffer, start: number, method: string): number {
  const headEnd = octets.indexOf('\r\n\r\n', start);
  if (headEnd < 0 || headEnd - start > HEAD_BYTES_MAX)
    throw new HttpError(400, 'a response of the pipeline is missing');
  const head = octets.toString('latin1', start, headEnd + 2);
  const status = Number(/^HTTP\/\d\.\d (\d{3})/.exec(head)?.[1] ?? 0);
  const bodyStart = headEnd + 4;
  if (status >= 100 && status < 200) return endOfResponse(octets, bodyStart, method);
  if (!hasBody(method, status)) return bodyStart;
  if (/\r\ntransfer-encoding:/i.test(head)) return endOfChunks(octets, bodyStart);
  const length = /\r\ncontent-length: *(\d+) *\r\n/i.exec(head)?.[1];
  // Without a length the body is all that follows.
  return length === undefined ? octets.length : Math.min(octets.length, bodyStart + Number(length));
}

function endOfChunks(octets: Buffer, start: number): number {
  for (let at = start; ; ) {
    const lineEnd = octets.indexOf('\r\n', at);
    const size =
      lineEnd < 0 ? Number.NaN : Number.parseInt(octets.toString('latin1', at, Math.min(lineEnd, at + 16)), 16);
    if (!Number.isSafeInteger(size) || size < 0) throw new HttpError(400, 'a chunk of the pipeline is malformed');
    if (size === 0) {
      const trailersEnd = octets.indexOf('\r\n\r\n', lineEnd);
      if (trailersEnd < 0) throw new HttpError(400, 'a response of the pipeline breaks off');
      return trailersEnd + 4;
    }
    at = lineEnd + 2 + size + 2;
  }
}
