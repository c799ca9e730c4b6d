/** Reads a file of the log from its beginning to its end, record by record, and finds its way again behind damage. */
import type { OpenFile } from '../folder/files.ts';
import {
  findMagic,
  HEADER_BYTES,
  isIntact,
  type RecordHeader,
  type RecordOwner,
  readHeader,
} from '../record/record.ts';

/** Read at a time; a larger record is read as a whole. */
const CHUNK_BYTES = 4 * 1024 * 1024;

/** What a scan has come across; the octets are valid until the call returns. `false` ends the scan. */
export interface ScanSink {
  onRecord(header: RecordHeader, offset: number, octets: Buffer, payloadStart: number): boolean;
  /** Between `offset` and `end` is no intact record. `header` is that of the one which was there, if it is intact. */
  onDamage(offset: number, end: number, header: RecordHeader | undefined): boolean;
}

/** The part of a file that is in memory. */
class Window {
  octets: Buffer;
  /** Where in the file `octets` begin, and how many are filled. */
  start = 0;
  filled = 0;
  readonly #file: OpenFile;
  /** Octets of the file. */
  readonly #end: number;

  constructor(file: OpenFile, end: number) {
    this.octets = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, Math.max(end, HEADER_BYTES)));
    this.#file = file;
    this.#end = end;
  }

  has(offset: number, count: number): boolean {
    return offset + count <= this.start + this.filled;
  }

  /** Makes the octets from `offset` on, `count` of them or all there are, present. Rejects when they cannot be read. */
  async read(offset: number, count: number): Promise<void> {
    const kept = this.octets.subarray(offset - this.start, this.filled);
    if (count > this.octets.length) {
      const larger = Buffer.allocUnsafeSlow(count);
      larger.set(kept);
      this.octets = larger;
    } else this.octets.copyWithin(0, offset - this.start, this.filled);
    this.start = offset;
    this.filled = kept.length;
    const length = Math.min(this.octets.length - this.filled, this.#end - offset - this.filled);
    if (length <= 0) return;
    this.filled += await new Promise<number>((resolve, reject) => {
      this.#file.read(this.octets, this.filled, length, offset + this.filled, (error, bytes) => {
        if (error === null) resolve(bytes);
        else reject(error);
      });
    });
  }
}

/** Scans the first `end` octets of the file of a segment. Rejects when it cannot be read. */
export async function scanSegment(file: OpenFile, owner: RecordOwner, end: number, sink: ScanSink): Promise<void> {
  const window = new Window(file, end);
  for (let at = 0; at < end; ) {
    if (!window.has(at, HEADER_BYTES)) await window.read(at, HEADER_BYTES);
    const header = readHeader(window.octets, at - window.start, window.filled, owner);
    if (header === undefined) {
      const next = await findRecord(window, owner, at + 1, end);
      if (!sink.onDamage(at, next, undefined)) return;
      at = next;
      continue;
    }
    const bytes = HEADER_BYTES + header.payloadBytes;
    if (!window.has(at, bytes) && at + bytes <= end) await window.read(at, bytes);
    const payloadStart = at - window.start + HEADER_BYTES;
    const goesOn =
      window.has(at, bytes) && isIntact(header, window.octets, payloadStart)
        ? sink.onRecord(header, at, window.octets, payloadStart)
        : sink.onDamage(at, Math.min(end, at + bytes), header);
    if (!goesOn) return;
    at += bytes;
  }
}

/** Where the next intact header of the segment is, from `at` on; `end` when there is none. */
async function findRecord(window: Window, owner: RecordOwner, at: number, end: number): Promise<number> {
  while (at < end) {
    if (!window.has(at, HEADER_BYTES)) await window.read(at, HEADER_BYTES);
    if (!window.has(at, 1)) return end;
    const found = findMagic(window.octets, at - window.start, window.filled);
    if (found < 0) {
      // A magic number may lie across the end of what is in memory.
      at = Math.max(at + 1, window.start + window.filled - HEADER_BYTES);
      continue;
    }
    at = window.start + found;
    if (!window.has(at, HEADER_BYTES)) await window.read(at, HEADER_BYTES);
    if (readHeader(window.octets, at - window.start, window.filled, owner) !== undefined) return at;
    at++;
  }
  return end;
}
