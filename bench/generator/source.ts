/**
 * Where a publisher's octets come from: messages of equal length, encoded back to back in a ring before the clock runs,
 * of which a publisher takes contiguous runs.
 */
import { publishFrames } from './frames.ts';

/** Octets that a publisher hands to the kernel at once, at most. */
const BATCH_BYTES = 64 * 1024;
const ZERO = 0x30;
const NINE = 0x39;

export class MessageRing {
  /** Octets of one publish. */
  readonly messageBytes: number;
  /** Messages that `take` returns at most. */
  readonly batch: number;
  protected readonly ring: Buffer;
  protected readonly slots: number;
  #cursor = 0;

  /** `messages`: each the frames of one publish, all of the same length; repeated until there are `slotsMin`. */
  constructor(messages: readonly Buffer[], slotsMin = 1) {
    const messageBytes = messages[0]?.length ?? 0;
    if (messages.some((message) => message.length !== messageBytes)) throw new Error('messages of unequal length');
    this.messageBytes = messageBytes;
    this.batch = Math.max(1, Math.floor(BATCH_BYTES / messageBytes));
    const cycles = Math.ceil(Math.max(this.batch, slotsMin) / messages.length);
    this.ring = Buffer.concat(Array.from({ length: cycles }, () => Buffer.concat(messages)));
    this.slots = cycles * messages.length;
  }

  /** The next messages, 1 to `max` of them. The octets stay the ring's; they change only in a `FreshKeyRing`. */
  take(max: number): Buffer {
    const first = this.#cursor;
    const end = Math.min(first + Math.min(max, this.batch), this.slots);
    this.#cursor = end === this.slots ? 0 : end;
    this.prepare(first, end);
    return this.ring.subarray(first * this.messageBytes, end * this.messageBytes);
  }

  /** Called before slots [first, end) are handed out. */
  protected prepare(_first: number, _end: number): void {}
}

/** Placeholder for the counter in the routing keys of a `FreshKeyRing`: nine digits. */
export const COUNTER = '000000000';

/**
 * A ring whose messages all carry a counter, so that no routing key comes twice. A slot is written anew when it is
 * taken: `slotsMin` must be above the publisher's window, then what lay there has been received by the consumer and is
 * no longer anybody's.
 */
export class FreshKeyRing extends MessageRing {
  readonly #offsets: Uint32Array;
  readonly #counter = Buffer.from(COUNTER);

  /** Each message holds the text `COUNTER` once. */
  constructor(messages: readonly Buffer[], slotsMin: number) {
    super(messages, slotsMin);
    this.#offsets = Uint32Array.from(messages, (message) => message.indexOf(COUNTER));
  }

  protected override prepare(first: number, end: number): void {
    for (let slot = first; slot < end; slot++) {
      this.#increment();
      const offset = this.#offsets[slot % this.#offsets.length] ?? 0;
      this.ring.set(this.#counter, slot * this.messageBytes + offset);
    }
  }

  #increment(): void {
    let digit = COUNTER.length - 1;
    while (this.#counter[digit] === NINE) this.#counter[digit--] = ZERO;
    this.#counter[digit] = (this.#counter[digit] ?? ZERO) + 1;
  }
}

/** A ring of one and the same message with a body of `bodyBytes` octets. */
export function uniformRing(exchange: string, routingKey: string, bodyBytes: number, persistent = false): MessageRing {
  return new MessageRing([publishFrames(exchange, routingKey, Buffer.alloc(bodyBytes, 'x'), persistent)]);
}
