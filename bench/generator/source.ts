/**
 * Where a publisher's octets come from: messages of equal length, encoded back to back in a ring before the clock runs,
 * of which a publisher takes contiguous runs.
 */
import { publishFrames } from './frames.ts';

/** Octets that a publisher hands to the kernel at once, at most. */
const BATCH_BYTES = 64 * 1024;
const ZERO = 0x30;
const NINE = 0x39;

/** Placeholder for the counter in a routing key that must never come twice: nine digits. */
export const COUNTER = '000000000';

export class MessageRing {
  /** Octets of one publish. */
  readonly messageBytes: number;
  /** Messages that `take` returns at most. */
  readonly batch: number;
  readonly #ring: Buffer;
  readonly #slots: number;
  readonly #keys: KeyCounter | undefined;
  #cursor = 0;

  /** `messages`: each the frames of one publish, all of the same length. Throws when they are not. */
  constructor(messages: readonly Buffer[], options: RingOptions = {}) {
    const messageBytes = messages[0]?.length ?? 0;
    if (messages.some((message) => message.length !== messageBytes)) throw new Error('messages of unequal length');
    this.messageBytes = messageBytes;
    this.batch = Math.max(1, Math.floor(BATCH_BYTES / messageBytes));
    const cycles = Math.ceil(Math.max(this.batch, options.freshKeys?.slotsMin ?? 1) / messages.length);
    this.#ring = Buffer.concat(Array.from({ length: cycles }, () => Buffer.concat(messages)));
    this.#slots = cycles * messages.length;
    this.#keys = options.freshKeys === undefined ? undefined : new KeyCounter(messages);
  }

  /** The next messages, 1 to `max` of them. The octets stay the ring's; they change only with `freshKeys`. */
  take(max: number): Buffer {
    const first = this.#cursor;
    const end = Math.min(first + Math.min(max, this.batch), this.#slots);
    this.#cursor = end === this.#slots ? 0 : end;
    if (this.#keys !== undefined) {
      for (let slot = first; slot < end; slot++) this.#keys.stamp(this.#ring, slot, slot * this.messageBytes);
    }
    return this.#ring.subarray(first * this.messageBytes, end * this.messageBytes);
  }
}

export interface RingOptions {
  /**
   * Every message holds the text `COUNTER` once, and each time it is taken a new number there. `slotsMin`: length of the
   * ring in messages; above the publisher's window, what lay in a slot has been received by the consumer when the slot
   * is written anew.
   */
  readonly freshKeys?: { readonly slotsMin: number };
}

/** Writes numbers that never come twice into the messages of a ring. */
class KeyCounter {
  readonly #offsets: Uint32Array;
  readonly #digits = Buffer.from(COUNTER);

  constructor(messages: readonly Buffer[]) {
    this.#offsets = Uint32Array.from(messages, (message) => message.indexOf(COUNTER));
  }

  /** Counts on and writes the number into the message of `slot`, which begins at `at`. */
  stamp(ring: Buffer, slot: number, at: number): void {
    let digit = COUNTER.length - 1;
    while (this.#digits[digit] === NINE) this.#digits[digit--] = ZERO;
    this.#digits[digit] = (this.#digits[digit] ?? ZERO) + 1;
    ring.set(this.#digits, at + (this.#offsets[slot % this.#offsets.length] ?? 0));
  }
}

/** A ring of one and the same message with a body of `bodyBytes` octets. */
export function uniformRing(exchange: string, routingKey: string, bodyBytes: number, persistent = false): MessageRing {
  return new MessageRing([publishFrames(exchange, routingKey, Buffer.alloc(bodyBytes, 'x'), persistent)]);
}
