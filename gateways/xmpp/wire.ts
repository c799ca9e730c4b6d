/**
 * A stream as its owner sees it, whatever carries it: elements in, elements out, and a word when an element has been
 * handed to the network. TCP and TLS are in tcp-wire.ts, WebSocket is in websocket-wire.ts.
 */
import type { Attributes, Element } from './element.ts';
import type { StreamEvents } from './stream-parser.ts';

/** What a wire tells its owner; never from inside a call of the owner, but for `onGone`. */
export interface WireEvents extends StreamEvents {
  /** The peer broke the rules: StreamError. Anything else is a defect of Warren. Nothing more is read. */
  onFault(error: unknown): void;
  /** The connection is over, however it ended; called once. */
  onGone(): void;
}

export interface Wire {
  /** Says the header of our stream. */
  open(attributes: Attributes): void;
  /** `onWritten` is called when the network has taken it; never if it does not. */
  send(element: Element, onWritten?: () => void): void;
  /** Expects a new stream from the peer; what is left of the present chunk is dropped. */
  restart(): void;
  /** Characters of an element of the peer's stream, from now on. */
  stanzaBytesMax: number;
  /** Takes no input until `resume`. */
  pause(): void;
  resume(): void;
  /** Says the end of our stream, then ends the connection: by itself when the peer does not within some seconds. */
  close(): void;
  /** Octets not taken by the network yet. */
  readonly pendingBytes: number;
}
