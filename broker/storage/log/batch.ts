/**
 * What the store has been told and has not written yet: what one commit will hold. Nothing is encoded here, and nothing of
 * the log's state has changed: a custody that ends in the batch in which it began leaves no trace.
 */
import type { Message } from '../../message.ts';
import type { Custody, SyncWaiter } from '../../store.ts';
import type { StoredPage } from '../pages/stored-page.ts';
import type { DefinitionChange } from './definition-table.ts';
import { LogRecord } from './log-record.ts';
import type { Amendment, Segment } from './segment.ts';
import type { StoredHolder } from './stored-holder.ts';

/** What a message takes in a record besides properties and body, about; octets. */
const MESSAGE_OVERHEAD_BYTES = 32;

/** What a settled custody takes in a record at most, about; octets. */
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

export class Batch {
  /** Grows with every batch; of one that has taken in later ones, that of the last. */
  number: number;
  /** Where what begins here will be. A custody's slot is its index in `custodies`. */
  readonly record = new LogRecord();
  readonly custodies: (Custody | undefined)[] = [];
  readonly messages: (Message | undefined)[] = [];
  readonly survives: boolean[] = [];
  /** Custodies that have not ended again. */
  liveCount = 0;
  readonly settledRecords: LogRecord[] = [];
  readonly settledSlots: number[] = [];
  readonly settledPages: StoredPage[] = [];
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
  /** A checkpoint is to be written even if nothing else is. */
  hasCheckpoint = false;

  constructor(number: number) {
    this.number = number;
  }

  /** Nothing to write. */
  get isEmpty(): boolean {
    return (
      this.liveCount === 0 &&
      this.settledSlots.length === 0 &&
      this.settledPages.length === 0 &&
      this.amended.length === 0 &&
      this.delivered.length === 0 &&
      this.definitions.length === 0 &&
      this.moved.length === 0 &&
      !this.hasCheckpoint
    );
  }

  admit(custody: Custody, message: Message, survives: boolean): void {
    custody.record = this.record;
    custody.slot = this.custodies.length;
    this.custodies.push(custody);
    this.messages.push(message);
    this.survives.push(survives);
    this.liveCount++;
    this.bytes += message.bodyEnd - message.propertiesStart + MESSAGE_OVERHEAD_BYTES;
  }

  /** A custody that began in this batch ends. */
  cancel(slot: number): void {
    if (this.custodies[slot] === undefined) return;
    this.custodies[slot] = undefined;
    this.messages[slot] = undefined;
    this.liveCount--;
  }

  /** A custody of this batch, which could not be written yet, has changed: `custody` is how the broker has it. */
  amendUnwritten(slot: number, custody: Custody, amendment: Amendment): void {
    const own = this.custodies[slot];
    // What the cleaner moves is a copy.
    if (own !== undefined && own !== custody) Object.assign(own, amendment);
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
    later.record.segment = record.segment;
    later.record.firstSlot = record.firstSlot + firstSlot;
    for (let index = 0; index < later.custodies.length; index++) {
      this.#append(later.custodies[index], later.messages[index], later.survives[index] === true);
    }
    for (const definition of later.definitions) this.definitions.push(definition);
    for (const waiter of later.waiters) this.waiters.push(waiter);
    this.number = later.number;
    this.bytes += later.bytes;
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
  }

  /** It is on disk. */
  written(): void {
    this.record.written = true;
    for (const { record } of this.absorbed) record.written = true;
  }

  /** A custody that began in an earlier batch, or an earlier process, has changed. */
  amend(custody: Custody, record: LogRecord): void {
    this.amended.push(custody);
    this.amendedRecords.push(record);
    this.amendedSlots.push(custody.slot);
  }

  /** A custody that began in an earlier batch, or an earlier process, ends. */
  settle(record: LogRecord, slot: number): void {
    this.settledRecords.push(record);
    this.settledSlots.push(slot);
    this.bytes += SETTLED_BYTES;
  }
}
