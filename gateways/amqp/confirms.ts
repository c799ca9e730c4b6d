/**
 * Publisher confirms on their way out: what may be said in one `basic.ack` with `multiple` is held until the next
 * flush. With `multiple` a peer takes everything up to the number as confirmed, so only an unbroken run that begins
 * after the last number settled on the wire can be held; a confirm that comes out of order goes out by itself at once.
 * [RabbitMQ: publisher confirms]
 */

/** The confirms of one channel. Numbers count from 1. */
export class Confirms {
  /** Every number up to here is settled on the wire. */
  #settled = 0;
  /** Every number up to here is settled, on the wire or by what is held. */
  #reached = 0;
  /** Highest number held, 0 = none. */
  #held = 0;
  /** Numbers beyond `#reached` that went out by themselves. */
  readonly #ahead = new Set<number>();

  /** A positive confirm. True: it is held; false: it must be written now, by itself. */
  accept(sequence: number, multiple: boolean): boolean {
    if (sequence === this.#reached + 1 || (multiple && sequence > this.#reached)) {
      this.#reached = sequence;
      this.#held = sequence;
      if (this.#ahead.size > 0) this.#absorb();
      return true;
    }
    // With `multiple`, everything up to the number had been settled already.
    if (!multiple) this.#ahead.add(sequence);
    return multiple;
  }

  /** A negative confirm, to be written right after what is held. */
  refuse(sequence: number, multiple: boolean): void {
    if (sequence === this.#reached + 1 || (multiple && sequence > this.#reached)) {
      this.#reached = sequence;
      this.#absorb();
      this.#settled = this.#reached;
    } else if (!multiple) {
      this.#ahead.add(sequence);
    }
  }

  /**
   * Hands over what is held: the number to confirm, negative when it stands for all up to it as well (`multiple`);
   * 0 = nothing.
   */
  take(): number {
    const held = this.#held;
    if (held === 0) return 0;
    const multiple = held > this.#settled + 1;
    this.#settled = this.#reached;
    this.#held = 0;
    return multiple ? -held : held;
  }

  #absorb(): void {
    for (const sequence of this.#ahead) if (sequence <= this.#reached) this.#ahead.delete(sequence);
    while (this.#ahead.delete(this.#reached + 1)) this.#reached += 1;
  }
}
