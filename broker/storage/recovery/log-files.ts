/** The files of a log as a start finds them, before anything is known of what they hold: whose they are, and their records. */
import type { Files } from '../folder/files.ts';
import type { MarkedEnd } from '../log/mark.ts';
import { readOctets } from '../pages/block-reader.ts';
import { HEADER_BYTES, isBeginning, otherSeal, type RecordHeader, readAnyHeader } from '../record/record.ts';
import { storeErrorOf } from '../store-error.ts';
import { scanSegment } from './segment-scan.ts';

/** A file of the log. */
export interface LogFile {
  readonly id: number;
  readonly path: string;
  readonly bytes: number;
  /** It is the second copy of the segment's state (log/state-copy.ts). */
  readonly isCopy: boolean;
}

/** A part of a file in which no record is intact. */
export interface Region {
  readonly offset: number;
  readonly end: number;
  /** Of the record that was there, if that is intact. */
  readonly header: RecordHeader | undefined;
}

/**
 * Whose a file is by its beginning. `begun`: it may be a segment of which not even the first record was finished, or is
 * damaged; `foreign`: Warren has not begun it for this log.
 */
export type Origin = 'ours' | 'begun' | 'foreign';

export class LogReader {
  readonly #files: Files;
  readonly #beginnings: ReadonlyMap<LogFile, Buffer>;
  /** That of the log; undefined when there is nothing that has one. */
  readonly seal: bigint | undefined;

  private constructor(files: Files, beginnings: ReadonlyMap<LogFile, Buffer>, seal: bigint | undefined) {
    this.#files = files;
    this.#beginnings = beginnings;
    this.seal = seal;
  }

  /** `files` in rising order. Throws StoreError when one of them cannot be read. */
  static async of(on: Files, files: readonly LogFile[], mark: MarkedEnd | undefined): Promise<LogReader> {
    const beginnings = new Map<LogFile, Buffer>();
    for (const file of files) beginnings.set(file, await readSome(on, file, HEADER_BYTES));
    return new LogReader(on, beginnings, chooseSeal(beginnings, mark));
  }

  originOf(file: LogFile): Origin {
    const octets = this.#beginnings.get(file) ?? Buffer.alloc(0);
    const header = readAnyHeader(octets, 0, octets.length);
    if (header !== undefined) return sealIn(header, file) === this.seal ? 'ours' : 'foreign';
    return isBeginning(octets, file.id) ? 'begun' : 'foreign';
  }

  /**
   * Tells of the records in the first `file.bytes` octets, and of what lies between them. Either callback answers `false`
   * to end the scan. Throws StoreError when the file cannot be read.
   */
  async scan(
    file: LogFile,
    onRecord: (header: RecordHeader, offset: number, octets: Buffer, payloadStart: number) => unknown,
    onDamage: (region: Region) => unknown = () => undefined,
  ): Promise<void> {
    const { id, path, bytes, isCopy } = file;
    const seal = this.seal ?? 0n;
    try {
      const opened = await this.#files.open(path, 'read');
      try {
        await scanSegment(opened, { id, seal: isCopy ? otherSeal(seal) : seal }, bytes, {
          onRecord: (header, offset, octets, start) => onRecord(header, offset, octets, start) !== false,
          onDamage: (offset, end, header) => onDamage({ offset, end, header }) !== false,
        });
      } finally {
        await opened.close();
      }
    } catch (error) {
      throw storeErrorOf(error, 'cannot read', path);
    }
  }

  /** Octets `[from, to)` of a file, or as many as there are. Throws StoreError. */
  read(file: LogFile, from: number, to: number): Promise<Buffer> {
    return readSome(this.#files, file, to, from);
  }
}

async function readSome(files: Files, { path }: LogFile, to: number, from = 0): Promise<Buffer> {
  try {
    const file = await files.open(path, 'read');
    return await readOctets(file, from, to).finally(() => file.close());
  } catch (error) {
    throw storeErrorOf(error, 'cannot read', path);
  }
}

/** The seal of the log to which a file belongs that begins like this; undefined when it says so of another file. */
function sealIn(header: RecordHeader, { id, isCopy }: LogFile): bigint | undefined {
  if (header.segment !== id) return undefined;
  return isCopy ? otherSeal(header.seal) : header.seal;
}

/**
 * The seal that most files begin with; of two, that of the mark, or of the newest file. Files of another log may have been
 * put there, also newer ones, and even another mark: they must not make strangers of those that are at home here.
 */
function chooseSeal(beginnings: ReadonlyMap<LogFile, Buffer>, mark: MarkedEnd | undefined): bigint | undefined {
  const votes = new Map<bigint, number>();
  for (const [file, octets] of [...beginnings].reverse()) {
    const header = readAnyHeader(octets, 0, octets.length);
    const seal = header && sealIn(header, file);
    if (seal !== undefined) votes.set(seal, (votes.get(seal) ?? 0) + 1);
  }
  if (mark !== undefined && (votes.size === 0 || votes.has(mark.seal))) return mark.seal;
  return [...votes].sort(([, a], [, b]) => b - a)[0]?.[0];
}
