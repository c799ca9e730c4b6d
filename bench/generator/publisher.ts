/**
 * Writes messages as fast as the broker's TCP window takes them, but never more than `window` ahead of what has come
 * out at the other end: without that the slower broker would be measured with a growing backlog and the faster without.
 */
import type { Link } from './link.ts';
import type { MessageRing } from './source.ts';

/** A publisher waits until this share of its window is free, or a whole batch: small writes would measure themselves. */
const REFILL_SHARE = 1 / 8;

export class Publisher {
  /** Messages handed to the socket so far. */
  sent = 0;
  readonly #link: Link;
  readonly #ring: MessageRing;
  readonly #room: () => number;
  readonly #refill: number;
  #running = false;

  /**
   * `window`: messages in flight at most; `settled`: how many of those sent no longer count as in flight.
   * The owner calls `pump` whenever `settled` may have grown.
   */
  constructor(link: Link, ring: MessageRing, window: number, settled: () => number) {
    this.#link = link;
    this.#ring = ring;
    this.#room = () => window - (this.sent - settled());
    this.#refill = Math.max(1, Math.min(ring.batch, Math.floor(window * REFILL_SHARE)));
    link.socket.on('drain', () => this.pump());
  }

  start(): void {
    this.#running = true;
    this.pump();
  }

  stop(): void {
    this.#running = false;
  }

  /** Writes what the window and the socket have room for. */
  pump(): void {
    const { socket } = this.#link;
    while (this.#running && !socket.writableNeedDrain) {
      const room = this.#room();
      if (room < this.#refill) return;
      const bytes = this.#ring.take(room);
      this.sent += bytes.length / this.#ring.messageBytes;
      socket.write(bytes);
    }
  }
}
