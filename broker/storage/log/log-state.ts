/**
 * What the log says, as of the last commit that was encoded: segments with their custodies, definitions, holders. It
 * changes when a batch is encoded and not when the store is told, so that a checkpoint, whenever one is written, is the
 * state between two batches.
 */
import { assert } from '../../assert.ts';
import {
  encodeAmended,
  encodeCheckpoint,
  encodeDefinition,
  encodeDelivered,
  encodeHolders,
  encodeSettled,
  encodeSlots,
} from '../record/operations.ts';
import { RecordBuffer } from '../record/record-buffer.ts';
import type { Batch } from './batch.ts';
import { DefinitionTable } from './definition-table.ts';
import type { LogRecord } from './log-record.ts';
import type { Amendment, Segment } from './segment.ts';
import type { StoredHolder } from './stored-holder.ts';
import type { Place } from './translation.ts';

/** A slot that is where its message is. */
export interface SlotPlace {
  readonly segment: Segment;
  readonly slot: number;
}

interface Amended extends SlotPlace {
  readonly amendment: Amendment;
}

/** Slots of a segment that end, in rising order. */
interface Settled {
  readonly segment: Segment;
  readonly slots: readonly number[];
}

/** What a batch has changed of the state. */
export interface StateChange {
  readonly settled: readonly Settled[];
  readonly amended: readonly Amended[];
  readonly delivered: readonly StoredHolder[];
  /** Segments that hold nothing any more: their files can go when the batch is on disk. */
  readonly emptied: readonly Segment[];
}

export class LogState {
  /** Those whose files are there, by number, in rising order. The last may be the one that is written to. */
  readonly segments = new Map<number, Segment>();
  readonly definitions = new DefinitionTable();
  /** Holders that something was delivered of. */
  readonly holders = new Map<number, StoredHolder>();
  /** In every record; see record.ts. */
  readonly seal: bigint;
  /** The highest id given to a holder, and the highest that the log knows of. */
  lastHolder = 0;
  storedLastHolder = 0;
  /** The one that is written to. */
  current: Segment | undefined;
  /** Segments of which messages have been moved. */
  readonly #movedFrom = new Set<Segment>();
  readonly #scratch = new RecordBuffer();
  /** Number of the last batch that was taken in. */
  #batch = 0;
  /** Not written yet, and taking in a later one: what ends of it leaves no trace. */
  #unwritten: Batch | undefined;

  constructor(seal: bigint) {
    this.seal = seal;
  }

  /** Where a slot is now; it may be settled. */
  locate(segment: Segment, slot: number): SlotPlace {
    for (;;) {
      const place = segment.translation?.find(slot);
      if (place?.record.segment === undefined) return { segment, slot };
      slot = place.record.firstSlot + place.slot;
      segment = place.record.segment;
    }
  }

  /**
   * Where a slot is now, as `locate` says, and where its message can be read: where it was before, when it is only being
   * moved.
   */
  locateToRead(segment: Segment, slot: number): { readonly now: SlotPlace; readonly read: SlotPlace } {
    let read: SlotPlace = { segment, slot };
    for (let now = read; ; ) {
      const place = now.segment.translation?.find(now.slot);
      if (place?.record.segment === undefined) return { now, read };
      now = { segment: place.record.segment, slot: place.record.firstSlot + place.slot };
      if (place.record.written) read = now;
    }
  }

  /** The place of a slot of a record that has been encoded. */
  locateIn(record: LogRecord, slot: number): SlotPlace {
    assert(record.segment !== undefined, 'a record that is referred to has been encoded');
    return this.locate(record.segment, record.firstSlot + slot);
  }

  /** Takes in what the batch changes of what was there before it. */
  apply(batch: Batch): StateChange {
    this.#batch = batch.number;
    for (const change of batch.definitions) this.definitions.apply(change);
    const touched: Segment[] = [];
    const amended = this.#applyAmended(batch);
    this.#applySettled(batch, touched);
    if (batch.moved.length > 0) this.#applyMoved(batch, touched);
    const settled = touched.map(takeSettling);
    return { settled, amended, delivered: this.#applyDelivered(batch), emptied: this.#applyEmptied(touched) };
  }

  /**
   * Takes the batch after `batch` into it, which has been taken into the state and could not be written: both become one
   * record. What ends or changes of `batch` itself is as if it had never been; `change`, what `batch` had changed, grows.
   * Nothing is moved: the cleaner tries again when there is room.
   */
  absorb(batch: Batch, change: StateChange, later: Batch): StateChange {
    batch.absorb(later);
    later.moved = [];
    this.#unwritten = batch;
    const more = this.apply(later);
    this.#unwritten = undefined;
    return {
      settled: [...change.settled, ...more.settled],
      amended: [...change.amended, ...more.amended],
      delivered: [...change.delivered, ...more.delivered],
      emptied: [...change.emptied, ...more.emptied],
    };
  }

  /** Which of the custodies of the batch that could not be written yet it is; undefined: none of them. */
  #unwrittenAt(segment: Segment, slot: number): number | undefined {
    const record = this.#unwritten?.record;
    return record?.segment === segment && slot >= record.firstSlot ? slot - record.firstSlot : undefined;
  }

  /** Also of what a later batch will settle: that one may never be stored. */
  #applyAmended({ amended, amendedRecords, amendedSlots }: Batch): Amended[] {
    const changes: Amended[] = [];
    for (let index = 0; index < amended.length; index++) {
      const custody = amended[index] as Batch['amended'][number];
      const record = amendedRecords[index] as LogRecord;
      const { segment, slot } = this.locateIn(record, amendedSlots[index] as number);
      const heldUntilMs = Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.floor(custody.heldUntilMs)));
      const amendment = { returnCount: custody.returnCount, heldUntilMs };
      const unwritten = this.#unwrittenAt(segment, slot);
      if (unwritten !== undefined) {
        this.#unwritten?.amend(unwritten, custody);
        continue;
      }
      segment.amend(slot, amendment);
      changes.push({ segment, slot, amendment });
    }
    return changes;
  }

  #applySettled({ settledRecords, settledSlots, settledCounts, settledPages }: Batch, touched: Segment[]): void {
    for (let index = 0; index < settledSlots.length; index++) {
      const { segment, firstSlot } = settledRecords[index] as LogRecord;
      assert(segment !== undefined, 'what is settled has been encoded');
      const from = firstSlot + (settledSlots[index] as number);
      const end = from + (settledCounts[index] as number);
      for (let slot = from; slot < end; slot++) this.#end(segment, slot, touched);
    }
    for (const page of settledPages) {
      page.eachSlot(({ segment, firstSlot }, slot) => {
        // Otherwise it has ended in the batch in which it began.
        if (segment !== undefined) this.#end(segment, firstSlot + slot, touched);
      });
    }
  }

  #end(segment: Segment, slot: number, touched: Segment[]): void {
    if (segment.translation !== undefined) ({ segment, slot } = this.locate(segment, slot));
    segment.amendments?.delete(slot);
    this.#settle(segment, slot, touched);
  }

  #settle(segment: Segment, slot: number, touched: Segment[]): void {
    const unwritten = this.#unwrittenAt(segment, slot);
    if (unwritten !== undefined) {
      this.#unwritten?.cancel(unwritten);
      return;
    }
    if (!segment.slots.settle(slot)) return;
    if (segment.settling.length === 0) touched.push(segment);
    segment.settling.push(slot);
  }

  /** Leaves those moves in the batch whose custodies are still live; the places they leave are settled. */
  #applyMoved(batch: Batch, touched: Segment[]): void {
    const kept = batch.moved.filter(({ from, fromSlot }) => from.slots.isLive(fromSlot));
    batch.moved = kept;
    const first = batch.custodies.length;
    for (let start = 0; start < kept.length; ) {
      const { from } = kept[start] as Batch['moved'][number];
      let end = start;
      while (kept[end]?.from === from) end++;
      const run = kept.slice(start, end);
      const slots = Uint32Array.from(run, ({ fromSlot }) => fromSlot);
      for (const { custody, fromSlot } of run) {
        // Kept there too: until the new place is written, the message is read from the old one.
        Object.assign(custody, from.amendments?.get(fromSlot));
        this.#settle(from, fromSlot, touched);
      }
      from.moved(
        slots,
        batch.record,
        Uint32Array.from(slots, (_, index) => first + start + index),
      );
      this.#movedFrom.add(from);
      start = end;
    }
  }

  #applyDelivered({ delivered }: Batch): StoredHolder[] {
    const changed: StoredHolder[] = [];
    for (const holder of delivered) {
      holder.dirty = false;
      if (holder.isEmptyAfter(this.#batch)) this.holders.delete(holder.id);
      else {
        this.holders.set(holder.id, holder);
        changed.push(holder);
      }
    }
    return changed;
  }

  #applyEmptied(touched: readonly Segment[]): Segment[] {
    const emptied: Segment[] = [];
    for (const segment of touched) {
      if (segment !== this.current && this.dropIfEmpty(segment)) emptied.push(segment);
    }
    return emptied;
  }

  /** Forgets a segment that holds nothing; false when it does. Its file is to be removed when that is on disk. */
  dropIfEmpty(segment: Segment): boolean {
    if (segment.slots.live > 0 || segment.damaged) return false;
    return this.segments.delete(segment.id);
  }

  /** Writes down the whole state: what a segment begins with. */
  encodeAll(out: RecordBuffer): void {
    const older = [...this.segments.values()].filter((segment) => segment !== this.current);
    encodeCheckpoint(out, this.lastHolder, older);
    this.storedLastHolder = this.lastHolder;
    for (const change of this.definitions.all()) encodeDefinition(out, change);
    for (const holder of this.holders.values()) {
      if (holder.isEmptyAfter(this.#batch)) this.holders.delete(holder.id);
      else encodeDelivered(out, holder);
    }
    for (const segment of older) encodeSlots(out, segment, this.#scratch);
  }

  /** Writes down what a batch has changed. */
  encodeChange(out: RecordBuffer, batch: Batch, change: StateChange): void {
    if (this.lastHolder !== this.storedLastHolder) {
      encodeHolders(out, this.lastHolder);
      this.storedLastHolder = this.lastHolder;
    }
    for (const definition of batch.definitions) encodeDefinition(out, definition);
    for (const { segment, slot, amendment } of change.amended) encodeAmended(out, segment.id, slot, amendment);
    for (const { segment, slots } of change.settled) encodeSettled(out, segment.id, slots);
    for (const holder of change.delivered) encodeDelivered(out, holder);
  }

  /** The messages of `segment` have all been moved: what points to it points to where they are from now on. */
  shortenTranslations(segment: Segment): void {
    for (const from of this.#movedFrom) {
      const { translation } = from;
      if (from === segment || translation === undefined) continue;
      translation.renew((place) => this.#renewed(place));
      if (!translation.isEmpty) continue;
      from.translation = undefined;
      this.#movedFrom.delete(from);
    }
  }

  #renewed(place: Place): Place | undefined {
    for (;;) {
      const { segment, firstSlot } = place.record;
      if (segment === undefined) return place;
      const next = segment.translation?.find(firstSlot + place.slot);
      if (next === undefined) return segment.slots.isLive(firstSlot + place.slot) ? place : undefined;
      place = next;
    }
  }

  /** Octets of all segments, and about how many of them messages that are live take. */
  usage(): { readonly bytes: number; readonly liveBytes: number } {
    let bytes = 0;
    let liveBytes = 0;
    for (const segment of this.segments.values()) {
      bytes += segment.bytes;
      liveBytes += segment.slots.liveBytes;
    }
    return { bytes, liveBytes };
  }
}

/** What has been settled of the segment, which begins anew. */
function takeSettling(segment: Segment): Settled {
  const { settling } = segment;
  segment.settling = [];
  // Acks come mostly in order.
  for (let index = 1; index < settling.length; index++) {
    if ((settling[index] as number) < (settling[index - 1] as number)) {
      settling.sort((a, b) => a - b);
      break;
    }
  }
  return { segment, slots: settling };
}
