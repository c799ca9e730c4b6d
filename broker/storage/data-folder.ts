/**
 * The folder that a durable store lives in, from the first look at it until it is let go of.
 *
 *     FORMAT            which layout this is (format.ts); a folder with a FORMAT is Warren's
 *     lock/             who has it open (lock.ts)
 *     log/              the segments, and nothing else
 *     reserve           room kept for a full disk
 *     damaged-<time>/   what a salvage has put aside
 */
import { join } from 'node:path';
import type { Files } from './files.ts';
import type { Formats } from './format.ts';

/** Name of the folder of segments. */
export const LOG_FOLDER = 'log';

/** Name of the file that keeps room for a full disk. */
export const RESERVE_FILE = 'reserve';

const SEGMENT_NAME = /^(\d{8}|[1-9]\d{8,9})\.log$/;

/** The name of the file of a segment, 1 to 2^32 - 1. */
export function segmentFileName(segment: number): string {
  return `${String(segment).padStart(8, '0')}.log`;
}

/** The segment that a file name stands for; undefined when it is the name of none. */
export function segmentOfFileName(name: string): number | undefined {
  const segment = Number(SEGMENT_NAME.exec(name)?.[1] ?? 0);
  return segment >= 1 && segment < 2 ** 32 ? segment : undefined;
}

export interface DataFolderOptions {
  /** The folder; made when it is not there. */
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
  /** The folder of segments; at the time of opening nothing else was in it. */
  readonly logPath: string;
  /** Lets go of the folder. Idempotent; never rejects. */
  close(): Promise<void>;
}

/**
 * Opens a data folder, or makes it. Throws StoreError with what is wrong and what to do; then nothing in the folder has
 * been created, changed or deleted.
 */
export async function openDataFolder(options: DataFolderOptions): Promise<DataFolder> {
  const { path, files } = options;
  const lock = await files.lock(path);
  return { path, logPath: join(path, LOG_FOLDER), close: () => lock.release() };
}
