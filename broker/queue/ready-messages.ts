/**
 * The ready messages of a queue, and what happens to them while nobody takes them: they expire, and most of a long
 * backlog is on disk only.
 */
import type { Clock } from '../clock.ts';
import { Deadlines } from '../deadlines.ts';
import type { Holder, Page, Restored, Store } from '../store.ts';
import { PagedList } from './paged-list.ts';
import { PriorityList } from './priority-list.ts';
import type { QueuedMessage } from './queued-message.ts';
import { ReadyList } from './ready-list.ts';

/** What they need of the queue that they are in. */
export interface ReadyMessagesHost {
  readonly store: Store;
  readonly clock: Clock;
  readonly holder: Holder;
  /** Custody as it was before its page left memory, or the last process ended. */
  restored(from: Restored): QueuedMessage;
  /** A message is past its time; it is no longer ready. */
  onExpired(queued: QueuedMessage): void;
  /** `take` may have something again. */
  onReady(): void;
}

/** Most expired messages that stand before the next one and leave in one turn of the event loop. */
const EXPIRED_PER_TURN_MAX = 1024;

export class ReadyMessages {
  /** Octets of all bodies. */
  bodyBytes = 0;
  readonly #host: ReadyMessagesHost;
  readonly #list: (ReadyList | PagedList | PriorityList) & Pick<PagedList, 'push'>;
  #expiring: Deadlines<QueuedMessage> | undefined;
  /** See `take`. */
  #overdue = false;
  /** To be called when there may be a message to take. */
  #waiting: (() => void)[] = [];

  /** `maxPriority` 0: all are alike. */
  constructor(host: ReadyMessagesHost, maxPriority: number) {
    this.#host = host;
    const makeList = (): ReadyList | PagedList =>
      host.store.durable ? new PagedList(this.#pagedListHost()) : new ReadyList();
    this.#list = maxPriority > 0 ? new PriorityList(maxPriority, makeList) : makeList();
  }

  get count(): number {
    return this.#list.size;
  }

  /**
   * Adds a message whose position is above all others'; one that is past its time leaves again. The store is told of it,
   * and whether it is to survive the process, if that is of interest to it.
   */
  push(queued: QueuedMessage, survives: boolean): void {
    this.bodyBytes += queued.message.bodyBytes;
    const isInMemory = this.#list.push(queued, survives);
    if (isInMemory) this.#watchExpiry(queued);
  }

  /** Puts a message back to the place that its position gives it; one that is past its time leaves again. */
  putBack(queued: QueuedMessage): void {
    this.#list.putBack(queued);
    this.bodyBytes += queued.message.bodyBytes;
    // Even if its time is over by now: others that go before it are put back after it.
    if (queued.expiresAtMs !== Number.POSITIVE_INFINITY) this.#deadlines.add(queued, queued.expiresAtMs);
  }

  /** Takes over a page of an earlier process. */
  adopt(page: Page): void {
    if (this.#list instanceof ReadyList) return;
    this.#list.adopt(page);
    this.bodyBytes += page.bodyBytes;
  }

  /**
   * Takes the next message that has not expired; undefined when there is none, or none in memory, or none before a great
   * many that have expired. In the last two cases `onReady` is called when it is worth trying again.
   */
  take(): QueuedMessage | undefined {
    for (let count = 0; count < EXPIRED_PER_TURN_MAX; count++) {
      const queued = this.takeFirst();
      if (queued === undefined || !isPast(queued, this.#host.clock)) return queued;
      this.#host.onExpired(queued);
    }
    if (!this.#overdue) {
      this.#overdue = true;
      this.#host.clock.defer(() => {
        this.#overdue = false;
        this.#onReady();
      });
    }
    return undefined;
  }

  /** Takes the next message, expired or not; undefined when there is none, or none in memory. */
  takeFirst(): QueuedMessage | undefined {
    const queued = this.#list.shift();
    if (queued === undefined) return undefined;
    this.bodyBytes -= queued.message.bodyBytes;
    this.#unwatchExpiry(queued);
    return queued;
  }

  /** For whoever found nothing although there are messages: resolves when it is worth trying again, else undefined. */
  whenReady(): Promise<void> | undefined {
    if (!this.#overdue && !this.#list.waits) return undefined;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #onReady(): void {
    this.#host.onReady();
    this.#tellWaiting();
  }

  #tellWaiting(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  /** Takes all: answers those in memory, in order; custody of those that are on disk only ends here. */
  clear(): QueuedMessage[] {
    const cleared = this.#list.clear();
    this.bodyBytes = 0;
    this.#expiring?.clear();
    this.#tellWaiting();
    return cleared;
  }

  /** The process ends: nothing happens any more, and what is stored stays so. */
  stop(): void {
    this.#list.stop();
    this.#expiring?.clear();
    this.#tellWaiting();
  }

  #watchExpiry(queued: QueuedMessage): void {
    if (queued.expiresAtMs === Number.POSITIVE_INFINITY) return;
    const deadlines = this.#deadlines;
    // Never before one that was due earlier and whose timer is late.
    const isNext = queued.expiresAtMs < deadlines.firstMs;
    if (isNext && isPast(queued, this.#host.clock)) this.#removeExpired(queued);
    else deadlines.add(queued, queued.expiresAtMs);
  }

  get #deadlines(): Deadlines<QueuedMessage> {
    this.#expiring ??= new Deadlines(this.#host.clock, (due) => this.#removeExpired(due));
    return this.#expiring;
  }

  #unwatchExpiry(queued: QueuedMessage): void {
    if (queued.heapIndex >= 0) this.#expiring?.delete(queued);
  }

  #removeExpired(queued: QueuedMessage): void {
    this.#list.remove(queued);
    this.bodyBytes -= queued.message.bodyBytes;
    this.#unwatchExpiry(queued);
    this.#host.onExpired(queued);
  }

  #pagedListHost() {
    const { store, clock, holder } = this.#host;
    return {
      store,
      clock,
      holder,
      restored: (from: Restored) => this.#host.restored(from),
      onLoaded: (queued: QueuedMessage) => this.#watchExpiry(queued),
      expireThrough: (dueMs: number) => this.#expiring?.handleThrough(dueMs) ?? true,
      onExpired: (queued: QueuedMessage) => {
        this.bodyBytes -= queued.message.bodyBytes;
        this.#host.onExpired(queued);
      },
      onReady: (lost: { readonly bodyBytes: number }) => {
        this.bodyBytes -= lost.bodyBytes;
        this.#onReady();
      },
    };
  }
}

/** Whether its time is over; the clock is asked only for a message that can expire. */
export function isPast({ expiresAtMs }: QueuedMessage, clock: Clock): boolean {
  return expiresAtMs !== Number.POSITIVE_INFINITY && expiresAtMs <= clock.now();
}
