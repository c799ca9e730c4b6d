/**
 * How long to wait before the next attempt to connect: each time twice as long, up to a limit, and shortened at random so
 * that many who have lost the same server do not come back together. Only a connection that has held for some time makes
 * the next pause short again: one that is accepted and dropped at once is no success.
 */
import type { Clock } from '../../broker/clock.ts';

export interface BackoffOptions {
  /** The first pause, and the longest, in milliseconds; each is shortened by up to half. */
  readonly minMs: number;
  readonly maxMs: number;
  /** A connection that has held for so long counts as made, in milliseconds. */
  readonly stableMs: number;
  readonly clock: Clock;
  /** From 0 to 1; default `Math.random`. */
  readonly random?: () => number;
}

export class Backoff {
  readonly #options: BackoffOptions;
  #pauseMs: number;
  #upSinceMs: number | undefined;

  constructor(options: BackoffOptions) {
    this.#options = options;
    this.#pauseMs = options.minMs;
  }

  /** The connection has been made. */
  connected(): void {
    this.#upSinceMs = this.#options.clock.now();
  }

  /** It has been lost, or could not be made: milliseconds until the next attempt. */
  nextMs(): number {
    const { minMs, maxMs, stableMs, clock, random = Math.random } = this.#options;
    const isStable = this.#upSinceMs !== undefined && clock.now() - this.#upSinceMs >= stableMs;
    this.#upSinceMs = undefined;
    const pauseMs = isStable ? minMs : this.#pauseMs;
    this.#pauseMs = Math.min(pauseMs * 2, maxMs);
    return Math.round(pauseMs * (1 - random() / 2));
  }
}
