/**
 * An errand: one request that one server has taken. It ends in exactly one of three ways: answered, given back for
 * another server, or failed. Whether a request may go to another server after this one is lost is decided here.
 */
import type { Duplex, Readable } from 'node:stream';
import { HttpError } from './http-error.ts';
import { headerValue, isIdempotent, type RequestHead, type ResponseHead } from './http-message.ts';
import { parseRequest, parseResponse } from './http-parse.ts';
import type { Requestor, Trailers } from './requestor.ts';

/** Tries of one request, the first included. */
const ATTEMPTS_MAX = 3;

export interface ErrandRequest {
  readonly head: RequestHead;
  /** Read already, or still coming. */
  readonly body: Buffer | Readable;
  /** Known at the end of the body. */
  readonly trailers?: Trailers;
}

/** What becomes of the message behind an errand: `done` it is over, `again` it goes back to its place in the queue. */
export type Settlement = 'done' | 'again';

export interface ErrandOptions {
  readonly requestor: Requestor;
  /** `A.B.C.D:PORT` of whoever asked. */
  readonly requestingClient: string;
  /** The request as `message/http`; absent while its body is still coming. */
  readonly octets?: Uint8Array;
  /** The request, where it has been read already. */
  readonly request?: ErrandRequest;
  /** Settles the message and frees the slot; called once. */
  readonly settle: (settlement: Settlement) => void;
}

export class Errand {
  readonly requestor: Requestor;
  readonly requestingClient: string;
  /** The request as `message/http`. */
  readonly octets: Uint8Array;
  readonly #settle: (settlement: Settlement) => void;
  #request: ErrandRequest | undefined;
  #settled = false;
  #answered = false;

  constructor(options: ErrandOptions) {
    this.requestor = options.requestor;
    this.requestingClient = options.requestingClient;
    this.octets = options.octets ?? new Uint8Array(0);
    this.#request = options.request;
    this.#settle = options.settle;
  }

  /** It has been answered, given back or failed. */
  get settled(): boolean {
    return this.#settled;
  }

  /** The answer has begun. */
  get answered(): boolean {
    return this.#answered;
  }

  /** The request as `node:http` reads it. Rejects with HttpError 400. */
  async request(): Promise<ErrandRequest> {
    this.#request ??= await parseRequest(this.octets);
    return this.#request;
  }

  /** Something before the answer: 1xx. What concerns the server and its neighbour only goes no further. */
  inform(head: ResponseHead): void {
    if (head.status > 101 && head.status < 200 && !this.#answered) this.requestor.inform?.(head);
  }

  /** The answer begins; `finish` follows when its body has come to its end, whichever way. */
  answer(head: ResponseHead, body: Buffer | Readable, trailers?: Trailers): void {
    this.#answered = true;
    this.requestor.answer(head, body, trailers);
  }

  /** Instead of an answer: as `Passage.open`; `finish` follows when `far` has been closed. */
  open(head: ResponseHead, far: Duplex, rest: Buffer): void {
    this.#answered = true;
    const { passage } = this.requestor;
    if (passage === undefined) far.destroy();
    else passage.open(head, far, rest);
  }

  /** The server is free for another request. */
  finish(): void {
    this.#end('done');
  }

  /** The answer as `message/http`. Rejects with HttpError 400, and tells the requestor 502, when it is none. */
  async answerOctets(octets: Uint8Array): Promise<void> {
    try {
      const { head, body, trailers } = await parseResponse(octets, this.requestor.method);
      this.answer(head, body, trailers);
    } catch (error) {
      if (error instanceof HttpError) this.fail(502, 'the answer of the application is invalid');
      throw error;
    } finally {
      this.finish();
    }
  }

  fail(status: 400 | 502 | 503 | 504, explanation: string): void {
    this.#answered = true;
    this.requestor.fail(status, explanation);
    this.finish();
  }

  /**
   * The server is lost, without an answer. What had not been sent to it, and what may be sent twice, goes to another.
   * [RFC 9110 §9.2.2]
   */
  lost(wasSent: boolean): void {
    const { requestor } = this;
    const isWhole = this.#request === undefined || Buffer.isBuffer(this.#request.body);
    if (this.#settled) return;
    if (this.#answered || requestor.gone) this.finish();
    else if (isWhole && requestor.attempts < ATTEMPTS_MAX && (!wasSent || isIdempotent(requestor.method)))
      this.#end('again');
    else this.fail(502, 'the application was lost before it answered');
  }

  #end(settlement: Settlement): void {
    if (this.#settled) return;
    this.#settled = true;
    this.requestor.onGone = undefined;
    if (settlement === 'again') this.requestor.onGivenBack?.();
    this.#settle(settlement);
  }
}

/** The fields that say how the body of `request` is framed on the next connection: in chunks if trailers may follow. */
export function framingOf({ head, body, trailers }: ErrandRequest): string[] {
  const length = Buffer.isBuffer(body) ? undefined : headerValue(head.headers, 'content-length');
  if (length !== undefined) return ['Content-Length', length];
  if (!Buffer.isBuffer(body) || (trailers !== undefined && trailers().length > 0)) {
    const announced = headerValue(head.headers, 'trailer');
    return ['Transfer-Encoding', 'chunked', ...(announced === undefined ? [] : ['Trailer', announced])];
  }
  const isExpected = !['GET', 'HEAD', 'DELETE', 'OPTIONS', 'TRACE'].includes(head.method);
  return body.length > 0 || isExpected ? ['Content-Length', String(body.length)] : [];
}
