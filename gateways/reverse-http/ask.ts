/**
 * An ask: one HTTP request for a public URL, from its arrival to the end of its answer. It is known by a random id, the
 * correlation id of its message, so that a server of this door can be given the request and its client directly.
 */
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { ErrandRequest } from './errand.ts';
import { HttpError, sendError } from './http-error.ts';
import { endToEndHeaders, hasBody, headerValue, type RequestHead, type ResponseHead } from './http-message.ts';
import type { Requestor } from './requestor.ts';

export class Ask implements Requestor {
  readonly id = randomUUID();
  /** The claim it is for. */
  readonly name: string;
  readonly head: RequestHead;
  /** Set when the body has been read, or is to be read by the server. */
  request: ErrandRequest | undefined;
  attempts = 0;
  serving = false;
  onGone: (() => void) | undefined;
  readonly #response: ServerResponse;
  readonly #idleMs: number;
  readonly #onEnd: (ask: Ask) => void;
  #answered = false;
  #gone = false;

  /**
   * `onEnd` is called once, when the answer has begun or nobody waits for it any more; `idleMs`: how long the client may
   * not read.
   */
  constructor(name: string, head: RequestHead, response: ServerResponse, idleMs: number, onEnd: (ask: Ask) => void) {
    this.#idleMs = idleMs;
    this.name = name;
    this.head = head;
    this.#response = response;
    this.#onEnd = onEnd;
    response.once('close', () => {
      if (!response.writableFinished) this.#leave();
    });
  }

  get method(): string {
    return this.head.method;
  }

  get gone(): boolean {
    return this.#gone;
  }

  get answered(): boolean {
    return this.#answered;
  }

  answer(head: ResponseHead, body: Buffer | Readable): void {
    const response = this.#response;
    if (this.#answered || this.#gone) {
      if (!Buffer.isBuffer(body)) body.resume();
      return;
    }
    const isFramed = hasBody(this.method, head.status);
    if (!this.#writeHead(head, body, isFramed)) {
      if (!Buffer.isBuffer(body)) body.resume();
      this.fail(502, 'the answer of the application is invalid');
      return;
    }
    this.#answered = true;
    this.#onEnd(this);
    if (Buffer.isBuffer(body)) response.end(isFramed ? body : undefined);
    else if (isFramed) relay(body, response, this.#idleMs);
    else {
      body.resume();
      response.end();
    }
  }

  /** False for a field that could be read and cannot be written: `node:http` asks more of what it writes. */
  #writeHead(head: ResponseHead, body: Buffer | Readable, isFramed: boolean): boolean {
    const headers = endToEndHeaders(head.headers);
    const announced = headerValue(head.headers, 'content-length');
    const length = Buffer.isBuffer(body) && isFramed ? String(body.length) : announced;
    if (length !== undefined && head.status !== 204) headers.push('Content-Length', length);
    this.#closeUnread();
    try {
      this.#response.writeHead(head.status, head.reason, headers);
      return true;
    } catch {
      return false;
    }
  }

  fail(status: number, explanation: string): void {
    if (this.#answered || this.#gone) return;
    this.#answered = true;
    this.#onEnd(this);
    sendError(this.#response, new HttpError(status, explanation));
  }

  /** As `fail`, and whoever is serving it learns that nobody waits any more. */
  giveUp(status: number, explanation: string): void {
    this.fail(status, explanation);
    this.#leave();
  }

  /** The answer has begun before the body was read to its end: what follows on this connection cannot be read. */
  #closeUnread(): void {
    if (!this.#response.req.complete) this.#response.shouldKeepAlive = false;
  }

  #leave(): void {
    if (this.#gone) return;
    this.#gone = true;
    if (!this.#answered) this.#onEnd(this);
    const { onGone } = this;
    this.onGone = undefined;
    onGone?.();
  }
}

/**
 * When the client leaves, the rest is read and dropped: the connection that it comes on serves others too. A client that
 * does not read for `idleMs` is left.
 */
function relay(body: Readable, response: ServerResponse, idleMs: number): void {
  let timer: NodeJS.Timeout | undefined;
  const onPause = (): void => {
    timer = setTimeout(() => response.destroy(), idleMs);
  };
  const onResume = (): void => clearTimeout(timer);
  body.on('pause', onPause).on('resume', onResume);
  body.pipe(response);
  body.once('error', () => response.destroy());
  body.once('close', () => {
    if (!response.writableEnded) response.destroy();
  });
  response.once('close', () => {
    clearTimeout(timer);
    body.off('pause', onPause).unpipe(response);
    body.resume();
  });
}
