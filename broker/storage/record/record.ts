/**
 * The frame of a record: what one commit has written. A segment is nothing but records, one after the other, of which the
 * first begins with a checkpoint (operations.ts).
 *
 * ```
 *  0 magic "WRN1"        4 segment: the number of the file
 *  8 sequence, 64 bits: of the records of all segments
 * 16 payload octets     20 CRC-32 of the payload
 * 24 octets of state operations, with which the payload begins; operations of messages follow
 * 28 first slot         32 slots: one for each custody that begins here
 * 36 settled custodies  40 definitions: how many, for reports of damage
 * 44 seal of the data folder, 64 bits
 * 52 CRC-32 of the header up to here
 * ```
 *
 * All integers are little-endian. The header has a checksum of its own, so that a record with a damaged payload still says
 * what it held, and the next one is found when a header is damaged. The seal is random and the same in all records of a
 * data folder: whoever sends messages cannot know it, so nothing in a message can pass for a record when one is looked for.
 */
import { crc32 } from 'node:zlib';

/** Octets of a header. */
export const HEADER_BYTES = 56;

const MAGIC = 0x314e5257;
const MAGIC_OCTETS = Buffer.from('WRN1', 'latin1');
const CHECKED_BYTES = 52;

/** Whose records are meant. */
export interface RecordOwner {
  /** Number of the segment. */
  readonly id: number;
  readonly seal: bigint;
}

/**
 * The seal of the records in a second copy (log/state-copy.ts): another one, so that none of them is ever taken for a
 * record of the log, whoever mixes up the files. Of the seal of a copy, it is that of the log.
 */
export function otherSeal(seal: bigint): bigint {
  return BigInt.asUintN(64, ~seal);
}

/** What a header says. */
export interface RecordHeader {
  readonly segment: number;
  readonly seal: bigint;
  readonly sequence: number;
  readonly payloadBytes: number;
  readonly payloadCrc: number;
  readonly stateBytes: number;
  readonly firstSlot: number;
  readonly slotCount: number;
  readonly settledCount: number;
  readonly definitionCount: number;
}

/** Writes a header to the first `HEADER_BYTES` of `octets`. */
export function writeHeader(octets: Buffer, header: RecordHeader): void {
  octets.writeUInt32LE(MAGIC, 0);
  octets.writeUInt32LE(header.segment, 4);
  octets.writeUInt32LE(header.sequence >>> 0, 8);
  octets.writeUInt32LE(Math.floor(header.sequence / 2 ** 32), 12);
  octets.writeUInt32LE(header.payloadBytes, 16);
  octets.writeUInt32LE(header.payloadCrc, 20);
  octets.writeUInt32LE(header.stateBytes, 24);
  octets.writeUInt32LE(header.firstSlot, 28);
  octets.writeUInt32LE(header.slotCount, 32);
  octets.writeUInt32LE(header.settledCount, 36);
  octets.writeUInt32LE(header.definitionCount, 40);
  octets.writeBigUInt64LE(header.seal, 44);
  octets.writeUInt32LE(crc32(octets.subarray(0, CHECKED_BYTES)), CHECKED_BYTES);
}

/** The header at `at`; undefined when none is there that passes its checksum, or it is one of somebody else's. */
export function readHeader(octets: Buffer, at: number, end: number, owner: RecordOwner): RecordHeader | undefined {
  const header = readAnyHeader(octets, at, end);
  return header?.segment === owner.id && header.seal === owner.seal ? header : undefined;
}

/** The header at `at`, whosever it is. */
export function readAnyHeader(octets: Buffer, at: number, end: number): RecordHeader | undefined {
  if (end - at < HEADER_BYTES || octets.readUInt32LE(at) !== MAGIC) return undefined;
  if (crc32(octets.subarray(at, at + CHECKED_BYTES)) !== octets.readUInt32LE(at + CHECKED_BYTES)) return undefined;
  const header = fieldsAt(octets, at);
  return header.stateBytes > header.payloadBytes ? undefined : header;
}

/**
 * What the first octets would say as a header, whatever their checksum says; for reports of damage. All zeros when there
 * are too few.
 */
export function readUncheckedHeader(octets: Buffer): RecordHeader {
  return fieldsAt(octets.length < HEADER_BYTES ? Buffer.alloc(HEADER_BYTES) : octets, 0);
}

function fieldsAt(octets: Buffer, at: number): RecordHeader {
  return {
    segment: octets.readUInt32LE(at + 4),
    seal: octets.readBigUInt64LE(at + 44),
    sequence: octets.readUInt32LE(at + 8) + octets.readUInt32LE(at + 12) * 2 ** 32,
    payloadBytes: octets.readUInt32LE(at + 16),
    payloadCrc: octets.readUInt32LE(at + 20),
    stateBytes: octets.readUInt32LE(at + 24),
    firstSlot: octets.readUInt32LE(at + 28),
    slotCount: octets.readUInt32LE(at + 32),
    settledCount: octets.readUInt32LE(at + 36),
    definitionCount: octets.readUInt32LE(at + 40),
  };
}

/** Whether the payload at `start` is what `header` says. */
export function isIntact(header: RecordHeader, octets: Buffer, start: number): boolean {
  return crc32(octets.subarray(start, start + header.payloadBytes)) === header.payloadCrc;
}

/** The next place in `octets[at, end)` at which a record may begin; -1 when there is none. */
export function findMagic(octets: Buffer, at: number, end: number): number {
  const found = octets.indexOf(MAGIC_OCTETS, at);
  return found >= 0 && found + MAGIC_OCTETS.length <= end ? found : -1;
}

/**
 * Whether a file that begins with `octets` may be a segment of which not even the first record was finished: it begins as
 * one does, or its first octets have not been written.
 */
export function isBeginning(octets: Buffer, segment: number): boolean {
  const expected = Buffer.alloc(8);
  expected.writeUInt32LE(MAGIC, 0);
  expected.writeUInt32LE(segment, 4);
  const first = octets.subarray(0, expected.length);
  return first.equals(expected.subarray(0, first.length)) || first.every((octet) => octet === 0);
}
