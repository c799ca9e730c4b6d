/** Whoever asked: where the answer to a request goes, be it an HTTP client of this door or the sender of a message. */
import type { Duplex, Readable } from 'node:stream';
import { createMessage, type Message } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { type BodyLimits, collect } from './body.ts';
import { encodeResponse, hasBody, methodOf, type RawHeaders, type ResponseHead } from './http-message.ts';

export interface Requestor {
  /** The method of the request; it decides how its answer is read. */
  readonly method: string;
  /** How often the request has been given to somebody. */
  attempts: number;
  /** Some server has the request now. */
  serving: boolean;
  /** It asks for another protocol. */
  readonly passage?: Passage | undefined;
  /** Nobody waits for the answer any more. */
  readonly gone: boolean;
  /** It has been answered, where that is known. */
  readonly answered?: boolean;
  /** Called once when `gone` becomes true. */
  onGone: (() => void) | undefined;
  /** Called when the request goes back to its queue: whoever takes it next has it all to himself. */
  onGivenBack?(): void;
  /** Something before the answer: 1xx, but 100 (Continue) and 101, which are between two neighbours only. */
  inform?(head: ResponseHead): void;
  /** The answer; `body` may still be coming, and `trailers` are known at its end. Only the first one counts. */
  answer(head: ResponseHead, body: Buffer | Readable, trailers?: Trailers): void;
  /** An answer of the door's own. */
  fail(status: 400 | 404 | 502 | 503 | 504, explanation: string): void;
}

/** To another protocol. */
export interface Passage {
  /** As the client has written it. */
  readonly protocol: string;
  /** Instead of an answer: the server has changed to it. `far` is the server's side, given away, `rest` has come from there. */
  open(head: ResponseHead, far: Duplex, rest: Buffer): void;
}

/** The fields after a body. */
export type Trailers = () => RawHeaders;

/** The content type of requests and responses in messages [RFC 9112 §10.1]. */
export const MESSAGE_HTTP = 'message/http';

/** Where direct replies go; whoever knows such an address got it from the requestor. */
const DIRECT_REPLY_PREFIX = 'amq.rabbitmq.reply-to.';

/** Of a request that was withdrawn before somebody took it. */
export function nobody(): Requestor {
  return { method: '', attempts: 0, serving: false, gone: true, onGone: undefined, answer: () => {}, fail: () => {} };
}

export interface ReplyChannels {
  /** The door's own, with every right: for the addresses of direct replies only. */
  readonly door: Channel;
  /** Of the server's user: for every other queue that a request may name. */
  readonly server: Channel;
}

/** The sender of a message that a program published by itself; the answer is a message to its `reply-to`. */
export class MessageRequestor implements Requestor {
  readonly method: string;
  onGone: (() => void) | undefined;
  attempts: number;
  serving = false;
  readonly #message: Message;
  readonly #channels: ReplyChannels;
  readonly #limits: BodyLimits;
  readonly #timer: NodeJS.Timeout;
  #gone = false;
  #answered = false;

  constructor(
    message: Message,
    attempts: number,
    channels: ReplyChannels,
    limits: BodyLimits & { readonly replyTimeoutMs: number },
  ) {
    this.method = methodOf(message.body);
    this.attempts = attempts;
    this.#message = message;
    this.#channels = channels;
    this.#limits = limits;
    this.#timer = setTimeout(() => this.#onLate(), limits.replyTimeoutMs).unref();
  }

  get gone(): boolean {
    return this.#gone;
  }

  onGivenBack(): void {
    this.#answered = true;
    clearTimeout(this.#timer);
  }

  answer(head: ResponseHead, body: Buffer | Readable, trailers: Trailers = () => []): void {
    if (this.#answered) return;
    this.#answered = true;
    clearTimeout(this.#timer);
    if (Buffer.isBuffer(body)) {
      this.#reply(head, body, trailers());
      return;
    }
    collect(body, this.#limits).then(
      (all) => this.#reply(head, all, trailers()),
      () => {
        body.destroy();
        const text = Buffer.from('the answer broke off, or is too large\n');
        this.#reply({ status: 502, reason: '', headers: [] }, text, []);
      },
    );
  }

  fail(status: number, explanation: string): void {
    this.answer({ status, reason: '', headers: ['Content-Type', 'text/plain'] }, Buffer.from(`${explanation}\n`));
  }

  #onLate(): void {
    this.fail(504, 'the application did not answer in time');
    this.#gone = true;
    const { onGone } = this;
    this.onGone = undefined;
    onGone?.();
  }

  #reply(head: ResponseHead, body: Buffer, trailers: RawHeaders): void {
    const { replyTo, correlationId } = this.#message.properties;
    if (replyTo === undefined) return;
    const channel = replyTo.startsWith(DIRECT_REPLY_PREFIX) ? this.#channels.door : this.#channels.server;
    try {
      channel.publish(
        createMessage({
          routingKey: replyTo,
          body: encodeResponse(head, body, hasBody(this.method, head.status), trailers),
          properties: { contentType: MESSAGE_HTTP, ...(correlationId !== undefined && { correlationId }) },
        }),
      );
    } catch {
      // The requestor has named a queue that is not there, or not his server's to write to: nobody else can be told.
    }
  }
}
