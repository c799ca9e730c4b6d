/**
 * Makes pages of what recovery finds in the log, message by message, for one holder and one priority. Takes a few octets
 * for each message until the pages are made.
 *
 * Messages lie in the log in the order of their positions, but for those that the cleaner has moved: these are kept as
 * further runs that rise in themselves, and merged at the end.
 */

import type { Segment } from '../log/segment.ts';
import type { StoredHolder } from '../log/stored-holder.ts';
import { RecordBuffer } from '../record/record-buffer.ts';
import { RecordCursor } from '../record/record-cursor.ts';
import { PageSlots, StoredPage } from './stored-page.ts';

/** Most messages of a page, and octets of bodies after which it is full. */
const PAGE_MESSAGES = 2048;
const PAGE_BYTES = 1024 * 1024;

const RUN_FIRST_BYTES = 64;

/** Messages in rising order of positions, each as its difference to the one before. */
class Run {
  readonly octets = new RecordBuffer(RUN_FIRST_BYTES);
  lastPosition = 0;
  lastSegment = 0;
  lastSlot = 0;

  add(segment: Segment, slot: number, position: number, bodyBytes: number, expiresAtMs: number): void {
    const { octets } = this;
    const expires = expiresAtMs !== Number.POSITIVE_INFINITY;
    const elsewhere = segment.id !== this.lastSegment;
    octets.integer(position - this.lastPosition);
    octets.integer(bodyBytes * 4 + (expires ? 2 : 0) + (elsewhere ? 1 : 0));
    if (elsewhere) octets.integer(segment.id);
    octets.integer(elsewhere ? slot : slot - this.lastSlot);
    if (expires) octets.integer(expiresAtMs);
    this.lastPosition = position;
    this.lastSegment = segment.id;
    this.lastSlot = slot;
  }
}

/** Reads a run. */
class RunCursor {
  position = 0;
  segment = 0;
  slot = 0;
  bodyBytes = 0;
  expiresAtMs = 0;
  readonly #cursor: RecordCursor;

  constructor(run: Run) {
    const [part] = run.octets.parts();
    this.#cursor = new RecordCursor(Buffer.from(part?.octets.buffer ?? new ArrayBuffer(0)), 0, part?.length ?? 0);
  }

  /** False at the end. */
  next(): boolean {
    const cursor = this.#cursor;
    if (cursor.isAtEnd) return false;
    this.position += cursor.integer();
    const packed = cursor.integer();
    this.bodyBytes = Math.floor(packed / 4);
    if ((packed & 1) !== 0) {
      this.segment = cursor.integer();
      this.slot = 0;
    }
    this.slot += cursor.integer();
    this.expiresAtMs = (packed & 2) !== 0 ? cursor.integer() : Number.POSITIVE_INFINITY;
    return true;
  }
}

export class PageBuilder {
  readonly #runs: Run[] = [];
  count = 0;

  /** To be called in the order of the log. */
  add(segment: Segment, slot: number, position: number, bodyBytes: number, expiresAtMs: number): void {
    let run: Run | undefined;
    for (const each of this.#runs) {
      if (each.lastPosition < position && (run === undefined || each.lastPosition > run.lastPosition)) run = each;
    }
    if (run === undefined) {
      run = new Run();
      this.#runs.push(run);
    }
    run.add(segment, slot, position, bodyBytes, expiresAtMs);
    this.count++;
  }

  /** The pages, in order. */
  pages(holder: StoredHolder, priority: number, segments: ReadonlyMap<number, Segment>): StoredPage[] {
    const pages: StoredPage[] = [];
    let cursors = this.#runs.map((run) => new RunCursor(run)).filter((cursor) => cursor.next());
    let page: OpenPage | undefined;
    while (cursors.length > 0) {
      const cursor = cursors.reduce((a, b) => (a.position <= b.position ? a : b));
      const segment = segments.get(cursor.segment);
      page ??= new OpenPage(cursor.position);
      if (segment !== undefined) page.add(segment, cursor);
      if (page.isFull) {
        pages.push(page.close(holder, priority));
        page = undefined;
      }
      if (!cursor.next()) cursors = cursors.filter((each) => each !== cursor);
    }
    if (page !== undefined) pages.push(page.close(holder, priority));
    return pages;
  }
}

class OpenPage {
  readonly #slots = new PageSlots();
  readonly #firstPosition: number;
  #lastPosition = 0;
  #bodyBytes = 0;
  #expiresAtMs = Number.POSITIVE_INFINITY;

  constructor(firstPosition: number) {
    this.#firstPosition = firstPosition;
  }

  get isFull(): boolean {
    return this.#slots.count === PAGE_MESSAGES || this.#bodyBytes >= PAGE_BYTES;
  }

  add(segment: Segment, { slot, position, bodyBytes, expiresAtMs }: RunCursor): void {
    this.#slots.add(segment.record, slot);
    this.#lastPosition = position;
    this.#bodyBytes += bodyBytes;
    if (expiresAtMs < this.#expiresAtMs) this.#expiresAtMs = expiresAtMs;
  }

  close(holder: StoredHolder, priority: number): StoredPage {
    const facts = {
      holder,
      priority,
      bodyBytes: this.#bodyBytes,
      firstPosition: this.#firstPosition,
      lastPosition: this.#lastPosition,
      expiresAtMs: this.#expiresAtMs,
    };
    return new StoredPage(facts, this.#slots);
  }
}
