/**
 * The unacked deliveries of one channel by delivery tag: a ring, because tags rise and are mostly settled in order, and
 * a map for the few old ones that would otherwise stretch the ring over everything delivered since. Every tag in the map
 * is below every tag in the ring.
 */
import type { QueuedMessage } from '../queue/queued-message.ts';

const RING_MIN = 16;
/** A ring that is full of settled slots, less than this share in use, moves what is left into the map. */
const DENSITY_MIN = 0.25;

export class UnackedList {
  /** Unacked deliveries. */
  size = 0;
  #ring: (QueuedMessage | undefined)[] = [];
  /** Tag of the first slot in use, and slots from there to the last. */
  #base = 1;
  #span = 0;
  #inRing = 0;
  #strays = new Map<number, QueuedMessage>();
  /** False when the map may be out of the order of tags. */
  #straysSorted = true;

  /** Adds a delivery whose tag is above all others' so far. */
  add(queued: QueuedMessage): void {
    const tag = queued.deliveryTag;
    if (this.#inRing === 0) {
      this.#base = tag;
      this.#span = 0;
    }
    while (tag - this.#base >= this.#ring.length) this.#makeRoom(tag);
    this.#ring[tag & (this.#ring.length - 1)] = queued;
    this.#span = tag - this.#base + 1;
    this.#inRing++;
    this.size++;
  }

  /** Takes one out; undefined when the tag is unknown or settled. */
  take(tag: number): QueuedMessage | undefined {
    if (tag < this.#base || tag >= this.#base + this.#span) {
      const stray = this.#strays.get(tag);
      if (stray === undefined) return undefined;
      this.#strays.delete(tag);
      this.size--;
      return stray;
    }
    const slot = tag & (this.#ring.length - 1);
    const queued = this.#ring[slot];
    if (queued === undefined) return undefined;
    this.#ring[slot] = undefined;
    this.#inRing--;
    this.size--;
    if (tag === this.#base) this.#advance();
    return queued;
  }

  has(tag: number): boolean {
    if (this.#strays.has(tag)) return true;
    if (tag < this.#base || tag >= this.#base + this.#span) return false;
    return this.#ring[tag & (this.#ring.length - 1)] !== undefined;
  }

  /** Takes all up to and including `tag`, in order. */
  takeThrough(tag: number): QueuedMessage[] {
    const taken: QueuedMessage[] = [];
    this.#sortStrays();
    for (const stray of this.#strays.values()) {
      if (stray.deliveryTag > tag) break;
      taken.push(stray);
    }
    for (const stray of taken) this.#strays.delete(stray.deliveryTag);
    this.size -= taken.length;
    const end = Math.min(tag, this.#base + this.#span - 1);
    for (let next = this.#base; next <= end && this.#inRing > 0; next++) {
      const queued = this.take(next);
      if (queued !== undefined) taken.push(queued);
    }
    return taken;
  }

  /** Takes all, in order. */
  takeAll(): QueuedMessage[] {
    return this.takeThrough(Number.POSITIVE_INFINITY);
  }

  /** Puts back what was taken: into its slot, or among the strays when the ring has moved on. */
  restore(queued: QueuedMessage): void {
    const tag = queued.deliveryTag;
    this.size++;
    if (tag < this.#base) {
      this.#strays.set(tag, queued);
      this.#straysSorted = false;
      return;
    }
    this.#ring[tag & (this.#ring.length - 1)] = queued;
    this.#inRing++;
  }

  /** All, in no promised order; for checks that look at every one. */
  *[Symbol.iterator](): Generator<QueuedMessage> {
    yield* this.#strays.values();
    for (let index = 0; index < this.#span; index++) {
      const queued = this.#ring[(this.#base + index) & (this.#ring.length - 1)];
      if (queued !== undefined) yield queued;
    }
  }

  #advance(): void {
    const mask = this.#ring.length - 1;
    while (this.#span > 0 && this.#ring[this.#base & mask] === undefined) {
      this.#base++;
      this.#span--;
    }
  }

  #makeRoom(tag: number): void {
    const ring = this.#ring;
    if (ring.length > RING_MIN && this.#inRing < ring.length * DENSITY_MIN) {
      for (let index = 0; index < this.#span; index++) {
        const queued = ring[(this.#base + index) & (ring.length - 1)];
        if (queued === undefined) continue;
        queued.compact();
        this.#strays.set(queued.deliveryTag, queued);
      }
      ring.fill(undefined);
      this.#inRing = 0;
      this.#base = tag;
      this.#span = 0;
      return;
    }
    const larger = new Array<QueuedMessage | undefined>(Math.max(RING_MIN, ring.length * 2)).fill(undefined);
    for (const queued of ring) if (queued !== undefined) larger[queued.deliveryTag & (larger.length - 1)] = queued;
    this.#ring = larger;
  }

  #sortStrays(): void {
    if (this.#straysSorted) return;
    const sorted = [...this.#strays].sort(([a], [b]) => a - b);
    this.#strays = new Map(sorted);
    this.#straysSorted = true;
  }
}
