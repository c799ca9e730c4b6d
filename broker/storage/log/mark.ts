/**
 * The file `mark`: how far the log is on disk, and whether it was ended in an orderly way. It is not part of what is
 * stored and is not synced but at the end: it tells damage at the end of the log from a commit that nobody was told of.
 *
 * Three copies of 40 octets, of which the first two are written in turns. The third is written and synced once, before the
 * folder has a log: whatever a power failure does to the other two, a mark without any copy that is intact has been damaged
 * or was never there. Little-endian:
 *
 * ```
 *  0 magic "WRNM"                              4 segment
 *  8 octets of it, 64 bits                    16 sequence of its last record, 64 bits
 * 24 seal of the data folder, 64 bits         32 1: ended in an orderly way     36 CRC-32
 * ```
 */
import { crc32 } from 'node:zlib';
import type { OpenFile } from '../folder/files.ts';
import type { Segment } from './segment.ts';

/** Name of the file within the data folder. */
export const MARK_FILE = 'mark';

const COPY_BYTES = 40;
/** Where the copy lies that is written once. */
const FIRST_AT = 80;

/** Octets of the file; older folders have one without the third copy. */
export const MARK_BYTES = 120;

const CHECKED_BYTES = 36;
const MAGIC = 0x4d4e5257;

/** How far the log is on disk, at least. */
export interface LogEnd {
  readonly segment: number;
  readonly seal: bigint;
  readonly bytes: number;
  readonly sequence: number;
}

export interface MarkedEnd extends LogEnd {
  /** The process that wrote it had nothing left to write. */
  readonly isClosed: boolean;
}

/** What the octets of the file say: the latest one of its copies; undefined when there is none. */
export function decodeMark(octets: Buffer): MarkedEnd | undefined {
  const marks = copiesOf(octets).map(decodeCopy);
  return marks.reduce((a, b) => (a === undefined || (b !== undefined && isLater(b, a)) ? b : a));
}

/** A copy has been written and is not what was written; a power failure may do that, too. */
export function isPartlyDamaged(octets: Buffer): boolean {
  return copiesOf(octets).some((copy) => decodeCopy(copy) === undefined && copy.some((octet) => octet !== 0));
}

function copiesOf(octets: Buffer): Buffer[] {
  return [0, COPY_BYTES, FIRST_AT].map((at) => octets.subarray(at, at + COPY_BYTES));
}

function isLater(a: MarkedEnd, b: MarkedEnd): boolean {
  return a.sequence !== b.sequence ? a.sequence > b.sequence : a.isClosed;
}

function decodeCopy(octets: Buffer): MarkedEnd | undefined {
  if (octets.length < COPY_BYTES || octets.readUInt32LE(0) !== MAGIC) return undefined;
  if (crc32(octets.subarray(0, CHECKED_BYTES)) !== octets.readUInt32LE(CHECKED_BYTES)) return undefined;
  return {
    segment: octets.readUInt32LE(4),
    bytes: octets.readUInt32LE(8) + octets.readUInt32LE(12) * 2 ** 32,
    sequence: octets.readUInt32LE(16) + octets.readUInt32LE(20) * 2 ** 32,
    seal: octets.readBigUInt64LE(24),
    isClosed: octets.readUInt32LE(32) === 1,
  };
}

/** The octets of one copy. */
export function encodeMark({ segment, seal, bytes, sequence, isClosed }: MarkedEnd): Buffer {
  const octets = Buffer.alloc(COPY_BYTES);
  octets.writeUInt32LE(MAGIC, 0);
  octets.writeUInt32LE(segment, 4);
  octets.writeUInt32LE(bytes >>> 0, 8);
  octets.writeUInt32LE(Math.floor(bytes / 2 ** 32), 12);
  octets.writeUInt32LE(sequence >>> 0, 16);
  octets.writeUInt32LE(Math.floor(sequence / 2 ** 32), 20);
  octets.writeBigUInt64LE(seal, 24);
  octets.writeUInt32LE(isClosed ? 1 : 0, 32);
  octets.writeUInt32LE(crc32(octets.subarray(0, CHECKED_BYTES)), CHECKED_BYTES);
  return octets;
}

/** Writes the mark, never more than once at a time, the latest state first. Failures change nothing but the mark. */
export class Mark {
  readonly #file: OpenFile;
  #copy = 0;
  #isWriting = false;
  #next: MarkedEnd | undefined;
  #onIdle: (() => void) | undefined;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  /** The folder has a mark from now on that no power failure takes away; `octets` are those of the file. */
  async begin(octets: Buffer, seal: bigint): Promise<void> {
    if (decodeCopy(octets.subarray(FIRST_AT)) !== undefined) return;
    await this.#sync();
    await this.#writeAll(encodeMark({ segment: 0, seal, bytes: 0, sequence: 0, isClosed: false }), FIRST_AT);
  }

  /** The log is on disk up to here. */
  note({ id, seal, bytes }: Segment, sequence: number): void {
    this.#next = { segment: id, seal, bytes, sequence, isClosed: false };
    if (!this.#isWriting) this.#write();
  }

  #write(): void {
    const next = this.#next;
    this.#next = undefined;
    this.#isWriting = next !== undefined;
    if (next === undefined) {
      this.#onIdle?.();
      return;
    }
    this.#copy = COPY_BYTES - this.#copy;
    this.#file.write(encodeMark(next), 0, COPY_BYTES, this.#copy, () => this.#write());
  }

  /** The log ends in an orderly way, here; undefined: not, or nothing was written. Never rejects. */
  async close(end: LogEnd | undefined): Promise<void> {
    if (this.#isWriting) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    try {
      const copy = end === undefined ? undefined : encodeMark({ ...end, isClosed: true });
      if (copy !== undefined) await this.#writeAll(Buffer.concat([copy, copy]), 0);
    } catch {
      // The next start takes it for a crash, which loses nothing.
    }
    await this.#file.close().catch(() => {});
  }

  async #writeAll(octets: Buffer, at: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#file.write(octets, 0, octets.length, at, (error) => (error === null ? resolve() : reject(error)));
    });
    await this.#sync();
  }

  #sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#file.sync((error) => (error === null ? resolve() : reject(error)));
    });
  }
}
