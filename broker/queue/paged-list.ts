/**
 * The ready messages of a queue whose store can hold them: those that go next and those that came last in memory, what
 * lies between them on disk only, in pages.
 *
 * ```
 * shift <- front (messages) <- pages (on disk) <- tail (messages, on their way to disk) <- push
 * ```
 *
 * As long as the ready messages of all queues fit into the store's budget everything is in the front, and this is a
 * `ReadyList`. Beyond it, what comes joins the tail, and leaves memory a page at a time as soon as it has been written.
 * Pages come back one ahead of their turn; when none is left, the tail becomes the front again.
 *
 * Invariant: positions rise from front to pages to tail. What comes back from a consumer had been in the front, so it
 * belongs there again.
 */
import type { Clock } from '../clock.ts';
import { Deadlines, type Timed } from '../deadlines.ts';
import type { Message } from '../message.ts';
import { type Holder, PAGING, type Page, type PagingLimits, type Restored, type Store } from '../store.ts';
import { Place, type QueuedMessage } from './queued-message.ts';
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
  /** A message is about to leave memory. */
  onUnloaded(queued: QueuedMessage): void;
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

/** A page in its place in the list, due when the first of its messages expires. */
class Leaf implements Timed {
  readonly page: Page;
  readonly position: number;
  dueMs = 0;
  heapIndex = -1;
  /** It is being read, to drop what has expired. */
  isSwept = false;

  constructor(page: Page) {
    this.page = page;
    this.position = page.firstPosition;
  }
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
  #tail: QueuedMessage[] = [];
  #tailBytes = 0;
  #tailGone = 0;
  /** What the front takes in memory. */
  #frontBytes = 0;
  /** The tail makes a page that has not been written yet. */
  #awaitsWrite = false;
  /** It counts in `Store.pagingCount`. */
  #isCounted = false;
  /** The page that is on its way to the front. */
  #loading: Page | undefined;
  #sweeping: Deadlines<Leaf> | undefined;

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

  get #isPaging(): boolean {
    return this.#tail.length > 0 || this.#pageCount > 0;
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
    if (this.#isCounted === this.#isPaging) return;
    this.#isCounted = !this.#isCounted;
    this.#store.pagingCount += this.#isCounted ? 1 : -1;
  }

  /** Adds a message whose position is above all others'. */
  push(queued: QueuedMessage): void {
    this.size++;
    const cost = costOf(queued.message);
    this.#store.residentBytes += cost;
    if (this.#isPaging || this.#isCrowded) this.#append(queued, cost);
    else {
      this.#frontBytes += cost;
      this.#front.push(queued);
    }
  }

  get #isCrowded(): boolean {
    const { residentBytes, residentBytesMax } = this.#store;
    return (
      residentBytes > residentBytesMax && this.#frontBytes >= Math.min(this.#limits.frontBytesMin, this.#shareBytes)
    );
  }

  #append(queued: QueuedMessage, cost: number): void {
    if (queued.record === undefined) this.#store.admit(queued, queued.message, false);
    this.#tail.push(queued);
    this.#tailBytes += cost;
    this.#count();
    if (this.#hasPage && !this.#awaitsWrite) this.#pageOut();
  }

  get #hasPage(): boolean {
    return this.#tail.length >= this.#limits.pageMessages || this.#tailBytes >= this.#pageBytes;
  }

  /** Pages out what has been written, from the oldest on; what makes a page and has not been, later. */
  #pageOut(): void {
    const tail = this.#tail;
    let start = 0;
    for (;;) {
      const end = this.#pageEnd(start);
      if (end === undefined) break;
      this.#pageOutRun(tail.slice(start, end));
      start = end;
    }
    if (start > 0) {
      this.#tail = tail.slice(start);
      this.#tailBytes = this.#tail.reduce((sum, queued) => sum + liveCostOf(queued), 0);
    }
    if (!this.#hasPage || this.#awaitsWrite) return;
    this.#awaitsWrite = true;
    this.#store.whenSynced({
      onSynced: () => {
        this.#awaitsWrite = false;
        this.#pageOut();
      },
    });
  }

  /** Where the page ends that begins at `start` in the tail; undefined when it is not full or not written yet. */
  #pageEnd(start: number): number | undefined {
    const { pageMessages } = this.#limits;
    const pageBytes = this.#pageBytes;
    let bytes = 0;
    for (let end = start; end < this.#tail.length; end++) {
      const queued = this.#tail[end] as QueuedMessage;
      if (queued.place !== Place.gone && queued.record?.written !== true) return undefined;
      bytes += liveCostOf(queued);
      if (end - start + 1 === pageMessages || bytes >= pageBytes) return end + 1;
    }
    return undefined;
  }

  #pageOutRun(run: readonly QueuedMessage[]): void {
    const kept = run.filter(({ place }) => place !== Place.gone);
    this.#tailGone -= run.length - kept.length;
    if (kept.length === 0) return;
    for (const queued of kept) {
      this.#store.residentBytes -= costOf(queued.message);
      this.#host.onUnloaded(queued);
    }
    this.#addLeaf(this.#store.page(this.#host.holder, kept, bodyBytesOf(kept)));
  }

  #addLeaf(page: Page): void {
    const leaf = new Leaf(page);
    this.#leaves.push(leaf);
    this.#watch(leaf);
  }

  #watch(leaf: Leaf): void {
    if (leaf.page.expiresAtMs === Number.POSITIVE_INFINITY) return;
    this.#sweeping ??= new Deadlines(this.#host.clock, (due) => this.#sweep(due));
    this.#sweeping.add(leaf, leaf.page.expiresAtMs);
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
    const cost = costOf(queued.message);
    this.#store.residentBytes += cost;
    this.#frontBytes += cost;
    this.#front.putBack(queued);
  }

  /** Takes the message with the lowest position; undefined also when it has to be read first (see `waits`). */
  shift(): QueuedMessage | undefined {
    if (this.#pageCount > 0) this.#readAhead();
    else if (this.#front.size === 0 && this.#tail.length > 0) this.#takeTail();
    const queued = this.#front.shift();
    if (queued === undefined) return undefined;
    this.size--;
    const cost = costOf(queued.message);
    this.#frontBytes -= cost;
    this.#store.residentBytes -= cost;
    return queued;
  }

  /** No page is left: what came last goes next. */
  #takeTail(): void {
    for (const queued of this.#tail) {
      if (queued.place === Place.gone) continue;
      this.#frontBytes += costOf(queued.message);
      this.#front.push(queued);
    }
    this.#dropTail();
  }

  #dropTail(): void {
    this.#tail = [];
    this.#tailBytes = 0;
    this.#tailGone = 0;
    this.#count();
  }

  /** Reads the next page when little is left in front of it. */
  #readAhead(): void {
    if (this.#front.size >= this.#limits.readAheadMessages || this.#frontBytes >= this.#pageBytes / 2) return;
    const leaf = this.#leaves[this.#first];
    if (this.#loading !== undefined || leaf === undefined || leaf.isSwept) return;
    this.#first++;
    if (this.#first * 2 > this.#leaves.length) {
      this.#leaves = this.#leaves.slice(this.#first);
      this.#first = 0;
    }
    this.#sweeping?.delete(leaf);
    const { page } = leaf;
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
      const cost = costOf(queued.message);
      this.#store.residentBytes += cost;
      this.#frontBytes += cost;
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

  /** Some messages of a page have expired: they go, and the others become a page again, in the same place. */
  #sweep(leaf: Leaf): void {
    leaf.isSwept = true;
    void this.#store.load(leaf.page).then((restored) => {
      const index = this.#leaves.indexOf(leaf, this.#first);
      if (index < 0) return;
      const nowMs = this.#host.clock.now();
      const all = restored.map((each) => this.#host.restored(each));
      const kept = all.filter(({ expiresAtMs }) => expiresAtMs > nowMs);
      const expired = all.filter(({ expiresAtMs }) => expiresAtMs <= nowMs);
      const left = kept.length === 0 ? [] : [this.#store.page(this.#host.holder, kept, bodyBytesOf(kept))];
      const leaves = left.map((page) => new Leaf(page));
      this.#leaves.splice(index, 1, ...leaves);
      for (const each of leaves) this.#watch(each);
      this.#count();
      this.size -= expired.length;
      for (const queued of expired) this.#host.onExpired(queued);
      this.#lose(leaf.page.count - all.length, leaf.page.bodyBytes - bodyBytesOf(all));
    });
  }

  /** Takes a message in memory out of the middle; it must be in the list and is marked `gone`. */
  remove(queued: QueuedMessage): void {
    const cost = costOf(queued.message);
    this.#store.residentBytes -= cost;
    this.size--;
    const [oldest] = this.#tail;
    if (oldest === undefined || queued.position < oldest.position) {
      this.#frontBytes -= cost;
      this.#front.remove(queued);
    } else {
      this.#tailBytes -= cost;
      queued.place = Place.gone;
      this.#tailGone++;
      if (this.#tailGone === this.#tail.length) this.#dropTail();
    }
  }

  /** Takes all: answers those in memory, in order; custody of those in pages ends here. */
  clear(): QueuedMessage[] {
    const items = [...this.#front.clear(), ...this.#tail.filter(({ place }) => place !== Place.gone)];
    for (const queued of items) this.#store.residentBytes -= costOf(queued.message);
    for (const { page } of this.#leaves.slice(this.#first)) this.#store.settlePage(page);
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
    this.#frontBytes = 0;
    this.#dropTail();
  }
}

function costOf(message: Message): number {
  return message.bodyBytes + MESSAGE_OVERHEAD_BYTES;
}

function liveCostOf({ place, message }: QueuedMessage): number {
  return place === Place.gone ? 0 : costOf(message);
}

function bodyBytesOf(messages: readonly QueuedMessage[]): number {
  return messages.reduce((sum, { message }) => sum + message.bodyBytes, 0);
}
