/**
 * Reads pages: the blocks of the log in which their messages lie, each once, and of those what belongs to the page.
 *
 * What cannot be read because the disk fails is tried again until it can. What is damaged is reported once for each record
 * and left out; its segment is kept as it is, for whoever can make something of it.
 */
import type { Clock } from '../clock.ts';
import { AMQP_PROPERTIES } from '../encoding/properties.ts';
import { Message } from '../message.ts';
import type { Restored, StoreEvent } from '../store.ts';
import { eachRecord, type ReadRecords, readOctets } from './block-reader.ts';
import { LogRecord } from './log-record.ts';
import type { LogState, SlotPlace } from './log-state.ts';
import { MessageCursor } from './message-operations.ts';
import type { Amendment, Segment } from './segment.ts';
import type { SegmentFiles } from './segment-files.ts';
import { errorCode, failureText } from './store-error.ts';
import type { StoredHolder } from './stored-holder.ts';
import type { StoredPage } from './stored-page.ts';

/** Most octets that are read at a time, but for a larger record. */
const READ_BYTES_MAX = 4 * 1024 * 1024;

/** So much of what was read last is kept for the next page. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/** Time between two attempts to read what could not be read; milliseconds. */
const RETRY_MS = 1000;

/** Messages that are less than one part in so many of what was read are copied out of it. */
const COPY_SHARE_MIN = 4;

export interface PageLoaderOptions {
  readonly state: LogState;
  readonly files: SegmentFiles;
  readonly clock: Clock;
  readonly onEvent: (event: StoreEvent) => void;
}

export class PageLoader {
  readonly #options: PageLoaderOptions;
  /** Places of damaged records that have been reported. */
  readonly #reported = new Set<string>();
  /** What was read last, all of it intact: a record mostly holds more than one page of the same queue. */
  #kept: { readonly segment: Segment; readonly end: number; readonly read: ReadRecords } | undefined;
  #isStopped = false;

  constructor(options: PageLoaderOptions) {
    this.#options = options;
  }

  /** See `Store.load`. */
  load(page: StoredPage): Promise<readonly Restored[]> {
    return new Promise((resolve, reject) => {
      this.#read(page).then((restored) => {
        // From the moment on at which the caller hears of it, and no sooner.
        queueMicrotask(() => {
          page.handedOut = true;
        });
        resolve(page.settled ? [] : restored);
      }, reject);
    });
  }

  /** What is being read is not waited for any more when the disk fails. */
  stop(): void {
    this.#isStopped = true;
    this.#kept = undefined;
  }

  async #read(page: StoredPage): Promise<Restored[]> {
    const { files } = this.#options;
    const found: Restored[] = [];
    const all = this.#wantedOf(page);
    for (const { segment } of all) files.hold(segment);
    try {
      for (const wanted of all) await this.#readSegment(page.holder, wanted, found);
    } finally {
      for (const { segment } of all) files.letGo(segment);
    }
    for (let index = 1; index < found.length; index++) {
      if ((found[index] as Restored).position < (found[index - 1] as Restored).position) {
        return found.sort((a, b) => a.position - b.position);
      }
    }
    return found;
  }

  /** The live slots of a page, where they are now. */
  #wantedOf(page: StoredPage): Wanted[] {
    const { state } = this.#options;
    const bySegment = new Map<Segment, Wanted>();
    let last: Wanted | undefined;
    page.eachSlot((from, fromSlot, amended) => {
      const { now, read } = from.translation === undefined ? at(from, fromSlot) : state.locateToRead(from, fromSlot);
      if (!now.segment.slots.isLive(now.slot)) return;
      const { segment, slot } = read;
      if (last?.segment !== segment) {
        last = bySegment.get(segment) ?? { segment, slots: [], amendments: new Map() };
        bySegment.set(segment, last);
      }
      last.slots.push(slot);
      const amendment = amended ?? now.segment.amendments?.get(now.slot) ?? segment.amendments?.get(slot);
      if (amendment !== undefined) last.amendments.set(slot, amendment);
    });
    const all = [...bySegment.values()];
    for (const { slots } of all) slots.sort((a, b) => a - b);
    return all;
  }

  async #readSegment(holder: StoredHolder, wanted: Wanted, found: Restored[]): Promise<void> {
    const { segment, slots } = wanted;
    const record = LogRecord.of(segment);
    for (let index = 0; index < slots.length; ) {
      const { start, ...first } = segment.blockOf(slots[index] as number);
      let { end, slotEnd } = first;
      const from = index;
      for (index++; index < slots.length; index++) {
        const slot = slots[index] as number;
        if (slot < slotEnd) continue;
        const next = segment.blockOf(slot);
        if (next.start !== end || next.end - start > READ_BYTES_MAX) break;
        ({ end, slotEnd } = next);
      }
      const kept = this.#keptOf(segment, start, end);
      const octets = kept?.octets ?? (await this.#octetsOf(segment, start, end));
      if (octets === undefined) return;
      const read = kept ?? { octets, start };
      const isIntact = this.#pick(read, end, wanted, from, holder, record, found);
      if (kept === undefined) {
        const keeps = isIntact && octets.length <= KEPT_BYTES_MAX;
        this.#kept = keeps ? { segment, end, read: { ...read, isIntact } } : undefined;
      }
    }
  }

  #keptOf(segment: Segment, start: number, end: number): ReadRecords | undefined {
    const kept = this.#kept;
    if (kept?.segment !== segment || start < kept.read.start || end > kept.end) return undefined;
    const from = start - kept.read.start;
    return { octets: kept.read.octets.subarray(from, from + end - start), start, isIntact: true };
  }

  /** Undefined when the store is closed in the meantime. */
  async #octetsOf(segment: Segment, start: number, end: number): Promise<Buffer | undefined> {
    const { files, clock, onEvent } = this.#options;
    for (let attempt = 1; !this.#isStopped; attempt++) {
      try {
        return await readOctets(await files.open(segment), start, end);
      } catch (error) {
        // A file that is gone does not come back.
        if (errorCode(error) === 'ENOENT') return Buffer.alloc(0);
        if (attempt === 1) {
          const text = `cannot read ${files.path(segment.id)}: ${failureText(error)}; it is tried again`;
          onEvent({ type: 'notice', text });
        }
        await new Promise<void>((resolve) => {
          clock.schedule(RETRY_MS, resolve);
        });
      }
    }
    return undefined;
  }

  /** Those messages among the records read that are wanted, from the slot at `from` on; whether all records are intact. */
  #pick(
    read: ReadRecords,
    end: number,
    { segment, slots, amendments }: Wanted,
    from: number,
    holder: StoredHolder,
    record: LogRecord,
    found: Restored[],
  ): boolean {
    const picked: Picked[] = [];
    let isIntact = true;
    let next = from;
    let wantedBytes = 0;
    const { octets } = read;
    eachRecord(
      segment,
      read,
      end,
      ({ stateBytes, payloadBytes, firstSlot, slotCount }, payloadStart) => {
        while (next < slots.length && (slots[next] as number) < firstSlot) next++;
        if (next === slots.length || (slots[next] as number) >= firstSlot + slotCount) return;
        const cursor = new MessageCursor(octets, payloadStart + stateBytes, payloadStart + payloadBytes, firstSlot);
        while (next < slots.length && cursor.nextMessage()) {
          const first = picked.length;
          while (cursor.nextCustody()) {
            const { slot, position, priority, expiresAtMs } = cursor;
            if (slot !== slots[next]) continue;
            next++;
            const { returnCount, heldUntilMs } = amendments.get(slot) ?? cursor;
            const isReturned = returnCount === 0 && position <= holder.returnedThrough;
            const returns = isReturned ? 1 : returnCount;
            picked.push({
              slot,
              position,
              priority,
              expiresAtMs,
              returnCount: returns,
              heldUntilMs,
              message: undefined,
            });
          }
          if (picked.length === first) continue;
          const message = messageAt(cursor);
          for (let index = first; index < picked.length; index++) (picked[index] as Picked).message = message;
          wantedBytes += cursor.propertyBytes + cursor.bodyBytes;
        }
      },
      (offset) => {
        isIntact = false;
        this.#reportDamage(segment, offset);
      },
    );
    const isSparse = wantedBytes * COPY_SHARE_MIN < octets.length;
    const room = isSparse ? Buffer.allocUnsafeSlow(wantedBytes) : undefined;
    let at = 0;
    let before: Message | undefined;
    let copy: Message | undefined;
    for (const { message, slot, position, priority, expiresAtMs, returnCount, heldUntilMs } of picked) {
      if (message === undefined) continue;
      if (message !== before) {
        before = message;
        copy = room === undefined ? message : copyTo(room, at, message);
        at += message.bodyEnd - message.propertiesStart;
      }
      found.push({ message: copy ?? message, position, priority, expiresAtMs, returnCount, heldUntilMs, record, slot });
    }
    return isIntact;
  }

  #reportDamage(segment: Segment, offset: number): void {
    segment.damaged = true;
    const path = this.#options.files.path(segment.id);
    const place = `${path} at octet ${offset}`;
    if (this.#reported.has(place)) return;
    this.#reported.add(place);
    const text = `a damaged record in ${place}: its messages cannot be read, and are left out; the file is kept`;
    this.#options.onEvent({ type: 'damage', text });
  }
}

function at(segment: Segment, slot: number): { readonly now: SlotPlace; readonly read: SlotPlace } {
  const place = { segment, slot };
  return { now: place, read: place };
}

/** What is wanted of one segment. */
interface Wanted {
  readonly segment: Segment;
  /** In rising order. */
  readonly slots: number[];
  /** What has been amended, as of now: when the cleaner moves a custody, this goes into the new record. */
  readonly amendments: Map<number, Amendment>;
}

interface Picked extends Omit<Restored, 'message' | 'record'> {
  message: Message | undefined;
}

/** The message that the cursor is at, as a window on what was read. */
function messageAt(cursor: MessageCursor): Message {
  const { octets, contentStart, propertyBytes, bodyBytes, exchange, routingKey, traits } = cursor;
  const bodyStart = contentStart + propertyBytes;
  const bodyEnd = bodyStart + bodyBytes;
  return new Message(
    exchange,
    routingKey,
    octets,
    contentStart,
    bodyStart,
    bodyStart,
    bodyEnd,
    AMQP_PROPERTIES,
    traits,
  );
}

/** The same message with its octets in `room` from `at` on. */
function copyTo(room: Buffer, at: number, message: Message): Message {
  const { content, propertiesStart, bodyStart, bodyEnd, exchange, routingKey, traits } = message;
  room.set(content.subarray(propertiesStart, bodyEnd), at);
  const body = at + bodyStart - propertiesStart;
  return new Message(
    exchange,
    routingKey,
    room,
    at,
    body,
    body,
    at + bodyEnd - propertiesStart,
    AMQP_PROPERTIES,
    traits,
  );
}
