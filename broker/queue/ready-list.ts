/**
 * The messages of a queue that wait for a consumer, in the order of their positions.
 *
 * Invariants: `position` grows with every message a queue takes in and stays with the message, so that one that comes
 * back (requeued) finds its old place. The ring is sorted by position; a returning message that belongs before its head
 * goes there, one that belongs further back goes into the heap of stragglers, and the next message is always the lower
 * of the two heads. A message that leaves from the middle (expired, dropped) is only marked; the mark is swept when the
 * head reaches it, or at once when marks outnumber messages.
 */
import { Place, type QueuedMessage } from './queued-message.ts';

const RING_MIN = 16;

export class ReadyList {
  /** Messages in the list, marks not counted. */
  size = 0;
  /** All messages are in memory; see `PagedList`. */
  readonly waits = false;
  #ring: (QueuedMessage | undefined)[] = [];
  #head = 0;
  #count = 0;
  #stragglers: QueuedMessage[] = [];
  #marks = 0;

  /** Adds a message whose position is above all others'; it will stay for a while. Answers true: it is in memory. */
  push(item: QueuedMessage): boolean {
    item.compact();
    this.append(item);
    return true;
  }

  /** The same with a message that is kept as it is. */
  append(item: QueuedMessage): void {
    if (this.#count === this.#ring.length) this.#grow();
    this.#ring[(this.#head + this.#count) & (this.#ring.length - 1)] = item;
    this.#count++;
    this.size++;
  }

  /** Puts a message back to the place that its position gives it. */
  putBack(item: QueuedMessage): void {
    item.compact();
    this.size++;
    const first = this.#ring[this.#head];
    if (this.#count > 0 && first !== undefined && item.position > first.position) {
      heapPush(this.#stragglers, item);
      return;
    }
    if (this.#count === this.#ring.length) this.#grow();
    this.#head = (this.#head - 1) & (this.#ring.length - 1);
    this.#ring[this.#head] = item;
    this.#count++;
  }

  /** The message with the lowest position, left in the list. */
  #peek(): QueuedMessage | undefined {
    this.#sweepHeads();
    const first = this.#count > 0 ? this.#ring[this.#head] : undefined;
    const straggler = this.#stragglers[0];
    if (straggler !== undefined && (first === undefined || straggler.position < first.position)) return straggler;
    return first;
  }

  /** Takes the message with the lowest position. */
  shift(): QueuedMessage | undefined {
    const item = this.#peek();
    if (item === undefined) return undefined;
    if (item === this.#stragglers[0]) heapPop(this.#stragglers);
    else this.#dropHead();
    this.size--;
    return item;
  }

  /** Takes a message out of the middle; it must be in the list and is marked `gone`. */
  remove(item: QueuedMessage): void {
    item.place = Place.gone;
    this.size--;
    this.#marks++;
    this.#sweepHeads();
    if (this.#marks > this.size + RING_MIN) this.#compact();
  }

  /** The process ends; nothing has to be done about it. */
  stop(): void {}

  /** Takes all, in order. */
  clear(): QueuedMessage[] {
    const items = this.#toArray();
    this.size = 0;
    this.#ring = [];
    this.#head = 0;
    this.#count = 0;
    this.#stragglers = [];
    this.#marks = 0;
    return items;
  }

  /** The messages in order, left in the list. */
  #toArray(): QueuedMessage[] {
    const mask = this.#ring.length - 1;
    const items = [...this.#stragglers];
    for (let index = 0; index < this.#count; index++) {
      const item = this.#ring[(this.#head + index) & mask];
      if (item !== undefined) items.push(item);
    }
    return items.filter((item) => item.place !== Place.gone).sort((a, b) => a.position - b.position);
  }

  #sweepHeads(): void {
    if (this.#marks === 0) return;
    while (this.#count > 0 && this.#ring[this.#head]?.place === Place.gone) {
      this.#dropHead();
      this.#marks--;
    }
    while (this.#stragglers[0]?.place === Place.gone) {
      heapPop(this.#stragglers);
      this.#marks--;
    }
  }

  #dropHead(): void {
    this.#ring[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#ring.length - 1);
    this.#count--;
    // A backlog that has drained gives its memory back.
    if (this.#count === 0 && this.#ring.length > 1024) this.#ring = [];
    if (this.#count === 0) this.#head = 0;
  }

  #grow(): void {
    const ring = this.#ring;
    const larger = new Array<QueuedMessage | undefined>(Math.max(RING_MIN, ring.length * 2));
    for (let index = 0; index < this.#count; index++) larger[index] = ring[(this.#head + index) & (ring.length - 1)];
    this.#ring = larger;
    this.#head = 0;
  }

  #compact(): void {
    const items = this.#toArray();
    let capacity = RING_MIN;
    while (capacity < items.length) capacity *= 2;
    this.#ring = items;
    this.#ring.length = capacity;
    this.#head = 0;
    this.#count = items.length;
    this.#stragglers = [];
    this.#marks = 0;
  }
}

function heapPush(heap: QueuedMessage[], item: QueuedMessage): void {
  let index = heap.length;
  heap.push(item);
  while (index > 0) {
    const parent = (index - 1) >> 1;
    const above = heap[parent] as QueuedMessage;
    if (above.position <= item.position) break;
    heap[index] = above;
    index = parent;
  }
  heap[index] = item;
}

function heapPop(heap: QueuedMessage[]): void {
  const last = heap.pop() as QueuedMessage;
  if (heap.length === 0) return;
  let index = 0;
  for (;;) {
    let child = index * 2 + 1;
    if (child >= heap.length) break;
    const right = heap[child + 1];
    if (right !== undefined && right.position < (heap[child] as QueuedMessage).position) child++;
    if ((heap[child] as QueuedMessage).position >= last.position) break;
    heap[index] = heap[child] as QueuedMessage;
    index = child;
  }
  heap[index] = last;
}
