/**
 * Puts batches on disk, one at a time: one write and one sync each, in the current segment or, when that is full, in a new
 * one that begins with a checkpoint. What changes definitions is written twice, the second time to another file, at the
 * same time (state-copy.ts).
 *
 * A commit that fails is tried again until it succeeds, each time together with everything that the store was told since:
 * what was published and consumed meanwhile needs no room at all, and when a full disk's queues have been drained what is
 * left to write is next to nothing. Nobody was told of any of it, and it stays one record.
 *
 * When the disk is full it is written to the same place. After any other failure nobody knows what the file holds beyond
 * the commits before (a sync that has failed once may succeed the next time although the data is lost), so the batch goes
 * into a new segment, whose checkpoint says how far the old one is good.
 */
import { assert } from '../../assert.ts';
import type { Clock } from '../../clock.ts';
import type { StoreEvent } from '../../store.ts';
import type { OpenFile } from '../folder/files.ts';
import type { SegmentFiles } from '../folder/segment-files.ts';
import type { Part } from '../record/record-buffer.ts';
import { errorCode, failureText } from '../store-error.ts';
import type { Batch } from './batch.ts';
import type { LogState, StateChange } from './log-state.ts';
import type { LogEnd, Mark } from './mark.ts';
import { RecordWriter } from './record-writer.ts';
import type { Reserve } from './reserve.ts';
import { Segment } from './segment.ts';
import { StateCopy } from './state-copy.ts';

/** A segment is ended when it has so many octets, if `StoreOptions` do not say otherwise. */
export const SEGMENT_BYTES = 32 * 1024 * 1024;

/** Time between two attempts to write what could not be written; milliseconds. */
export const RETRY_MS = 1000;

/** A segment is at least so many times as large as the checkpoint with which it begins. */
const CHECKPOINT_FACTOR = 4;

const NO_CHANGE: StateChange = { settled: [], amended: [], delivered: [], emptied: [] };

export interface CommitsOptions {
  readonly state: LogState;
  readonly files: SegmentFiles;
  readonly mark: Mark;
  readonly reserve: Reserve;
  readonly clock: Clock;
  readonly segmentBytes: number;
  /** Number of the next segment, and of the last record there was. */
  readonly nextSegment: number;
  readonly lastSequence: number;
  /** Files to be removed when the first commit is on disk: of what the log does not need any more, second copies too. */
  readonly leftovers: readonly string[];
  readonly onEvent: (event: StoreEvent) => void;
}

/** Whose batch it is. */
export interface BatchSource {
  /** Everything up to and including `batch` is on disk. */
  onDone(batch: Batch): void;
  /** The next batch, to be written with the one that could not be; undefined: there is none, or it would be too large. */
  next(batch: Batch): Batch | undefined;
}

/** Why a commit could not be written, and whether it may be written to the same place again. */
interface Failure {
  readonly error: unknown;
  readonly inPlace: boolean;
}

export class Commits {
  readonly #options: CommitsOptions;
  readonly #state: LogState;
  readonly #writer: RecordWriter;
  #nextSegment: number;
  #sequence: number;
  #leftovers: readonly string[];
  #file: OpenFile | undefined;
  /** Closed when the segment after it is on disk. */
  #ended: OpenFile | undefined;
  /** Of the current segment. */
  #copy: StateCopy | undefined;
  /** Of segments before; removed when the segment after them is on disk. */
  #spentCopies: StateCopy[] = [];
  /** Octets of the checkpoint with which the current segment begins. */
  #checkpointBytes = 0;
  #inTrouble = false;
  /** A commit has failed, and nothing is under way until it is tried again. */
  #isWaiting = false;
  #isStopped = false;
  #onQuiet: () => void = () => {};

  /** The commit under way. */
  #batch: Batch | undefined;
  #source: BatchSource | undefined;
  /** What it changes of the state. */
  #change: StateChange = NO_CHANGE;
  #parts: readonly Part[] = [];
  #partIndex = 0;
  /** What goes to the second copy; empty for most commits. */
  #copyParts: readonly Part[] = [];
  /** Files that are still being written to, and what has gone wrong with those that are not. */
  #writing = 0;
  #failure: Failure | undefined;
  #start = 0;
  #at = 0;
  /** The commit is the first of its segment. */
  #isFirst = false;
  /** Held nothing when its successor began. */
  #spent: Segment | undefined;

  constructor(options: CommitsOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#writer = new RecordWriter(options.state);
    this.#nextSegment = options.nextSegment;
    this.#sequence = options.lastSequence;
    this.#leftovers = options.leftovers;
  }

  /** A commit is under way. */
  get isBusy(): boolean {
    return this.#batch !== undefined;
  }

  /** How far the log is on disk; undefined when this process has written nothing. */
  get end(): LogEnd | undefined {
    const { current } = this.#state;
    if (current === undefined) return undefined;
    return { segment: current.id, seal: current.seal, bytes: current.bytes, sequence: this.#sequence };
  }

  /** Takes the batch into the state and writes it. Tells `source` when it is on disk, never before it returns. */
  begin(batch: Batch, source: BatchSource): void {
    assert(this.#batch === undefined, 'one commit at a time');
    this.#batch = batch;
    this.#source = source;
    this.#change = this.#state.apply(batch);
    const { current } = this.#state;
    if (current === undefined || batch.hasCheckpoint || current.bytes >= this.#segmentBytes) this.#beginSegment();
    else {
      this.#isFirst = false;
      this.#encode(current);
      this.#write();
    }
  }

  get #segmentBytes(): number {
    const checkpointBytes = Math.max(this.#state.definitions.bytes, this.#checkpointBytes);
    return Math.max(this.#options.segmentBytes, checkpointBytes * CHECKPOINT_FACTOR);
  }

  #encode(segment: Segment): void {
    assert(this.#batch !== undefined, 'a commit is under way');
    const change = this.#isFirst ? undefined : this.#change;
    this.#parts = this.#writer.encode(this.#batch, segment, this.#sequence + 1, change);
    if (this.#isFirst) this.#checkpointBytes = this.#writer.stateBytes;
    const isCopied = this.#isFirst || this.#batch.definitions.length > 0;
    this.#copyParts = isCopied ? this.#writer.encodeCopy() : [];
    this.#start = segment.bytes;
  }

  /** The batch becomes the first of a new segment. */
  #beginSegment(): void {
    const state = this.#state;
    const before = state.current;
    const segment = new Segment(this.#nextSegment++, state.seal);
    state.current = segment;
    if (before !== undefined && state.dropIfEmpty(before)) this.#spent = before;
    state.segments.set(segment.id, segment);
    this.#isFirst = true;
    this.#encode(segment);
    this.#createFiles(segment.id).then(
      () => this.#write(),
      (error) => this.#fail(error, false),
    );
  }

  /** The file of a new segment, and that of its second copy. */
  async #createFiles(id: number): Promise<void> {
    const { files } = this.#options;
    const file = await files.create(id);
    this.#ended ??= this.#file;
    this.#file = file;
    const copy = await files.createCopy(id);
    if (this.#copy !== undefined) this.#spentCopies.push(this.#copy);
    this.#copy = new StateCopy(copy);
  }

  #write(): void {
    this.#partIndex = 0;
    this.#at = this.#start;
    this.#failure = undefined;
    this.#writing = 1;
    if (this.#copyParts.length > 0) {
      assert(this.#copy !== undefined, 'a segment has a second copy');
      this.#writing = 2;
      this.#copy.write(this.#copyParts, this.#onCopied);
    }
    this.#writePart();
  }

  #writePart(): void {
    const part = this.#parts[this.#partIndex];
    if (part === undefined) this.#file?.sync(this.#onSynced);
    else this.#file?.write(part.octets, part.offset, part.length, this.#at, this.#onWritten);
  }

  readonly #onWritten = (error: Error | null): void => {
    if (error !== null) {
      this.#onEnded({ error, inPlace: isFull(error) });
      return;
    }
    this.#at += this.#parts[this.#partIndex++]?.length ?? 0;
    this.#writePart();
  };

  readonly #onSynced = (error: Error | null): void => {
    this.#onEnded(error === null ? undefined : { error, inPlace: false });
  };

  readonly #onCopied = (error: Error | null, isSync: boolean): void => {
    this.#onEnded(error === null ? undefined : { error, inPlace: !isSync && isFull(error) });
  };

  /** One of the files is through. */
  #onEnded(failure: Failure | undefined): void {
    // What may not be written to one of them again may not be written to any.
    if (failure !== undefined && this.#failure?.inPlace !== false) this.#failure = failure;
    if (--this.#writing > 0) return;
    if (this.#failure !== undefined) this.#fail(this.#failure.error, this.#failure.inPlace);
    else if (!this.#isFirst) this.#finish();
    else {
      const { files, logPath } = this.#options.files;
      files.syncFolder(logPath).then(
        () => this.#finish(),
        (error) => this.#fail(error, false),
      );
    }
  }

  #finish(): void {
    const batch = this.#batch;
    const source = this.#source;
    const segment = this.#state.current;
    assert(batch !== undefined && source !== undefined && segment !== undefined, 'a commit is under way');
    segment.bytes = this.#at;
    if (segment.slots.count > batch.record.firstSlot) segment.indexRecord(this.#start, batch.record.firstSlot);
    batch.written();
    this.#sequence++;
    this.#batch = undefined;
    this.#parts = [];
    if (this.#copyParts.length > 0) this.#copy?.keep();
    this.#copyParts = [];
    const { mark, files } = this.#options;
    mark.note(segment, this.#sequence);
    if (this.#isFirst) this.#tidyUp();
    for (const emptied of this.#change.emptied) files.remove(emptied);
    if (this.#spent !== undefined) files.remove(this.#spent);
    this.#spent = undefined;
    this.#change = NO_CHANGE;
    if (this.#inTrouble) this.#recover();
    source.onDone(batch);
    this.#onQuiet();
  }

  /** What the checkpoint that is on disk now makes superfluous. */
  #tidyUp(): void {
    this.#ended?.close().catch(() => {});
    this.#ended = undefined;
    for (const copy of this.#spentCopies) {
      void copy.close();
      this.#options.files.removeFile(copy.path);
    }
    this.#spentCopies = [];
    for (const path of this.#leftovers) this.#options.files.removeFile(path);
    this.#leftovers = [];
    // There may be room again.
    void this.#options.reserve.prepare();
  }

  #recover(): void {
    this.#inTrouble = false;
    this.#options.onEvent({ type: 'recovered', text: 'the data folder can be written to again' });
    void this.#options.reserve.prepare();
  }

  /** Tries again in a while; `inPlace`: in the same place, otherwise in a new segment. */
  #fail(error: unknown, inPlace: boolean): void {
    const { onEvent, clock, reserve, files } = this.#options;
    if (!this.#inTrouble) {
      this.#inTrouble = true;
      onEvent({ type: 'trouble', text: `cannot write to ${files.logPath}: ${failureText(error)}` });
    }
    if (isFull(error) && this.#mayUseReserve()) void reserve.release();
    this.#isWaiting = true;
    this.#onQuiet();
    clock.schedule(RETRY_MS, () => {
      if (this.#isStopped) return;
      this.#isWaiting = false;
      void this.#retry(inPlace);
    });
  }

  /** The reserve is for commits that end more than they begin: those bring room. Others would only use it up. */
  #mayUseReserve(): boolean {
    const batch = this.#batch;
    if (batch === undefined) return false;
    const begun = batch.begunCount + batch.moved.length;
    if (begun === 0) return true;
    const ended = this.#change.settled.reduce((count, { slots }) => count + slots.length, 0);
    const bytes = this.#parts.reduce((sum, { length }) => sum + length, 0);
    return ended >= begun && bytes <= this.#options.reserve.bytes;
  }

  async #retry(inPlace: boolean): Promise<void> {
    const { clock, files } = this.#options;
    if (inPlace) {
      // What was written in part may be all the room there is.
      await this.#file?.truncate(this.#start).catch(() => {});
      await this.#copy?.cutOff();
    } else await this.#abandonFiles(files);
    // Between two turns, so that none is torn apart.
    clock.defer(() => {
      if (this.#isStopped) {
        this.#isWaiting = true;
        this.#onQuiet();
      } else this.#writeAgain(inPlace);
    });
  }

  /** Nothing more is written to the current segment; if nothing in it counts, its files go. */
  async #abandonFiles(files: SegmentFiles): Promise<void> {
    const { current } = this.#state;
    const begun = this.#isFirst ? current : undefined;
    const file = this.#file;
    const copy = this.#copy;
    this.#file = undefined;
    this.#copy = undefined;
    await file?.close().catch(() => {});
    // That of the segment before is the newest one that counts, as long as this one has not begun.
    if (copy !== undefined && copy.path !== (begun && files.copyPath(begun.id))) this.#spentCopies.push(copy);
    else await copy?.close();
    if (begun === undefined) return;
    await files.files.remove(files.path(begun.id)).catch(() => {});
    await files.files.remove(files.copyPath(begun.id)).catch(() => {});
  }

  /** Puts what has failed, and all since, where it was to be or into a new segment. */
  #writeAgain(inPlace: boolean): void {
    const state = this.#state;
    const segment = state.current;
    const batch = this.#batch;
    assert(batch !== undefined && segment !== undefined, 'a commit is under way');
    segment.slots.cut(batch.record.segment === segment ? batch.record.firstSlot : 0);
    for (let later = this.#source?.next(batch); later !== undefined; later = this.#source?.next(batch)) {
      this.#change = state.absorb(batch, this.#change, later);
    }
    // The log may not know it yet.
    state.storedLastHolder = 0;
    if (inPlace) {
      this.#encode(segment);
      this.#write();
      return;
    }
    if (this.#isFirst) {
      // Nobody was told of anything in it.
      state.segments.delete(segment.id);
      state.current = undefined;
    }
    this.#beginSegment();
  }

  /**
   * Lets go of the file, when what the disk is at is over: that may never be. A commit that has failed is not tried again.
   */
  async close(): Promise<void> {
    this.#isStopped = true;
    if (this.isBusy && !this.#isWaiting) {
      await new Promise<void>((resolve) => {
        this.#onQuiet = resolve;
      });
    }
    const copies = [...this.#spentCopies, ...(this.#copy === undefined ? [] : [this.#copy])];
    await Promise.allSettled([this.#file, this.#ended, ...copies].map((file) => file?.close()));
  }
}

function isFull(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}
