/**
 * Things that fall due: one indexed binary heap and one timer, however many there are. Behind message expiry, delayed
 * retry and delayed exchanges.
 */
import type { CancelTimer, Clock } from './clock.ts';

/** What can be given a deadline. */
export interface Timed {
  /** Of two that are due at the same time, the lower goes first. */
  readonly position: number;
  /** These two belong to the `Deadlines` it is in; `heapIndex` is -1 outside. */
  dueMs: number;
  heapIndex: number;
}

/** Most items handled in one turn; the rest is due at once in the next, so that sockets are served in between. */
const BATCH_MAX = 1024;

export class Deadlines<T extends Timed> {
  readonly #clock: Clock;
  readonly #onDue: (item: T) => void;
  readonly #heap: T[] = [];
  #armedForMs = Number.POSITIVE_INFINITY;
  #cancelTimer: CancelTimer | undefined;

  /** `onDue` is called for each item when its time has come, earliest first; the item is then no longer in here. */
  constructor(clock: Clock, onDue: (item: T) => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  get size(): number {
    return this.#heap.length;
  }

  /** When the first of them is due, milliseconds since 1970; Infinity when there is none. */
  get firstMs(): number {
    return this.#heap[0]?.dueMs ?? Number.POSITIVE_INFINITY;
  }

  /** The items in no promised order. */
  [Symbol.iterator](): Iterator<T> {
    return this.#heap[Symbol.iterator]();
  }

  /** Adds an item that is not in here. `dueMs` is in milliseconds since 1970. */
  add(item: T, dueMs: number): void {
    item.dueMs = dueMs;
    this.#heap.push(item);
    this.#siftUp(item, this.#heap.length - 1);
    if (dueMs < this.#armedForMs) this.#arm();
  }

  /** Takes an item out; false when it was not in here. */
  delete(item: T): boolean {
    const index = item.heapIndex;
    if (index < 0 || this.#heap[index] !== item) return false;
    item.heapIndex = -1;
    const last = this.#heap.pop() as T;
    if (last !== item) {
      this.#siftUp(last, index);
      this.#siftDown(last, last.heapIndex);
    }
    return true;
  }

  /**
   * Handles now what is due by `throughMs`, milliseconds since 1970, whenever the timer fires; a batch of it at most. False
   * when something of it is left.
   */
  handleThrough(throughMs: number): boolean {
    for (let count = 0; this.firstMs <= throughMs; count++) {
      const first = this.#heap[0];
      if (first === undefined) break;
      if (count === BATCH_MAX) return false;
      this.delete(first);
      this.#onDue(first);
    }
    return true;
  }

  clear(): void {
    for (const item of this.#heap) item.heapIndex = -1;
    this.#heap.length = 0;
    this.#disarm();
  }

  #arm(): void {
    this.#disarm();
    const first = this.#heap[0];
    if (first === undefined) return;
    this.#armedForMs = first.dueMs;
    this.#cancelTimer = this.#clock.schedule(Math.max(0, first.dueMs - this.#clock.now()), () => this.#fire());
  }

  #disarm(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#armedForMs = Number.POSITIVE_INFINITY;
  }

  #fire(): void {
    const nowMs = this.#clock.now();
    // Stays armed while items are handled, so that what they add waits for the one arming at the end.
    this.#armedForMs = Number.NEGATIVE_INFINITY;
    for (let count = 0; count < BATCH_MAX; count++) {
      const first = this.#heap[0];
      if (first === undefined || first.dueMs > nowMs) break;
      this.delete(first);
      this.#onDue(first);
    }
    this.#arm();
  }

  #siftUp(item: T, from: number): void {
    let index = from;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      const above = this.#heap[parent] as T;
      if (!isBefore(item, above)) break;
      this.#heap[index] = above;
      above.heapIndex = index;
      index = parent;
    }
    this.#heap[index] = item;
    item.heapIndex = index;
  }

  #siftDown(item: T, from: number): void {
    let index = from;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= this.#heap.length) break;
      const right = this.#heap[child + 1];
      if (right !== undefined && isBefore(right, this.#heap[child] as T)) child++;
      const below = this.#heap[child] as T;
      if (!isBefore(below, item)) break;
      this.#heap[index] = below;
      below.heapIndex = index;
      index = child;
    }
    this.#heap[index] = item;
    item.heapIndex = index;
  }
}

function isBefore(one: Timed, other: Timed): boolean {
  return one.dueMs < other.dueMs || (one.dueMs === other.dueMs && one.position < other.position);
}
