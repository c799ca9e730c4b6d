/**
 * Receipts on their way out. The RECEIPT of a SEND waits for the broker's confirm, which may come later, out of order,
 * or for many at once; that of every other frame is written when the frame has been carried out. A RECEIPT says of all
 * frames before its own only that they were received [STOMP 1.2 RECEIPT], so none waits for another.
 */
import type { Outbox } from '../outbox.ts';
import { escapeText, linesFor, type Version } from './escapes.ts';
import { LF, NUL } from './octets.ts';

const HEAD = Buffer.from('RECEIPT\nreceipt-id:');
/** Two line feeds and the NUL. */
const TAIL_BYTES = 3;
/** Longer ids, and those with letters beyond ASCII, are encoded instead of copied. */
const PACKED_ID_MAX = 256;
/** Settled ones are dropped from the front of the list when so many have gathered. */
const SETTLED_MAX = 1024;

/** What becomes of receipts that are settled. */
export interface ReceiptEvents {
  onAccepted(receipt: string): void;
  onRefused(receipt: string): void;
  /** Nothing is expected any more. */
  onSettled(): void;
}

/** The receipts of one channel's publishes that await their confirm. */
export class PendingReceipts {
  readonly #events: ReceiptEvents;
  /** Sequence numbers in rising order, and beside each its receipt until it is settled. */
  #sequences: number[] = [];
  #receipts: (string | undefined)[] = [];
  #first = 0;

  constructor(events: ReceiptEvents) {
    this.#events = events;
  }

  get size(): number {
    return this.#sequences.length - this.#first;
  }

  /** Publish number `sequence`, the highest so far, is to be answered with `receipt`. */
  expect(sequence: number, receipt: string): void {
    this.#sequences.push(sequence);
    this.#receipts.push(receipt);
  }

  /** The publish last announced was refused before it got its number. */
  retract(): void {
    this.#sequences.pop();
    this.#receipts.pop();
  }

  /** A confirm: of `sequence`, or with `multiple` of all up to it. Those that nobody asked about are passed over. */
  settle(sequence: number, multiple: boolean, accepted: boolean): void {
    if (this.size === 0) return;
    if (multiple) {
      while (this.#first < this.#sequences.length && (this.#sequences[this.#first] as number) <= sequence) {
        this.#settleAt(this.#first, accepted);
        this.#first += 1;
      }
    } else if (this.#sequences[this.#first] === sequence) {
      this.#settleAt(this.#first, accepted);
      this.#first += 1;
    } else {
      const index = this.#indexOf(sequence);
      if (index < 0) return;
      this.#settleAt(index, accepted);
    }
    this.#dropSettled();
    if (this.size === 0) this.#events.onSettled();
  }

  #settleAt(index: number, accepted: boolean): void {
    const receipt = this.#receipts[index];
    this.#receipts[index] = undefined;
    if (receipt === undefined) return;
    if (accepted) this.#events.onAccepted(receipt);
    else this.#events.onRefused(receipt);
  }

  #indexOf(sequence: number): number {
    let low = this.#first;
    let high = this.#sequences.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const found = this.#sequences[middle] as number;
      if (found === sequence) return middle;
      if (found < sequence) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  #dropSettled(): void {
    while (this.#first < this.#receipts.length && this.#receipts[this.#first] === undefined) this.#first += 1;
    if (this.#first === this.#sequences.length) {
      this.#sequences.length = 0;
      this.#receipts.length = 0;
      this.#first = 0;
    } else if (this.#first >= SETTLED_MAX) {
      this.#sequences = this.#sequences.slice(this.#first);
      this.#receipts = this.#receipts.slice(this.#first);
      this.#first = 0;
    }
  }
}

/** Writes a RECEIPT without further headers, which is nearly every one. */
export function writeReceipt(outbox: Outbox, receipt: string, version: Version): void {
  const { length } = receipt;
  if (length > PACKED_ID_MAX) {
    writeLongReceipt(outbox, receipt, version);
    return;
  }
  const start = outbox.reserve(HEAD.length + length + TAIL_BYTES);
  const { octets } = outbox;
  for (let index = 0; index < HEAD.length; index += 1) octets[start + index] = HEAD[index] as number;
  let at = start + HEAD.length;
  for (let index = 0; index < length; index += 1) {
    const code = receipt.charCodeAt(index);
    // Escapes, and all beyond ASCII. Nothing counts as written yet.
    if (code < 0x20 || code > 0x7e || code === 0x3a || code === 0x5c) {
      writeLongReceipt(outbox, receipt, version);
      return;
    }
    octets[at] = code;
    at += 1;
  }
  octets[at] = LF;
  octets[at + 1] = LF;
  octets[at + 2] = NUL;
  outbox.end = at + TAIL_BYTES;
}

function writeLongReceipt(outbox: Outbox, receipt: string, version: Version): void {
  outbox.write(Buffer.from(`RECEIPT\n${linesFor(`receipt-id:${escapeText(receipt)}\n`, version)}\n\0`));
}
