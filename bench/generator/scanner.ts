/**
 * Reads what the broker sends in one loop over the received octets: it counts deliveries and confirms and creates no
 * object for either. Every other method goes to `onMethod`. Invariant: each frame is looked at once and whole; the
 * tail of a chunk that ends inside a frame is copied and completed from the next chunk.
 */
import { ConfirmCounter } from './confirm-counter.ts';
import { FRAME_BODY, FRAME_END, FRAME_METHOD, FRAME_OVERHEAD, METHOD } from './frames.ts';

/** Counts of what has come in, shared by the scanners of all consumers of a run. */
export class Tally {
  /** Complete messages. */
  deliveries = 0;
}

export class FrameScanner {
  /** Where complete messages are counted; replace it to count several connections together. */
  tally = new Tally();
  readonly confirms = new ConfirmCounter();
  /** Called with every message body if set: it lies in `chunk` from `at` on, valid during the call only. */
  onBody: ((chunk: Buffer, at: number) => void) | undefined;
  readonly #onMethod: (method: number, payload: Buffer) => void;
  #carry = Buffer.allocUnsafe(256);
  #carried = 0;

  /** `onMethod` gets every method but deliver, ack and nack; the payload is valid during the call only. */
  constructor(onMethod: (method: number, payload: Buffer) => void) {
    this.#onMethod = onMethod;
  }

  /** Takes the first `length` octets of `chunk`, which stays the caller's. Throws if they are not frames. */
  scan(chunk: Buffer, length: number): void {
    const start = this.#carried > 0 ? this.#complete(chunk, length) : 0;
    const end = this.#frames(chunk, start, length);
    if (end < length) this.#keep(chunk, end, length);
  }

  /** Completes the carried frame with the first octets of `chunk`; returns how many of them it took. */
  #complete(chunk: Buffer, length: number): number {
    let at = 0;
    if (this.#carried < FRAME_OVERHEAD) {
      at = Math.min(FRAME_OVERHEAD - this.#carried, length);
      this.#keep(chunk, 0, at);
      if (this.#carried < FRAME_OVERHEAD) return at;
    }
    const missing = this.#carry.readUInt32BE(3) + FRAME_OVERHEAD - this.#carried;
    const taken = Math.min(missing, length - at);
    this.#keep(chunk, at, at + taken);
    if (taken < missing) return length;
    const size = this.#carried;
    this.#carried = 0;
    this.#frames(this.#carry, 0, size);
    return at + taken;
  }

  #keep(chunk: Buffer, start: number, end: number): void {
    const size = this.#carried + end - start;
    if (size > this.#carry.length) {
      const larger = Buffer.allocUnsafe(size * 2);
      this.#carry.copy(larger, 0, 0, this.#carried);
      this.#carry = larger;
    }
    chunk.copy(this.#carry, this.#carried, start, end);
    this.#carried = size;
  }

  /** Looks at each whole frame in [start, end); returns where the first that is not whole begins. */
  #frames(chunk: Buffer, start: number, end: number): number {
    let at = start;
    let bodies = 0;
    while (end - at >= FRAME_OVERHEAD) {
      const next = at + FRAME_OVERHEAD + chunk.readUInt32BE(at + 3);
      if (next > end) break;
      if (chunk.readUInt8(next - 1) !== FRAME_END) throw new Error(`frame without end octet at ${at}`);
      const type = chunk.readUInt8(at);
      if (type === FRAME_BODY) {
        bodies++;
        if (this.onBody !== undefined) this.onBody(chunk, at + 7);
      } else if (type === FRAME_METHOD) {
        const method = chunk.readUInt32BE(at + 7);
        if (method !== METHOD.basicDeliver) this.#method(method, chunk, at + 11, next - 1);
      }
      at = next;
    }
    this.tally.deliveries += bodies;
    return at;
  }

  #method(method: number, chunk: Buffer, at: number, end: number): void {
    if (method !== METHOD.basicAck && method !== METHOD.basicNack) {
      this.#onMethod(method, chunk.subarray(at, end));
      return;
    }
    if (method === METHOD.basicNack) throw new Error('the broker refused a publish');
    const sequence = chunk.readUInt32BE(at) * 2 ** 32 + chunk.readUInt32BE(at + 4);
    this.confirms.settle(sequence, chunk.readUInt8(at + 8) !== 0);
  }
}
