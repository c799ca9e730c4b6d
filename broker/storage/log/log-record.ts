/** What a commit has put where; one for all that it holds. Custodies point here, and so does what has been moved. */
import type { StoredRecord } from '../../store.ts';
import type { Segment } from './segment.ts';

export class LogRecord implements StoredRecord {
  written = false;
  /** Undefined until the commit is encoded. May change until it is `written`: a commit that fails goes elsewhere. */
  segment: Segment | undefined = undefined;
  /** Slot in the segment of the custody with slot 0. */
  firstSlot = 0;

  /** A record that is written; slots are those of the segment. */
  static of(segment: Segment): LogRecord {
    const record = new LogRecord();
    record.segment = segment;
    record.written = true;
    return record;
  }
}
