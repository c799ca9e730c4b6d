/** Reads whole records of a segment, and tells of each whether it is intact. */
import type { OpenFile } from '../folder/files.ts';
import type { Segment } from '../log/segment.ts';
import type { MessageCursor } from '../record/message-operations.ts';
import { findMagic, HEADER_BYTES, isIntact, type RecordHeader, readHeader } from '../record/record.ts';

/** Records in memory. */
export interface ReadRecords {
  readonly octets: Buffer;
  /** Where in the file they begin. */
  readonly start: number;
  /** They have been found intact before. */
  readonly isIntact?: boolean;
  /** How far the messages of one record have been read: that of the payload that begins at this octet of `octets`. */
  bookmark?: { readonly payloadStart: number; readonly cursor: MessageCursor };
}

/**
 * Octets `[start, end)` of a file, into `octets` if given, which must have room for them; fewer when the file ends. Rejects
 * when they cannot be read.
 */
export function readOctets(
  file: OpenFile,
  start: number,
  end: number,
  octets: Buffer = Buffer.allocUnsafeSlow(end - start),
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    file.read(octets, 0, end - start, start, (error, count) => {
      if (error === null) resolve(octets.subarray(0, count));
      else reject(error);
    });
  });
}

/**
 * Calls `onRecord` with each record from octet `from` to octet `end` of a segment and where in what was read its payload
 * begins, and `onDamage` with each offset at which one should be and is not.
 */
export function eachRecord(
  segment: Segment,
  { octets, start, isIntact: isKnown }: ReadRecords,
  from: number,
  end: number,
  onRecord: (header: RecordHeader, payloadStart: number) => void,
  onDamage: (offset: number) => void,
): void {
  let at = from - start;
  while (start + at < end) {
    const header = readHeader(octets, at, octets.length, segment);
    if (header === undefined) {
      onDamage(start + at);
      at = nextHeader(octets, at + 1, segment);
      continue;
    }
    const payloadStart = at + HEADER_BYTES;
    const next = payloadStart + header.payloadBytes;
    if (isKnown || (next <= octets.length && isIntact(header, octets, payloadStart))) onRecord(header, payloadStart);
    else onDamage(start + at);
    at = next;
  }
}

/** Where the next intact header of a record of the segment is, from `at` on; Infinity when there is none. */
function nextHeader(octets: Buffer, at: number, segment: Segment): number {
  for (;;) {
    const found = findMagic(octets, at, octets.length);
    if (found < 0) return Number.POSITIVE_INFINITY;
    if (readHeader(octets, found, octets.length, segment) !== undefined) return found;
    at = found + 1;
  }
}
