/**
 * Writes messages as fast as the broker's TCP window takes them, but never more than `window` ahead of what has come
 * out at the other end: without that the slower broker would be measured with a growing backlog and the faster without.
 */
import type { Link } from './link.ts';
import type { MessageRing } from './source.ts';

/** A publisher waits until this share of its window is free, or a whole batch: small writes would measure themselves. */
const REFILL_SHARE = 1 / 8;

export interface Allowance {
  /** Messages in flight at most; absent: as many as TCP takes. */
  readonly window?: number;
  /** How many of those sent no longer count as in flight. */
  readonly settled?: () => number;
  /** Messages in all; absent: until `stop`. */
  readonly total?: number;
}

export class Publisher {
  /** Messages handed to the socket so far. */
  sent = 0;
  readonly #link: Pick<Link, 'socket'>;
  readonly #ring: MessageRing;
  readonly #window: number;
  readonly #settled: () => number;
  readonly #total: number;
  readonly #refill: number;
  #running = false;

  /** The owner calls `pump` whenever `settled` may have grown. */
  constructor(link: Pick<Link, 'socket'>, ring: MessageRing, allowance: Allowance) {
    this.#link = link;
    this.#ring = ring;
    this.#window = allowance.window ?? Number.POSITIVE_INFINITY;
    this.#settled = allowance.settled ?? (() => 0);
    this.#total = allowance.total ?? Number.POSITIVE_INFINITY;
    this.#refill = Math.max(1, Math.min(ring.batch, Math.floor(this.#window * REFILL_SHARE)));
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
    while (this.#running && this.sent < this.#total && !socket.writableNeedDrain) {
      const left = this.#total - this.sent;
      const room = Math.min(this.#window - (this.sent - this.#settled()), left);
      if (room < Math.min(this.#refill, left)) return;
      const bytes = this.#ring.take(room);
      this.sent += bytes.length / this.#ring.messageBytes;
      socket.write(bytes);
    }
  }
}
