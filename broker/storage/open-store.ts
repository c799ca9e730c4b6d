/** Opens a data folder as a store. */
import { join } from 'node:path';
import { type Clock, systemClock } from '../clock.ts';
import type { Store, StoreEvent } from '../store.ts';
import {
  type DataFolder,
  openDataFolder,
  RESERVE_FILE,
  segmentOfCopyName,
  segmentOfFileName,
} from './folder/data-folder.ts';
import { type Done, type Files, nodeFiles, type OpenFile } from './folder/files.ts';
import { SegmentFiles } from './folder/segment-files.ts';
import { CLEAN_SEGMENTS_MIN, Cleaner } from './log/cleaner.ts';
import { Commits, SEGMENT_BYTES } from './log/commits.ts';
import { MARK_BYTES, MARK_FILE, Mark } from './log/mark.ts';
import { RESERVE_BYTES, Reserve } from './log/reserve.ts';
import { BATCH_BYTES, LogStore, TURN_BYTES_MAX } from './log-store.ts';
import { readOctets } from './pages/block-reader.ts';
import { PageLoader } from './pages/page-loader.ts';
import { damageError, damageText } from './recovery/damage.ts';
import type { LogFile } from './recovery/log-files.ts';
import type { TornFile } from './recovery/newest-segments.ts';
import { recoverLog, type UnsyncedOctets } from './recovery/recover.ts';
import { failureText, storeErrorOf } from './store-error.ts';

/** Copied at a time. */
const COPY_BYTES = 4 * 1024 * 1024;

export interface StoreOptions {
  /** The data folder; made when it is not there. */
  readonly dataDir: string;
  /** Version of Warren, e.g. `0.1.0`. */
  readonly version: string;
  /** When part of the log cannot be read: refuse to open it (default), or take what can be read. */
  readonly recover?: 'refuse' | 'salvage';
  /** See `Store.residentBytesMax`; default: no limit. */
  readonly residentBytesMax?: number;
  /** Called for what somebody should know, also while the store is being opened. */
  readonly onEvent?: (event: StoreEvent) => void;
  readonly clock?: Clock;
  readonly files?: Files;
  /** Octets after which a segment is ended; default `SEGMENT_BYTES`. */
  readonly segmentBytes?: number;
  /** Octets after which a batch is full; default `BATCH_BYTES`. */
  readonly batchBytes?: number;
  /** Octets that are stored as a whole when one turn tells them, at least `batchBytes`; default `TURN_BYTES_MAX`. */
  readonly turnBytesMax?: number;
  /** A log of so many segments or fewer is not cleaned; default `CLEAN_SEGMENTS_MIN`. */
  readonly cleanSegmentsMin?: number;
  /** Octets kept for a full disk; default `RESERVE_BYTES`, 0 = none. */
  readonly reserveBytes?: number;
}

/**
 * Opens the durable store in a data folder, with all that an earlier process has left there. Throws StoreError, which says
 * what is wrong and what to do, and then has changed nothing.
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { dataDir, version, files = nodeFiles } = options;
  const folder = await openDataFolder({ path: dataDir, version, files });
  try {
    return await openLog(folder, files, options);
  } catch (error) {
    await folder.close();
    throw storeErrorOf(error, 'cannot open', folder.path);
  }
}

async function openLog(folder: DataFolder, files: Files, options: StoreOptions): Promise<LogStore> {
  const {
    clock = systemClock,
    onEvent = () => {},
    segmentBytes = SEGMENT_BYTES,
    reserveBytes = RESERVE_BYTES,
  } = options;
  const segmentFiles = new SegmentFiles(files, folder.logPath, (path, error) => {
    onEvent({ type: 'notice', text: `cannot remove ${path}: ${failureText(error)}` });
  });
  const markPath = join(folder.path, MARK_FILE);
  const markOctets = await readMark(files, markPath);
  const log = await recoverLog({
    files,
    logFiles: await findLogFiles(folder, files),
    mark: markOctets,
    isOlder: folder.upgradedFrom !== undefined,
    pathOf: (id) => segmentFiles.path(id),
  });
  if (log.damages.length > 0 && options.recover !== 'salvage') throw damageError(folder.path, log.damages);
  const aside = new Aside(folder, files, clock);
  for (const path of new Set(log.damages.map((damage) => damage.path))) {
    if (!log.strangers.includes(path)) await aside.copy(path);
  }
  for (const path of log.strangers) await aside.move(path);
  await aside.sync();
  for (const damage of log.damages) onEvent({ type: 'damage', text: damageText(damage) });
  if (aside.notice !== undefined) onEvent({ type: 'notice', text: aside.notice });
  for (const notice of log.notices) onEvent(notice);
  // It may be what fills the disk.
  for (const torn of log.torn) await cutOff(files, torn);
  for (const octets of log.unsynced) await writeAgain(files, octets);
  if (log.unsynced.length > 0) await files.syncFolder(folder.logPath);
  const mark = new Mark(await openMark(files, folder.path, markPath));
  // On a full disk it must do without.
  await mark.begin(markOctets ?? Buffer.alloc(0), log.state.seal).catch(() => {});
  const reserve = new Reserve(files, join(folder.path, RESERVE_FILE), reserveBytes);
  void reserve.prepare();
  const { state, recovery, nextSegment, lastSequence, leftovers } = log;
  const commits = new Commits({
    state,
    files: segmentFiles,
    mark,
    reserve,
    clock,
    segmentBytes,
    nextSegment,
    lastSequence,
    leftovers,
    onEvent,
  });
  const loader = new PageLoader({ state, files: segmentFiles, clock, onEvent });
  const store = new LogStore({
    state,
    commits,
    loader,
    recovery,
    clock,
    residentBytesMax: options.residentBytesMax ?? Number.POSITIVE_INFINITY,
    batchBytes: options.batchBytes ?? BATCH_BYTES,
    turnBytesMax: options.turnBytesMax ?? TURN_BYTES_MAX,
    path: folder.path,
    onEvent,
    onClose: async (isComplete) => {
      loader.stop();
      await commits.close();
      await mark.close(isComplete ? commits.end : undefined);
      await segmentFiles.close();
      await reserve.idle();
      await folder.close();
    },
  });
  const { cleanSegmentsMin = CLEAN_SEGMENTS_MIN } = options;
  const move = store.move.bind(store);
  store.cleanWith(new Cleaner({ state, files: segmentFiles, clock, onEvent, segmentsMin: cleanSegmentsMin, move }));
  return store;
}

/** The segments and their copies, in rising order. */
async function findLogFiles(folder: DataFolder, files: Files): Promise<LogFile[]> {
  const logFiles: LogFile[] = [];
  for (const name of await files.list(folder.logPath)) {
    const copied = segmentOfCopyName(name);
    const id = segmentOfFileName(name) ?? copied;
    const path = join(folder.logPath, name);
    if (id === undefined) continue;
    logFiles.push({ id, path, bytes: (await files.status(path))?.bytes ?? 0, isCopy: copied !== undefined });
  }
  return logFiles.sort((a, b) => a.id - b.id);
}

async function openMark(files: Files, folderPath: string, path: string): Promise<OpenFile> {
  if ((await files.status(path)) !== undefined) return files.open(path, 'update');
  const file = await files.open(path, 'create');
  await files.syncFolder(folderPath);
  return file;
}

/** The octets of the file; undefined when there is none. */
async function readMark(files: Files, path: string): Promise<Buffer | undefined> {
  if ((await files.status(path)) === undefined) return undefined;
  const file = await files.open(path, 'read');
  try {
    return await readOctets(file, 0, MARK_BYTES);
  } finally {
    await file.close();
  }
}

/** The folder for what is put aside, made when something is. */
class Aside {
  readonly #folder: DataFolder;
  readonly #files: Files;
  readonly #path: string;
  readonly #copied: string[] = [];
  readonly #moved: string[] = [];

  constructor(folder: DataFolder, files: Files, clock: Clock) {
    const time = new Date(clock.now()).toISOString().replaceAll(':', '-');
    this.#folder = folder;
    this.#files = files;
    this.#path = join(folder.path, `damaged-${time}`);
  }

  /** Copies a damaged file, if it is there. */
  async copy(path: string): Promise<void> {
    if ((await this.#files.status(path)) === undefined) return;
    const copy = await this.#place(path);
    await this.#files.copy(path, copy);
    await syncFile(this.#files, copy);
    this.#copied.push(path);
  }

  /** Moves a file of somebody else. */
  async move(path: string): Promise<void> {
    await this.#files.rename(path, await this.#place(path));
    this.#moved.push(path);
  }

  async #place(path: string): Promise<string> {
    if (this.#copied.length === 0 && this.#moved.length === 0) await this.#files.makeFolder(this.#path);
    return join(this.#path, path.slice(this.#folder.logPath.length + 1));
  }

  async sync(): Promise<void> {
    if (this.#copied.length === 0 && this.#moved.length === 0) return;
    await this.#files.syncFolder(this.#path);
    await this.#files.syncFolder(this.#folder.path);
    if (this.#moved.length > 0) await this.#files.syncFolder(this.#folder.logPath);
  }

  /** What has been done, in words; undefined: nothing. */
  get notice(): string | undefined {
    const parts: string[] = [];
    if (this.#copied.length > 0) parts.push(`the damaged files have been copied to ${this.#path}`);
    if (this.#moved.length > 0) parts.push(`${this.#moved.join(', ')} moved to ${this.#path}`);
    return parts.length === 0 ? undefined : parts.join('; ');
  }
}

/** Gives back the room of what is not needed; if that is not possible, it is in nobody's way. */
async function cutOff(files: Files, { path, bytes }: TornFile): Promise<void> {
  const file = await files.open(path, 'update');
  try {
    await file.truncate(bytes).catch(() => {});
  } finally {
    await file.close();
  }
}

async function writeAgain(files: Files, { path, from, to }: UnsyncedOctets): Promise<void> {
  const file = await files.open(path, 'update');
  try {
    for (let at = from; at < to; ) {
      const octets = await readOctets(file, at, Math.min(to, at + COPY_BYTES));
      if (octets.length === 0) break;
      await settled((done) => file.write(octets, 0, octets.length, at, done));
      at += octets.length;
    }
    await settled((done) => file.sync(done));
  } finally {
    await file.close();
  }
}

/** The outcome of a call with a callback. */
function settled(call: (done: Done) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    call((error) => (error === null ? resolve() : reject(error)));
  });
}

async function syncFile(files: Files, path: string): Promise<void> {
  const file = await files.open(path, 'update');
  try {
    await settled((done) => file.sync(done));
  } finally {
    await file.close();
  }
}
