/** A holder of messages as the store knows it. */
import type { Holder } from '../../store.ts';

export class StoredHolder implements Holder {
  readonly id: number;
  deliveredThrough = 0;
  dirty = false;
  /**
   * What lies at positions up to here had been delivered when an earlier process ended without saying so: it has come
   * back at least once.
   */
  returnedThrough = 0;
  /** Custodies that have begun and not ended, as the store was told. */
  live = 0;
  /** Number of the batch in which the last one ended. */
  emptiedIn = 0;

  constructor(id: number) {
    this.id = id;
  }

  /** So many custodies end, in the batch with this number. */
  end(count: number, batch: number): void {
    this.live -= count;
    if (this.live <= 0) this.emptiedIn = batch;
  }

  /** Whether it holds nothing when the batch with this number is stored; then nothing can come back. */
  isEmptyAfter(batch: number): boolean {
    return this.live <= 0 && this.emptiedIn <= batch;
  }
}
