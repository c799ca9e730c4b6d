/** Takes out of records that have been read the messages that somebody wants, and leaves the rest. */
import type { Restored } from '../../store.ts';
import type { LogRecord } from '../log/log-record.ts';
import type { Amendment, Segment } from '../log/segment.ts';
import { MessageCursor } from '../record/message-operations.ts';
import type { RecordHeader } from '../record/record.ts';
import { eachRecord, type ReadRecords } from './block-reader.ts';
import { FoundMessages, NO_MESSAGE, type Picked } from './found-messages.ts';
import type { StoredPage } from './stored-page.ts';

/** Pages that are read at a time, and one; a slot and a page are one number. */
const PAGES_END = 2 ** 20;

/** A page that is being read. */
export interface PageRequest {
  readonly page: StoredPage;
  /** What has been found of it, in no order. */
  readonly found: Restored[];
}

/** What is wanted of one segment, for some pages. */
export class WantedSlots {
  readonly segment: Segment;
  readonly #record: LogRecord;
  readonly #requests: readonly PageRequest[];
  /** Slot times `PAGES_END` and the index of the request. */
  readonly #unsorted: number[] = [];
  #keys = new Float64Array(0);
  /** What has been amended, as of now: when the cleaner moves a custody, this goes into the new record. */
  readonly #amendments = new Map<number, Amendment>();

  constructor(segment: Segment, requests: readonly PageRequest[]) {
    this.segment = segment;
    this.#record = segment.record;
    this.#requests = requests;
  }

  add(slot: number, request: number, amendment: Amendment | undefined): void {
    this.#unsorted.push(slot * PAGES_END + request);
    if (amendment !== undefined) this.#amendments.set(slot, amendment);
  }

  /** To be called once, when all have been added. */
  sort(): void {
    this.#keys = Float64Array.from(this.#unsorted).sort();
    this.#unsorted.length = 0;
  }

  get count(): number {
    return this.#keys.length;
  }

  /** The slots in rising order; one may be wanted for several pages. */
  slotAt(index: number): number {
    return Math.floor((this.#keys[index] as number) / PAGES_END);
  }

  /**
   * Gives each page its messages of the records read, from octet `start` of the segment to octet `end` and from the slot at
   * `from` on. Calls `onDamage` with the offset of each record that is not intact.
   */
  pick(read: ReadRecords, start: number, end: number, from: number, onDamage: (offset: number) => void): void {
    const messages = new FoundMessages();
    const { picked } = messages;
    const pickedFor: PageRequest[] = [];
    let next = from;
    const onRecord = (header: RecordHeader, payloadStart: number): void => {
      const { firstSlot, slotCount } = header;
      while (next < this.count && this.slotAt(next) < firstSlot) next++;
      if (next === this.count || this.slotAt(next) >= firstSlot + slotCount) return;
      let wanted = this.slotAt(next);
      const cursor = cursorAt(read, header, payloadStart, wanted);
      while (next < this.count && cursor.nextMessage()) {
        const first = picked.length;
        while (cursor.nextCustody()) {
          while (cursor.slot === wanted && next < this.count) {
            const request = this.#requests[(this.#keys[next] as number) % PAGES_END] as PageRequest;
            picked.push(this.#restored(cursor, request));
            pickedFor.push(request);
            next++;
            if (next < this.count) wanted = this.slotAt(next);
          }
        }
        if (picked.length > first) messages.message(cursor);
      }
    };
    eachRecord(this.segment, read, start, end, onRecord, onDamage);
    messages.copyOut(read.octets);
    for (let index = 0; index < picked.length; index++) pickedFor[index]?.found.push(picked[index] as Picked);
  }

  /** The custody that the cursor is at, still without its message. */
  #restored(cursor: MessageCursor, { page }: PageRequest): Picked {
    const { slot, position, priority, expiresAtMs } = cursor;
    const amendment = this.#amendments.size === 0 ? undefined : this.#amendments.get(slot);
    const { returnCount, heldUntilMs } = amendment ?? cursor;
    const isReturned = returnCount === 0 && position <= page.holder.returnedThrough;
    return {
      message: NO_MESSAGE,
      position,
      priority,
      expiresAtMs,
      returnCount: isReturned ? 1 : returnCount,
      heldUntilMs,
      record: this.#record,
      slot,
    };
  }
}

/** Reads the record from its beginning, or from where the page before has been read to if that is not too far. */
function cursorAt(read: ReadRecords, header: RecordHeader, payloadStart: number, slot: number): MessageCursor {
  const { bookmark } = read;
  if (bookmark?.payloadStart === payloadStart && bookmark.cursor.slotEnd <= slot) return bookmark.cursor;
  const { stateBytes, payloadBytes, firstSlot } = header;
  const end = payloadStart + payloadBytes;
  const cursor = new MessageCursor(read.octets, payloadStart + stateBytes, end, firstSlot);
  read.bookmark = { payloadStart, cursor };
  return cursor;
}
