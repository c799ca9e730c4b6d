/**
 * Puts batches on disk, one at a time: one write and one sync each, in the current segment or, when that is full, in a new
 * one that begins with a checkpoint.
 *
 * A commit that fails is tried again until it succeeds. When the disk is full the same octets are written to the same
 * place. After any other failure nobody knows what the file holds beyond the commits before (a sync that has failed once
 * may succeed the next time although the data is lost), so the batch goes into a new segment, whose checkpoint says how far
 * the old one is good.
 */
import { assert } from '../assert.ts';
import type { Clock } from '../clock.ts';
import type { StoreEvent } from '../store.ts';
import type { Batch } from './batch.ts';
import type { OpenFile } from './files.ts';
import type { LogState, StateChange } from './log-state.ts';
import type { LogEnd, Mark } from './mark.ts';
import type { Part } from './record-buffer.ts';
import { RecordWriter } from './record-writer.ts';
import type { Reserve } from './reserve.ts';
import { Segment } from './segment.ts';
import type { SegmentFiles } from './segment-files.ts';
import { errorCode, failureText } from './store-error.ts';

/** A segment is ended when it has so many octets, if `StoreOptions` do not say otherwise. */
export const SEGMENT_BYTES = 32 * 1024 * 1024;

/** Time between two attempts to write what could not be written; milliseconds. */
export const RETRY_MS = 1000;

/** A segment is at least so many times as large as the checkpoint with which it begins. */
const CHECKPOINT_FACTOR = 4;

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
  /** Files to be removed when the first commit is on disk: of what the log does not need any more. */
  readonly leftovers: readonly string[];
  readonly onEvent: (event: StoreEvent) => void;
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
  /** Octets of the checkpoint with which the current segment begins. */
  #checkpointBytes = 0;
  #inTrouble = false;
  /** A commit has failed, and nothing is under way until it is tried again. */
  #isWaiting = false;
  #isStopped = false;
  #onQuiet: () => void = () => {};

  /** The commit under way. */
  #batch: Batch | undefined;
  #onDone: () => void = () => {};
  #parts: readonly Part[] = [];
  #partIndex = 0;
  #start = 0;
  #at = 0;
  /** The commit is the first of its segment. */
  #isFirst = false;
  #emptied: Segment[] = [];

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

  /** Takes the batch into the state and writes it. Calls `onDone` when it is on disk, never before it returns. */
  begin(batch: Batch, onDone: () => void): void {
    assert(this.#batch === undefined, 'one commit at a time');
    this.#batch = batch;
    this.#onDone = onDone;
    const change = this.#state.apply(batch);
    this.#emptied = [...change.emptied];
    const { current } = this.#state;
    if (current === undefined || batch.hasCheckpoint || current.bytes >= this.#segmentBytes) this.#beginSegment();
    else {
      this.#encode(current, change);
      this.#write();
    }
    for (const segment of change.settled) segment.settling = [];
  }

  get #segmentBytes(): number {
    const checkpointBytes = Math.max(this.#state.definitions.bytes, this.#checkpointBytes);
    return Math.max(this.#options.segmentBytes, checkpointBytes * CHECKPOINT_FACTOR);
  }

  #encode(segment: Segment, change: StateChange | undefined): void {
    assert(this.#batch !== undefined, 'a commit is under way');
    this.#parts = this.#writer.encode(this.#batch, segment, this.#sequence + 1, change);
    this.#isFirst = change === undefined;
    if (this.#isFirst) this.#checkpointBytes = this.#writer.stateBytes;
    this.#start = segment.bytes;
  }

  /** The batch becomes the first of a new segment. */
  #beginSegment(): void {
    const state = this.#state;
    const before = state.current;
    const segment = new Segment(this.#nextSegment++, state.seal);
    state.current = segment;
    if (before !== undefined && state.dropIfEmpty(before)) this.#emptied.push(before);
    state.segments.set(segment.id, segment);
    this.#encode(segment, undefined);
    this.#options.files.create(segment.id).then(
      (file) => {
        this.#ended ??= this.#file;
        this.#file = file;
        this.#write();
      },
      (error) => this.#fail(error, false),
    );
  }

  #write(): void {
    this.#partIndex = 0;
    this.#at = this.#start;
    this.#writePart();
  }

  #writePart(): void {
    const part = this.#parts[this.#partIndex];
    if (part === undefined) this.#file?.sync(this.#onSynced);
    else this.#file?.write(part.octets, part.offset, part.length, this.#at, this.#onWritten);
  }

  readonly #onWritten = (error: Error | null): void => {
    if (error !== null) {
      this.#fail(error, isFull(error));
      return;
    }
    this.#at += this.#parts[this.#partIndex++]?.length ?? 0;
    this.#writePart();
  };

  readonly #onSynced = (error: Error | null): void => {
    if (error !== null) this.#fail(error, false);
    else if (!this.#isFirst) this.#finish();
    else {
      const { files, logPath } = this.#options.files;
      files.syncFolder(logPath).then(
        () => this.#finish(),
        (failure) => this.#fail(failure, false),
      );
    }
  };

  #finish(): void {
    const batch = this.#batch;
    const segment = this.#state.current;
    assert(batch !== undefined && segment !== undefined, 'a commit is under way');
    segment.bytes = this.#at;
    if (segment.slots.count > batch.record.firstSlot) segment.indexRecord(this.#start, batch.record.firstSlot);
    batch.record.written = true;
    this.#sequence++;
    this.#batch = undefined;
    this.#parts = [];
    const { mark, files } = this.#options;
    mark.note(segment, this.#sequence);
    if (this.#isFirst) this.#tidyUp();
    for (const emptied of this.#emptied) files.remove(emptied);
    this.#emptied = [];
    if (this.#inTrouble) this.#recover();
    this.#onDone();
    this.#onQuiet();
  }

  /** What the checkpoint that is on disk now makes superfluous. */
  #tidyUp(): void {
    this.#ended?.close().catch(() => {});
    this.#ended = undefined;
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

  /** Tries again in a while; `inPlace`: the same octets in the same place, otherwise in a new segment. */
  #fail(error: unknown, inPlace: boolean): void {
    const { onEvent, clock, reserve, files } = this.#options;
    if (!this.#inTrouble) {
      this.#inTrouble = true;
      onEvent({ type: 'trouble', text: `cannot write to ${files.logPath}: ${failureText(error)}` });
    }
    if (isFull(error)) void reserve.release();
    this.#isWaiting = true;
    this.#onQuiet();
    clock.schedule(RETRY_MS, () => {
      if (this.#isStopped) return;
      this.#isWaiting = false;
      if (inPlace) this.#write();
      else void this.#abandonSegment().then(() => this.#beginSegment());
    });
  }

  /** What has failed may lie in the current segment, whole or in part: it ends before. */
  async #abandonSegment(): Promise<void> {
    const state = this.#state;
    const segment = state.current;
    const batch = this.#batch;
    assert(batch !== undefined && segment !== undefined, 'a commit is under way');
    segment.slots.cut(batch.record.segment === segment ? batch.record.firstSlot : 0);
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => {});
    if (!this.#isFirst) return;
    // Nobody was told of anything in it.
    state.segments.delete(segment.id);
    state.current = undefined;
    const { files } = this.#options;
    await files.files.remove(files.path(segment.id)).catch(() => {});
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
    await Promise.allSettled([this.#file?.close(), this.#ended?.close()]);
  }
}

function isFull(error: unknown): boolean {
  const code = errorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}
