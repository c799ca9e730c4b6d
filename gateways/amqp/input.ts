/**
 * The octets of one peer, cut into frames. One loop over each received chunk; frames are looked at where they lie.
 *
 * What a chunk's end cuts off: of a body frame, the octets that are there go straight into the channel's content and
 * the rest follows as it comes; of any other frame, they are kept and completed from the next chunk. Neither copies an
 * octet more often because the peer sends in small pieces.
 *
 * Input can be halted for several reasons at once; while it is, what has been received is kept, the socket is not read,
 * and the order stays. It halts by itself when one turn of the event loop has gone to it for long enough: a publish to
 * thousands of queues, or control methods by the thousand, must not keep all other peers waiting.
 */
import type { Duplex } from 'node:stream';
import { Halt, TurnShare } from '../halt.ts';
import { FRAME_BODY, FRAME_HEAD_BYTES, FRAME_OVERHEAD_BYTES } from './constants.ts';
import type { ContentAssembly } from './content.ts';

/** First buffer for a frame that was cut off; it doubles as octets arrive. */
const PARTIAL_BUFFER_BYTES = 256;

/** Who looks at the frames. None of these may throw anything but a broken invariant, which ends the process. */
export interface FrameHandler {
  /**
   * Handles the frame at `at`, and maybe those after it; answers the offset after what was handled, or `at` when the
   * frame is not complete before `end`. A frame too large or without its end octet is a fault, reported by nobody else.
   */
  onFrame(octets: Buffer, at: number, end: number): number;
  /** A body frame of `size` octets has begun. Answers where its octets go; undefined: nowhere. */
  onBodyBegin(channel: number, size: number): ContentAssembly | undefined;
  /** It has ended, with `endOctet`, which should be 0xCE. */
  onBodyEnd(channel: number, size: number, endOctet: number): void;
}

export class FrameInput {
  readonly #socket: Duplex;
  readonly #handler: FrameHandler;
  #halts = 0;
  #paused = false;
  #discarding = false;
  /** Chunks received while halted; of the first, the octets from `#keptStart` on. */
  readonly #kept: Buffer[] = [];
  #keptStart = 0;
  /** A frame that is not a body, as far as it has come. */
  #partial: Buffer | undefined;
  #partialEnd = 0;
  /** The body frame being received: its channel and size, where it goes, and how much is missing without end octet. */
  #body = false;
  #bodyChannel = 0;
  #bodySize = 0;
  #bodyContent: ContentAssembly | undefined;
  #bodyMissing = 0;
  readonly #share = new TurnShare();

  constructor(socket: Duplex, handler: FrameHandler) {
    this.#socket = socket;
    this.#handler = handler;
  }

  /** For any of these reasons. */
  isHalted(reasons: number): boolean {
    return (this.#halts & reasons) !== 0;
  }

  /** Takes what has been received; `chunk` stays in use for as long as messages lie in it. */
  onData(chunk: Buffer, start = 0): void {
    if (this.#discarding) return;
    if (this.#halts !== 0) {
      this.#kept.push(chunk);
      this.#pause();
      return;
    }
    const end = chunk.length;
    let at = start;
    while ((this.#body || this.#partial !== undefined) && at < end) at = this.#complete(chunk, at);
    while (at < end && !this.#discarding) {
      if (this.#share.isUsedUp()) this.#yield();
      if (this.#halts !== 0) {
        this.#kept.unshift(chunk);
        this.#keptStart = at;
        return;
      }
      const next = this.#handler.onFrame(chunk, at, end);
      if (next === at) {
        this.#cutOff(chunk, at, end);
        return;
      }
      at = next;
    }
  }

  /** Leaves the rest for the next turn. */
  #yield(): void {
    this.#halts |= Halt.turn;
    setImmediate(() => this.resume(Halt.turn));
  }

  /** No further frame is handled until `resume` has been called for every reason given. */
  halt(reason: number): void {
    this.#halts |= reason;
    if (reason !== Halt.control) this.#pause();
  }

  /** Goes on with what was kept, and reads again, unless another reason remains. */
  resume(reason: number): void {
    if ((this.#halts & reason) === 0) return;
    this.#halts &= ~reason;
    while (this.#halts === 0) {
      const chunk = this.#kept.shift();
      if (chunk === undefined) break;
      const start = this.#keptStart;
      this.#keptStart = 0;
      this.onData(chunk, start);
    }
    if (this.#halts === 0 && this.#paused) {
      this.#paused = false;
      this.#socket.resume();
    }
  }

  /** From now on everything received is dropped; it is still read, so that the end of the socket is noticed. */
  discard(): void {
    this.#discarding = true;
    this.#kept.length = 0;
    this.#partial = undefined;
    this.#body = false;
    this.#bodyContent = undefined;
    this.#halts = 0;
    this.#socket.resume();
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  /** The chunk ends inside the frame at `at`, of which the head, if it is there, has been checked. */
  #cutOff(chunk: Buffer, at: number, end: number): void {
    if (end - at >= FRAME_HEAD_BYTES && chunk[at] === FRAME_BODY) {
      this.#complete(chunk, this.#beginBody(chunk, at));
      return;
    }
    this.#partial = Buffer.allocUnsafe(Math.max(PARTIAL_BUFFER_BYTES, end - at));
    this.#partialEnd = chunk.copy(this.#partial, 0, at, end);
  }

  #beginBody(octets: Buffer, at: number): number {
    this.#body = true;
    this.#bodyChannel = octets.readUInt16BE(at + 1);
    this.#bodySize = octets.readUInt32BE(at + 3);
    this.#bodyMissing = this.#bodySize;
    this.#bodyContent = this.#handler.onBodyBegin(this.#bodyChannel, this.#bodySize);
    return at + FRAME_HEAD_BYTES;
  }

  /** Takes from the chunk what the frame begun earlier still needs; answers the offset after it. */
  #complete(chunk: Buffer, start: number): number {
    return this.#body ? this.#completeBody(chunk, start) : this.#completePartial(chunk, start);
  }

  #completeBody(chunk: Buffer, start: number): number {
    const count = Math.min(this.#bodyMissing, chunk.length - start);
    if (count > 0) this.#bodyContent?.append(chunk, start, start + count);
    this.#bodyMissing -= count;
    const at = start + count;
    const endOctet = chunk[at];
    if (this.#bodyMissing > 0 || endOctet === undefined) return at;
    this.#body = false;
    this.#bodyContent = undefined;
    this.#handler.onBodyEnd(this.#bodyChannel, this.#bodySize, endOctet);
    return at + 1;
  }

  #completePartial(chunk: Buffer, start: number): number {
    let at = start;
    if (this.#partialEnd < FRAME_HEAD_BYTES) {
      at = this.#fillPartial(chunk, at, FRAME_HEAD_BYTES);
      const head = this.#partial;
      if (head === undefined || this.#partialEnd < FRAME_HEAD_BYTES) return at;
      // Only to have the size checked: no frame is complete without its end octet.
      this.#handler.onFrame(head, 0, FRAME_HEAD_BYTES);
      if (head[0] === FRAME_BODY && !this.#discarding) {
        this.#partial = undefined;
        this.#beginBody(head, 0);
        return at;
      }
    }
    return this.#fillRest(chunk, at);
  }

  #fillRest(chunk: Buffer, start: number): number {
    const begun = this.#partial;
    if (begun === undefined) return chunk.length;
    const total = begun.readUInt32BE(3) + FRAME_OVERHEAD_BYTES;
    const at = this.#fillPartial(chunk, start, total);
    const frame = this.#partial;
    if (frame === undefined || this.#partialEnd < total) return at;
    this.#partial = undefined;
    this.#handler.onFrame(frame, 0, total);
    return at;
  }

  /** Copies from the chunk until the partial frame has `wanted` octets or the chunk ends. */
  #fillPartial(chunk: Buffer, start: number, wanted: number): number {
    const count = Math.min(wanted - this.#partialEnd, chunk.length - start);
    let partial = this.#partial;
    if (partial === undefined || count <= 0) return start;
    if (this.#partialEnd + count > partial.length) {
      const larger = Buffer.allocUnsafe(Math.min(wanted, Math.max(partial.length * 2, this.#partialEnd + count)));
      partial.copy(larger, 0, 0, this.#partialEnd);
      partial = larger;
      this.#partial = larger;
    }
    chunk.copy(partial, this.#partialEnd, start, start + count);
    this.#partialEnd += count;
    return start + count;
  }
}
