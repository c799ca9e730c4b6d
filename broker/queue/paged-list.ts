/**
 * The ready messages of a queue whose store can hold them: those that go next in memory, all others on disk only, in pages.
 *
 * ```
 * shift <- front (messages) <- pages (on disk, or on their way) <- push
 * ```
 *
 * As long as the ready messages of all queues fit into the store's budget everything is in the front, and this is a
 * `ReadyList`. Beyond it, what comes goes to the store at once, into a page that grows until it is full or its turn has
 * come: nothing of it stays in memory here. Pages come back one ahead of their turn.
 *
 * Invariant: positions rise from front to pages. What comes back from a consumer had been in the front, so it belongs
 * there again.
 */
import { assert } from '../assert.ts';
import type { Clock } from '../clock.ts';
import { Deadlines, type Timed } from '../deadlines.ts';
import type { Message } from '../message.ts';
import {
  type GrowingPage,
  type Holder,
  PAGING,
  type Page,
  type PagingLimits,
  type Restored,
  type Store,
} from '../store.ts';
import type { QueuedMessage } from './queued-message.ts';
import { ReadyList } from './ready-list.ts';

/** What a list needs of the queue that it belongs to. */
export interface PagedListHost {
  readonly store: Store;
  readonly clock: Clock;
  readonly holder: Holder;
  /** Custody as it was before its page left memory. */
  restored(from: Restored): QueuedMessage;
  /** A message has come back to the front of the list. */
  onLoaded(queued: QueuedMessage): void;
  /**
   * Messages of a page are to expire: lets those in memory expire that are due by `dueMs` (milliseconds since 1970), or
   * some of them if they are many. Answers whether that were all.
   */
  expireThrough(dueMs: number): boolean;
  /** A message has expired where nobody looked; it has left the list. */
  onExpired(queued: QueuedMessage): void;
  /** The list has messages again, or fewer than was thought: those that could not be read, with bodies of `lost`. */
  onReady(lost: { readonly bodyBytes: number }): void;
}

/** What a message in memory takes beside its body, about: its objects and their share of slabs; octets. */
const MESSAGE_OVERHEAD_BYTES = 512;
/**
 * Lists that have messages on disk share the memory between them: each makes its pages, and keeps in front, no more than
 * one part in so many of its share, but at least so many octets.
 */
const SHARE_PARTS = 8;
const SHARE_BYTES_MIN = 16 * 1024;

/** A page in its place in the list, due when the first of its messages expires. The last one may still grow. */
class Leaf implements Timed {
  readonly position: number;
  dueMs = 0;
  heapIndex = -1;
  /** It is being read, to drop what has expired. */
  isSwept = false;
  /** What those of a page that grows will take in memory. */
  bytes = 0;
  /** Until it is closed. */
  growing: GrowingPage | undefined;
  #page: Page | undefined;

  constructor(page: Page | GrowingPage, position: number) {
    if ('close' in page) this.growing = page;
    else this.#page = page;
    this.position = position;
  }

  get expiresAtMs(): number {
    return (this.#page ?? this.growing)?.expiresAtMs ?? Number.POSITIVE_INFINITY;
  }

  /** The page; nothing is added to it any more. */
  close(): Page {
    this.#page ??= this.growing?.close();
    this.growing = undefined;
    assert(this.#page !== undefined, 'a leaf has a page');
    return this.#page;
  }
}

/** A page that has been read to drop what has expired, and what was found. */
interface Sweep {
  readonly leaf: Leaf;
  readonly all: readonly QueuedMessage[];
}

export class PagedList {
  /** Messages in the list, wherever they are. */
  size = 0;
  readonly #host: PagedListHost;
  readonly #store: Store;
  readonly #limits: PagingLimits;
  readonly #front = new ReadyList();
  #leaves: Leaf[] = [];
  /** The first leaf of `#leaves` that is left. */
  #first = 0;
  /** What the front takes in memory. */
  #frontBytes = 0;
  /** It counts in `Store.pagingCount`. */
  #isCounted = false;
  /** The page that is on its way to the front. */
  #loading: Page | undefined;
  #sweeping: Deadlines<Leaf> | undefined;
  /** In the order in which they were begun; the first of them waits for messages in memory that must go before. */
  #sweeps: Sweep[] = [];

  constructor(host: PagedListHost) {
    this.#host = host;
    this.#store = host.store;
    this.#limits = host.store.paging ?? PAGING;
  }

  /** True when messages are there and none is in memory: `shift` will have one after `onReady`. */
  get waits(): boolean {
    return this.size > 0 && this.#front.size === 0 && this.#pageCount > 0;
  }

  get #pageCount(): number {
    return this.#leaves.length - this.#first + (this.#loading === undefined ? 0 : 1);
  }

  /** Octets that this list may have in a page, and in front before it pages out. */
  get #shareBytes(): number {
    const { residentBytesMax, pagingCount } = this.#store;
    return Math.max(SHARE_BYTES_MIN, residentBytesMax / (SHARE_PARTS * Math.max(1, pagingCount)));
  }

  get #pageBytes(): number {
    return Math.min(this.#limits.pageBytes, this.#shareBytes);
  }

  #count(): void {
    if (this.#isCounted === this.#pageCount > 0) return;
    this.#isCounted = !this.#isCounted;
    this.#store.pagingCount += this.#isCounted ? 1 : -1;
  }

  /**
   * Adds a message whose position is above all others'; `survives` is for the store. Answers whether it stays in memory.
   */
  push(queued: QueuedMessage, survives: boolean): boolean {
    this.size++;
    if (this.#pageCount > 0 || this.#isCrowded) {
      this.#append(queued, survives);
      return false;
    }
    if (survives) this.#store.admit(queued, queued.message, true);
    this.#keep(queued);
    this.#front.push(queued);
    return true;
  }

  /** It is in the front from now on. */
  #keep({ message }: QueuedMessage): void {
    const cost = costOf(message);
    this.#frontBytes += cost;
    this.#store.residentBytes += cost;
  }

  /** It is not in the front any more. */
  #unkeep({ message }: QueuedMessage): void {
    const cost = costOf(message);
    this.#frontBytes -= cost;
    this.#store.residentBytes -= cost;
  }

  get #isCrowded(): boolean {
    const { residentBytes, residentBytesMax } = this.#store;
    return (
      residentBytes > residentBytesMax && this.#frontBytes >= Math.min(this.#limits.frontBytesMin, this.#shareBytes)
    );
  }

  #append(queued: QueuedMessage, survives: boolean): void {
    const { message, priority, position } = queued;
    let leaf = this.#leaves[this.#leaves.length - 1];
    if (leaf?.growing === undefined) {
      leaf = new Leaf(this.#store.newPage(this.#host.holder, priority), position);
      this.#leaves.push(leaf);
      this.#count();
    }
    const { growing } = leaf;
    assert(growing !== undefined, 'the leaf has just been found to grow');
    growing.add(queued, message, survives);
    leaf.bytes += costOf(message);
    if (leaf.heapIndex < 0 || leaf.expiresAtMs < leaf.dueMs) this.#watch(leaf);
    if (growing.count >= this.#limits.pageMessages || leaf.bytes >= this.#pageBytes) leaf.close();
  }

  #addLeaf(page: Page): void {
    const leaf = new Leaf(page, page.firstPosition);
    this.#leaves.push(leaf);
    this.#watch(leaf);
  }

  #watch(leaf: Leaf): void {
    if (leaf.expiresAtMs === Number.POSITIVE_INFINITY) return;
    this.#sweeping ??= new Deadlines(this.#host.clock, (due) => this.#sweep(due));
    this.#sweeping.delete(leaf);
    this.#sweeping.add(leaf, leaf.expiresAtMs);
  }

  /** Takes over a page of an earlier process; its positions are above all others' so far. */
  adopt(page: Page): void {
    this.size += page.count;
    this.#addLeaf(page);
    this.#count();
  }

  /** Puts a message back to the place that its position gives it. */
  putBack(queued: QueuedMessage): void {
    this.size++;
    this.#keep(queued);
    this.#front.putBack(queued);
  }

  /** Takes the message with the lowest position; undefined also when it has to be read first (see `waits`). */
  shift(): QueuedMessage | undefined {
    if (this.#pageCount > 0) this.#readAhead();
    const queued = this.#front.shift();
    if (queued === undefined) return undefined;
    this.size--;
    this.#unkeep(queued);
    return queued;
  }

  /** Reads the next page when little is left in front of it. */
  #readAhead(): void {
    const leaf = this.#leaves[this.#first];
    if (leaf !== undefined && !leaf.isSwept && this.#hasRoom) this.#load(leaf);
  }

  /** No page is on its way to the front, and there is room for one. */
  get #hasRoom(): boolean {
    return (
      this.#loading === undefined &&
      this.#front.size < this.#limits.readAheadMessages &&
      this.#frontBytes < this.#pageBytes / 2
    );
  }

  /** Reads the first of the pages into the front. */
  #load(leaf: Leaf): void {
    this.#first++;
    if (this.#first * 2 > this.#leaves.length) {
      this.#leaves = this.#leaves.slice(this.#first);
      this.#first = 0;
    }
    this.#sweeping?.delete(leaf);
    const page = leaf.close();
    this.#loading = page;
    void this.#store.load(page).then((restored) => this.#onLoaded(page, restored));
  }

  #onLoaded(page: Page, restored: readonly Restored[]): void {
    // Purged in the meantime: the store has let go of it.
    if (this.#loading !== page) return;
    this.#loading = undefined;
    let bodyBytes = 0;
    const loaded = restored.map((each) => this.#host.restored(each));
    for (const queued of loaded) {
      bodyBytes += queued.message.bodyBytes;
      this.#keep(queued);
      this.#front.append(queued);
    }
    this.#count();
    // Only now, because one that has expired leaves again at once.
    for (const queued of loaded) this.#host.onLoaded(queued);
    this.#lose(page.count - restored.length, page.bodyBytes - bodyBytes);
  }

  #lose(count: number, bodyBytes: number): void {
    this.size -= count;
    this.#host.onReady({ bodyBytes });
  }

  /** Some messages of a page have expired: it goes next, or is looked through in its place. */
  #sweep(leaf: Leaf): void {
    if (leaf === this.#leaves[this.#first] && this.#hasRoom) {
      this.#load(leaf);
      return;
    }
    leaf.isSwept = true;
    void this.#store.load(leaf.close()).then((restored) => {
      const all = restored.map((each) => this.#host.restored(each));
      this.#sweeps.push({ leaf, all });
      if (this.#sweeps.length === 1) this.#endSweeps();
    });
  }

  /** Pages expire one after the other, and none before what is in memory and is due. */
  #endSweeps(): void {
    for (let sweep = this.#sweeps[0]; sweep !== undefined; sweep = this.#sweeps[0]) {
      if (!this.#host.expireThrough(this.#host.clock.now())) {
        this.#host.clock.defer(() => this.#endSweeps());
        return;
      }
      // The list may have been cleared by what became of those.
      if (this.#sweeps.shift() === sweep) this.#endSweep(sweep);
    }
  }

  /** What has expired goes, and the others become a page again, in the same place. */
  #endSweep({ leaf, all }: Sweep): void {
    const index = this.#leaves.indexOf(leaf, this.#first);
    if (index < 0) return;
    const nowMs = this.#host.clock.now();
    // As long as something before it is still to go, what is due at the same time or later waits.
    let beforeMs = this.#loading?.expiresAtMs ?? Number.POSITIVE_INFINITY;
    for (const { expiresAtMs } of this.#leaves.slice(this.#first, index)) beforeMs = Math.min(beforeMs, expiresAtMs);
    const hasExpired = ({ expiresAtMs }: QueuedMessage): boolean => expiresAtMs <= nowMs && expiresAtMs < beforeMs;
    const expired = all.filter(hasExpired);
    const kept = all.filter((queued) => !hasExpired(queued));
    const left = kept.length === 0 ? [] : [this.#store.page(this.#host.holder, kept, bodyBytesOf(kept))];
    const leaves = left.map((page) => new Leaf(page, page.firstPosition));
    this.#leaves.splice(index, 1, ...leaves);
    for (const each of leaves) this.#watch(each);
    this.#count();
    this.size -= expired.length;
    for (const queued of expired) this.#host.onExpired(queued);
    const { count, bodyBytes } = leaf.close();
    this.#lose(count - all.length, bodyBytes - bodyBytesOf(all));
  }

  /** Takes a message in memory out of the middle; it must be in the list and is marked `gone`. */
  remove(queued: QueuedMessage): void {
    this.#unkeep(queued);
    this.size--;
    this.#front.remove(queued);
  }

  /** Takes all: answers those in memory, in order; custody of those in pages ends here. */
  clear(): QueuedMessage[] {
    const items = this.#front.clear();
    for (const queued of items) this.#unkeep(queued);
    for (const leaf of this.#leaves.slice(this.#first)) this.#store.settlePage(leaf.close());
    if (this.#loading !== undefined) this.#store.settlePage(this.#loading);
    this.stop();
    this.size = 0;
    return items;
  }

  /** Lets go of everything and ends no custody: the process ends. */
  stop(): void {
    this.#leaves = [];
    this.#first = 0;
    this.#loading = undefined;
    this.#sweeping?.clear();
    this.#sweeps = [];
    this.#frontBytes = 0;
    this.#count();
  }
}

function costOf(message: Message): number {
  return message.bodyBytes + MESSAGE_OVERHEAD_BYTES;
}

function bodyBytesOf(messages: readonly QueuedMessage[]): number {
  return messages.reduce((sum, { message }) => sum + message.bodyBytes, 0);
}
