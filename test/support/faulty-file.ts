/** One open file of test/support/faulty-files.ts. */
import type { Done, Files, OpenFile, OpenMode, ReadDone } from '../../broker/storage/folder/files.ts';
import { type Chance, type InFlight, type MemoryFile, systemError } from './memory-disk.ts';

/** What can be made to fail: the methods of `Files` and of `OpenFile`. */
export type FileCall = Exclude<keyof Files | keyof OpenFile, 'path'>;

/** What an open file needs of its file system. */
export interface CallsOfFiles {
  /**
   * One call: `effect` happens when it is over, with the failure that was planned for it, if any; it throws what the call
   * fails with. Then `succeed` or `fail`.
   */
  begin<T>(
    call: FileCall,
    path: string,
    effect: (failure: NodeJS.ErrnoException | undefined) => T,
    succeed: (value: T) => void,
    fail: (error: Error) => void,
  ): void;
  freeBytes(): number;
  readonly chance: Chance;
  readonly inFlight: Set<InFlight>;
}

export class FaultyFile implements OpenFile {
  readonly path: string;
  readonly #mode: OpenMode;
  readonly #file: MemoryFile;
  readonly #files: CallsOfFiles;
  #busy: string | undefined;
  #reads = 0;
  #closed = false;

  constructor(path: string, mode: OpenMode, file: MemoryFile, files: CallsOfFiles) {
    this.path = path;
    this.#mode = mode;
    this.#file = file;
    this.#files = files;
  }

  write(buffer: Uint8Array, offset: number, length: number, position: number, done: Done): void {
    const data = buffer.subarray(offset, offset + length);
    if (data.length !== length) throw new RangeError(`write of ${length} octets beyond the end of the buffer`);
    const change: InFlight = { file: this.#file, at: position, data };
    this.#files.inFlight.add(change);
    this.#call(
      'write',
      (failure) => {
        this.#files.inFlight.delete(change);
        const room = Math.max(0, this.#files.freeBytes() + this.#file.bytes - position);
        if (failure === undefined && length <= room) return this.#file.write(position, data);
        this.#file.write(position, data.subarray(0, Math.min(room, this.#files.chance(length + 1))));
        throw failure ?? systemError('ENOSPC', 'write', this.path);
      },
      () => done(null),
      done,
    );
  }

  read(buffer: Uint8Array, offset: number, length: number, position: number, done: ReadDone): void {
    this.#checkOpen('read');
    this.#reads++;
    this.#files.begin(
      'read',
      this.path,
      (failure) => {
        this.#reads--;
        if (failure !== undefined) throw failure;
        const octets = this.#file.view(position, position + length);
        buffer.set(octets, offset);
        return octets.length;
      },
      (count) => done(null, count),
      (error) => done(error, 0),
    );
  }

  sync(done: Done): void {
    this.#call(
      'sync',
      (failure) => {
        if (failure === undefined) return this.#file.sync();
        this.#file.failSync(this.#files.chance);
        throw failure;
      },
      () => done(null),
      done,
    );
  }

  truncate(bytes: number): Promise<void> {
    return this.#promise('truncate', () => this.#file.resize(bytes));
  }

  size(): Promise<number> {
    return this.#promise('size', () => this.#file.bytes);
  }

  async close(): Promise<void> {
    this.#checkOpen('close');
    if (this.#reads > 0) throw new Error(`close of ${this.path} during a read`);
    const closing = this.#promise('close', () => undefined);
    this.#closed = true;
    await closing;
  }

  #promise<T>(call: FileCall, effect: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#call(
        call,
        (failure) => {
          if (failure !== undefined) throw failure;
          return effect();
        },
        resolve,
        reject,
      );
    });
  }

  /** A call that must be the only one on this file, but for reads. */
  #call<T>(
    call: FileCall,
    effect: (failure: NodeJS.ErrnoException | undefined) => T,
    succeed: (value: T) => void,
    fail: (error: Error) => void,
  ): void {
    this.#checkOpen(call);
    const changes = call === 'write' || call === 'truncate';
    if (this.#mode === 'read' && changes) throw new Error(`${call} of ${this.path}, which is open for reading`);
    if (this.#busy !== undefined) throw new Error(`${call} of ${this.path} during a ${this.#busy}`);
    this.#busy = call;
    this.#files.begin(
      call,
      this.path,
      (failure) => {
        this.#busy = undefined;
        return effect(failure);
      },
      succeed,
      fail,
    );
  }

  #checkOpen(call: FileCall): void {
    if (this.#closed) throw new Error(`${call} of ${this.path}, which is closed`);
  }
}
