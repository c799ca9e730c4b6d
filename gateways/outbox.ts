/**
 * What a connection has to say to its peer, packed: one outbox per connection.
 *
 * Small pieces are written straight into a pooled buffer, which goes to the socket when it is full, or else together
 * with those of all other connections once per turn of the event loop: one `socket.write` per flush, never one per
 * message. Large pieces are handed to the socket as they are, without copying. A connection with nothing to say holds
 * no buffer. Order is kept throughout.
 *
 * Back-pressure: octets that the socket has not taken yet count as pending. Over `highWaterBytes` the owner is told to
 * deliver no more (`onFull`), over `stuckBytes` to read no more, since its answers are not being read (`onStuck`), and
 * when a quarter of the high-water mark is left, that both are over (`onDrain`).
 */
import type { Duplex } from 'node:stream';

/** Size of an output buffer; 16 to 256 KiB perform within 15% of each other. */
export const OUTPUT_BUFFER_BYTES = 64 * 1024;
/** Unused output buffers kept for reuse, over all connections: 4 MiB. */
const POOLED_BUFFERS_MAX = 64;
/** Pieces from this size on are referenced rather than copied. */
export const REFERENCED_BYTES_MIN = 8 * 1024;
/** Default of `highWaterBytes`. */
export const HIGH_WATER_BYTES = 1024 * 1024;
/** By default, `stuckBytes` is so many times `highWaterBytes`. */
export const STUCK_FACTOR = 8;

/** Up to here a loop over the octets is cheaper than a call that copies. */
const LOOP_BYTES_MAX = 48;
/** After a referenced piece, a buffer with less room than this is not continued. */
const REMNANT_BYTES_MIN = 1024;

/** What an outbox tells its owner. Called from inside other calls; must not throw. */
export interface OutboxEvents {
  /** The last moment to write something that was held back for this flush. */
  beforeFlush(): void;
  /** More than `highWaterBytes` are pending: no more deliveries, please. */
  onFull(): void;
  /** More than `stuckBytes` are pending although deliveries have stopped: read no more requests. */
  onStuck(): void;
  /** Most of it has gone; called in a later turn of the event loop than the write that ended. */
  onDrain(): void;
}

export interface OutboxOptions {
  readonly highWaterBytes?: number;
  /** Default STUCK_FACTOR times `highWaterBytes`; taken for that when it is less. */
  readonly stuckBytes?: number;
}

/** A buffer with its view, made once. */
interface OutputBuffer {
  readonly octets: Buffer;
  readonly view: DataView;
}

function outputBuffer(bytes: number): OutputBuffer {
  const octets = Buffer.allocUnsafeSlow(bytes);
  return { octets, view: new DataView(octets.buffer, octets.byteOffset, bytes) };
}

const NO_BUFFER = outputBuffer(0);
const pool: OutputBuffer[] = [];

/** Outboxes to flush and to drain at the end of this turn. */
let dirty: Outbox[] = [];
let drained: Outbox[] = [];
let scheduled = false;

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setImmediate(endTurn);
}

/** Drains first, so that what resumed channels deliver leaves in the same turn. */
function endTurn(): void {
  scheduled = false;
  const draining = drained;
  drained = [];
  for (const outbox of draining) outbox.drain();
  const flushing = dirty;
  dirty = [];
  for (const outbox of flushing) outbox.flush();
}

let viewedOctets: Uint8Array = NO_BUFFER.octets;
let viewed = NO_BUFFER.view;

/**
 * Says that pieces of `octets` will be written, of which `view` is a view from the first to the last. Messages come and go
 * in runs from one received chunk, so whoever reads one announces it, and short pieces of it are written word by word.
 */
export function announce(octets: Uint8Array, view: DataView): void {
  viewedOctets = octets;
  viewed = view;
}

/** Copies `source[start, end)` to `at` in `target`, word by word: the cheapest way for a few dozen octets. */
export function copyShort(source: DataView, start: number, end: number, target: DataView, at: number): void {
  let from = start;
  let to = at;
  for (; from + 4 <= end; from += 4, to += 4) target.setInt32(to, source.getInt32(from));
  for (; from < end; from += 1, to += 1) target.setInt8(to, source.getInt8(from));
}

export class Outbox {
  /**
   * The buffer being filled, its view, and how far. After `reserve(n)`, the owner writes up to n octets from `end` on
   * and moves `end`. All three change with every call to `reserve`, `write` and `flush`.
   */
  octets = NO_BUFFER.octets;
  view = NO_BUFFER.view;
  end = 0;
  /** Octets accepted since the beginning, except those still in the buffer; tells a heartbeat whether any went out. */
  writtenBytes = 0;

  readonly #socket: Duplex;
  readonly #events: OutboxEvents;
  readonly #highWaterBytes: number;
  readonly #stuckBytes: number;
  #buffer = NO_BUFFER;
  /** Where the part of the buffer begins that has not been given to the socket. */
  #start = 0;
  #dirty = false;
  #corked = false;
  #full = false;
  #stuck = false;
  #closed = false;
  #pendingBytes = 0;
  /** Writes that the socket has not completed, oldest first: sizes, and the buffers that return to the pool then. */
  readonly #inFlightBytes: number[] = [];
  readonly #inFlightBuffers: (OutputBuffer | undefined)[] = [];

  constructor(socket: Duplex, events: OutboxEvents, options: OutboxOptions = {}) {
    this.#socket = socket;
    this.#events = events;
    this.#highWaterBytes = options.highWaterBytes ?? HIGH_WATER_BYTES;
    this.#stuckBytes = Math.max(options.stuckBytes ?? STUCK_FACTOR * this.#highWaterBytes, this.#highWaterBytes);
  }

  /** Octets given to the socket that it has not taken yet. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** True from `onFull` until `onDrain`. */
  get full(): boolean {
    return this.#full;
  }

  /** Makes room for `bytes` octets (at most `OUTPUT_BUFFER_BYTES`) in one piece and answers where it begins: `end`. */
  reserve(bytes: number): number {
    if (this.octets.length - this.end < bytes) this.#nextBuffer();
    return this.end;
  }

  /** Appends `octets[start, end)`. Large pieces are referenced: nobody may write to them afterwards. */
  write(octets: Uint8Array, start = 0, end = octets.length): void {
    const length = end - start;
    if (length >= REFERENCED_BYTES_MIN) {
      this.#writeReferenced(octets.subarray(start, end));
      return;
    }
    const at = this.reserve(length);
    this.end = at + length;
    if (length > LOOP_BYTES_MAX) {
      this.octets.set(new Uint8Array(octets.buffer, octets.byteOffset + start, length), at);
    } else if (octets === viewedOctets) {
      copyShort(viewed, start, end, this.view, at);
    } else {
      const target = this.octets;
      for (let from = start, to = at; from < end; from += 1, to += 1) target[to] = octets[from] as number;
    }
  }

  /** Asks for a flush at the end of this turn, even if nothing has been written yet (see `beforeFlush`). */
  requestFlush(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    dirty.push(this);
    schedule();
  }

  /** Hands everything to the socket now. */
  flush(): void {
    this.#dirty = false;
    if (this.#closed) {
      this.#discard();
      return;
    }
    this.#events.beforeFlush();
    this.#release();
    if (this.#corked) {
      this.#corked = false;
      this.#socket.uncork();
    }
  }

  /** Says that whatever is written from now on goes nowhere, and gives the buffer back. The socket is the owner's. */
  close(): void {
    this.#closed = true;
    this.#discard();
  }

  /** Tells the owner that there is room again; called by the end of the turn. */
  drain(): void {
    if (this.#closed || !this.#full || this.#pendingBytes > this.#lowWaterBytes) return;
    this.#full = false;
    this.#stuck = false;
    this.#events.onDrain();
  }

  get #lowWaterBytes(): number {
    return this.#highWaterBytes / 4;
  }

  /** Takes a fresh buffer, after giving the old one, if any, to the socket. */
  #nextBuffer(): void {
    if (this.#closed) this.#discard();
    else this.#release();
    this.#buffer = pool.pop() ?? outputBuffer(OUTPUT_BUFFER_BYTES);
    this.octets = this.#buffer.octets;
    this.view = this.#buffer.view;
    this.requestFlush();
  }

  /** Gives what is left in the buffer to the socket, and the buffer up. */
  #release(): void {
    const buffer = this.#buffer;
    if (buffer === NO_BUFFER) return;
    const { end } = this;
    const start = this.#start;
    this.#dropBuffer();
    if (end > start) this.#send(buffer.octets.subarray(start, end), buffer);
    else this.#recycleAfterWrites(buffer);
  }

  #dropBuffer(): void {
    this.#buffer = NO_BUFFER;
    this.octets = NO_BUFFER.octets;
    this.view = NO_BUFFER.view;
    this.end = 0;
    this.#start = 0;
  }

  /** Copies nothing: the socket gets what stands before, then `octets` themselves, corked into one system call. */
  #writeReferenced(octets: Uint8Array): void {
    if (this.#closed) return;
    this.requestFlush();
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
    }
    if (this.octets.length - this.end < REMNANT_BYTES_MIN) {
      this.#release();
    } else if (this.end > this.#start) {
      const { end } = this;
      const start = this.#start;
      this.#start = end;
      this.#send(this.octets.subarray(start, end), undefined);
    }
    this.#send(octets, undefined);
  }

  #send(octets: Uint8Array, buffer: OutputBuffer | undefined): void {
    this.#inFlightBytes.push(octets.length);
    this.#inFlightBuffers.push(buffer);
    this.#pendingBytes += octets.length;
    this.writtenBytes += octets.length;
    this.#socket.write(octets, this.#onWritten);
    if (!this.#full && this.#pendingBytes > this.#highWaterBytes) {
      this.#full = true;
      this.#events.onFull();
    }
    if (!this.#stuck && this.#pendingBytes > this.#stuckBytes) {
      this.#stuck = true;
      this.#events.onStuck();
    }
  }

  /** The oldest write has completed or failed; failures reach the owner as the socket's `error` or `close`. */
  readonly #onWritten = (): void => {
    this.#pendingBytes -= this.#inFlightBytes.shift() ?? 0;
    recycle(this.#inFlightBuffers.shift());
    if (this.#full && this.#pendingBytes <= this.#lowWaterBytes) {
      drained.push(this);
      schedule();
    }
  };

  /** An empty rest of a buffer whose earlier parts may still be on their way. */
  #recycleAfterWrites(buffer: OutputBuffer): void {
    const last = this.#inFlightBuffers.length - 1;
    if (last < 0) recycle(buffer);
    else if (this.#inFlightBuffers[last] === undefined) this.#inFlightBuffers[last] = buffer;
  }

  #discard(): void {
    const buffer = this.#buffer;
    if (buffer === NO_BUFFER) return;
    this.#dropBuffer();
    this.#recycleAfterWrites(buffer);
  }
}

function recycle(buffer: OutputBuffer | undefined): void {
  if (buffer !== undefined && pool.length < POOLED_BUFFERS_MAX) pool.push(buffer);
}
