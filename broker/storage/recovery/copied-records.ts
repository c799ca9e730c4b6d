/** The second copy of the newest segment's state (log/state-copy.ts), as a start finds it. */
import { hasCheckpoint } from '../record/operations.ts';
import type { RecordHeader } from '../record/record.ts';
import type { LogFile, LogReader, Region } from './log-files.ts';

/** A record of the copy; the payload are operations on the state. */
export interface CopiedRecord {
  readonly header: RecordHeader;
  readonly octets: Buffer;
}

/** Its records, in their order, each handed out once: where the log has lost one, and as it is read. */
export class CopiedRecords {
  readonly path: string;
  readonly #records: readonly CopiedRecord[];
  /** Places in which none is intact. */
  readonly regions: readonly Region[];
  /** Something intact comes behind one of them. */
  readonly isHoled: boolean;
  #next = 0;
  /** What the log says and the copy does not. */
  isIncomplete = false;

  private constructor(path: string, records: readonly CopiedRecord[], regions: readonly Region[], isHoled: boolean) {
    this.path = path;
    this.#records = records;
    this.regions = regions;
    this.isHoled = isHoled;
  }

  /** Throws StoreError when the file cannot be read. */
  static async read(reader: LogReader, file: LogFile): Promise<CopiedRecords> {
    const records: CopiedRecord[] = [];
    const regions: Region[] = [];
    let isHoled = false;
    await reader.scan(
      file,
      (header, _offset, octets, start) => {
        isHoled = regions.length > 0;
        records.push({ header, octets: Buffer.from(octets.subarray(start, start + header.payloadBytes)) });
      },
      (region) => regions.push(region),
    );
    return new CopiedRecords(file.path, records, regions, isHoled);
  }

  /** The segment begins with it, which makes it possible to go without the one in the log. */
  get checkpoint(): RecordHeader | undefined {
    const [first] = this.#records;
    return first && hasCheckpoint(first.octets, 0, first.header.stateBytes) ? first.header : undefined;
  }

  /**
   * It is the copy of the first commit that the log was ever to hold, and nothing came after it: where the log does not
   * have that commit, and no mark knows of it, it was not finished.
   */
  get isFirstCommit(): boolean {
    return this.#records.length === 1 && this.#records[0]?.header.sequence === 1;
  }

  /** Those that have not been handed out and come before the one with the number `sequence`. */
  before(sequence: number): CopiedRecord[] {
    const from = this.#next;
    while ((this.#records[this.#next]?.header.sequence ?? sequence) < sequence) this.#next++;
    return this.#records.slice(from, this.#next);
  }

  /** The log has this record, after those that `before` has handed out. */
  pass({ sequence, definitionCount }: RecordHeader): void {
    if (this.#records[this.#next]?.header.sequence === sequence) this.#next++;
    else if (definitionCount > 0) this.isIncomplete = true;
  }
}
