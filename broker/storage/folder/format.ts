/**
 * The file FORMAT of a data folder: which layout the folder has. A folder of a newer layout is refused, one of an older
 * layout upgraded, by one step after the other.
 *
 *     {"format":2,"writtenBy":"warren 0.1.0"}
 *
 * It is replaced in one step (written as FORMAT.new, synced, renamed), so it is always that of before or that of after.
 */
import { join } from 'node:path';
import { printable, StoreError, storeErrorOf } from '../store-error.ts';
import type { Files, OpenFile } from './files.ts';

/** Name of the file. */
export const FORMAT_FILE = 'FORMAT';

/** Name under which the next one is written. */
export const NEXT_FORMAT_FILE = 'FORMAT.new';

/** A longer FORMAT is none, octets. */
export const FORMAT_BYTES_MAX = 4096;

/** Brings a data folder from the format `from` to the format `from + 1`. */
export interface FormatStep {
  readonly from: number;
  /**
   * Changes what is in the data folder `path`. May be cut short at any point and is then run again from its start. What
   * it leaves must be synced.
   */
  upgrade(path: string, files: Files): Promise<void>;
}

/** The formats a version of Warren knows. */
export interface Formats {
  /** The one it writes. */
  readonly current: number;
  /** From each older format that it still reads. */
  readonly steps: readonly FormatStep[];
}

/**
 * The second copy of definitions (log/state-copy.ts) came with format 2. A log without one is a log of format 2 as well,
 * which the start makes whole by beginning a new segment; so nothing changes but the number, which keeps out a version of
 * Warren that would take the copy for somebody else's file.
 */
const SECOND_COPIES: FormatStep = { from: 1, upgrade: async () => {} };

/** This version's. */
export const FORMATS: Formats = { current: 2, steps: [SECOND_COPIES] };

/** What a FORMAT says. */
export interface Format {
  /** 1 or more. */
  readonly format: number;
  /** Who wrote it, fit to be printed. */
  readonly writtenBy: string;
}

/**
 * What the FORMAT of the data folder `path` says; undefined when there is none. Throws StoreError for one that makes no
 * sense, and for one of a format that `formats` does not know or cannot be upgraded from.
 */
export async function readFormat(
  path: string,
  files: Files,
  formats: Formats,
  version: string,
): Promise<Format | undefined> {
  const file = join(path, FORMAT_FILE);
  const status = await files.status(file).catch((error) => {
    throw storeErrorOf(error, 'cannot read', file);
  });
  if (status === undefined) return undefined;
  const repair = `put it back from a backup; if ${ours(version)} wrote this folder, it is the line ${formatLine(formats.current, version)}`;
  if (status.kind !== 'file') throw new StoreError(file, `${file} is not a file: ${repair}`);
  if (status.bytes > FORMAT_BYTES_MAX) throw new StoreError(file, `${file} is damaged (too long): ${repair}`);
  const text = await readText(file, files).catch((error) => {
    throw storeErrorOf(error, 'cannot read', file);
  });
  const format = parseFormat(text);
  if (typeof format === 'string') throw new StoreError(file, `${file} is damaged (${format}): ${repair}`);
  checkKnown(path, format, formats, version);
  return format;
}

/** Throws StoreError for a format that is newer than `formats` or older than its oldest step. */
function checkKnown(path: string, found: Format, formats: Formats, version: string): void {
  if (found.format > formats.current) {
    throw new StoreError(
      path,
      `data folder ${path} has format ${found.format}, written by ${found.writtenBy}; this is ${ours(version)}, which knows ` +
        `formats up to ${formats.current}: start the version that wrote it or a newer one, or choose another data folder`,
    );
  }
  for (let from = found.format; from < formats.current; from++) {
    if (formats.steps.some((step) => step.from === from)) continue;
    throw new StoreError(
      path,
      `data folder ${path} has format ${found.format}, written by ${found.writtenBy}; this is ${ours(version)}, which cannot ` +
        `upgrade from format ${from}: open it with a version in between first, or choose another data folder`,
    );
  }
}

/**
 * Brings the data folder from the format `found`, which `readFormat` has let through, to the current one. Cut short, it
 * goes on at the step it was in when it is called again with what `readFormat` then says.
 */
export async function upgradeFormat(
  path: string,
  files: Files,
  found: Format,
  formats: Formats,
  version: string,
): Promise<void> {
  for (let from = found.format; from < formats.current; from++) {
    try {
      await formats.steps.find((step) => step.from === from)?.upgrade(path, files);
    } catch (error) {
      throw storeErrorOf(error, `cannot upgrade from format ${from} to ${from + 1} the data folder`, path);
    }
    await writeFormat(path, files, from + 1, version);
  }
}

/** Makes or replaces FORMAT; on disk when the promise resolves. Throws StoreError; a FORMAT of before is then still there. */
export async function writeFormat(path: string, files: Files, format: number, version: string): Promise<void> {
  const next = join(path, NEXT_FORMAT_FILE);
  try {
    if ((await files.status(next)) !== undefined) await files.remove(next);
    await writeText(next, `${formatLine(format, version)}\n`, files);
    await files.rename(next, join(path, FORMAT_FILE));
    await files.syncFolder(path);
  } catch (error) {
    // It would be in nobody's way; but who is refused should find the folder as it was.
    await files.remove(next).catch(() => undefined);
    throw storeErrorOf(error, 'cannot write', join(path, FORMAT_FILE));
  }
}

function ours(version: string): string {
  return `warren ${version}`;
}

function formatLine(format: number, version: string): string {
  return JSON.stringify({ format, writtenBy: ours(version) });
}

/** What `text` says, or why it says nothing. */
function parseFormat(text: string): Format | string {
  if (text === '') return 'empty';
  let said: unknown;
  try {
    said = JSON.parse(text);
  } catch {
    return 'not JSON';
  }
  if (typeof said !== 'object' || said === null) return 'not an object';
  const format: unknown = 'format' in said ? said.format : undefined;
  const writtenBy: unknown = 'writtenBy' in said ? said.writtenBy : undefined;
  if (typeof format !== 'number' || !Number.isSafeInteger(format) || format < 1) return 'no number of a format';
  return { format, writtenBy: typeof writtenBy === 'string' ? printable(writtenBy) : 'an unknown version' };
}

async function readText(path: string, files: Files): Promise<string> {
  const file = await files.open(path, 'read');
  try {
    const buffer = Buffer.alloc(FORMAT_BYTES_MAX);
    const length = await new Promise<number>((resolve, reject) => {
      file.read(buffer, 0, buffer.length, 0, (error, count) => (error === null ? resolve(count) : reject(error)));
    });
    return buffer.toString('utf8', 0, length);
  } finally {
    await file.close();
  }
}

async function writeText(path: string, text: string, files: Files): Promise<void> {
  const file = await files.open(path, 'create');
  try {
    await writeAndSync(file, Buffer.from(text));
  } finally {
    await file.close();
  }
}

function writeAndSync(file: OpenFile, octets: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error: Error | null): void => (error === null ? resolve() : reject(error));
    file.write(octets, 0, octets.length, 0, (error) => (error === null ? file.sync(settle) : reject(error)));
  });
}
