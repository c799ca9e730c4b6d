/** A page that is being filled, with what joins the end of a backlog. */
import { assert } from '../../assert.ts';
import type { Message } from '../../message.ts';
import type { Custody, GrowingPage, Page } from '../../store.ts';
import type { LogRecord } from '../log/log-record.ts';
import type { StoredHolder } from '../log/stored-holder.ts';
import { PageSlots, StoredPage } from './stored-page.ts';

/** The store, as such a page needs it. */
export interface FillingPageHost {
  /** Custody begins; sets `custody.record` and `custody.slot`. */
  stow(custody: Custody, message: Message, survives: boolean): void;
  /** The page is full. */
  onClosed(page: StoredPage): void;
}

export class FillingPage implements GrowingPage {
  expiresAtMs = Number.POSITIVE_INFINITY;
  readonly #host: FillingPageHost;
  readonly #holder: StoredHolder;
  readonly #priority: number;
  readonly #slots = new PageSlots();
  #bodyBytes = 0;
  #firstPosition = 0;
  #lastPosition = 0;

  constructor(host: FillingPageHost, holder: StoredHolder, priority: number) {
    this.#host = host;
    this.#holder = holder;
    this.#priority = priority;
  }

  get count(): number {
    return this.#slots.count;
  }

  add(custody: Custody, message: Message, survives: boolean): void {
    this.#host.stow(custody, message, survives);
    if (this.count === 0) this.#firstPosition = custody.position;
    this.#lastPosition = custody.position;
    this.#slots.add(custody.record as LogRecord, custody.slot);
    this.#bodyBytes += message.bodyBytes;
    if (custody.expiresAtMs < this.expiresAtMs) this.expiresAtMs = custody.expiresAtMs;
  }

  close(): Page {
    assert(this.count > 0, 'a page has messages');
    const facts = {
      holder: this.#holder,
      priority: this.#priority,
      bodyBytes: this.#bodyBytes,
      firstPosition: this.#firstPosition,
      lastPosition: this.#lastPosition,
      expiresAtMs: this.expiresAtMs,
    };
    const page = new StoredPage(facts, this.#slots);
    this.#host.onClosed(page);
    return page;
  }
}
