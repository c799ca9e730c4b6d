/**
 * The octets of one peer, cut into frames. One loop over each received chunk; frames are looked at where they lie. What
 * a chunk's end cuts off is gathered from the following ones, whatever size they have: no octet is looked at more often
 * because the peer sends in small pieces.
 *
 * ```
 * between frames (line ends: heart-beats; stray NULs) > head, to the empty line > body, of known length or to its NUL
 * ```
 *
 * Input can be halted for several reasons at once; while it is, what has been received is kept, the socket is not read
 * (but for heart-beats of a peer who is slow to read), and the order stays. It halts by itself when one turn of the event
 * loop has gone to it for long enough.
 */
import type { Duplex } from 'node:stream';
import { Halt, TurnShare } from '../halt.ts';
import { viewOf } from '../outbox.ts';
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
  onFrame(octets: Buffer, at: number, end: number): number;
  /** Octets of the whole frame at 0, of which the head is there up to `end`; -1: the body goes on to its NUL. */
  frameBytes(octets: Buffer, end: number): number;
  /** A frame of `bytes` octets has begun, or has grown to that. False when it is too large, and has been refused. */
  isAllowed(bytes: number): boolean;
}

const HEAD = 0;
const SIZED = 1;
const UNSIZED = 2;

export class FrameInput {
  readonly #socket: Duplex;
  readonly #handler: FrameHandler;
  #halts = 0;
  #paused = false;
  #discarding = false;
  /** What was received and is still to be handled, once the input is not halted any more; before it, a whole frame. */
  readonly #kept: Buffer[] = [];
  #again: Buffer | undefined;
  /** A frame as far as it has come, what of it is missing, and its length once that is known. */
  #partial: Buffer | undefined;
  #partialEnd = 0;
  #stage = HEAD;
  #wanted = 0;
  /** In a head: everything since the last line feed is a carriage return, or nothing. */
  #lineEmpty = false;
  readonly #share = new TurnShare();

  constructor(socket: Duplex, handler: FrameHandler) {
    this.#socket = socket;
    this.#handler = handler;
  }

  /** For any of these reasons. */
  isHalted(reasons: number): boolean {
    return (this.#halts & reasons) !== 0;
  }

  /** Takes what has been received. The chunk is given away: messages lie in it, and its header lines are written over. */
  onData(chunk: Buffer): void {
    if (this.#discarding) return;
    if (this.#halts !== 0) {
      this.#kept.push(chunk);
      const mayBeHeartBeat = chunk.length <= HEART_BEAT_BYTES_MAX && this.#kept.length < KEPT_HEART_BEATS_MAX;
      if (this.#halts !== Halt.stuck || !mayBeHeartBeat) this.#pause();
      return;
    }
    viewOf(chunk);
    const end = chunk.length;
    let at = this.#partial === undefined ? 0 : this.#complete(chunk, 0);
    while (at < end && !this.#discarding) {
      const octet = chunk[at];
      // COMPAT: RabbitMQ passes over a NUL too many.
      if (octet === LF || octet === CR || octet === NUL) {
        at += 1;
        continue;
      }
      if (this.#share.isUsedUp()) this.#yield();
      const next = this.#halts === 0 ? this.#handler.onFrame(chunk, at, end) : at;
      if (this.#halts !== 0) {
        if (next < end) this.#kept.unshift(chunk.subarray(next));
        return;
      }
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
    // Who is slow to read may still say that he is alive.
    if (reason !== Halt.control && reason !== Halt.stuck) this.#pause();
  }

  /** Goes on with what was kept, and reads again, unless another reason remains. */
  resume(reason: number): void {
    if ((this.#halts & reason) === 0) return;
    this.#halts &= ~reason;
    while (this.#halts === 0) {
      const chunk = this.#again ?? this.#kept.shift();
      if (chunk === undefined) break;
      this.#again = undefined;
      this.onData(chunk);
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
    this.#again = undefined;
    this.#partial = undefined;
    this.#halts = 0;
    this.#socket.resume();
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  /** The chunk ends inside the frame at `at`, and there is nothing else in it. */
  #cutOff(chunk: Buffer, at: number, end: number): void {
    this.#partial = Buffer.allocUnsafeSlow(Math.max(PARTIAL_BUFFER_BYTES, end - at));
    this.#partialEnd = 0;
    this.#stage = HEAD;
    this.#lineEmpty = false;
    this.#complete(chunk, at);
  }

  /** Takes from the chunk what the frame begun earlier needs, and handles it when it is whole; the offset after it. */
  #complete(chunk: Buffer, start: number): number {
    let at = start;
    if (this.#stage === HEAD) {
      at = this.#gatherHead(chunk, at);
      if (this.#stage === HEAD) return at;
    }
    if (this.#stage === SIZED)
      at = this.#gather(chunk, at, Math.min(chunk.length, at + this.#wanted - this.#partialEnd));
    else if (this.#stage === UNSIZED) {
      const nul = chunk.indexOf(NUL, at);
      at = this.#gather(chunk, at, nul < 0 ? chunk.length : nul + 1);
      if (nul < 0) return at;
    }
    const frame = this.#partial;
    if (frame === undefined || this.#partialEnd < this.#wanted) return at;
    return this.#handleWhole(frame, at, chunk);
  }

  /** A frame that has been gathered: its buffer is its own, and given away. */
  #handleWhole(frame: Buffer, at: number, chunk: Buffer): number {
    const bytes = this.#partialEnd;
    this.#partial = undefined;
    viewOf(frame);
    const next = this.#handler.onFrame(frame, 0, bytes);
    // Halted before it could be handled: it goes before the rest of the chunk.
    if (next === 0 && this.#halts !== 0) this.#again = frame.subarray(0, bytes);
    viewOf(chunk);
    return at;
  }

  /** Takes octets up to the empty line that ends the head, and then finds out where the body ends. */
  #gatherHead(chunk: Buffer, start: number): number {
    let at = start;
    let isWhole = false;
    while (at < chunk.length && !isWhole) {
      const octet = chunk[at] as number;
      at += 1;
      if (octet === LF) {
        isWhole = this.#lineEmpty;
        this.#lineEmpty = true;
      } else if (octet === NUL) isWhole = true;
      else if (octet !== CR) this.#lineEmpty = false;
    }
    this.#gather(chunk, start, at);
    const frame = this.#partial;
    if (!isWhole || frame === undefined) return at;
    this.#wanted = this.#handler.frameBytes(frame, this.#partialEnd);
    if (this.#discarding) return chunk.length;
    this.#stage = this.#wanted < 0 ? UNSIZED : SIZED;
    return at;
  }

  /** Copies `chunk[start, end)` behind what is there; answers `end`. */
  #gather(chunk: Buffer, start: number, end: number): number {
    const partial = this.#partial;
    const needed = this.#partialEnd + end - start;
    if (partial === undefined || !this.#handler.isAllowed(needed)) return chunk.length;
    if (needed > partial.length) {
      const limit = this.#stage === SIZED ? this.#wanted : Number.MAX_SAFE_INTEGER;
      const larger = Buffer.allocUnsafeSlow(Math.min(limit, Math.max(partial.length * 2, needed)));
      partial.copy(larger, 0, 0, this.#partialEnd);
      this.#partial = larger;
    }
    chunk.copy(this.#partial as Buffer, this.#partialEnd, start, end);
    this.#partialEnd = needed;
    return end;
  }
}
