/**
 * Whether what one peer sends is handled now. It can be halted for several reasons at once; while it is, what has been
 * received is kept, the socket is not read, and the order stays. It halts by itself when one turn of the event loop has gone
 * to this peer for long enough: a publish to thousands of queues, or requests by the thousand, must not keep all other peers
 * waiting.
 */
import type { Duplex } from 'node:stream';
import type { Chunk, ChunkSink } from './chunk.ts';
import { Halt, TurnShare } from './halt.ts';

/** Octets received and not handled yet. */
interface Kept {
  readonly chunk: Chunk;
  readonly start: number;
  readonly end: number;
}

export class InputGate {
  /** Why it is halted: bits of `Halt`; 0 = it is not. */
  halts = 0;
  /** Everything received is dropped. */
  discarding = false;

  readonly #socket: Duplex;
  readonly #handle: ChunkSink;
  #paused = false;
  readonly #kept: Kept[] = [];
  readonly #share = new TurnShare();

  /** `handle` takes octets, and asks `admits` first. */
  constructor(socket: Duplex, handle: ChunkSink) {
    this.#socket = socket;
    this.#handle = handle;
  }

  /** How many pieces are kept. */
  get keptCount(): number {
    return this.#kept.length;
  }

  /** Whether octets that have come are to be handled. If not, they have been dropped, or kept behind all others. */
  admits(chunk: Chunk, start: number, end: number): boolean {
    if (this.halts === 0) return !this.discarding;
    chunk.keep();
    this.#kept.push({ chunk, start, end });
    return false;
  }

  /** Keeps octets before all others that are kept. */
  putBack(chunk: Chunk, start: number, end: number): void {
    chunk.keep();
    this.#kept.unshift({ chunk, start, end });
  }

  /** Counts a frame that is to be handled, and halts when the peer has had its share of this turn. */
  countFrame(): void {
    if (!this.#share.isUsedUp()) return;
    this.halts |= Halt.turn;
    setImmediate(() => this.resume(Halt.turn));
  }

  /** Reads no more from the socket until nothing halts the input. */
  pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  /** Goes on with what was kept, and reads again, unless another reason remains. */
  resume(reason: number): void {
    if ((this.halts & reason) === 0) return;
    this.halts &= ~reason;
    while (this.halts === 0) {
      const kept = this.#kept.shift();
      if (kept === undefined) break;
      this.#handle(kept.chunk, kept.start, kept.end);
    }
    if (this.halts === 0 && this.#paused) {
      this.#paused = false;
      this.#socket.resume();
    }
  }

  /** From now on everything received is dropped; it is still read, so that the end of the socket is noticed. */
  discard(): void {
    this.discarding = true;
    this.#kept.length = 0;
    this.halts = 0;
    this.#socket.resume();
  }
}
