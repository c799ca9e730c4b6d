/** A page: which slots of which records hold the messages, in the order of positions. No octets of messages. */
import type { Page } from '../../store.ts';
import type { LogRecord } from '../log/log-record.ts';
import type { Amendment } from '../log/segment.ts';
import type { StoredHolder } from '../log/stored-holder.ts';

/** Slots of one record: `count` in a row from `first` on, or those of `slots`. */
interface Extent {
  readonly record: LogRecord;
  readonly first: number;
  readonly count: number;
  readonly slots: Uint32Array | undefined;
}

/** What is to be known of a page besides its slots. */
export interface PageFacts {
  readonly holder: StoredHolder;
  readonly priority: number;
  readonly bodyBytes: number;
  readonly firstPosition: number;
  readonly lastPosition: number;
  readonly expiresAtMs: number;
}

export class StoredPage implements Page {
  readonly holder: StoredHolder;
  readonly priority: number;
  readonly count: number;
  readonly bodyBytes: number;
  readonly firstPosition: number;
  readonly lastPosition: number;
  readonly expiresAtMs: number;
  #extents: readonly Extent[];
  /** Of custodies that have come back or are held, by their place in the page: the log may not know it yet. */
  readonly #amendments: ReadonlyMap<number, Amendment>;
  /** Its messages are with whoever has loaded it: their custody ends one by one. */
  handedOut = false;
  /** All of it has been written, and only the segments are known of the records. */
  isCompact = false;
  /** Custody of all has ended before anybody had loaded it. */
  settled = false;

  constructor(facts: PageFacts, slots: PageSlots) {
    this.holder = facts.holder;
    this.priority = facts.priority;
    this.count = slots.count;
    this.bodyBytes = facts.bodyBytes;
    this.firstPosition = facts.firstPosition;
    this.lastPosition = facts.lastPosition;
    this.expiresAtMs = facts.expiresAtMs;
    this.#extents = slots.extents();
    this.#amendments = slots.amendments;
  }

  /** Calls `visit` with every slot, and with what was amended when the page was made. */
  eachSlot(visit: (record: LogRecord, slot: number, amendment: Amendment | undefined) => void): void {
    let place = 0;
    for (const { record, first, count, slots } of this.#extents) {
      for (let index = 0; index < count; index++) {
        const slot = slots === undefined ? first + index : (slots[index] as number);
        visit(record, slot, this.#amendments.get(place++));
      }
    }
  }

  /**
   * Forgets the records that it was made of, if all of them have been written: slots of several may be one run of their
   * segment.
   */
  compact(): void {
    if (!this.#extents.every(({ record }) => record.written)) return;
    const slots = new PageSlots();
    this.eachSlot(({ segment, firstSlot }, slot) => {
      if (segment !== undefined) slots.add(segment.record, firstSlot + slot);
    });
    this.#extents = slots.extents();
    this.isCompact = true;
  }
}

/** Collects the slots of a page. */
export class PageSlots {
  count = 0;
  readonly amendments = new Map<number, Amendment>();
  readonly #extents: Extent[] = [];
  #record: LogRecord | undefined;
  #slots: number[] = [];
  #isRow = true;

  add(record: LogRecord, slot: number): void {
    if (record !== this.#record) {
      this.#flush();
      this.#record = record;
    }
    const slots = this.#slots;
    if (slots.length > 0 && slots[slots.length - 1] !== slot - 1) this.#isRow = false;
    slots.push(slot);
    this.count++;
  }

  /** What has become of the custody added last. */
  amend(amendment: Amendment): void {
    this.amendments.set(this.count - 1, amendment);
  }

  #flush(): void {
    const [first] = this.#slots;
    if (this.#record !== undefined && first !== undefined) {
      const slots = this.#isRow ? undefined : Uint32Array.from(this.#slots);
      this.#extents.push({ record: this.#record, first, count: this.#slots.length, slots });
    }
    this.#slots = [];
    this.#isRow = true;
  }

  extents(): readonly Extent[] {
    this.#flush();
    return this.#extents;
  }
}
