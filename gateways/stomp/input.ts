/**
 * The octets of one peer, cut into frames. One loop over each received chunk; frames are looked at where they lie. What
 * a chunk's end cuts off is gathered from the following ones, whatever size they have: no octet is looked at more often
 * because the peer sends in small pieces.
 *
 * ```
 * between frames (line ends: heart-beats; stray NULs) > head, to the empty line > body, of known length or to its NUL
 * ```
 *
 * While the input is halted because the peer is slow to read, his heart-beats are still read.
 */
import type { Duplex } from 'node:stream';
import { Chunk } from '../chunk.ts';
import { Halt } from '../halt.ts';
import { InputGate } from '../input-gate.ts';
import { announce } from '../outbox.ts';
import { CR, LF, NUL } from './octets.ts';

/** What is so short may be a heart-beat, and so much of it is heard of a peer who does not read. */
const HEART_BEAT_BYTES_MAX = 16;
const KEPT_HEART_BEATS_MAX = 1024;
/** First buffer for a frame that was cut off; it doubles as octets arrive. */
const PARTIAL_BUFFER_BYTES = 512;

/** Who looks at the frames. None of these may throw anything but a broken invariant. */
export interface FrameHandler {
  /**
   * Handles the frame at `at`; answers the offset after it, or `at` when it is not all there before `end`, or when it
   * is not to be handled yet because the input has been halted.
   */
  onFrame(chunk: Chunk, at: number, end: number): number;
  /** Octets of the whole frame at 0, of which the head is there up to `end`; -1: the body goes on to its NUL. */
  frameBytes(octets: Buffer, end: number): number;
  /** A frame of `bytes` octets has begun, or has grown to that. False when it is too large, and has been refused. */
  isAllowed(bytes: number): boolean;
}

const HEAD = 0;
const SIZED = 1;
const UNSIZED = 2;

export class FrameInput {
  readonly #gate: InputGate;
  readonly #handler: FrameHandler;
  /** A frame as far as it has come, what of it is missing, and its length once that is known. */
  #partial: Buffer | undefined;
  #partialEnd = 0;
  #stage = HEAD;
  #wanted = 0;
  /** In a head: everything since the last line feed is a carriage return, or nothing. */
  #lineEmpty = false;

  constructor(socket: Duplex, handler: FrameHandler) {
    this.#gate = new InputGate(socket, (chunk, start, end) => this.onData(chunk, start, end));
    this.#handler = handler;
  }

  /** For any of these reasons. */
  isHalted(reasons: number): boolean {
    return (this.#gate.halts & reasons) !== 0;
  }

  /** Takes what has been received, `chunk.octets[start, end)`, which is given away: header lines are written over. */
  onData(chunk: Chunk, start: number, end: number): void {
    const gate = this.#gate;
    if (!gate.admits(chunk, start, end)) {
      const mayBeHeartBeat = end - start <= HEART_BEAT_BYTES_MAX && gate.keptCount < KEPT_HEART_BEATS_MAX;
      if (!gate.discarding && (gate.halts !== Halt.stuck || !mayBeHeartBeat)) gate.pause();
      return;
    }
    const { octets } = chunk;
    announce(octets, chunk.view);
    let at = this.#partial === undefined ? start : this.#complete(chunk, start, end);
    while (at < end && !gate.discarding) {
      const octet = octets[at];
      // COMPAT: RabbitMQ passes over a NUL too many.
      if (octet === LF || octet === CR || octet === NUL) {
        at += 1;
        continue;
      }
      gate.countFrame();
      const next = gate.halts === 0 ? this.#handler.onFrame(chunk, at, end) : at;
      if (gate.halts !== 0) {
        if (next < end) gate.putBack(chunk, next, end);
        return;
      }
      if (next === at) {
        this.#cutOff(chunk, at, end);
        return;
      }
      at = next;
    }
  }

  /** No further frame is handled until `resume` has been called for every reason given. */
  halt(reason: number): void {
    this.#gate.halts |= reason;
    // Who is slow to read may still say that he is alive.
    if (reason !== Halt.control && reason !== Halt.stuck) this.#gate.pause();
  }

  /** Goes on with what was kept, and reads again, unless another reason remains. */
  resume(reason: number): void {
    this.#gate.resume(reason);
  }

  /** From now on everything received is dropped; it is still read, so that the end of the socket is noticed. */
  discard(): void {
    this.#partial = undefined;
    this.#gate.discard();
  }

  /** The chunk ends inside the frame at `at`, and there is nothing else in it. */
  #cutOff(chunk: Chunk, at: number, end: number): void {
    this.#partial = Buffer.allocUnsafeSlow(Math.max(PARTIAL_BUFFER_BYTES, end - at));
    this.#partialEnd = 0;
    this.#stage = HEAD;
    this.#lineEmpty = false;
    this.#complete(chunk, at, end);
  }

  /** Takes from the chunk what the frame begun earlier needs, and handles it when it is whole; the offset after it. */
  #complete(chunk: Chunk, start: number, end: number): number {
    const { octets } = chunk;
    let at = start;
    if (this.#stage === HEAD) {
      at = this.#gatherHead(octets, at, end);
      if (this.#stage === HEAD) return at;
    }
    if (this.#stage === SIZED) at = this.#gather(octets, at, Math.min(end, at + this.#wanted - this.#partialEnd));
    else if (this.#stage === UNSIZED) {
      const nul = octets.subarray(0, end).indexOf(NUL, at);
      at = this.#gather(octets, at, nul < 0 ? end : nul + 1);
      if (nul < 0) return at;
    }
    const frame = this.#partial;
    if (frame === undefined || this.#partialEnd < this.#wanted) return at;
    return this.#handleWhole(frame, chunk, at, end);
  }

  /** A frame that has been gathered: its buffer is its own, and given away. */
  #handleWhole(octets: Buffer, chunk: Chunk, at: number, end: number): number {
    const gate = this.#gate;
    const bytes = this.#partialEnd;
    this.#partial = undefined;
    const frame = new Chunk(octets);
    announce(octets, frame.view);
    const next = this.#handler.onFrame(frame, 0, bytes);
    announce(chunk.octets, chunk.view);
    if (next !== 0 || gate.halts === 0) return at;
    // Halted before it could be handled: it goes before the rest of the chunk.
    if (at < end) gate.putBack(chunk, at, end);
    gate.putBack(frame, 0, bytes);
    return end;
  }

  /** Takes octets up to the empty line that ends the head, and then finds out where the body ends. */
  #gatherHead(octets: Buffer, start: number, end: number): number {
    let at = start;
    let isWhole = false;
    while (at < end && !isWhole) {
      const octet = octets[at] as number;
      at += 1;
      if (octet === LF) {
        isWhole = this.#lineEmpty;
        this.#lineEmpty = true;
      } else if (octet === NUL) isWhole = true;
      else if (octet !== CR) this.#lineEmpty = false;
    }
    this.#gather(octets, start, at);
    const frame = this.#partial;
    if (!isWhole || frame === undefined) return at;
    this.#wanted = this.#handler.frameBytes(frame, this.#partialEnd);
    if (this.#gate.discarding) return end;
    this.#stage = this.#wanted < 0 ? UNSIZED : SIZED;
    return at;
  }

  /** Copies `octets[start, end)` behind what is there; answers `end`. */
  #gather(octets: Buffer, start: number, end: number): number {
    const partial = this.#partial;
    const needed = this.#partialEnd + end - start;
    if (partial === undefined || !this.#handler.isAllowed(needed)) return end;
    if (needed > partial.length) {
      const limit = this.#stage === SIZED ? this.#wanted : Number.MAX_SAFE_INTEGER;
      const larger = Buffer.allocUnsafeSlow(Math.min(limit, Math.max(partial.length * 2, needed)));
      partial.copy(larger, 0, 0, this.#partialEnd);
      this.#partial = larger;
    }
    octets.copy(this.#partial as Buffer, this.#partialEnd, start, end);
    this.#partialEnd = needed;
    return end;
  }
}
