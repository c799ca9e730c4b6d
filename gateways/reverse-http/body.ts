/** Reading bodies: never more than a limit, never for longer than a peer keeps sending. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { HttpError } from './http-error.ts';

export interface BodyLimits {
  readonly bodyBytesMax: number;
  /** Longest pause between two pieces. */
  readonly bodyIdleMs: number;
  /** Octets in a second, on average and after the first `bodyIdleMs`; absent: a body may be as slow as it likes. */
  readonly bodyRateMin?: number;
  /** Of all bodies that are being read at a time; absent: nobody counts. */
  readonly budget?: BodyBudget;
}

/** How much memory the bodies may take together that have begun and not ended. */
export class BodyBudget {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** False when that is more than there is; taken all the same, and to be given back. */
  take(bytes: number): boolean {
    this.#bytes += bytes;
    return this.#bytes <= this.#bytesMax;
  }

  giveBack(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/**
 * The length that a request announces; undefined when it does not, 0 when it has no body. Throws HttpError 501 for a
 * transfer coding besides chunks: its octets would be handed on without the word that says how to read them.
 */
export function announcedLength(request: IncomingMessage): number | undefined {
  const coding = request.headers['transfer-encoding'];
  if (coding !== undefined && !isChunked(coding)) throw new HttpError(501, 'the only transfer coding here is chunked');
  if (coding !== undefined) return undefined;
  return Number(request.headers['content-length'] ?? 0);
}

/**
 * The body of a request. Throws HttpError: 413 for one over the limit, before it is read where its length is announced;
 * 408 for one that stands still or is too slow; 400 for one that breaks off; 503 when too much is being read.
 */
export async function readBody(
  request: IncomingMessage,
  response: ServerResponse,
  limits: BodyLimits,
): Promise<Buffer> {
  const length = announcedLength(request);
  if (length === 0) return NOTHING;
  if (length !== undefined && length > limits.bodyBytesMax) throw tooLarge(limits);
  sayContinue(request, response);
  return collect(request, limits);
}

/** Is `chunked` all that a Transfer-Encoding field says? */
export function isChunked(coding: string): boolean {
  return coding.trim().toLowerCase() === 'chunked';
}

const continued = new WeakSet<IncomingMessage>();

/** Asks a client that waits for it to send the body. [RFC 9110 §10.1.1] */
function sayContinue(request: IncomingMessage, response: ServerResponse): void {
  if (request.headers.expect?.toLowerCase() !== '100-continue' || continued.has(request)) return;
  continued.add(request);
  response.writeContinue();
}

/**
 * Waits until the body is over, or has `bytes` octets, or `milliseconds` have passed. The body if it is over; else
 * undefined, and the request gives all of it from the beginning. Throws HttpError 400 for one that breaks off.
 */
export function peekBody(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: number,
  milliseconds: number,
): Promise<Buffer | undefined> {
  sayContinue(request, response);
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let seen = 0;
    const stop = (): void => {
      clearTimeout(timer);
      request.off('data', onData).off('end', onEnd).off('close', onClose);
    };
    const hand = (): void => {
      stop();
      request.pause();
      if (seen > 0) request.unshift(Buffer.concat(chunks, seen));
      resolve(undefined);
    };
    const timer = setTimeout(hand, milliseconds);
    const onData = (chunk: Buffer): void => {
      chunks.push(chunk);
      seen += chunk.length;
      if (seen >= bytes && !request.complete) hand();
    };
    const onEnd = (): void => {
      stop();
      resolve(Buffer.concat(chunks, seen));
    };
    const onClose = (): void => {
      stop();
      reject(new HttpError(400, 'the body broke off'));
    };
    request.on('data', onData).on('end', onEnd).on('close', onClose);
  });
}

const NOTHING = Buffer.alloc(0);

function tooLarge({ bodyBytesMax }: BodyLimits): HttpError {
  return new HttpError(413, `the body is larger than ${bodyBytesMax} octets`);
}

function tooMuch(): HttpError {
  return new HttpError(503, 'too many large bodies are coming at a time', { 'Retry-After': '5' });
}

/** Has a body of which so much has come since then been coming too slowly? `beganAt` in ms of `performance.now()`. */
export function isTooSlow(
  bytes: number,
  beganAt: number,
  { bodyIdleMs, bodyRateMin = 0 }: Pick<BodyLimits, 'bodyIdleMs' | 'bodyRateMin'>,
): boolean {
  const elapsedMs = performance.now() - beganAt;
  return elapsedMs > bodyIdleMs && bytes < (bodyRateMin * elapsedMs) / 1000;
}

/** All that a stream gives; throws as `readBody`, and 503 when too much is being read. */
export function collect(stream: Readable, limits: BodyLimits): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const beganAt = performance.now();
    let bytes = 0;
    const settle = (error?: HttpError): void => {
      clearTimeout(timer);
      limits.budget?.giveBack(bytes);
      stream.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
      // An error that comes later is nobody's any more.
      stream.on('error', () => {});
      if (error) reject(error);
      else resolve(chunks.length === 1 ? (chunks[0] ?? NOTHING) : Buffer.concat(chunks, bytes));
    };
    const onIdle = (): void => settle(new HttpError(408, 'the body did not come in time'));
    const timer = setTimeout(onIdle, limits.bodyIdleMs);
    const onData = (chunk: Buffer): void => {
      timer.refresh();
      bytes += chunk.length;
      chunks.push(chunk);
      const isAffordable = limits.budget?.take(chunk.length) ?? true;
      if (isTooSlow(bytes, beganAt, limits)) {
        stream.pause();
        onIdle();
        return;
      }
      if (isAffordable && bytes <= limits.bodyBytesMax) return;
      stream.pause();
      settle(bytes > limits.bodyBytesMax ? tooLarge(limits) : tooMuch());
    };
    const onEnd = (): void => settle();
    const onClose = (): void => settle(new HttpError(400, 'the body broke off'));
    stream.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose);
  });
}
