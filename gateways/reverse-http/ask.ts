/**
 * An ask: one HTTP request for a public URL, from its arrival to the end of its answer. It is known by a random id, the
 * correlation id of its message, so that a server of this door can be given the request and its client directly.
 */
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import type { ErrandRequest } from './errand.ts';
import { HttpError, sendError } from './http-error.ts';
import {
  encodeInterim,
  endToEndHeaders,
  hasBody,
  headerValue,
  type RequestHead,
  type ResponseHead,
  trailerFields,
} from './http-message.ts';
import type { Passage, Requestor, Trailers } from './requestor.ts';
import type { Tunnel } from './tunnel.ts';

/** Interim responses (1xx) of one request; further ones are dropped. */
export const INTERIM_MAX = 32;

export interface AskLimits {
  /** How long a client may not read. */
  readonly bodyIdleMs: number;
  /** How long an application may be silent in the middle of its answer. */
  readonly idleMs: number;
}

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
  readonly passage: Passage | undefined;
  readonly #response: ServerResponse;
  readonly #limits: AskLimits;
  readonly #onEnd: (ask: Ask) => void;
  #answered = false;
  #gone = false;
  #interims = 0;

  /**
   * `onEnd` is called once, when the answer has begun or nobody waits for it any more. With a `tunnel`, it asks for that
   * protocol; `response` then is on the same socket.
   */
  constructor(
    name: string,
    head: RequestHead,
    response: ServerResponse,
    limits: AskLimits,
    onEnd: (ask: Ask) => void,
    tunnel?: Tunnel,
  ) {
    this.passage = tunnel && { protocol: tunnel.protocol, open: (...accepted) => this.#open(tunnel, ...accepted) };
    this.#limits = limits;
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

  inform(head: ResponseHead): void {
    if (this.#answered || this.#gone || this.head.version === '1.0') return;
    this.#interims += 1;
    if (this.#interims > INTERIM_MAX) return;
    // `node:http` knows only some of them by name. Nothing of the answer has been written, so this comes before it.
    this.#response.socket?.write(encodeInterim({ ...head, headers: endToEndHeaders(head.headers) }));
  }

  answer(head: ResponseHead, body: Buffer | Readable, trailers: Trailers = () => []): void {
    const response = this.#response;
    if (this.#answered || this.#gone) {
      if (!Buffer.isBuffer(body)) body.resume();
      return;
    }
    const isFramed = hasBody(this.method, head.status);
    const last = Buffer.isBuffer(body) && isFramed ? trailerFields(trailers()) : [];
    if (!this.#writeHead(head, body, isFramed, last.length > 0)) {
      if (!Buffer.isBuffer(body)) body.resume();
      this.fail(502, 'the answer of the application is invalid');
      return;
    }
    this.#answered = true;
    this.#onEnd(this);
    if (Buffer.isBuffer(body)) {
      addTrailers(response, last);
      response.end(isFramed ? body : undefined);
    } else if (isFramed) relay(body, response, trailers, this.#limits);
    else {
      body.resume();
      response.end();
    }
  }

  #open(tunnel: Tunnel, ...[head, far, rest]: Parameters<Passage['open']>): void {
    const { socket } = this.#response;
    if (this.#answered || this.#gone || socket === null) {
      far.destroy();
      return;
    }
    this.#answered = true;
    this.#onEnd(this);
    this.#response.detachSocket(socket);
    tunnel.open(head, far, rest);
  }

  /** False for a field that could be read and cannot be written: `node:http` asks more of what it writes. */
  #writeHead(head: ResponseHead, body: Buffer | Readable, isFramed: boolean, hasTrailers: boolean): boolean {
    const headers = endToEndHeaders(head.headers);
    const announced = hasTrailers ? undefined : headerValue(head.headers, 'content-length');
    const length = Buffer.isBuffer(body) && isFramed && !hasTrailers ? String(body.length) : announced;
    const trailer = headerValue(head.headers, 'trailer');
    if (length !== undefined && head.status !== 204) headers.push('Content-Length', length);
    else if (trailer !== undefined && isFramed && this.head.version !== '1.0') headers.push('Trailer', trailer);
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

/** A field that could be read and cannot be written is left out, and with it the others: the answer is whole without. */
function addTrailers(response: ServerResponse, fields: [string, string][]): void {
  try {
    if (fields.length > 0) response.addTrailers(fields);
  } catch {
    // See above.
  }
}

/**
 * When the client leaves, the rest is read and dropped: the connection that it comes on serves others too. A client that
 * does not read for a time is left, and so is an application that does not write.
 */
function relay(body: Readable, response: ServerResponse, trailers: Trailers, limits: AskLimits): void {
  let timer: NodeJS.Timeout | undefined;
  const allow = (milliseconds: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => response.destroy(), milliseconds);
  };
  const onPause = (): void => allow(limits.bodyIdleMs);
  const onResume = (): void => allow(limits.idleMs);
  const onData = (): unknown => timer?.refresh();
  onResume();
  body.on('pause', onPause).on('resume', onResume).on('data', onData);
  body.once('end', () => addTrailers(response, trailerFields(trailers())));
  body.pipe(response);
  body.once('error', () => response.destroy());
  body.once('close', () => {
    if (!response.writableEnded) response.destroy();
  });
  response.once('close', () => {
    clearTimeout(timer);
    body.off('pause', onPause).off('resume', onResume).off('data', onData).unpipe(response);
    body.resume();
  });
}
