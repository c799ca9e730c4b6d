/**
 * A stream over WebSocket [RFC 7395]: each message is one element, complete in itself, and `<open/>` and `<close/>` stand
 * for the header and the end of a stream. What comes may be cut anywhere; what leaves is one message for each element.
 */
import type { Duplex } from 'node:stream';
import { type Attributes, type Element, element, serialise } from './element.ts';
import { FRAMING } from './namespaces.ts';
import { StreamError } from './stream-error.ts';
import { StreamParser } from './stream-parser.ts';
import { CLOSE_TIMEOUT_MS } from './tcp-wire.ts';
import type { Wire, WireEvents } from './wire.ts';

export class WebSocketWire implements Wire {
  readonly #socket: Duplex;
  readonly #events: WireEvents;
  readonly #parser: StreamParser;
  readonly #queue: { readonly text: string; readonly onWritten: (() => void) | undefined }[] = [];
  #writing = false;
  #pendingCharacters = 0;
  #closing = false;
  #deaf = false;
  #paused = false;
  #timer: NodeJS.Timeout | undefined;

  /** Takes the socket over. */
  constructor(socket: Duplex, stanzaBytesMax: number, events: WireEvents) {
    this.#socket = socket;
    this.#events = events;
    this.#parser = new StreamParser(
      { stanzaBytesMax },
      {
        onStreamOpen() {},
        onElement: (element) => this.#onElement(element),
        onStreamClose() {
          throw new StreamError('not-well-formed', 'the end of what was not open');
        },
      },
    );
    // Messages are elements of one stream that never ends.
    this.#parser.write('<messages>');
    socket.on('data', (chunk: Buffer) => this.#onData(chunk));
    socket.on('error', () => {});
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      clearTimeout(this.#timer);
      events.onGone();
    });
  }

  get pendingBytes(): number {
    return this.#pendingCharacters + this.#socket.writableLength;
  }

  set stanzaBytesMax(bytes: number) {
    this.#parser.stanzaBytesMax = bytes;
  }

  open(attributes: Attributes): void {
    const { 'xml:lang': lang, ...others } = attributes;
    this.#say(serialise(element('open', FRAMING, { ...others, 'xml:lang': lang })));
  }

  send(element: Element, onWritten?: () => void): void {
    if (!this.#closing) this.#say(serialise(element), onWritten);
  }

  restart(): void {}

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
    this.#say(serialise(element('close', FRAMING)));
    this.#closing = true;
    this.#deaf = true;
    this.#socket.resume();
    this.#pump();
    this.#timer = setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS);
    if (this.#socket.closed) clearTimeout(this.#timer);
  }

  #say(text: string, onWritten?: () => void): void {
    this.#queue.push({ text, onWritten });
    this.#pendingCharacters += text.length;
    this.#pump();
  }

  /** One write at a time: those that pile up would travel as one message. */
  #pump(): void {
    if (this.#writing) return;
    const next = this.#queue.shift();
    if (next === undefined) {
      if (this.#closing) this.#socket.end();
      return;
    }
    this.#writing = true;
    this.#socket.write(next.text, (error) => {
      this.#writing = false;
      this.#pendingCharacters -= next.text.length;
      if (error) return;
      next.onWritten?.();
      this.#pump();
    });
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

  #onElement(element: Element): void {
    if (element.is('open', FRAMING)) this.#events.onStreamOpen(element);
    else if (element.is('close', FRAMING)) this.#events.onStreamClose();
    else this.#events.onElement(element);
    if (this.#deaf) this.#parser.stop();
  }
}
