/** How fast an inbox takes deliveries: so many at a time, so many octets at a time, and none while others go back. */
import type { Channel } from '../../broker/port.ts';

/** Deliveries that may be unsettled at a time. */
export const UNSETTLED_MAX = 100;
/** The same in octets; one more may be on its way than these hold. */
export const UNSETTLED_BYTES_MAX = 4 * 1024 * 1024;

export class Pace {
  readonly #channel: Channel;
  #unsettledBytes = 0;
  #paused = false;
  #returning = false;
  #unsettled = 0;
  #over = false;

  /** For all consumers that the channel is going to have. */
  constructor(channel: Channel) {
    this.#channel = channel;
    channel.prefetch(UNSETTLED_MAX);
  }

  /** Deliveries that are on their way. */
  get unsettled(): number {
    return this.#unsettled;
  }

  /** A delivery of so many octets is on its way. */
  began(bytes: number): void {
    this.#unsettled += 1;
    this.#unsettledBytes += bytes;
    this.#update();
  }

  /** It is settled. */
  ended(bytes: number): void {
    this.#unsettled -= 1;
    this.#unsettledBytes -= bytes;
    this.#update();
  }

  /** Takes nothing until all that is being returned in this turn is back in the queue. */
  holdForReturns(): void {
    if (this.#returning) return;
    this.#returning = true;
    this.#update();
    setImmediate(() => {
      this.#returning = false;
      this.#update();
    });
  }

  /** The channel is gone. */
  end(): void {
    this.#over = true;
  }

  #update(): void {
    if (this.#over) return;
    const paused = this.#returning || this.#unsettledBytes >= UNSETTLED_BYTES_MAX;
    if (paused === this.#paused) return;
    this.#paused = paused;
    if (paused) this.#channel.pause();
    else this.#channel.resume();
  }
}
