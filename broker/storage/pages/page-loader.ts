/**
 * Reads pages: the blocks of the log in which their messages lie, each once, and of those what belongs to the pages.
 *
 * One reading at a time serves all pages that have been asked for until it begins: the messages of many queues lie among
 * each other in the log, and reading the same blocks for one queue after the other would take as many times as long, or as
 * many times the memory.
 *
 * What has not been written yet comes from memory: whoever has caught up with a backlog does not wait for the disk.
 *
 * What cannot be read because the disk fails is tried again until it can. What is damaged is reported once for each record
 * and left out; its segment is kept as it is, for whoever can make something of it.
 */
import { assert } from '../../assert.ts';
import type { Clock } from '../../clock.ts';
import type { Restored, StoreEvent } from '../../store.ts';
import type { SegmentFiles } from '../folder/segment-files.ts';
import type { LogRecord } from '../log/log-record.ts';
import type { LogState, SlotPlace } from '../log/log-state.ts';
import type { Amendment, Segment } from '../log/segment.ts';
import { errorCode, failureText } from '../store-error.ts';
import { type ReadRecords, readOctets } from './block-reader.ts';
import { type PageRequest, WantedSlots } from './message-picker.ts';
import type { StoredPage } from './stored-page.ts';

/** Most octets that are read at a time, but for a larger record. */
const READ_BYTES_MAX = 4 * 1024 * 1024;

/** So much of what was read last is kept for the next page. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/** Most octets of bodies, and messages, that one reading brings back, but for a larger page. */
const READING_BODY_BYTES_MAX = 32 * 1024 * 1024;
const READING_MESSAGES_MAX = 256 * 1024;

/** Time between two attempts to read what could not be read; milliseconds. */
const RETRY_MS = 1000;

export interface PageLoaderOptions {
  readonly state: LogState;
  readonly files: SegmentFiles;
  readonly clock: Clock;
  readonly onEvent: (event: StoreEvent) => void;
}

/** A page that somebody waits for. */
class Waiting implements PageRequest {
  readonly page: StoredPage;
  readonly found: Restored[] = [];
  readonly #resolve: (restored: readonly Restored[]) => void;

  constructor(page: StoredPage, resolve: (restored: readonly Restored[]) => void) {
    this.page = page;
    this.#resolve = resolve;
  }

  /** Everything of it has been read. */
  end(): void {
    const { page, found } = this;
    // From the moment on at which the caller hears of it, and no sooner.
    queueMicrotask(() => {
      page.handedOut = true;
    });
    this.#resolve(page.settled ? [] : inOrder(found));
  }
}

/** What is wanted of records that have not been written yet, in the order of a page. */
class UnwrittenSlots {
  readonly #runs: { record: LogRecord; slots: number[]; amendments: Map<number, Amendment> }[] = [];

  add(record: LogRecord, slot: number, amendment: Amendment | undefined): void {
    let run = this.#runs[this.#runs.length - 1];
    if (run?.record !== record) {
      run = { record, slots: [], amendments: new Map() };
      this.#runs.push(run);
    }
    run.slots.push(slot);
    if (amendment !== undefined) run.amendments.set(slot, amendment);
  }

  restored(): Restored[] {
    return this.#runs.flatMap(({ record, slots, amendments }) => {
      assert(record.unwritten !== undefined, 'what has not been written is in memory');
      return record.unwritten.restored(slots, amendments);
    });
  }
}

function inOrder(found: Restored[]): Restored[] {
  for (let index = 1; index < found.length; index++) {
    if ((found[index] as Restored).position < (found[index - 1] as Restored).position) {
      return found.sort((a, b) => a.position - b.position);
    }
  }
  return found;
}

export class PageLoader {
  readonly #options: PageLoaderOptions;
  #waiting: Waiting[] = [];
  #isReading = false;
  /** Places of damaged records that have been reported. */
  readonly #reported = new Set<string>();
  /** What was read last, all of it intact: a record mostly holds more than one page of the same queue. */
  #kept: { readonly segment: Segment; readonly end: number; readonly read: ReadRecords } | undefined;
  /** What is read at a time lies here; nothing of it stays here for those who have asked. */
  #room: Buffer = Buffer.alloc(0);
  #isStopped = false;

  constructor(options: PageLoaderOptions) {
    this.#options = options;
  }

  /** See `Store.load`. */
  load(page: StoredPage): Promise<readonly Restored[]> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(new Waiting(page, resolve));
      if (this.#isReading) return;
      this.#isReading = true;
      // When everybody in this turn has asked.
      setImmediate(() => this.#readAll().catch(reject));
    });
  }

  /** What is being read is not waited for any more when the disk fails. */
  stop(): void {
    this.#isStopped = true;
    this.#kept = undefined;
  }

  async #readAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const requests = this.#next();
      await this.#read(requests);
      for (const request of requests) request.end();
    }
    this.#isReading = false;
  }

  /** Those that are read next, taken off the list. */
  #next(): readonly Waiting[] {
    let bodyBytes = 0;
    let count = 0;
    let end = 0;
    for (const { page } of this.#waiting) {
      bodyBytes += page.bodyBytes;
      count += page.count;
      if (end > 0 && (bodyBytes > READING_BODY_BYTES_MAX || count > READING_MESSAGES_MAX)) break;
      end++;
    }
    const next = this.#waiting.slice(0, end);
    this.#waiting = this.#waiting.slice(end);
    return next;
  }

  async #read(requests: readonly Waiting[]): Promise<void> {
    const { files } = this.#options;
    const all = this.#wantedOf(requests);
    for (const { segment } of all) files.hold(segment);
    try {
      for (const wanted of all) await this.#readSegment(wanted);
    } finally {
      for (const { segment } of all) files.letGo(segment);
    }
  }

  /** The live slots of the pages, where they can be read now; what has not been written yet is found at once. */
  #wantedOf(requests: readonly Waiting[]): readonly WantedSlots[] {
    const { state } = this.#options;
    const bySegment = new Map<Segment, WantedSlots>();
    for (let index = 0; index < requests.length; index++) {
      const { page, found } = requests[index] as Waiting;
      let last: WantedSlots | undefined;
      if (page.settled) continue;
      const unwritten = new UnwrittenSlots();
      page.eachSlot((record, recordSlot, amended) => {
        const { segment: from, firstSlot } = record;
        if (from === undefined || !record.written) {
          unwritten.add(record, recordSlot, amended);
          return;
        }
        const fromSlot = firstSlot + recordSlot;
        const { now, read } =
          from.translation === undefined ? here(from, fromSlot) : state.locateToRead(from, fromSlot);
        if (!now.segment.slots.isLive(now.slot)) return;
        const { segment, slot } = read;
        if (last?.segment !== segment) {
          last = bySegment.get(segment) ?? new WantedSlots(segment, requests);
          bySegment.set(segment, last);
        }
        const amendment = amended ?? now.segment.amendments?.get(now.slot) ?? segment.amendments?.get(slot);
        last.add(slot, index, amendment);
      });
      for (const restored of unwritten.restored()) found.push(restored);
    }
    const all = [...bySegment.values()];
    for (const wanted of all) wanted.sort();
    return all;
  }

  async #readSegment(wanted: WantedSlots): Promise<void> {
    const { segment } = wanted;
    for (let index = 0; index < wanted.count; ) {
      const { start, ...first } = segment.blockOf(wanted.slotAt(index));
      let { end, slotEnd } = first;
      const from = index;
      for (index++; index < wanted.count; index++) {
        const slot = wanted.slotAt(index);
        if (slot < slotEnd) continue;
        const next = segment.blockOf(slot);
        if (next.start !== end || next.end - start > READ_BYTES_MAX) break;
        ({ end, slotEnd } = next);
      }
      const kept = this.#keptOf(segment, start, end);
      if (kept !== undefined) {
        wanted.pick(kept, start, end, from, () => {});
        continue;
      }
      const octets = await this.#octetsOf(segment, start, end);
      if (octets === undefined) return;
      let isIntact = true;
      const read: ReadRecords = { octets, start };
      wanted.pick(read, start, end, from, (offset) => {
        isIntact = false;
        this.#reportDamage(segment, offset);
      });
      const keeps = isIntact && octets.length <= KEPT_BYTES_MAX && !this.#isStopped;
      this.#kept = keeps ? { segment, end, read: { ...read, isIntact } } : undefined;
    }
  }

  #keptOf(segment: Segment, start: number, end: number): ReadRecords | undefined {
    const kept = this.#kept;
    return kept?.segment === segment && start >= kept.read.start && end <= kept.end ? kept.read : undefined;
  }

  /** Room for so many octets: that of what was read before, if it is not too much to be kept. */
  #roomFor(bytes: number): Buffer {
    this.#kept = undefined;
    if (bytes > KEPT_BYTES_MAX) return Buffer.allocUnsafeSlow(bytes);
    if (bytes > this.#room.length) this.#room = Buffer.allocUnsafeSlow(Math.min(KEPT_BYTES_MAX, bytes * 2));
    return this.#room;
  }

  /** Undefined when the store is closed in the meantime. */
  async #octetsOf(segment: Segment, start: number, end: number): Promise<Buffer | undefined> {
    const { files, clock, onEvent } = this.#options;
    for (let attempt = 1; !this.#isStopped; attempt++) {
      try {
        return await readOctets(await files.open(segment), start, end, this.#roomFor(end - start));
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

function here(segment: Segment, slot: number): { readonly now: SlotPlace; readonly read: SlotPlace } {
  const place = { segment, slot };
  return { now: place, read: place };
}
