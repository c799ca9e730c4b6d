/**
 * Messages of a batch that nobody keeps in memory: those that join the end of a backlog. They are encoded as soon as the
 * store is told of them, one after the other, as the record will have them, so that no object lives until they are written.
 *
 * What ends or changes before that is left out or put right when the record is made; that is rare, and costs encoding all
 * of it again.
 */
import type { Message } from '../../message.ts';
import type { Custody, Holder, Restored } from '../../store.ts';
import { FoundMessages, NO_MESSAGE } from '../pages/found-messages.ts';
import { MessageCursor, MessageEncoder } from '../record/message-operations.ts';
import { RecordBuffer } from '../record/record-buffer.ts';
import { LogRecord, type UnwrittenMessages } from './log-record.ts';
import type { Amendment } from './segment.ts';
import type { SlotTable } from './slot-table.ts';
import { lastNotAbove } from './translation.ts';

/** After so many custodies a place is remembered from which reading can begin. */
const BLOCK_SLOTS = 256;

/** What a message takes in a record besides properties and body, about; octets. */
const MESSAGE_OVERHEAD_BYTES = 16;

export class Stowed implements UnwrittenMessages {
  /** Where they will be. A custody's slot is the number of those that were stowed before it. */
  record = new LogRecord();
  /** Custodies, also those that have ended again. */
  count = 0;
  #buffer = new RecordBuffer();
  #encoder = new MessageEncoder(this.#buffer);
  /** About the octets of the message of each custody that has been encoded, and how many those are. */
  #sizes = new Uint32Array(BLOCK_SLOTS);
  #encodedCount = 0;
  /** The last message, with its custodies: still without octets, for another holder may share it. */
  #message: Message | undefined;
  readonly #custodies: Custody[] = [];
  readonly #survives: boolean[] = [];
  readonly #blockSlots: number[] = [];
  readonly #blockStarts: number[] = [];
  readonly #ended = new Set<number>();
  readonly #amendments = new Map<number, Amendment>();
  /** The octets do not say yet what `#ended` and `#amendments` do. */
  #isChanged = false;

  constructor() {
    this.record.unwritten = this;
  }

  /** Begins anew for another batch, with the room that it has: everything in it is on disk. */
  clear(): void {
    this.record = new LogRecord();
    this.record.unwritten = this;
    this.count = 0;
    this.#buffer.clear();
    this.#encodedCount = 0;
    this.#blockSlots.length = 0;
    this.#blockStarts.length = 0;
    this.#ended.clear();
    this.#amendments.clear();
    this.#isChanged = false;
  }

  /** Custodies that have not ended again. */
  get liveCount(): number {
    return this.count - this.#ended.size;
  }

  /** Whether the message is the one that was stowed last: then it is stored once for both holders. */
  isLast(message: Message): boolean {
    return this.#message === message;
  }

  /** The custody, and whatever its message refers to, is not needed any more when another message has been added. */
  add(custody: Custody, message: Message, survives: boolean): void {
    if (message !== this.#message) {
      this.#flush();
      this.#message = message;
    }
    custody.record = this.record;
    custody.slot = this.count++;
    this.#custodies.push(custody);
    this.#survives.push(survives);
  }

  #flush(): void {
    const message = this.#message;
    if (message === undefined) return;
    const custodies = this.#custodies;
    const count = custodies.length;
    this.#beginBlock(this.#encodedCount);
    this.#reserve(count);
    const bytes = (message.bodyEnd - message.propertiesStart + MESSAGE_OVERHEAD_BYTES) / count;
    this.#encoder.message(message, count);
    for (let index = 0; index < count; index++) {
      const custody = custodies[index] as Custody;
      this.#encoder.custody(custody, this.#survives[index] === true, custody.returnCount, custody.heldUntilMs);
      this.#sizes[this.#encodedCount++] = bytes;
    }
    this.#encoder.content(message);
    this.#message = undefined;
    custodies.length = 0;
    this.#survives.length = 0;
  }

  #reserve(count: number): void {
    const needed = this.#encodedCount + count;
    if (needed <= this.#sizes.length) return;
    const larger = new Uint32Array(Math.max(needed, this.#sizes.length * 2));
    larger.set(this.#sizes);
    this.#sizes = larger;
  }

  #beginBlock(slot: number): void {
    const blocks = this.#blockSlots;
    if (blocks.length > 0 && slot - (blocks[blocks.length - 1] as number) < BLOCK_SLOTS) return;
    this.#encoder.beginAnywhere();
    blocks.push(slot);
    this.#blockStarts.push(this.#buffer.length);
  }

  /** Custody ends. */
  end(slot: number): void {
    this.#ended.add(slot);
    this.#isChanged = true;
  }

  amend(slot: number, { returnCount, heldUntilMs }: Amendment): void {
    this.#amendments.set(slot, { returnCount, heldUntilMs });
    this.#isChanged = true;
  }

  /** Writes everything that has not ended to `out`, and gives each custody the next slot of a segment. */
  encode(out: RecordBuffer, slots: SlotTable): void {
    this.#flush();
    if (this.#isChanged) this.#encodeAgain();
    const octets = this.#octets();
    out.body(octets, 0, octets.length);
    for (let slot = 0; slot < this.count; slot++) {
      if (this.#ended.has(slot)) slots.addSettled(slots.count + 1);
      else slots.add(this.#sizes[slot] as number);
    }
  }

  /** The buffer is too small for bodies to lie elsewhere: see `LARGE_BYTES_MIN`. */
  #octets(): Buffer {
    const [part] = this.#buffer.parts();
    return part === undefined ? Buffer.alloc(0) : Buffer.from(part.octets.buffer, part.octets.byteOffset, part.length);
  }

  #encodeAgain(): void {
    const cursor = new MessageCursor(this.#octets(), 0, this.#buffer.length, 0);
    this.#buffer = new RecordBuffer();
    this.#encoder = new MessageEncoder(this.#buffer);
    this.#blockSlots.length = 0;
    this.#blockStarts.length = 0;
    let next = 0;
    while (cursor.nextMessage()) {
      const custodies: EncodedCustody[] = [];
      while (cursor.nextCustody()) custodies.push(new EncodedCustody(cursor, this.#amendments.get(cursor.slot)));
      const message = cursor.message();
      for (let start = 0; start < custodies.length; ) {
        const first = custodies[start] as EncodedCustody;
        let end = start;
        while (end < custodies.length && !this.#ended.has(first.slot + end - start)) end++;
        if (end === start) {
          start++;
          continue;
        }
        if (first.slot > next) this.#encoder.gap(first.slot - next);
        this.#beginBlock(first.slot);
        this.#encoder.message(message, end - start);
        for (const custody of custodies.slice(start, end)) {
          this.#encoder.custody(custody, custody.survives, custody.returnCount, custody.heldUntilMs);
        }
        this.#encoder.content(message);
        next = first.slot + end - start;
        start = end;
      }
    }
    if (this.count > next) this.#encoder.gap(this.count - next);
    this.#isChanged = false;
  }

  restored(slots: readonly number[], amendments: ReadonlyMap<number, Amendment>): Restored[] {
    this.#flush();
    const messages = new FoundMessages();
    const { picked } = messages;
    const { record } = this;
    const octets = this.#octets();
    const block = Math.max(0, lastNotAbove(this.#blockSlots, slots[0] ?? 0));
    const start = this.#blockStarts[block] ?? 0;
    const cursor = new MessageCursor(octets, start, octets.length, this.#blockSlots[block] ?? 0);
    for (let next = 0; next < slots.length && cursor.nextMessage(); ) {
      const first = picked.length;
      while (cursor.nextCustody()) {
        if (cursor.slot !== slots[next]) continue;
        next++;
        const { slot, position, priority, expiresAtMs } = cursor;
        const { returnCount, heldUntilMs } = amendments.get(slot) ?? this.#amendments.get(slot) ?? cursor;
        picked.push({ message: NO_MESSAGE, position, priority, expiresAtMs, returnCount, heldUntilMs, record, slot });
      }
      if (picked.length > first) messages.message(cursor);
    }
    messages.copyOut(octets);
    return picked;
  }
}

/** A custody as the octets have it. */
class EncodedCustody implements Custody {
  readonly holder: Holder;
  readonly position: number;
  readonly priority: number;
  readonly expiresAtMs: number;
  readonly returnCount: number;
  readonly heldUntilMs: number;
  readonly survives: boolean;
  record: LogRecord | undefined = undefined;
  slot: number;

  /** The one that the cursor is at. */
  constructor(cursor: MessageCursor, amendment: Amendment | undefined) {
    this.holder = { id: cursor.holder, deliveredThrough: 0, dirty: false };
    this.position = cursor.position;
    this.priority = cursor.priority;
    this.expiresAtMs = cursor.expiresAtMs;
    this.returnCount = (amendment ?? cursor).returnCount;
    this.heldUntilMs = (amendment ?? cursor).heldUntilMs;
    this.survives = cursor.survives;
    this.slot = cursor.slot;
  }
}
