/**
 * The folder that a durable store lives in, from the first look at it until it is let go of.
 *
 *     FORMAT            which layout this is (format.ts); a folder with a FORMAT is Warren's
 *     lock/             who has it open (lock.ts)
 *     log/              the segments, the second copy of what the newest says besides messages, and nothing else
 *     mark              how far the log is on disk (mark.ts)
 *     reserve           room kept for a full disk (reserve.ts)
 *     damaged-<time>/   what a salvage has put aside
 *
 * FORMAT is the last thing that a new folder gets: what is there without it is Warren's own beginning, cut short, or not
 * Warren's at all. Whatever else lies beside FORMAT is left alone.
 */
import { dirname, join, resolve } from 'node:path';
import { MARK_FILE } from '../log/mark.ts';
import { errorCode, StoreError, storeErrorOf } from '../store-error.ts';
import type { FileStatus, Files, FolderLock } from './files.ts';
import {
  FORMAT_FILE,
  FORMATS,
  type Format,
  type Formats,
  NEXT_FORMAT_FILE,
  readFormat,
  upgradeFormat,
  writeFormat,
} from './format.ts';
import { isLockName, LOCK_FOLDER } from './lock.ts';

/** Name of the folder of segments. */
export const LOG_FOLDER = 'log';

/** Name of the file that keeps room for a full disk. */
export const RESERVE_FILE = 'reserve';

/** What file systems and desktops put into folders by themselves. */
const HARMLESS_NAME = /^(lost\+found|\.DS_Store|\.nfs[0-9a-f]+)$/;

/** Names of strangers' files that an error text shows. */
const NAMES_SHOWN_MAX = 3;

const SEGMENT_NAME = /^(\d{8}|[1-9]\d{8,9})\.log$/;
const COPY_NAME = /^(\d{8}|[1-9]\d{8,9})\.state$/;

/** The name of the file of a segment, 1 to 2^32 - 1. */
export function segmentFileName(segment: number): string {
  return `${String(segment).padStart(8, '0')}.log`;
}

/** The segment that a file name stands for; undefined when it is the name of none. */
export function segmentOfFileName(name: string): number | undefined {
  return segmentIn(SEGMENT_NAME.exec(name));
}

/** The name of the file with the second copy of a segment's state (log/state-copy.ts). */
export function copyFileName(segment: number): string {
  return `${String(segment).padStart(8, '0')}.state`;
}

/** The segment of which a file of this name has a second copy; undefined when it is the name of none. */
export function segmentOfCopyName(name: string): number | undefined {
  return segmentIn(COPY_NAME.exec(name));
}

function segmentIn(match: RegExpExecArray | null): number | undefined {
  const segment = Number(match?.[1] ?? 0);
  return segment >= 1 && segment < 2 ** 32 ? segment : undefined;
}

export interface DataFolderOptions {
  /** The folder; made when it is not there, and what leads to it. */
  readonly path: string;
  /** Version of Warren, e.g. `0.1.0`. */
  readonly version: string;
  readonly files: Files;
  /** Default: those of this version. */
  readonly formats?: Formats;
}

/** A data folder that is this process's own, of the current format, with a `log/` in it. */
export interface DataFolder {
  /** Absolute. */
  readonly path: string;
  /** The folder of segments. When it was opened nothing was in it but files with names of segments and their copies. */
  readonly logPath: string;
  /** The format it had when it was opened, when that was an older one. */
  readonly upgradedFrom: number | undefined;
  /** Lets go of the folder. Idempotent; never rejects. */
  close(): Promise<void>;
}

/**
 * Opens a data folder, or makes it. Throws StoreError with what is wrong and what to do; then nothing in the folder has
 * been created, changed or deleted.
 */
export async function openDataFolder(options: DataFolderOptions): Promise<DataFolder> {
  const { version, files, formats = FORMATS } = options;
  const path = resolve(options.path);
  const made = new MadeHere(files);
  try {
    await makePath(path, files, made);
    await inspect(path, files, formats, version);
    const lock = await takeLock(path, files, made);
    try {
      // Again: another process may have had the folder in between.
      const found = await inspect(path, files, formats, version);
      if (found === undefined) await begin(path, files, formats, version);
      else if (found.format < formats.current) {
        await upgradeFormat(path, files, found, formats, version);
        await checkLog(path, files);
      }
      const upgradedFrom = found === undefined || found.format === formats.current ? undefined : found.format;
      return { path, logPath: join(path, LOG_FOLDER), upgradedFrom, close: () => lock.release() };
    } catch (error) {
      await lock.release();
      throw error;
    }
  } catch (error) {
    await made.undo();
    throw storeErrorOf(error, 'cannot open the data folder', path);
  }
}

/** Folders that one call has made, to be removed again when it fails. */
class MadeHere {
  readonly #files: Files;
  readonly #folders: string[] = [];

  constructor(files: Files) {
    this.#files = files;
  }

  /** Makes a folder, unless somebody else does at the same time. */
  async folder(path: string): Promise<void> {
    try {
      await this.#files.makeFolder(path);
      this.#folders.push(path);
    } catch (error) {
      if ((await this.#files.status(path).catch(() => undefined))?.kind === 'folder') return;
      if (errorCode(error) === 'EEXIST') {
        throw new StoreError(path, `data folder ${path} is a symbolic link that leads nowhere: mend it, or remove it`);
      }
      if (errorCode(error) === 'ENOENT') {
        throw new StoreError(
          path,
          `cannot make ${path}: nothing can be made in ${dirname(path)}; choose another data folder`,
          error,
        );
      }
      throw storeErrorOf(error, 'cannot make the data folder: trouble with', path);
    }
  }

  note(path: string): void {
    this.#folders.push(path);
  }

  /** Removes them, the last one first; those that somebody else has put something into remain. */
  async undo(): Promise<void> {
    for (const path of this.#folders.reverse()) await this.#files.removeFolder(path).catch(() => undefined);
  }
}

async function statusOf(path: string, files: Files): Promise<FileStatus | undefined> {
  try {
    return await files.status(path);
  } catch (error) {
    throw storeErrorOf(error, 'cannot open', path);
  }
}

/** Makes the folder and those that lead to it. Throws StoreError when it is or they are something else. */
async function makePath(path: string, files: Files, made: MadeHere): Promise<void> {
  const status = await statusOf(path, files);
  if (status?.kind === 'folder') return;
  if (status !== undefined) throw new StoreError(path, `data folder ${path} is a file: choose another data folder`);
  const parent = dirname(path);
  await makePath(parent, files, made);
  await made.folder(path);
  await files.syncFolder(parent);
}

/**
 * Looks whether the folder is one of Warren's of a format that it knows (then what its FORMAT says) or can become one
 * (then undefined). Throws StoreError otherwise.
 */
async function inspect(path: string, files: Files, formats: Formats, version: string): Promise<Format | undefined> {
  const format = await readFormat(path, files, formats, version);
  const names = await namesIn(path, files);
  if (format === undefined) await checkEmpty(path, names, files);
  await checkWritable(path, files);
  if (format?.format === formats.current) {
    await checkOwnFiles(path, files);
    await checkLog(path, files);
    await checkWritable(join(path, LOG_FOLDER), files);
  }
  return format;
}

async function namesIn(path: string, files: Files): Promise<readonly string[]> {
  try {
    return (await files.list(path)).filter((name) => !HARMLESS_NAME.test(name));
  } catch (error) {
    throw storeErrorOf(error, 'cannot read the folder', path);
  }
}

async function checkWritable(path: string, files: Files): Promise<void> {
  try {
    await files.checkWritable(path);
  } catch (error) {
    throw storeErrorOf(error, 'cannot write to the data folder', path);
  }
}

/** Throws StoreError when anything is in the folder but a beginning of Warren's own that was cut short. */
async function checkEmpty(path: string, names: readonly string[], files: Files): Promise<void> {
  const foreign = names.filter((name) => ![LOCK_FOLDER, LOG_FOLDER, NEXT_FORMAT_FILE].includes(name));
  for (const name of [LOCK_FOLDER, LOG_FOLDER].filter((own) => names.includes(own))) {
    const inside = (await statusOf(join(path, name), files))?.kind === 'folder';
    if (!inside) foreign.push(name);
    else foreign.push(...(await foreignNames(path, name, files)));
  }
  if (foreign.length === 0) return;
  throw new StoreError(
    path,
    `data folder ${path} has no FORMAT file, but ${namesText(foreign)} in it: choose an empty folder; ` +
      "if this is one of Warren's, put FORMAT back from a backup",
  );
}

/** Names in one of Warren's own folders that are not Warren's, with the folder's. */
async function foreignNames(path: string, folder: string, files: Files): Promise<readonly string[]> {
  const names = await namesIn(join(path, folder), files);
  // Without a FORMAT, nothing can be in the log either.
  return names.filter((name) => folder !== LOCK_FOLDER || !isLockName(name)).map((name) => `${folder}/${name}`);
}

/** Throws StoreError when something else is where files of Warren's own are. */
async function checkOwnFiles(path: string, files: Files): Promise<void> {
  for (const file of [join(path, MARK_FILE), join(path, RESERVE_FILE)]) {
    const status = await statusOf(file, files);
    if (status !== undefined && status.kind !== 'file') {
      throw new StoreError(file, `${file} is not a file, and not Warren's: move it away`);
    }
  }
}

/** Throws StoreError when `log/` is not there, or anything is in it that is neither a segment nor the copy of one. */
async function checkLog(path: string, files: Files): Promise<void> {
  const log = join(path, LOG_FOLDER);
  const status = await statusOf(log, files);
  if (status?.kind !== 'folder') {
    const what = status === undefined ? 'has lost its folder' : 'has no folder, but something else, at';
    throw new StoreError(
      log,
      `data folder ${path} ${what} ${log}: put it back from a backup, or choose another data folder`,
    );
  }
  const names = await namesIn(log, files);
  const isFile = await Promise.all(
    names.map(async (name) => {
      const isOurs = (segmentOfFileName(name) ?? segmentOfCopyName(name)) !== undefined;
      return isOurs && (await isFileAt(join(log, name), files));
    }),
  );
  const foreign = names.filter((_, index) => isFile[index] !== true);
  if (foreign.length > 0) {
    throw new StoreError(log, `${log} has ${namesText(foreign)} in it, which Warren has not put there: move that away`);
  }
}

async function isFileAt(path: string, files: Files): Promise<boolean> {
  return (await statusOf(path, files))?.kind === 'file';
}

function namesText(names: readonly string[]): string {
  const shown = names.slice(0, NAMES_SHOWN_MAX).map((name) => JSON.stringify(name));
  const left = names.length - shown.length;
  return left > 0 ? `${shown.join(', ')} and ${left} more` : shown.join(' and ');
}

async function takeLock(path: string, files: Files, made: MadeHere): Promise<FolderLock> {
  const lockPath = join(path, LOCK_FOLDER);
  const isNew = (await statusOf(lockPath, files)) === undefined;
  const lock = await files.lock(path);
  if (isNew) made.note(lockPath);
  return lock;
}

/** Makes the folder one of the current format. FORMAT comes last, and goes first when it fails. */
async function begin(path: string, files: Files, formats: Formats, version: string): Promise<void> {
  const log = join(path, LOG_FOLDER);
  const isNew = (await statusOf(log, files)) === undefined;
  try {
    if (isNew) await files.makeFolder(log);
    await files.syncFolder(path);
    await writeFormat(path, files, formats.current, version);
  } catch (error) {
    await files.remove(join(path, FORMAT_FILE)).catch(() => undefined);
    const isGone = (await files.status(join(path, FORMAT_FILE)).catch(() => true)) === undefined;
    if (isNew && isGone) await files.removeFolder(log).catch(() => undefined);
    throw storeErrorOf(error, 'cannot make the data folder', path);
  }
}
