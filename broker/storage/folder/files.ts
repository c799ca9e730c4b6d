/**
 * The file system as the store uses it, and nothing more of it: `nodeFiles` is the real one. A test puts another one in
 * its place, whose writes fail, whose disk is full or slow, or which forgets what was not synced when it crashes
 * (test/support/faulty-files.ts).
 *
 * What is promised after a crash, and what is not: octets written are there after `sync` of their file has succeeded;
 * a name in a folder (made, renamed, removed) is as it was left after `syncFolder` of that folder has succeeded. Until
 * then any part of them may be there or not, in any order. After `sync` has failed, what was written since the one before
 * may be lost although a later `sync` succeeds: write it again, elsewhere.
 *
 * Every failure is a Node system error with a `code`; failures of one call leave the file open.
 */
import { close, constants, fdatasync, fstat, ftruncate, open, read, write } from 'node:fs';
import * as fs from 'node:fs/promises';
import { errorCode } from '../store-error.ts';
import { lockFolder } from './lock.ts';

export type FileKind = 'file' | 'folder' | 'other';

export interface FileStatus {
  /** Of what a symbolic link leads to. */
  readonly kind: FileKind;
  readonly bytes: number;
}

/** Room on the file system of a folder, in octets. */
export interface DiskRoom {
  /** What this process may still use. */
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Called once when a write or sync is over; `null`: it has succeeded. */
export type Done = (error: Error | null) => void;

/** Called once when a read is over; `bytesRead` is 0 when it has failed. */
export type ReadDone = (error: Error | null, bytesRead: number) => void;

/** A file that is open. No two calls but reads may be under way at a time; nothing may be called after `close`. */
export interface OpenFile {
  readonly path: string;
  /**
   * Writes `length` octets of `buffer` from `offset` on at `position` of the file, all of them unless it fails; then any
   * part of them may have been written. The buffer must not change until `done` is called, which is never synchronous.
   */
  write(buffer: Uint8Array, offset: number, length: number, position: number, done: Done): void;
  /**
   * Reads up to `length` octets from `position` of the file into `buffer` at `offset`; fewer only when the file ends.
   * `done` is never called synchronously.
   */
  read(buffer: Uint8Array, offset: number, length: number, position: number, done: ReadDone): void;
  /** Everything written to the file is on disk, and its length (fdatasync). `done` is never called synchronously. */
  sync(done: Done): void;
  /** Cuts the file off, or fills it up with zeros, at `bytes`. */
  truncate(bytes: number): Promise<void>;
  /** Length of the file in octets. */
  size(): Promise<number>;
  close(): Promise<void>;
}

/** `read`: must exist. `update`: must exist, read and write. `create`: must not exist, read and write. */
export type OpenMode = 'read' | 'update' | 'create';

/** A data folder that is this process's own. */
export interface FolderLock {
  /** Lets go of the folder. Idempotent; never rejects. */
  release(): Promise<void>;
}

export interface Files {
  /** Opens a file; with `create` for nobody but its owner (0600). */
  open(path: string, mode: OpenMode): Promise<OpenFile>;
  /** Names in a folder, sorted. */
  list(path: string): Promise<readonly string[]>;
  /** What lies at `path`; undefined when nothing does. */
  status(path: string): Promise<FileStatus | undefined>;
  /** Makes one folder, for nobody but its owner (0700). Its parent must exist, itself must not. */
  makeFolder(path: string): Promise<void>;
  /** Removes an empty folder. */
  removeFolder(path: string): Promise<void>;
  /** Names in the folder are on disk as they are now. */
  syncFolder(path: string): Promise<void>;
  /** Gives a file another name on the same file system; a file of that name is replaced, in one step. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file. */
  remove(path: string): Promise<void>;
  /** Copies a file to a name that must not exist. The copy is not synced. */
  copy(from: string, to: string): Promise<void>;
  /** Whether this process may make files in the folder; rejects with the reason (EACCES, EROFS) when not. */
  checkWritable(path: string): Promise<void>;
  /** Room on the file system of a file or folder. */
  room(path: string): Promise<DiskRoom>;
  /** Takes a folder for this process alone. Throws StoreError with the process that has it. */
  lock(path: string): Promise<FolderLock>;
}

const FLAGS: Readonly<Record<OpenMode, number>> = {
  read: constants.O_RDONLY,
  update: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
};

/** One file descriptor. A write or read that the system cuts short goes on until it is whole. */
class NodeFile implements OpenFile {
  readonly path: string;
  readonly #fd: number;

  constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number, done: Done): void {
    write(this.#fd, buffer, offset, length, position, (error, written) => {
      if (error !== null) done(error);
      else if (written < length) this.write(buffer, offset + written, length - written, position + written, done);
      else done(null);
    });
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number, done: ReadDone): void {
    this.#readOn(buffer, offset, length, position, 0, done);
  }

  #readOn(buffer: Uint8Array, offset: number, length: number, position: number, before: number, done: ReadDone): void {
    read(this.#fd, buffer, offset, length, position, (error, count) => {
      if (error !== null) done(error, 0);
      else if (count === 0 || count === length) done(null, before + count);
      else this.#readOn(buffer, offset + count, length - count, position + count, before + count, done);
    });
  }

  sync(done: Done): void {
    fdatasync(this.#fd, done);
  }

  truncate(bytes: number): Promise<void> {
    return new Promise((resolve, reject) => {
      ftruncate(this.#fd, bytes, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  size(): Promise<number> {
    return new Promise((resolve, reject) => {
      fstat(this.#fd, (error, stats) => (error === null ? resolve(stats.size) : reject(error)));
    });
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => {
      close(this.#fd, (error) => (error === null || error === undefined ? resolve() : reject(error)));
    });
  }
}

/** The file system of this machine. */
export const nodeFiles: Files = {
  open: (path, mode) =>
    new Promise((resolve, reject) => {
      open(path, FLAGS[mode], 0o600, (error, fd) => (error === null ? resolve(new NodeFile(path, fd)) : reject(error)));
    }),

  async list(path) {
    return (await fs.readdir(path)).sort();
  },

  async status(path) {
    try {
      const stats = await fs.stat(path);
      return { kind: stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : 'other', bytes: stats.size };
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  },

  makeFolder: (path) => fs.mkdir(path, { mode: 0o700 }),
  removeFolder: (path) => fs.rmdir(path),

  async syncFolder(path) {
    const folder = await fs.open(path, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      await folder.sync();
    } catch (error) {
      // Some network file systems sync no folders, and say so; there is nothing better to be had there.
      if (!['EINVAL', 'EBADF', 'ENOTSUP', 'EOPNOTSUPP'].includes(errorCode(error))) throw error;
    } finally {
      await folder.close();
    }
  },

  rename: (from, to) => fs.rename(from, to),
  remove: (path) => fs.unlink(path),
  copy: (from, to) => fs.copyFile(from, to, constants.COPYFILE_EXCL),
  checkWritable: (path) => fs.access(path, constants.R_OK | constants.W_OK | constants.X_OK),

  async room(path) {
    const { bavail, blocks, bsize } = await fs.statfs(path);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  },

  lock: lockFolder,
};
