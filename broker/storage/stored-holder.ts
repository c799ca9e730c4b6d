/** A holder of messages as the store knows it. */
import type { Holder } from '../store.ts';

export class StoredHolder implements Holder {
  readonly id: number;
  deliveredThrough = 0;
  dirty = false;
  /**
   * What lies at positions up to here had been delivered when an earlier process ended without saying so: it has come
   * back at least once.
   */
  returnedThrough = 0;
  /** Custodies that have begun and not ended. */
  live = 0;

  constructor(id: number) {
    this.id = id;
  }
}
