/**
 * Brings back what the log holds. The newest segment that begins with an intact checkpoint says everything but the
 * contents of messages: it is read first. Then all segments are read for their messages, and every checksum is verified.
 *
 * What is damage and what is not. The newest segment is read to its end, and all in it counts: a place in it without an
 * intact record is damage when an intact record follows, or when the mark says that the log was on disk beyond it; at the
 * end of the file it is otherwise the rest of a commit that nobody was told of. Of older segments only messages count: a
 * place that cannot be read is damage when a message is missing. A file that is newer than the newest segment is the rest
 * of a first commit, unless something in it is intact or the mark knows it.
 */
import { randomBytes } from 'node:crypto';
import type { StoreEvent } from '../../store.ts';
import type { Files } from '../folder/files.ts';
import { LogState } from '../log/log-state.ts';
import { decodeMark, isPartlyDamaged, MARK_FILE, type MarkedEnd } from '../log/mark.ts';
import { Segment } from '../log/segment.ts';
import { readOctets } from '../pages/block-reader.ts';
import { MessageCursor } from '../record/message-operations.ts';
import { hasCheckpoint } from '../record/operations.ts';
import { HEADER_BYTES, isBeginning, type RecordHeader, readAnyHeader } from '../record/record.ts';
import { storeErrorOf } from '../store-error.ts';
import { contentsText, type Damage } from './damage.ts';
import { FoundCustodies, Recovery } from './recovery.ts';
import { Replay } from './replay.ts';
import { scanSegment } from './segment-scan.ts';

/** A file of the log. */
export interface LogFile {
  readonly id: number;
  readonly path: string;
  readonly bytes: number;
}

/** What the log holds, and what is to be done next. */
export interface RecoveredLog {
  readonly state: LogState;
  readonly recovery: Recovery;
  readonly damages: readonly Damage[];
  /** Worth a line in the log. */
  readonly notices: readonly StoreEvent[];
  readonly nextSegment: number;
  readonly lastSequence: number;
  /** Files that the log does not need. */
  readonly leftovers: readonly string[];
  /**
   * What was found and may not be on disk: written by a process that was killed before it knew. To be written again before
   * anything rests on it, for a sync that failed then would succeed now without doing anything.
   */
  readonly unsynced: readonly UnsyncedOctets[];
  /** Files that end with a commit of which nobody was told, and how far they are intact. */
  readonly torn: readonly TornFile[];
}

/** A file of which only the first `bytes` octets are needed. */
export interface TornFile {
  readonly path: string;
  readonly bytes: number;
}

/** Octets `[from, to)` of a file. */
export interface UnsyncedOctets {
  readonly path: string;
  readonly from: number;
  readonly to: number;
}

/** A file as it was read: what is intact in it, and what is not. */
interface Region {
  readonly offset: number;
  readonly end: number;
  readonly header: RecordHeader | undefined;
}

export class LogRecovery {
  readonly #files: Files;
  readonly #logFiles: readonly LogFile[];
  readonly #mark: MarkedEnd | undefined;
  /** What is wrong with the mark beside a log that was written to; undefined: nothing. */
  readonly #markFault: 'missing' | 'damaged' | 'damaged in part' | undefined;
  readonly #pathOf: (id: number) => string;
  readonly #damages: Damage[] = [];
  readonly #notices: StoreEvent[] = [];
  readonly #leftovers: string[] = [];
  readonly #found = new FoundCustodies();
  /** Of the seal that the log has; a new one if it is new. */
  #state = new LogState(0n);
  /** Files that belong to the log. */
  readonly #known = new Set<number>();
  /** How far the newest files, by number, are intact. */
  readonly #intactBytes = new Map<number, number>();
  #lastSequence = 0;
  readonly #torn: TornFile[] = [];

  /** `logFiles` in rising order; `mark`: the octets of the file, undefined when there is none. */
  constructor(files: Files, logFiles: readonly LogFile[], mark: Buffer | undefined, pathOf: (id: number) => string) {
    this.#files = files;
    this.#logFiles = logFiles;
    this.#mark = mark && decodeMark(mark);
    this.#markFault = logFiles.some(({ bytes }) => bytes > 0) ? faultOf(mark) : undefined;
    this.#pathOf = pathOf;
  }

  /** Reads everything. Throws StoreError when a file cannot be read at all; what is damaged is in the answer. */
  async run(): Promise<RecoveredLog> {
    this.#state = new LogState((await this.#findSeal()) ?? randomBytes(8).readBigUInt64LE());
    if (this.#markFault !== undefined) {
      const text = `the file ${MARK_FILE}, which says how far the log is on disk, is ${this.#markFault}; it is made anew`;
      this.#notices.push({ type: 'notice', text });
    }
    const base = await this.#findBase();
    const newest = this.#logFiles.filter(({ id }) => id >= (base?.id ?? 0));
    for (const file of newest) await this.#replay(file, file === base);
    this.#checkMark();
    for (const segment of [...this.#state.segments.values()].sort((a, b) => a.id - b.id)) {
      await this.#readMessages(segment);
    }
    this.#dropEmpty();
    const isClean = this.#isClean();
    for (const holder of this.#state.holders.values()) {
      if (!isClean) holder.returnedThrough = Math.max(holder.returnedThrough, holder.deliveredThrough);
    }
    this.#state.lastHolder = Math.max(this.#state.lastHolder, this.#found.lastHolder);
    // What is damaged has been given up here only; the log must say so too, or the next start would refuse it again.
    const isChanged = (!isClean && this.#logFiles.length > 0) || this.#damages.length > 0;
    return {
      state: this.#state,
      recovery: new Recovery(this.#found, this.#state.holders, this.#state.segments, isChanged),
      damages: this.#damages,
      notices: this.#notices,
      nextSegment: Math.max(this.#mark?.segment ?? 0, ...this.#logFiles.map(({ id }) => id)) + 1,
      lastSequence: Math.max(this.#lastSequence, this.#mark?.sequence ?? 0),
      leftovers: this.#leftovers,
      unsynced: isClean ? [] : newest.map((file) => this.#unsyncedOf(file)),
      torn: this.#torn,
    };
  }

  #unsyncedOf({ id, path }: LogFile): UnsyncedOctets {
    const from = this.#mark?.segment === id ? this.#mark.bytes : 0;
    return { path, from, to: this.#intactBytes.get(id) ?? 0 };
  }

  /** The seal in the first record of the newest file that has one, or else in the mark. */
  async #findSeal(): Promise<bigint | undefined> {
    for (const { id, path } of this.#logFiles.toReversed()) {
      try {
        const file = await this.#files.open(path, 'read');
        const octets = await readOctets(file, 0, HEADER_BYTES).finally(() => file.close());
        const header = readAnyHeader(octets, 0, octets.length);
        if (header?.segment === id) return header.seal;
      } catch (error) {
        throw storeErrorOf(error, 'cannot read', path);
      }
    }
    return this.#mark?.seal;
  }

  /** The newest file that begins with an intact checkpoint. */
  async #findBase(): Promise<LogFile | undefined> {
    for (const file of this.#logFiles.toReversed()) {
      let isBase = false;
      await this.#scan(
        file,
        (header, offset, octets, payloadStart) => {
          isBase = offset === 0 && hasCheckpoint(octets, payloadStart, header.stateBytes);
          return false;
        },
        () => false,
      );
      if (isBase) return file;
    }
    return undefined;
  }

  /** Either callback answers `false` to end the scan. */
  async #scan(
    { id, path, bytes }: LogFile,
    onRecord: (header: RecordHeader, offset: number, octets: Buffer, payloadStart: number) => unknown,
    onDamage: (region: Region) => unknown = () => undefined,
  ): Promise<void> {
    try {
      const file = await this.#files.open(path, 'read');
      try {
        await scanSegment(file, { id, seal: this.#state.seal }, bytes, {
          onRecord: (header, offset, octets, start) => onRecord(header, offset, octets, start) !== false,
          onDamage: (offset, end, header) => onDamage({ offset, end, header }) !== false,
        });
      } finally {
        await file.close();
      }
    } catch (error) {
      throw storeErrorOf(error, 'cannot read', path);
    }
  }

  /** Takes in the state operations of the newest segment, or of one that is newer and damaged. */
  async #replay(file: LogFile, isBase: boolean): Promise<void> {
    const segment = new Segment(file.id, this.#state.seal);
    const replay = new Replay(this.#state, !isBase || this.#damages.length > 0);
    let regions: Region[] = [];
    let records = 0;
    let lastHere = 0;
    await this.#scan(
      file,
      (header, offset, octets, payloadStart) => {
        for (const region of regions) this.#damage(file, region, 'this is not what was written');
        regions = [];
        // Intact, and still not what was written here: somebody has put it there again.
        if (header.sequence <= lastHere) {
          this.#damage(file, { offset, end: offset, header }, 'a record stands here that was written before');
          return;
        }
        lastHere = header.sequence;
        try {
          replay.record(segment, header, octets, payloadStart);
        } catch (error) {
          const text = `an intact record makes no sense (${error instanceof Error ? error.message : error})`;
          this.#damage(file, { offset, end: offset, header }, text);
        }
        records++;
        this.#lastSequence = Math.max(this.#lastSequence, header.sequence);
        segment.bytes = offset + HEADER_BYTES + header.payloadBytes;
        this.#intactBytes.set(file.id, segment.bytes);
        if (header.slotCount > 0) segment.indexRecord(offset, header.firstSlot);
      },
      (region) => regions.push(region),
    );
    this.#known.add(file.id);
    if (!isBase && records > 0) {
      this.#damages.push({
        path: file.path,
        offset: 0,
        text: 'the checkpoint at its beginning is not what was written',
      });
    }
    if (records > 0) {
      this.#judgeEnd(file, segment, regions);
      return;
    }
    this.#leftovers.push(file.path);
    if (file.bytes === 0 || (await this.#isBegun(file))) this.#judgeEnd(file, segment, regions);
    else this.#damage(file, { offset: 0, end: file.bytes, header: undefined }, 'nothing in it is what Warren writes');
  }

  async #isBegun({ id, path }: LogFile): Promise<boolean> {
    try {
      const file = await this.#files.open(path, 'read');
      return isBeginning(await readOctets(file, 0, HEADER_BYTES).finally(() => file.close()), id);
    } catch (error) {
      throw storeErrorOf(error, 'cannot read', path);
    }
  }

  /** What there is at the end of a newest file that is not intact. */
  #judgeEnd(file: LogFile, { bytes }: Segment, regions: readonly Region[]): void {
    const mark = this.#mark;
    const markedBytes = mark?.segment === file.id ? mark.bytes : 0;
    if (markedBytes > bytes) {
      const [header] = regions.flatMap((region) => region.header ?? []);
      const cut = file.bytes < markedBytes ? `the file ends at octet ${file.bytes}` : 'this is not what was written';
      this.#damage(file, { offset: bytes, end: markedBytes, header }, cut);
    } else if (file.bytes > bytes && mark === undefined) {
      const [header] = regions.flatMap((region) => region.header ?? []);
      const text = `this is not what was written, or was not finished: the file ${MARK_FILE}, which would tell, is ${this.#markFault}`;
      this.#damage(file, { offset: bytes, end: file.bytes, header }, text);
    } else if (file.bytes > bytes) {
      this.#torn.push({ path: file.path, bytes });
      const text = `${file.path}: its last ${file.bytes - bytes} octets are part of a commit that was not finished, and of which nobody was told${this.#markFault === undefined ? '' : `, as far as is known: the file ${MARK_FILE} is ${this.#markFault}`}; they are passed over`;
      this.#notices.push({ type: 'notice', text });
    }
  }

  #damage({ path }: { readonly path: string }, { offset, header }: Region, text: string): void {
    const held = header === undefined ? 'what was here is not known' : `it held ${contentsText(header)}`;
    this.#damages.push({ path, offset, text: `${text}; ${held}` });
  }

  /** The mark may know of a file that is not there. */
  #checkMark(): void {
    const mark = this.#mark;
    if (mark === undefined || mark.bytes === 0 || this.#logFiles.some(({ id }) => id === mark.segment)) return;
    if (this.#logFiles.some(({ id }) => id > mark.segment)) return;
    const text = `the file is missing; it was the newest, ${mark.bytes} octets long`;
    this.#damages.push({ path: this.#pathOf(mark.segment), offset: undefined, text });
  }

  /** Finds the live messages of a segment. Those that cannot be found are settled, and reported. */
  async #readMessages(segment: Segment): Promise<void> {
    const { slots } = segment;
    this.#known.add(segment.id);
    if (slots.live === 0) return;
    const file = this.#logFiles.find(({ id }) => id === segment.id);
    if (file === undefined) {
      this.#lose(segment, 0, slots.count, undefined, 'the file is missing');
      return;
    }
    let next = 0;
    let bad: Region | undefined;
    await this.#scan(
      { ...file, bytes: Math.min(file.bytes, segment.bytes) },
      (header, offset, octets, payloadStart) => {
        if (header.slotCount === 0) return;
        if (header.firstSlot > next) this.#lose(segment, next, header.firstSlot, bad, 'this is not what was written');
        if (next === 0 || header.firstSlot >= next) segment.indexRecord(offset, header.firstSlot);
        next = header.firstSlot + header.slotCount;
        bad = undefined;
        const start = payloadStart + header.stateBytes;
        const end = payloadStart + header.payloadBytes;
        try {
          this.#takeMessages(segment, new MessageCursor(octets, start, end, header.firstSlot), next);
        } catch (error) {
          const text = `an intact record makes no sense (${error instanceof Error ? error.message : error})`;
          this.#lose(segment, header.firstSlot, next, { offset, end: offset, header }, text);
        }
      },
      (region) => {
        bad ??= region;
      },
    );
    if (next >= slots.count) return;
    const cut = file.bytes < segment.bytes ? `the file ends at octet ${file.bytes}` : 'this is not what was written';
    this.#lose(segment, next, slots.count, bad ?? { offset: file.bytes, end: file.bytes, header: undefined }, cut);
  }

  #takeMessages(segment: Segment, cursor: MessageCursor, slotEnd: number): void {
    const { slots, amendments } = segment;
    let expected = cursor.slotEnd;
    while (cursor.nextMessage()) {
      const bytes = (cursor.propertyBytes + cursor.bodyBytes) / Math.max(1, cursor.custodyCount);
      while (cursor.nextCustody()) {
        const { slot, survives } = cursor;
        while (expected < slot) slots.settle(expected++);
        expected = slot + 1;
        if (!slots.isLive(slot)) continue;
        slots.setSize(slot, bytes);
        if (survives) this.#found.add(segment, cursor, amendments?.get(slot));
        else slots.settle(slot);
      }
    }
    while (expected < slotEnd) slots.settle(expected++);
  }

  /** Live custodies among the slots `[from, to)` cannot be found: if there are any, that is damage. */
  #lose(segment: Segment, from: number, to: number, region: Region | undefined, text: string): void {
    const lost = segment.slots.liveBetween(from, to);
    for (let slot = from; slot < to; slot++) segment.slots.settle(slot);
    if (lost === 0) return;
    const path = this.#pathOf(segment.id);
    const known = this.#damages.some((damage) => damage.path === path && damage.offset === region?.offset);
    if (known) return;
    const held = lost === 1 ? 'one message that waits is missing' : `${lost} messages that wait are missing`;
    this.#damages.push({ path, offset: region?.offset, text: `${text}; ${held}` });
  }

  #dropEmpty(): void {
    for (const segment of [...this.#state.segments.values()]) this.#state.dropIfEmpty(segment);
    for (const { id, path } of this.#logFiles) {
      if (!this.#state.segments.has(id) && !this.#leftovers.includes(path)) this.#leftovers.push(path);
    }
  }

  /** The log ends where an orderly end has left it. */
  #isClean(): boolean {
    const mark = this.#mark;
    const last = this.#logFiles.at(-1);
    return (
      mark?.isClosed === true &&
      this.#torn.length === 0 &&
      last?.id === mark.segment &&
      mark.sequence === this.#lastSequence
    );
  }
}

function faultOf(mark: Buffer | undefined): 'missing' | 'damaged' | 'damaged in part' | undefined {
  if (mark === undefined) return 'missing';
  if (decodeMark(mark) === undefined) return 'damaged';
  return isPartlyDamaged(mark) ? 'damaged in part' : undefined;
}
