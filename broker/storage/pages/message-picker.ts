/** Takes out of records that have been read the messages that somebody wants, and leaves the rest. */
import { AMQP_PROPERTIES } from '../../encoding/properties.ts';
import { Message } from '../../message.ts';
import type { Restored } from '../../store.ts';
import type { LogRecord } from '../log/log-record.ts';
import type { Amendment, Segment } from '../log/segment.ts';
import { MessageCursor } from '../record/message-operations.ts';
import { eachRecord, type ReadRecords } from './block-reader.ts';
import type { StoredPage } from './stored-page.ts';

/** Messages that are less than one part in so many of what was read are copied out of it. */
const COPY_SHARE_MIN = 4;

/** Pages that are read at a time, and one; a slot and a page are one number. */
const PAGES_END = 2 ** 20;

/** A page that is being read. */
export interface PageRequest {
  readonly page: StoredPage;
  /** What has been found of it, in no order. */
  readonly found: Restored[];
}

/** A message on its way back. */
export type Picked = { -readonly [key in keyof Restored]: Restored[key] };

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
   * Gives each page its messages of the records read, from the slot at `from` on. Calls `onDamage` with the offset of each
   * record that is not intact.
   */
  pick(read: ReadRecords, end: number, from: number, onDamage: (offset: number) => void): void {
    const picked: Picked[] = [];
    const pickedFor: PageRequest[] = [];
    let next = from;
    let bytes = 0;
    const { octets } = read;
    const onRecord = (header: Parameters<Parameters<typeof eachRecord>[3]>[0], payloadStart: number): void => {
      const { stateBytes, payloadBytes, firstSlot, slotCount } = header;
      while (next < this.count && this.slotAt(next) < firstSlot) next++;
      if (next === this.count || this.slotAt(next) >= firstSlot + slotCount) return;
      const cursor = new MessageCursor(octets, payloadStart + stateBytes, payloadStart + payloadBytes, firstSlot);
      let wanted = this.slotAt(next);
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
        if (picked.length === first) continue;
        const message = messageAt(cursor);
        for (let index = first; index < picked.length; index++) (picked[index] as Picked).message = message;
        bytes += cursor.propertyBytes + cursor.bodyBytes;
      }
    };
    eachRecord(this.segment, read, end, onRecord, onDamage);
    if (bytes * COPY_SHARE_MIN < octets.length) copyOut(picked, bytes);
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

/** Stands for the message until its octets have been come to. */
export const NO_MESSAGE = new Message('', '', new Uint8Array(0), 0, 0, 0, 0, AMQP_PROPERTIES, 0);

/** The message that the cursor is at, as a window on what was read. */
export function messageAt(cursor: MessageCursor): Message {
  const { octets, contentStart, propertyBytes, bodyBytes, exchange, routingKey, traits } = cursor;
  const body = contentStart + propertyBytes;
  const end = body + bodyBytes;
  return new Message(exchange, routingKey, octets, contentStart, body, body, end, AMQP_PROPERTIES, traits);
}

/** Replaces the messages by copies that share one buffer; what they were read into can go. */
export function copyOut(picked: readonly Picked[], bytes: number): void {
  const room = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  let before: Message | undefined;
  let copy: Message | undefined;
  for (const each of picked) {
    if (each.message !== before) {
      before = each.message;
      copy = copyTo(room, at, before);
      at += before.bodyEnd - before.propertiesStart;
    }
    if (copy !== undefined) each.message = copy;
  }
}

/** The same message with its octets in `room` from `at` on. */
function copyTo(room: Buffer, at: number, message: Message): Message {
  const { content, propertiesStart, bodyStart, bodyEnd, exchange, routingKey, traits } = message;
  room.set(content.subarray(propertiesStart, bodyEnd), at);
  const body = at + bodyStart - propertiesStart;
  const end = at + bodyEnd - propertiesStart;
  return new Message(exchange, routingKey, room, at, body, body, end, AMQP_PROPERTIES, traits);
}
