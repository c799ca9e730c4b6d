/** What keeps a store from opening or going on, in words for the person who starts the broker. */

/**
 * Thrown by everything in broker/storage/ for a reason outside of the program: a folder, a file, a disk. `message` says
 * which file, what is wrong with it and what to do; `path` is that file or folder, absolute.
 */
export class StoreError extends Error {
  readonly path: string;

  constructor(path: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'StoreError';
    this.path = path;
  }
}

/** The code of a failed system call, e.g. `ENOSPC`; the empty string for every other error. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** What has gone wrong and what mends it, for the errors that people meet. */
const WORDS: Readonly<Record<string, string>> = {
  EACCES: 'permission denied: let the user that Warren runs as own the data folder and all in it',
  EPERM: 'not permitted: let the user that Warren runs as own the data folder and all in it',
  EROFS: 'the file system is read-only: mount it for writing, or choose another data folder',
  ENOSPC: 'no space left on the disk: make room, or choose a data folder on another disk',
  EDQUOT: 'the disk quota is used up: make room, or choose a data folder on another disk',
  EIO: 'the disk reports an I/O error: look at the log of the operating system, and check the disk',
  ENOENT: 'it is not there: put it back from a backup',
  ENOTDIR: 'a part of its path is not a folder: choose another data folder',
  EISDIR: 'it is a folder, where a file should be: move it away',
  ELOOP: 'its symbolic links lead in a circle: choose another data folder',
  ENAMETOOLONG: 'its path is too long: choose another data folder',
  EMFILE: 'too many open files: raise the limit (ulimit -n)',
  ENFILE: 'too many open files on this machine: raise the limit of the operating system',
  EFBIG: 'the file is larger than the file system or a limit (ulimit -f) allows',
};

/** Why a system call has failed and what to do, in words; with the code of the error at the end. */
export function failureText(error: unknown): string {
  const code = errorCode(error);
  const words = WORDS[code] ?? (error instanceof Error ? error.message : String(error));
  return code === '' || words.includes(code) ? words : `${words} (${code})`;
}

/**
 * The failed system call `error` as a StoreError: `doing`, e.g. `cannot open`, then the path, then why. When the call was
 * about another file than `path`, that one is named too.
 */
export function storeErrorOf(error: unknown, doing: string, path: string): StoreError {
  if (error instanceof StoreError) return error;
  const other = error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : path;
  const where = other === path ? path : `${path}: ${other}`;
  return new StoreError(other, `${doing} ${where}: ${failureText(error)}`, error);
}

/** Characters of a stranger's text that are shown. */
const SHOWN_CHARACTERS_MAX = 60;

/** Text of a stranger as a message for a terminal may hold it. */
export function printable(text: string): string {
  return text.replace(/[^ -~]/g, '?').slice(0, SHOWN_CHARACTERS_MAX);
}
