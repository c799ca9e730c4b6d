/**
 * One file of the log as the store knows it: its custodies by slot, what has changed of them since they were written, and
 * where in the file to look for a slot. The contents of messages are only in the file.
 */

import type { RecordOwner } from '../record/record.ts';
import { LogRecord } from './log-record.ts';
import { SlotTable } from './slot-table.ts';
import { lastNotAbove, Translation } from './translation.ts';

/** Octets of records after which a place in the file is remembered; so much is read to find one message. */
export const BLOCK_BYTES = 64 * 1024;

/** What has become of a custody since its message was written. */
export interface Amendment {
  readonly returnCount: number;
  readonly heldUntilMs: number;
}

/** Whole records of a file, in a row. */
export interface Block {
  readonly start: number;
  readonly end: number;
  /** The last slot of the block, and one. */
  readonly slotEnd: number;
}

export class Segment implements RecordOwner {
  readonly id: number;
  readonly seal: bigint;
  /** Octets of records that are on disk. */
  bytes = 0;
  readonly slots = new SlotTable();
  /** For what is known by its slot in the segment only. */
  readonly record = LogRecord.of(this);
  /** Part of it cannot be read: it is neither cleaned nor removed. */
  damaged = false;
  /** Reads under way; the file is not removed before they end. */
  readers = 0;
  /** Slots settled by the batch that is being taken in. */
  settling: number[] = [];
  amendments: Map<number, Amendment> | undefined;
  translation: Translation | undefined;
  #blockSlots: number[] = [];
  #blockStarts: number[] = [];

  constructor(id: number, seal: bigint) {
    this.id = id;
    this.seal = seal;
  }

  /** A record with custodies begins at `offset`; its first slot. To be told of in the order of the file. */
  indexRecord(offset: number, firstSlot: number): void {
    const last = this.#blockStarts.length - 1;
    if (last >= 0 && offset - (this.#blockStarts[last] as number) < BLOCK_BYTES) return;
    if (last >= 0 && this.#blockSlots[last] === firstSlot) return;
    this.#blockSlots.push(firstSlot);
    this.#blockStarts.push(offset);
  }

  /** The block in which a slot is written. */
  blockOf(slot: number): Block {
    const index = Math.max(0, lastNotAbove(this.#blockSlots, slot));
    return {
      start: this.#blockStarts[index] ?? 0,
      end: this.#blockStarts[index + 1] ?? this.bytes,
      slotEnd: this.#blockSlots[index + 1] ?? this.slots.count,
    };
  }

  amend(slot: number, amendment: Amendment): void {
    this.amendments ??= new Map();
    this.amendments.set(slot, amendment);
  }

  /** The slots `slots` (rising) are `targets` of `record` from now on. */
  moved(slots: Uint32Array, record: LogRecord, targets: Uint32Array): void {
    this.translation ??= new Translation();
    this.translation.add(slots, record, targets);
  }

  /** The file is gone: only the translation is still of use. */
  release(): void {
    this.slots.release();
    this.amendments = undefined;
    this.#blockSlots = [];
    this.#blockStarts = [];
  }
}
