/**
 * What the store has been told and has not written yet: what one commit will hold. Nothing is encoded here but what is
 * stowed, and nothing of the log's state has changed: a custody that ends in the batch in which it began leaves no trace.
 */
import { assert } from '../../assert.ts';
import type { Message } from '../../message.ts';
import type { Custody, Restored, SyncWaiter } from '../../store.ts';
import type { StoredPage } from '../pages/stored-page.ts';
import type { DefinitionChange } from './definition-table.ts';
import { LogRecord, type UnwrittenMessages } from './log-record.ts';
import type { Amendment, Segment } from './segment.ts';
import type { StoredHolder } from './stored-holder.ts';
import type { Stowed } from './stowed.ts';

/** What a message takes in a record besides properties and body, about; octets. */
const MESSAGE_OVERHEAD_BYTES = 32;

/** What a custody and its message take in memory besides properties and body until they are written, about; octets. */
const OBJECT_BYTES = 512;

/** What a run of settled custodies takes in a record at most, about; octets. */
const SETTLED_BYTES = 4;

/** A custody as it was written, to be written again. */
export interface MovedCustody extends Custody {
  returnCount: number;
  heldUntilMs: number;
}

/** What the cleaner moves: written again with the batch if it is still live then. */
export interface Moved {
  readonly custody: MovedCustody;
  readonly message: Message;
  readonly survives: boolean;
  readonly from: Segment;
  readonly fromSlot: number;
}

export class Batch implements UnwrittenMessages {
  /** Grows with every batch; of one that has taken in later ones, that of the last. */
  number: number;
  /** Where what begins here will be. A custody's slot is its index in `custodies`. */
  readonly record = new LogRecord();
  readonly custodies: (Custody | undefined)[] = [];
  readonly messages: (Message | undefined)[] = [];
  readonly survives: boolean[] = [];
  /** Of `custodies`, those that have not ended again. */
  liveCount = 0;
  /** What nobody keeps in memory: of this batch, and of those that have been taken in. */
  readonly stowed: Stowed[] = [];
  #stowed: Stowed | undefined;
  /** Custodies of earlier batches that end: of a record, so many slots in a row from one on. */
  readonly settledRecords: LogRecord[] = [];
  readonly settledSlots: number[] = [];
  readonly settledCounts: number[] = [];
  readonly settledPages: StoredPage[] = [];
  /** Pages that may hold what is written with this batch, or before. */
  readonly newPages: StoredPage[] = [];
  readonly amended: Custody[] = [];
  readonly amendedRecords: LogRecord[] = [];
  readonly amendedSlots: number[] = [];
  readonly delivered: StoredHolder[] = [];
  readonly definitions: DefinitionChange[] = [];
  /** In the order of slots of the segment they come from. */
  moved: readonly Moved[] = [];
  /** Of batches that have been taken in. Their custodies refer to these. */
  readonly absorbed: { readonly record: LogRecord; readonly firstSlot: number }[] = [];
  readonly waiters: SyncWaiter[] = [];
  /** About what it takes in the log; octets. */
  bytes = 0;
  /** About what it takes in memory until it is written; octets. */
  memoryBytes = 0;
  /** A checkpoint is to be written even if nothing else is. */
  hasCheckpoint = false;

  constructor(number: number) {
    this.number = number;
    this.record.unwritten = this;
  }

  /** Custodies that begin with it and have not ended again, but for those that are moved. */
  get begunCount(): number {
    return this.stowed.reduce((count, { liveCount }) => count + liveCount, this.liveCount);
  }

  /** Custodies of earlier batches that end, but for those of whole pages. */
  get settledCount(): number {
    return this.settledCounts.reduce((sum, count) => sum + count, 0);
  }

  /** Nothing to write. */
  get isEmpty(): boolean {
    return (
      this.begunCount === 0 &&
      this.settledSlots.length === 0 &&
      this.settledPages.length === 0 &&
      this.amended.length === 0 &&
      this.delivered.length === 0 &&
      this.definitions.length === 0 &&
      this.moved.length === 0 &&
      !this.hasCheckpoint
    );
  }

  /** One message for several holders in a row is written once, whether it is stowed for some of them or not. */
  admit(custody: Custody, message: Message, survives: boolean): void {
    if (this.#stowed?.isLast(message) === true) {
      this.#stowed.add(custody, message, survives);
      return;
    }
    custody.record = this.record;
    custody.slot = this.custodies.length;
    this.custodies.push(custody);
    this.messages.push(message);
    this.survives.push(survives);
    this.liveCount++;
    const bytes = message.bodyEnd - message.propertiesStart;
    this.bytes += bytes + MESSAGE_OVERHEAD_BYTES;
    this.memoryBytes += bytes + OBJECT_BYTES;
  }

  /** Custody begins of a message that is not kept in memory. `empty` makes room for the first one. */
  stow(custody: Custody, message: Message, survives: boolean, empty: () => Stowed): void {
    if (this.messages.length > 0 && this.messages[this.messages.length - 1] === message) {
      this.admit(custody, message, survives);
      return;
    }
    if (this.#stowed === undefined) {
      this.#stowed = empty();
      this.stowed.push(this.#stowed);
    }
    this.#stowed.add(custody, message, survives);
    const bytes = message.bodyEnd - message.propertiesStart + MESSAGE_OVERHEAD_BYTES;
    this.bytes += bytes;
    this.memoryBytes += bytes;
  }

  /** A custody ends; false when it did not begin in this batch. */
  end(record: LogRecord, slot: number): boolean {
    if (record === this.record) this.cancel(slot);
    else if (record === this.#stowed?.record) this.#stowed.end(slot);
    else return false;
    return true;
  }

  /** The custody with this place in the record ends, of one that has been encoded also a stowed one. */
  cancel(slot: number): void {
    if (slot >= this.custodies.length) this.#withStowed(slot, (stowed, stowedSlot) => stowed.end(stowedSlot));
    if (this.custodies[slot] === undefined) return;
    this.custodies[slot] = undefined;
    this.messages[slot] = undefined;
    this.liveCount--;
  }

  /** It is read when the batch is encoded; of one that could not be written yet also a stowed one. */
  amend(slot: number, custody: Custody): void {
    if (slot >= this.custodies.length)
      this.#withStowed(slot, (stowed, stowedSlot) => stowed.amend(stowedSlot, custody));
    // Instead of what was read from a page, or of a copy that is being moved.
    if (this.custodies[slot] !== undefined) this.custodies[slot] = custody;
  }

  #withStowed(slot: number, call: (stowed: Stowed, slot: number) => void): void {
    let first = this.custodies.length + this.moved.length;
    for (const stowed of this.stowed) {
      if (slot >= first && slot < first + stowed.count) call(stowed, slot - first);
      first += stowed.count;
    }
  }

  restored(slots: readonly number[], amendments: ReadonlyMap<number, Amendment>): Restored[] {
    const { record } = this;
    return slots.map((slot) => {
      const custody = this.custodies[slot];
      const message = this.messages[slot];
      assert(custody !== undefined && message !== undefined, 'what is read has not ended');
      const { position, priority, expiresAtMs } = custody;
      const { returnCount, heldUntilMs } = amendments.get(slot) ?? custody;
      return { message, position, priority, expiresAtMs, returnCount, heldUntilMs, record, slot };
    });
  }

  /**
   * Takes in what the batch after this one holds, but for what that moves and for what it says of earlier custodies: that
   * is `LogState.absorb`'s.
   */
  absorb(later: Batch): void {
    // Their places in the record are those that moved ones have anyhow: behind the others.
    for (const { custody, message, survives } of this.moved) this.#append(custody, message, survives);
    this.moved = [];
    const { record } = this;
    const firstSlot = this.custodies.length;
    this.absorbed.push({ record: later.record, firstSlot });
    for (let index = 0; index < later.custodies.length; index++) {
      this.#append(later.custodies[index], later.messages[index], later.survives[index] === true);
    }
    for (const definition of later.definitions) this.definitions.push(definition);
    for (const waiter of later.waiters) this.waiters.push(waiter);
    for (const page of later.newPages) this.newPages.push(page);
    for (const stowed of later.stowed) this.stowed.push(stowed);
    this.number = later.number;
    this.bytes += later.bytes;
    this.memoryBytes += later.memoryBytes;
    // What is stowed lies behind the rest, which has become more.
    if (record.segment !== undefined) this.place(record.segment, record.firstSlot);
  }

  #append(custody: Custody | undefined, message: Message | undefined, survives: boolean): void {
    this.custodies.push(custody);
    this.messages.push(message);
    this.survives.push(survives);
    if (custody !== undefined) this.liveCount++;
  }

  /** The batch is the record of `segment` whose first slot is `firstSlot`, unless it cannot be written there. */
  place(segment: Segment, firstSlot: number): void {
    this.record.segment = segment;
    this.record.firstSlot = firstSlot;
    for (const each of this.absorbed) {
      each.record.segment = segment;
      each.record.firstSlot = firstSlot + each.firstSlot;
    }
    let next = firstSlot + this.custodies.length + this.moved.length;
    for (const { record, count } of this.stowed) {
      record.segment = segment;
      record.firstSlot = next;
      next += count;
    }
  }

  /** It is on disk. */
  written(): void {
    this.record.markWritten();
    for (const { record } of this.absorbed) record.markWritten();
    for (const { record } of this.stowed) record.markWritten();
  }

  /** A custody that began in an earlier batch, or an earlier process, has changed. */
  amendEarlier(custody: Custody, record: LogRecord): void {
    this.amended.push(custody);
    this.amendedRecords.push(record);
    this.amendedSlots.push(custody.slot);
  }

  /** A custody that began in an earlier batch, or an earlier process, ends. */
  settle(record: LogRecord, slot: number): void {
    const last = this.settledRecords.length - 1;
    const count = this.settledCounts[last];
    // Acks come mostly in order.
    if (count !== undefined && this.settledRecords[last] === record && this.settledSlots[last] === slot - count) {
      this.settledCounts[last] = count + 1;
      return;
    }
    this.settledRecords.push(record);
    this.settledSlots.push(slot);
    this.settledCounts.push(1);
    this.bytes += SETTLED_BYTES;
  }
}
