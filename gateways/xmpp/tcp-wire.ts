/** A stream over TCP or TLS [RFC 6120 §4]. What is said within a turn of the event loop leaves in one write. */
import type { Duplex } from 'node:stream';
import { type Attributes, type Element, escapeAttribute, serialise } from './element.ts';
import { STREAMS } from './namespaces.ts';
import { StreamParser } from './stream-parser.ts';
import type { Wire, WireEvents } from './wire.ts';

/** How long the peer has to end its stream and its socket after we have ended ours. */
export const CLOSE_TIMEOUT_MS = 3000;

export interface TcpWireOptions {
  readonly socket: Duplex;
  /** Namespace of stanzas: `jabber:client` or `jabber:component:accept`. */
  readonly xmlns: string;
  readonly stanzaBytesMax: number;
}

export class TcpWire implements Wire {
  readonly #options: TcpWireOptions;
  readonly #events: WireEvents;
  #socket: Duplex;
  #parser: StreamParser;
  #stanzaBytesMax: number;
  /** Said, and not yet given to the socket. */
  #texts: string[] = [];
  #onWritten: (() => void)[] = [];
  #opened = false;
  #closing = false;
  #deaf = false;
  #paused = false;
  #gone = false;
  #timer: NodeJS.Timeout | undefined;

  readonly #listeners = {
    data: (chunk: Buffer) => this.#onData(chunk),
    // A peer that ends its socket without ending its stream has lost it.
    end: () => {
      this.flush();
      this.#socket.end();
    },
    close: () => {
      this.#gone = true;
      clearTimeout(this.#timer);
      this.#events.onGone();
    },
  };

  /** Takes the socket over. */
  constructor(options: TcpWireOptions, events: WireEvents) {
    this.#options = options;
    this.#events = events;
    this.#socket = options.socket;
    this.#stanzaBytesMax = options.stanzaBytesMax;
    this.#parser = this.#newParser();
    this.#listen();
  }

  get pendingBytes(): number {
    return this.#socket.writableLength;
  }

  set stanzaBytesMax(bytes: number) {
    this.#stanzaBytesMax = bytes;
    this.#parser.stanzaBytesMax = bytes;
  }

  open(attributes: Attributes): void {
    const given = Object.entries({ xmlns: this.#options.xmlns, 'xmlns:stream': STREAMS, ...attributes })
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => ` ${name}="${escapeAttribute(value ?? '')}"`);
    this.#opened = true;
    this.#say(`<?xml version="1.0"?><stream:stream${given.join('')}>`);
  }

  send(element: Element, onWritten?: () => void): void {
    if (this.#closing) return;
    if (onWritten !== undefined) this.#onWritten.push(onWritten);
    this.#say(serialise(element, this.#options.xmlns));
  }

  restart(): void {
    this.#parser.stop();
    this.#parser = this.#newParser();
  }

  /** Goes on over another stream that wraps the socket: TLS. What came in the clear and was not read is dropped. */
  replaceSocket(wrap: (socket: Duplex) => Duplex): void {
    this.flush();
    const plain = this.#socket;
    // Ours only: whoever accepted it waits for its end, too.
    for (const [event, listener] of Object.entries(this.#listeners)) plain.off(event, listener);
    this.restart();
    this.#socket = wrap(plain);
    this.#listen();
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#socket.resume();
  }

  close(): void {
    if (this.#closing) return;
    if (this.#opened) this.#say('</stream:stream>');
    this.#closing = true;
    this.#deaf = true;
    this.flush();
    this.#socket.end();
    this.#socket.resume();
    this.#timer = setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS);
    if (this.#gone) clearTimeout(this.#timer);
  }

  /** Gives the socket what has been said. */
  flush(): void {
    const [texts, onWritten] = [this.#texts, this.#onWritten];
    if (texts.length === 0) return;
    this.#texts = [];
    this.#onWritten = [];
    this.#socket.write(texts.join(''), (error) => {
      if (!error) for (const written of onWritten) written();
    });
  }

  #say(text: string): void {
    if (this.#texts.length === 0) setImmediate(() => this.flush());
    this.#texts.push(text);
  }

  #newParser(): StreamParser {
    const parser: StreamParser = new StreamParser(
      { stanzaBytesMax: this.#stanzaBytesMax },
      {
        onStreamOpen: (header) => this.#events.onStreamOpen(header),
        onElement: (element) => {
          this.#events.onElement(element);
          if (this.#deaf) parser.stop();
        },
        onStreamClose: () => this.#events.onStreamClose(),
      },
    );
    return parser;
  }

  #listen(): void {
    for (const [event, listener] of Object.entries(this.#listeners)) this.#socket.on(event, listener);
    this.#socket.on('error', () => {});
  }

  #onData(chunk: Buffer): void {
    if (this.#deaf) return;
    try {
      this.#parser.write(chunk);
    } catch (error) {
      this.#deaf = true;
      this.#events.onFault(error);
    }
    if (this.#paused) this.#socket.pause();
  }
}
