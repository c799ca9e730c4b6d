/**
 * Counts publishes that the broker has confirmed, singly or as "all up to", in any order, each once. Constant work per
 * publish: a ring of marks above the mark up to which all are confirmed.
 */

/** Bound on how far confirms may run ahead of the oldest unconfirmed publish; above any window in use. */
const RING = 1 << 17;

export class ConfirmCounter {
  /** Publishes confirmed so far. */
  confirmed = 0;
  /** Every sequence number up to this one is confirmed. */
  #low = 0;
  /** Made when first needed: most connections never confirm, and there may be thousands. */
  #ring: Uint8Array | undefined;

  /** Throws when a sequence number lies further ahead than the ring is long. */
  settle(sequence: number, multiple: boolean): void {
    this.#ring ??= new Uint8Array(RING);
    const marks = this.#ring;
    if (sequence - this.#low >= RING) throw new Error(`confirm of ${sequence} while ${this.#low + 1} is unconfirmed`);
    if (multiple) {
      while (this.#low < sequence) this.#advance(marks);
    } else if (sequence > this.#low && marks[sequence % RING] === 0) {
      marks[sequence % RING] = 1;
      this.confirmed++;
    }
    while (marks[(this.#low + 1) % RING] === 1) this.#advance(marks);
  }

  #advance(marks: Uint8Array): void {
    this.#low++;
    const slot = this.#low % RING;
    if (marks[slot] === 0) this.confirmed++;
    marks[slot] = 0;
  }
}
