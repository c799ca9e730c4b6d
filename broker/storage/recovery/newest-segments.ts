/**
 * The newest segment that begins with an intact checkpoint, and files that are newer: all in them counts. They are read
 * from their beginning to their end, and bring the state to what it was; what is missing in them is taken from the second
 * copy as far as that has it, and is damage all the same.
 */
import type { StoreEvent } from '../../store.ts';
import type { LogState } from '../log/log-state.ts';
import { MARK_FILE, type MarkedEnd } from '../log/mark.ts';
import { Segment } from '../log/segment.ts';
import { hasCheckpoint } from '../record/operations.ts';
import { HEADER_BYTES, type RecordHeader } from '../record/record.ts';
import { CopiedRecords } from './copied-records.ts';
import { DamagedPlace } from './damage.ts';
import type { LogFile, LogReader, Region } from './log-files.ts';
import { Replay } from './replay.ts';

/** A file of which only the first `bytes` octets are needed. */
export interface TornFile {
  readonly path: string;
  readonly bytes: number;
}

/** What is known of a mark. */
export interface MarkFound {
  readonly mark: MarkedEnd | undefined;
  /** What is wrong with it; undefined: nothing. */
  readonly fault: string | undefined;
}

/** The newest segment whose beginning is known. */
interface Base {
  readonly id: number;
  /** Undefined: it is missing, and its copy is there. */
  readonly file: LogFile | undefined;
  /** Undefined: there is none. */
  readonly copies: CopiedRecords | undefined;
}

/** A file while it is replayed. */
interface Replaying {
  readonly file: LogFile;
  readonly segment: Segment;
  readonly replay: Replay;
  readonly copies: CopiedRecords | undefined;
  /** Places that have been passed, of which it is not known yet whether something comes behind them. */
  regions: Region[];
  /** Records that were intact, and the number of the last one. */
  records: number;
  lastSequence: number;
}

export class NewestSegments {
  readonly #reader: LogReader;
  readonly #state: LogState;
  readonly #mark: MarkFound;
  readonly #places: DamagedPlace[];
  readonly #notices: StoreEvent[];
  readonly #pathOf: (id: number) => string;
  #base: Base | undefined;
  /** Those that have been read, in rising order. */
  files: readonly LogFile[] = [];
  /** How far they are intact, by number. */
  readonly intactBytes = new Map<number, number>();
  readonly torn: TornFile[] = [];
  /** Files that hold nothing, and those that are not of this log. */
  readonly leftovers: string[] = [];
  readonly strangers: string[] = [];
  readonly #replayed: Replay[] = [];
  lastSequence = 0;

  /** `places` and `notices` are added to. */
  constructor(
    reader: LogReader,
    state: LogState,
    mark: MarkFound,
    places: DamagedPlace[],
    notices: StoreEvent[],
    pathOf: (id: number) => string,
  ) {
    this.#reader = reader;
    this.#state = state;
    this.#mark = mark;
    this.#places = places;
    this.#notices = notices;
    this.#pathOf = pathOf;
  }

  /** Reads them; `logFiles` and their `copyFiles` in rising order. Throws StoreError when one cannot be read. */
  async read(logFiles: readonly LogFile[], copyFiles: readonly LogFile[]): Promise<void> {
    const base = await this.#findBase(logFiles, copyFiles);
    this.#base = base;
    this.files = logFiles.filter(({ id }) => id >= (base?.id ?? 0));
    if (base !== undefined && base.file === undefined) this.#replayMissing(base);
    for (const file of this.files) await this.#replay(file, file === base?.file ? base : undefined);
    this.#checkMark(logFiles);
  }

  /** Definitions that have been replaced or ended. */
  get former(): Replay['former'] {
    return this.#replayed.flatMap(({ former }) => former);
  }

  /** The newest file that begins with an intact checkpoint, or has one in its copy. */
  async #findBase(logFiles: readonly LogFile[], copyFiles: readonly LogFile[]): Promise<Base | undefined> {
    const ids = [...new Set([...logFiles, ...copyFiles].map(({ id }) => id))].sort((a, b) => b - a);
    let likely: Base | undefined;
    for (const id of ids) {
      const file = logFiles.find((each) => each.id === id);
      const copyFile = copyFiles.find((each) => each.id === id);
      const look = file === undefined ? undefined : await this.#lookAt(file);
      const copies = copyFile && (await CopiedRecords.read(this.#reader, copyFile));
      if (look?.isBase === true) return { id, file, copies };
      if (copies?.checkpoint === undefined) continue;
      // It may be one that was not finished, and of which nobody was told: then the segment before is whole.
      if (look?.isIntactLater === true || this.#knownThrough(id) > 0) return { id, file, copies };
      if (!copies.isFirstCommit) likely ??= { id, file, copies };
    }
    return likely;
  }

  /** Whether a file begins with an intact checkpoint, or something in it is intact at least. */
  async #lookAt(file: LogFile): Promise<{ readonly isBase: boolean; readonly isIntactLater: boolean }> {
    let isBase = false;
    let isIntactLater = false;
    await this.#reader.scan(file, (header, offset, octets, payloadStart) => {
      isBase = offset === 0 && hasCheckpoint(octets, payloadStart, header.stateBytes);
      isIntactLater = !isBase;
      return false;
    });
    return { isBase, isIntactLater };
  }

  /** The number of the last record of a segment that is known to have been on disk; 0 when none is. */
  #knownThrough(id: number): number {
    const { mark } = this.#mark;
    if (mark === undefined || mark.segment > id) return Number.POSITIVE_INFINITY;
    return mark.segment === id ? mark.sequence : 0;
  }

  #begin(file: LogFile, copies: CopiedRecords | undefined, isLenient: boolean): Replaying {
    const replay = new Replay(this.#state, isLenient || this.#places.length > 0);
    this.#replayed.push(replay);
    const segment = new Segment(file.id, this.#state.seal);
    return { file, segment, replay, copies, regions: [], records: 0, lastSequence: 0 };
  }

  /** The base is not there: what its copy says. */
  #replayMissing({ id, copies }: Base): void {
    const file = { id, path: this.#pathOf(id), bytes: 0, isCopy: false };
    const replaying = this.#begin(file, copies, true);
    const place = new DamagedPlace(file, { offset: undefined }, 'the file is missing');
    place.copiedIn = copies?.path;
    this.#places.push(place);
    this.#takeCopies(replaying, Number.POSITIVE_INFINITY);
  }

  /** Takes in what a file says of the state. Without `base` it is one that is newer than that, and damaged. */
  async #replay(file: LogFile, base: Base | undefined): Promise<void> {
    const replaying = this.#begin(file, base?.copies, base === undefined);
    await this.#reader.scan(
      file,
      (header, offset, octets, payloadStart) => this.#onRecord(replaying, header, offset, octets, payloadStart),
      (region) => replaying.regions.push(region),
    );
    const { segment, regions, records } = replaying;
    if (base === undefined && records > 0) {
      const text = 'the checkpoint at its beginning is not what was written';
      this.#places.push(new DamagedPlace(file, { offset: 0 }, text));
    }
    if (base !== undefined || records > 0) this.#judgeEnd(replaying);
    else if (this.#reader.originOf(file) !== 'foreign') {
      this.leftovers.push(file.path);
      this.#judgeEnd(replaying);
    } else {
      this.strangers.push(file.path);
      const text = 'nothing in it is what Warren writes here; it has come from elsewhere, or is damaged as a whole';
      this.#places.push(new DamagedPlace(file, { offset: 0 }, text));
    }
    if (base?.copies !== undefined) this.#takeLastCopies(replaying, regions, segment);
  }

  #onRecord(on: Replaying, header: RecordHeader, offset: number, octets: Buffer, payloadStart: number): void {
    const { file, segment, replay, copies } = on;
    const isBehindDamage = on.regions.length > 0;
    for (const region of on.regions) this.#damage(on, region, 'this is not what was written');
    on.regions = [];
    // Intact, and still not what was written here: somebody has put it there again.
    if (header.sequence <= on.lastSequence) {
      replay.isLenient = true;
      this.#damage(on, { offset, end: offset, header }, 'a record stands here that was written before');
      return;
    }
    on.lastSequence = header.sequence;
    if (isBehindDamage) this.#takeCopies(on, header.sequence);
    copies?.pass(header);
    try {
      replay.record(segment, header, octets, payloadStart);
    } catch (error) {
      replay.isLenient = true;
      const text = `an intact record makes no sense (${error instanceof Error ? error.message : error})`;
      this.#damage(on, { offset, end: offset, header }, text);
    }
    on.records++;
    this.lastSequence = Math.max(this.lastSequence, header.sequence);
    segment.bytes = offset + HEADER_BYTES + header.payloadBytes;
    this.intactBytes.set(file.id, segment.bytes);
    if (header.slotCount > 0) segment.indexRecord(offset, header.firstSlot);
  }

  /** What the copy has of records before the one with the number `sequence` that the log does not have. */
  #takeCopies({ segment, replay, copies }: Replaying, sequence: number): number {
    const found = copies?.before(sequence) ?? [];
    for (const { header, octets } of found) {
      replay.isLenient = true;
      replay.record(segment, header, octets, 0);
      this.lastSequence = Math.max(this.lastSequence, header.sequence);
    }
    const place = this.#places.findLast(({ segment: id }) => id === segment.id);
    if (found.length > 0 && place !== undefined) place.copiedIn = copies?.path;
    return found.length;
  }

  /** What the copy has of records behind the last one that is intact, if they are known to have been in the log. */
  #takeLastCopies(on: Replaying, [first]: readonly Region[], { id, bytes }: Segment): void {
    const known = this.#knownThrough(id);
    // That its beginning counts has been found out already.
    const through = on.records === 0 ? Math.max(known, on.copies?.checkpoint?.sequence ?? 0) : known;
    const isKnown = this.#places.some((place) => place.segment === id && (place.offset ?? 0) >= bytes);
    const found = this.#takeCopies(on, through + 1);
    if (found === 0 || isKnown) return;
    const text = on.file.bytes > bytes ? 'this is not what was written' : `the file ends at octet ${on.file.bytes}`;
    const place = new DamagedPlace(on.file, first ?? { offset: bytes }, text);
    place.copiedIn = on.copies?.path;
    this.#places.push(place);
  }

  /** What there is at the end of a newest file that is not intact. */
  #judgeEnd(on: Replaying): void {
    const { file, regions } = on;
    const { bytes } = on.segment;
    const { mark, fault } = this.#mark;
    const markedBytes = mark?.segment === file.id ? mark.bytes : 0;
    const region = { offset: bytes, end: file.bytes, header: regions.find(({ header }) => header)?.header };
    if (markedBytes > bytes) {
      const cut = file.bytes < markedBytes ? `the file ends at octet ${file.bytes}` : 'this is not what was written';
      this.#damage(on, region, cut);
    } else if (file.bytes > bytes && mark === undefined) {
      const text = `this is not what was written, or was not finished: the file ${MARK_FILE}, which would tell, is ${fault}`;
      this.#damage(on, region, text);
    } else if (file.bytes > bytes) {
      this.torn.push({ path: file.path, bytes });
      const text = `${file.path}: its last ${file.bytes - bytes} octets are part of a commit that was not finished, and of which nobody was told${fault === undefined ? '' : `, as far as is known: the file ${MARK_FILE} is ${fault}`}; they are passed over`;
      this.#notices.push({ type: 'notice', text });
    }
  }

  #damage({ file, segment, replay }: Replaying, region: Region, text: string): void {
    replay.isLenient = true;
    const place = new DamagedPlace(file, region, text);
    place.firstSlot = segment.slots.count;
    this.#places.push(place);
  }

  /** The mark may know of a file that is not there. */
  #checkMark(logFiles: readonly LogFile[]): void {
    const { mark } = this.#mark;
    if (mark === undefined || mark.bytes === 0 || logFiles.some(({ id }) => id >= mark.segment)) return;
    if (this.#base?.id === mark.segment) return;
    const text = `the file is missing; it was the newest, ${mark.bytes} octets long`;
    const file = { id: mark.segment, path: this.#pathOf(mark.segment) };
    this.#places.push(new DamagedPlace(file, { offset: undefined }, text));
  }

  /**
   * Whether the second copy has all that it should have. `isOlder`: nothing is said when there is none, because the log was
   * written by a version that made none.
   */
  isCopied(isClean: boolean, isOlder: boolean): boolean {
    const base = this.#base;
    if (base === undefined) return true;
    const { copies } = base;
    if (copies?.checkpoint !== undefined && copies.regions.length === 0 && !copies.isIncomplete) return true;
    // The end of it may be missing after a power failure, or a kill.
    const isBroken = copies?.checkpoint === undefined ? this.#knownThrough(base.id) > 0 : isClean || copies.isHoled;
    if (isBroken && !isOlder) {
      const what = copies === undefined ? 'missing' : 'damaged';
      const text = `the second copy of what ${this.#pathOf(base.id)} says besides messages is ${what}; nothing is lost by that, and it is made anew`;
      this.#notices.push({ type: 'notice', text });
    }
    return false;
  }
}
