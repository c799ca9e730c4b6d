/** What a commit has put where; one for all that it holds. Custodies point here, and so does what has been moved. */
import type { Custody, Restored, StoredRecord } from '../../store.ts';
import type { Amendment, Segment } from './segment.ts';

/** Who has the messages of a record as long as they cannot be read from the disk. */
export interface UnwrittenMessages {
  /** The custodies with these slots, rising, of which `amendments` (by slot) are known; in that order. */
  restored(slots: readonly number[], amendments: ReadonlyMap<number, Amendment>): Restored[];
  /** The custody with this slot has changed, and is `custody` to the broker from now on. Not after it has been encoded. */
  amend(slot: number, custody: Custody): void;
}

export class LogRecord implements StoredRecord {
  written = false;
  /** Undefined until the commit is encoded. May change until it is `written`: a commit that fails goes elsewhere. */
  segment: Segment | undefined = undefined;
  /** Slot in the segment of the custody with slot 0. */
  firstSlot = 0;
  /** Undefined when it is `written`. */
  unwritten: UnwrittenMessages | undefined = undefined;

  /** It is on disk. */
  markWritten(): void {
    this.written = true;
    this.unwritten = undefined;
  }

  /** A record that is written; slots are those of the segment. */
  static of(segment: Segment): LogRecord {
    const record = new LogRecord();
    record.segment = segment;
    record.written = true;
    return record;
  }
}
