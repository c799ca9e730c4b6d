/**
 * The octets of one peer, cut into frames. One loop over each received chunk; frames are looked at where they lie.
 *
 * What a chunk's end cuts off: of a body frame, the octets that are there go straight into the channel's content and
 * the rest follows as it comes; of any other frame, they are kept and completed from the next chunk. Neither copies an
 * octet more often because the peer sends in small pieces.
 *
 * Messages stay in the chunk in which they came; nothing else of it is looked at once `onData` has returned.
 */
import type { Duplex } from 'node:stream';
import { Chunk } from '../chunk.ts';
import { Halt } from '../halt.ts';
import { InputGate } from '../input-gate.ts';
import { announce } from '../outbox.ts';
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
  onFrame(chunk: Chunk, at: number, end: number): number;
  /** A body frame of `size` octets has begun. Answers where its octets go; undefined: nowhere. */
  onBodyBegin(channel: number, size: number): ContentAssembly | undefined;
  /** It has ended, with `endOctet`, which should be 0xCE. */
  onBodyEnd(channel: number, size: number, endOctet: number): void;
}

export class FrameInput {
  readonly #gate: InputGate;
  readonly #handler: FrameHandler;
  /** A frame that is not a body, as far as it has come. */
  #partial: Buffer | undefined;
  #partialEnd = 0;
  /** The body frame being received: its channel and size, where it goes, and how much is missing without end octet. */
  #body = false;
  #bodyChannel = 0;
  #bodySize = 0;
  #bodyContent: ContentAssembly | undefined;
  #bodyMissing = 0;

  constructor(socket: Duplex, handler: FrameHandler) {
    this.#gate = new InputGate(socket, (chunk, start, end) => this.onData(chunk, start, end));
    this.#handler = handler;
  }

  /** For any of these reasons. */
  isHalted(reasons: number): boolean {
    return (this.#gate.halts & reasons) !== 0;
  }

  /** Takes what has been received: `chunk.octets[start, end)`. */
  onData(chunk: Chunk, start: number, end: number): void {
    const gate = this.#gate;
    if (!gate.admits(chunk, start, end)) {
      if (!gate.discarding) gate.pause();
      return;
    }
    announce(chunk.octets, chunk.view);
    let at = start;
    while ((this.#body || this.#partial !== undefined) && at < end) at = this.#complete(chunk.octets, at, end);
    while (at < end && !gate.discarding) {
      gate.countFrame();
      if (gate.halts !== 0) {
        gate.putBack(chunk, at, end);
        return;
      }
      const next = this.#handler.onFrame(chunk, at, end);
      if (next === at) {
        this.#cutOff(chunk.octets, at, end);
        return;
      }
      at = next;
    }
  }

  /** No further frame is handled until `resume` has been called for every reason given. */
  halt(reason: number): void {
    this.#gate.halts |= reason;
    if (reason !== Halt.control) this.#gate.pause();
  }

  /** Goes on with what was kept, and reads again, unless another reason remains. */
  resume(reason: number): void {
    this.#gate.resume(reason);
  }

  /** From now on everything received is dropped; it is still read, so that the end of the socket is noticed. */
  discard(): void {
    this.#partial = undefined;
    this.#body = false;
    this.#bodyContent = undefined;
    this.#gate.discard();
  }

  /** The chunk ends inside the frame at `at`, of which the head, if it is there, has been checked. */
  #cutOff(octets: Buffer, at: number, end: number): void {
    if (end - at >= FRAME_HEAD_BYTES && octets[at] === FRAME_BODY) {
      this.#complete(octets, this.#beginBody(octets, at), end);
      return;
    }
    this.#partial = Buffer.allocUnsafe(Math.max(PARTIAL_BUFFER_BYTES, end - at));
    this.#partialEnd = octets.copy(this.#partial, 0, at, end);
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
  #complete(octets: Buffer, start: number, end: number): number {
    return this.#body ? this.#completeBody(octets, start, end) : this.#completePartial(octets, start, end);
  }

  #completeBody(octets: Buffer, start: number, end: number): number {
    const count = Math.min(this.#bodyMissing, end - start);
    if (count > 0) this.#bodyContent?.append(octets, start, start + count);
    this.#bodyMissing -= count;
    const at = start + count;
    if (this.#bodyMissing > 0 || at === end) return at;
    const endOctet = octets[at] as number;
    this.#body = false;
    this.#bodyContent = undefined;
    this.#handler.onBodyEnd(this.#bodyChannel, this.#bodySize, endOctet);
    return at + 1;
  }

  #completePartial(octets: Buffer, start: number, end: number): number {
    let at = start;
    if (this.#partialEnd < FRAME_HEAD_BYTES) {
      at = this.#fillPartial(octets, at, end, FRAME_HEAD_BYTES);
      const head = this.#partial;
      if (head === undefined || this.#partialEnd < FRAME_HEAD_BYTES) return at;
      // Only to have the size checked: no frame is complete without its end octet.
      this.#handler.onFrame(new Chunk(head), 0, FRAME_HEAD_BYTES);
      if (head[0] === FRAME_BODY && !this.#gate.discarding) {
        this.#partial = undefined;
        this.#beginBody(head, 0);
        return at;
      }
    }
    return this.#fillRest(octets, at, end);
  }

  #fillRest(octets: Buffer, start: number, end: number): number {
    const begun = this.#partial;
    if (begun === undefined) return end;
    const total = begun.readUInt32BE(3) + FRAME_OVERHEAD_BYTES;
    const at = this.#fillPartial(octets, start, end, total);
    const frame = this.#partial;
    if (frame === undefined || this.#partialEnd < total) return at;
    this.#partial = undefined;
    this.#handler.onFrame(new Chunk(frame), 0, total);
    return at;
  }

  /** Copies from the chunk until the partial frame has `wanted` octets or the chunk ends. */
  #fillPartial(octets: Buffer, start: number, end: number, wanted: number): number {
    const count = Math.min(wanted - this.#partialEnd, end - start);
    let partial = this.#partial;
    if (partial === undefined || count <= 0) return start;
    if (this.#partialEnd + count > partial.length) {
      const larger = Buffer.allocUnsafe(Math.min(wanted, Math.max(partial.length * 2, this.#partialEnd + count)));
      partial.copy(larger, 0, 0, this.#partialEnd);
      partial = larger;
      this.#partial = larger;
    }
    octets.copy(partial, this.#partialEnd, start, start + count);
    this.#partialEnd += count;
    return start + count;
  }
}
