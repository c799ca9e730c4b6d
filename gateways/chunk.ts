/**
 * Octets as they come from a socket, and the buffers that they lie in.
 *
 * Node makes a new buffer for every read; at some hundred megabytes a second that is what collecting garbage then takes its
 * time for. So a busy TCP socket reads into pooled chunks. Messages lie in a chunk and stay there; it is read into again
 * when each of them has been given back (`Message.giveBack`), which the broker does for those of which it knows that nobody
 * looks at them any more. A chunk of which it does not know that is never read into again, and garbage in the end.
 *
 * Few octets would keep a whole chunk alive: they are copied into a buffer of their own size. From then on until more come
 * at once, the socket reads into the one buffer that all such sockets share.
 */
import { Socket, type SocketConstructorOpts } from 'node:net';
import type { Lender } from '../broker/message.ts';
import type { Transport } from './gateway.ts';
import { REFERENCED_BYTES_MIN } from './outbox.ts';

/** Size of a pooled chunk: what Node reads at once, too. */
export const CHUNK_BYTES = 64 * 1024;
/** Reads of less than this are copied out of the chunk. */
export const CHUNK_FILLED_BYTES_MIN = CHUNK_BYTES / 2;
/** Unused chunks kept for reuse, over all connections: 4 MiB. */
const POOLED_CHUNKS_MAX = 64;

/** Sockets that may have a chunk to read into next, 16 MiB in all; further ones begin with the shared buffer each time. */
const HELD_CHUNKS_MAX = 256;

/** Received octets: `octets` up to an end that goes with them, the rest being nobody's business. */
export class Chunk implements Lender {
  readonly octets: Buffer;
  readonly view: DataView;
  readonly #pooled: boolean;
  /** Reasons not to read into it: the reader that hands it out, and every message in it. */
  #uses = 0;

  /** Takes `octets` over. */
  constructor(octets: Buffer, pooled = false) {
    this.octets = octets;
    this.view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
    this.#pooled = pooled;
  }

  /** The lender of a message with so many octets in this chunk; undefined for one that may stay where it is for good. */
  lend(bytes: number): Lender | undefined {
    if (!this.#pooled) return undefined;
    this.#uses += 1;
    // What an outbox references is in use until the socket has taken it.
    return bytes < REFERENCED_BYTES_MIN ? this : undefined;
  }

  /** Something in it is in use for who knows how long: it is not read into again. */
  keep(): void {
    this.#uses += 1;
  }

  giveBack(): void {
    this.#uses -= 1;
    if (this.#uses === 0 && pool.length < POOLED_CHUNKS_MAX) pool.push(this);
  }
}

const pool: Chunk[] = [];

function takeChunk(): Chunk {
  const chunk = pool.pop() ?? new Chunk(Buffer.allocUnsafeSlow(CHUNK_BYTES), true);
  chunk.keep();
  return chunk;
}

/** How many chunks readers have to read into next. */
let heldCount = 0;

/** What all sockets read into that have not much to say. */
const LANDING = Buffer.allocUnsafeSlow(CHUNK_BYTES);

/** Takes what has been received: `chunk.octets[start, end)`. */
export type ChunkSink = (chunk: Chunk, start: number, end: number) => void;

/** Reads from one socket, which must be made with its `onRead` and `buffer`, and paused and resumed as any. */
export class ChunkReader {
  /** Where the octets go; to be set before the first come. */
  sink: ChunkSink = () => {};
  /** In use by this reader; undefined while it reads into `LANDING`. */
  #chunk: Chunk | undefined;

  /** Where to read next. */
  readonly buffer = (): Buffer => this.#chunk?.octets ?? LANDING;

  readonly onRead = (bytes: number): boolean => {
    const octets = this.buffer();
    let chunk = this.#letGo();
    if (bytes < CHUNK_FILLED_BYTES_MIN) {
      const few = new Chunk(copyOf(octets, bytes));
      chunk?.giveBack();
      this.sink(few, 0, bytes);
      return true;
    }
    if (chunk === undefined) {
      chunk = takeChunk();
      octets.copy(chunk.octets, 0, 0, bytes);
    }
    this.sink(chunk, 0, bytes);
    chunk.giveBack();
    if (heldCount < HELD_CHUNKS_MAX) {
      heldCount += 1;
      this.#chunk = takeChunk();
    }
    return true;
  };

  /** The socket is gone. */
  close(): void {
    this.#letGo()?.giveBack();
  }

  #letGo(): Chunk | undefined {
    const chunk = this.#chunk;
    if (chunk !== undefined) heldCount -= 1;
    this.#chunk = undefined;
    return chunk;
  }
}

function copyOf(octets: Buffer, bytes: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes);
  octets.copy(copy, 0, 0, bytes);
  return copy;
}

/** What a socket of `net` stands on. Not in Node's documentation, but as old as Node. */
interface HandleHolder {
  _handle: unknown;
}

/**
 * The same connection as one that reads by `reader`; `accepted`, from which nobody may have read, is done with afterwards.
 * Servers of `net` have no option for the `onread` of the sockets that they make, so the connection changes hands.
 * Undefined where that is not possible; then nothing has happened.
 */
export function readingBy(reader: ChunkReader, accepted: Socket): Socket | undefined {
  const holder = accepted as unknown as HandleHolder;
  const handle = holder._handle;
  if (typeof handle !== 'object' || handle === null) return undefined;
  const options = { handle, onread: { buffer: reader.buffer, callback: reader.onRead } };
  holder._handle = null;
  accepted.destroy();
  return new Socket(options as SocketConstructorOpts).once('close', () => reader.close());
}

/** Has `sink` called with all that comes by `transport`, in order. To be called once, at once. */
export function receive({ socket, reader }: Transport, sink: ChunkSink): void {
  if (reader !== undefined) reader.sink = sink;
  else socket.on('data', (octets: Buffer) => sink(new Chunk(octets), 0, octets.length));
}
