/**
 * What can still be made out in a record that is damaged. None of it is used but to tell a person what was there: which
 * queues had messages in it, say. A single flipped bit is mostly in a body, and all else can still be read.
 */
import type { DefinitionChange } from '../log/definition-table.ts';
import { MessageCursor } from '../record/message-operations.ts';
import { decodeState, type StateSink } from '../record/operations.ts';
import { HEADER_BYTES, type RecordHeader, readUncheckedHeader } from '../record/record.ts';
import { RecordCursor } from '../record/record-cursor.ts';

export class Wreck implements StateSink {
  /** Messages with their queues: slots, and the holder of each. */
  readonly slots: number[] = [];
  readonly holders: number[] = [];
  /** Acks. */
  readonly settled: { readonly segment: number; readonly slot: number; readonly count: number }[] = [];
  readonly definitions: DefinitionChange[] = [];

  /**
   * Reads `octets`, which begin with what was a header. Without `header` that is not intact, and the first slot is taken
   * to be `firstSlot`.
   */
  constructor(octets: Buffer, header: RecordHeader | undefined, firstSlot: number) {
    const { payloadBytes, stateBytes, slotCount, ...rest } = header ?? readUncheckedHeader(octets);
    const first = header === undefined ? firstSlot : rest.firstSlot;
    const end = Math.min(octets.length, HEADER_BYTES + payloadBytes);
    const messages = HEADER_BYTES + stateBytes;
    attempt(() => decodeState(new RecordCursor(octets, HEADER_BYTES, Math.min(end, messages)), this));
    attempt(() => this.#readMessages(new MessageCursor(octets, messages, end, first), first + slotCount));
  }

  #readMessages(cursor: MessageCursor, slotEnd: number): void {
    while (cursor.nextMessage()) {
      while (cursor.nextCustody()) {
        if (cursor.slot >= slotEnd) return;
        this.slots.push(cursor.slot);
        this.holders.push(cursor.holder);
      }
    }
  }

  onDefinition(change: DefinitionChange): void {
    this.definitions.push(change);
  }

  onSettled(segment: number, slot: number, count: number): void {
    this.settled.push({ segment, slot, count });
  }

  onSlots(_segment: number, cursor: RecordCursor): void {
    // The rest of a checkpoint: of no use here.
    cursor.at = cursor.end;
  }

  onCheckpoint(): void {}
  onHolders(): void {}
  onAmended(): void {}
  onDelivered(): void {}
}

/** Goes as far as it makes sense. */
function attempt(read: () => void): void {
  try {
    read();
  } catch {
    // What comes behind cannot be told.
  }
}
