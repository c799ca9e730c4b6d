/**
 * Files that can be read and changed while nothing of it reaches the disk: for whoever opens a data folder only to look.
 * What is written stays in memory, page by page, and hides what is on disk. Only locks are real.
 */
import { basename, dirname } from 'node:path';
import type { DiskRoom, Done, FileKind, FileStatus, Files, FolderLock, OpenFile, OpenMode, ReadDone } from './files.ts';

/** Octets of a page; a file that is written to is copied page by page. */
const PAGE_BYTES = 64 * 1024;

/** A file that differs from what is on disk. */
class ChangedFile {
  readonly kind = 'file';
  /** Where the octets come from that no page has; undefined: from nowhere. */
  readonly basePath: string | undefined;
  /** As many octets of it count. */
  baseBytes: number;
  bytes: number;
  readonly pages = new Map<number, Uint8Array>();

  constructor(basePath: string | undefined, bytes: number) {
    this.basePath = basePath;
    this.baseBytes = bytes;
    this.bytes = bytes;
  }

  copy(): ChangedFile {
    const copy = new ChangedFile(this.basePath, this.baseBytes);
    copy.bytes = this.bytes;
    for (const [index, page] of this.pages) copy.pages.set(index, page.slice());
    return copy;
  }
}

/** What is at a path instead of what is there on disk. */
type Change = ChangedFile | { readonly kind: 'folder' } | { readonly kind: 'gone' };

export class CopyOnWriteFiles implements Files {
  readonly #base: Files;
  readonly #changes = new Map<string, Change>();

  /** Reads from `base`, and locks there. */
  constructor(base: Files) {
    this.#base = base;
  }

  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    const there = await this.status(path);
    if (mode === 'create') {
      if (there !== undefined) throw systemError('EEXIST', 'open', path);
      const made = new ChangedFile(undefined, 0);
      this.#changes.set(path, made);
      return new ChangedOpenFile(path, made, undefined);
    }
    if (there === undefined) throw systemError('ENOENT', 'open', path);
    const change = this.#changes.get(path);
    // Also for reading: another time it may be opened for writing while it is open here.
    const file = change?.kind === 'file' ? change : new ChangedFile(path, there.bytes);
    const base = file.basePath === undefined ? undefined : await this.#base.open(file.basePath, 'read');
    this.#changes.set(path, file);
    return new ChangedOpenFile(path, file, base);
  }

  async list(path: string): Promise<readonly string[]> {
    const isMade = this.#changes.get(path)?.kind === 'folder';
    const names = new Set(isMade ? [] : await this.#base.list(path));
    for (const [changed, { kind }] of this.#changes) {
      if (dirname(changed) !== path) continue;
      if (kind === 'gone') names.delete(basename(changed));
      else names.add(basename(changed));
    }
    return [...names].sort();
  }

  async status(path: string): Promise<FileStatus | undefined> {
    const change = this.#changes.get(path);
    if (change === undefined) return this.#base.status(path);
    if (change.kind === 'gone') return undefined;
    return { kind: change.kind satisfies FileKind, bytes: change.kind === 'file' ? change.bytes : 0 };
  }

  async makeFolder(path: string): Promise<void> {
    if ((await this.status(path)) !== undefined) throw systemError('EEXIST', 'mkdir', path);
    this.#changes.set(path, { kind: 'folder' });
  }

  async removeFolder(path: string): Promise<void> {
    if ((await this.list(path)).length > 0) throw systemError('ENOTEMPTY', 'rmdir', path);
    this.#changes.set(path, { kind: 'gone' });
  }

  async syncFolder(): Promise<void> {}

  async rename(from: string, to: string): Promise<void> {
    const change = this.#changes.get(from);
    if (change?.kind === 'file') this.#changes.set(to, change);
    else this.#changes.set(to, await this.#copyOf(from));
    this.#changes.set(from, { kind: 'gone' });
  }

  async remove(path: string): Promise<void> {
    if ((await this.status(path)) === undefined) throw systemError('ENOENT', 'unlink', path);
    this.#changes.set(path, { kind: 'gone' });
  }

  async copy(from: string, to: string): Promise<void> {
    const copy = await this.#copyOf(from);
    if ((await this.status(to)) !== undefined) throw systemError('EEXIST', 'copyfile', to);
    this.#changes.set(to, copy);
  }

  async #copyOf(path: string): Promise<ChangedFile> {
    const status = await this.status(path);
    if (status === undefined) throw systemError('ENOENT', 'open', path);
    const change = this.#changes.get(path);
    return change?.kind === 'file' ? change.copy() : new ChangedFile(path, status.bytes);
  }

  async checkWritable(): Promise<void> {}

  async room(): Promise<DiskRoom> {
    return { freeBytes: Number.MAX_SAFE_INTEGER, totalBytes: Number.MAX_SAFE_INTEGER };
  }

  lock(path: string): Promise<FolderLock> {
    return this.#base.lock(path);
  }
}

class ChangedOpenFile implements OpenFile {
  readonly path: string;
  readonly #file: ChangedFile;
  readonly #base: OpenFile | undefined;

  constructor(path: string, file: ChangedFile, base: OpenFile | undefined) {
    this.path = path;
    this.#file = file;
    this.#base = base;
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number, done: Done): void {
    call(this.#write(buffer.subarray(offset, offset + length), position), done);
  }

  async #write(octets: Uint8Array, position: number): Promise<void> {
    for (let at = 0; at < octets.length; ) {
      const index = Math.floor((position + at) / PAGE_BYTES);
      const start = position + at - index * PAGE_BYTES;
      const part = octets.subarray(at, at + PAGE_BYTES - start);
      (await this.#page(index)).set(part, start);
      at += part.length;
    }
    this.#file.bytes = Math.max(this.#file.bytes, position + octets.length);
  }

  /** A page that may be written to. */
  async #page(index: number): Promise<Uint8Array> {
    let page = this.#file.pages.get(index);
    if (page === undefined) {
      page = new Uint8Array(PAGE_BYTES);
      await this.#readBase(page, index * PAGE_BYTES);
      this.#file.pages.set(index, page);
    }
    return page;
  }

  /** Fills as much of `target` as lies on disk from `position` on. */
  #readBase(target: Uint8Array, position: number): Promise<void> {
    const base = this.#base;
    const bytes = Math.min(target.length, this.#file.baseBytes - position);
    if (base === undefined || bytes <= 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      base.read(target, 0, bytes, position, (error) => (error === null ? resolve() : reject(error)));
    });
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number, done: ReadDone): void {
    const bytes = Math.max(0, Math.min(length, this.#file.bytes - position));
    call(this.#read(buffer.subarray(offset, offset + bytes), position), (error) => {
      done(error, error === null ? bytes : 0);
    });
  }

  async #read(target: Uint8Array, position: number): Promise<void> {
    target.fill(0);
    await this.#readBase(target, position);
    const first = Math.floor(position / PAGE_BYTES);
    for (let index = first; index * PAGE_BYTES < position + target.length; index += 1) {
      const page = this.#file.pages.get(index);
      const start = index * PAGE_BYTES - position;
      if (page === undefined) continue;
      target.set(page.subarray(Math.max(0, -start), target.length - start), Math.max(0, start));
    }
  }

  sync(done: Done): void {
    setImmediate(done, null);
  }

  async truncate(bytes: number): Promise<void> {
    const file = this.#file;
    const last = Math.floor(bytes / PAGE_BYTES);
    if (bytes < file.bytes) {
      // What lies behind must be zeros if the file grows again.
      (await this.#page(last)).fill(0, bytes - last * PAGE_BYTES);
      for (const index of [...file.pages.keys()]) if (index > last) file.pages.delete(index);
      file.baseBytes = Math.min(file.baseBytes, bytes);
    }
    file.bytes = bytes;
  }

  async size(): Promise<number> {
    return this.#file.bytes;
  }

  async close(): Promise<void> {
    await this.#base?.close();
  }
}

function call(promise: Promise<void>, done: Done): void {
  promise.then(
    () => setImmediate(done, null),
    (error: unknown) => setImmediate(done, error instanceof Error ? error : new Error(String(error))),
  );
}

function systemError(code: string, call: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, syscall: call, path });
}
