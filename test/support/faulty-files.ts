/**
 * A file system in memory, behind the interface that the store uses, that does at a chosen moment what real ones do once
 * in years: refuse a call, be full, be slow, and crash. The same seed gives the same run.
 *
 * Every call is over in a later turn of the event loop, as calls of the real one are. What the interface forbids (two
 * writes to a file at a time, a call after `close`) throws at once, so that a test finds it.
 */
import { resolve } from 'node:path/posix';
import type { DiskRoom, FileStatus, Files, FolderLock, OpenFile, OpenMode } from '../../broker/storage/folder/files.ts';
import { StoreError } from '../../broker/storage/store-error.ts';
import { type CallsOfFiles, FaultyFile, type FileCall } from './faulty-file.ts';
import {
  type Chance,
  chanceOf,
  type InFlight,
  MemoryDisk,
  MemoryFile,
  MemoryFolder,
  systemError,
} from './memory-disk.ts';

/** Which calls are meant. */
export interface CallMatch {
  /** Default: all of them. */
  readonly call?: FileCall | readonly FileCall[];
  /** To be found in the absolute path; default: any. Of `rename` and `copy`, the path that they make. */
  readonly path?: RegExp | string;
}

/** Calls that fail. */
export interface Fault extends CallMatch {
  /** What they fail with, e.g. `EIO`. */
  readonly code: string;
  /** So many of them succeed first (default 0). */
  readonly skip?: number;
  /** So many of them fail then (default 1; Infinity: until the fault is taken away). */
  readonly times?: number;
}

export interface FaultyFilesOptions {
  /** Default 1. */
  readonly seed?: number;
  /** Octets that all files together may have; default Infinity. Can be changed later. */
  readonly capacityBytes?: number;
  /** A call takes 1 to so many turns of the event loop (default 1), as chance has it. */
  readonly turnsMax?: number;
  /** Default: an empty one. */
  readonly disk?: MemoryDisk;
}

/** Size of a disk without a limit. */
const UNLIMITED_BYTES = 2 ** 50;

interface PlannedFault {
  readonly fault: Fault;
  skip: number;
  times: number;
}

interface Hold {
  readonly match: CallMatch;
  readonly held: (() => void)[];
}

function matches({ call, path }: CallMatch, made: FileCall, on: string): boolean {
  if (call !== undefined && !(typeof call === 'string' ? call === made : call.includes(made))) return false;
  return path === undefined || (typeof path === 'string' ? on.includes(path) : path.test(on));
}

export class FaultyFiles implements Files {
  /** Octets that all files together may have. */
  capacityBytes: number;
  /** Calls made so far, in order, e.g. `write /data/log/00000001.log`. */
  readonly made: string[] = [];
  readonly #disk: MemoryDisk;
  readonly #chance: Chance;
  readonly #options: FaultyFilesOptions;
  readonly #faults = new Set<PlannedFault>();
  readonly #holds = new Set<Hold>();
  readonly #locked = new Set<string>();
  readonly #inFlight = new Set<InFlight>();
  #crashAtCall = Number.POSITIVE_INFINITY;
  /** Copied at the time of the crash, because buffers are used again. */
  #inFlightAtCrash: readonly InFlight[] | undefined;

  constructor(options: FaultyFilesOptions = {}) {
    const { seed = 1, capacityBytes = Number.POSITIVE_INFINITY, disk = new MemoryDisk() } = options;
    this.#options = options;
    this.#chance = chanceOf(seed);
    this.#disk = disk;
    this.capacityBytes = capacityBytes;
  }

  /** Plans a failure. The answer takes it away. */
  fail(fault: Fault): () => void {
    const planned = { fault, skip: fault.skip ?? 0, times: fault.times ?? 1 };
    this.#faults.add(planned);
    return () => void this.#faults.delete(planned);
  }

  /** Such calls are not over until the function that is answered has been called; they do nothing until then. */
  hold(match: CallMatch): () => void {
    const hold: Hold = { match, held: [] };
    this.#holds.add(hold);
    return () => {
      this.#holds.delete(hold);
      for (const goOn of hold.held.splice(0)) goOn();
    };
  }

  /** Crashes in the middle of the call with this number, counted from 1 and from the making of this object. */
  crashAt(call: number): void {
    this.#crashAtCall = call;
  }

  /** From now on no call is ever over. */
  crash(): void {
    this.#inFlightAtCrash ??= this.#copyInFlight();
  }

  get crashed(): boolean {
    return this.#inFlightAtCrash !== undefined;
  }

  /**
   * The file system that the next process would find if the power failed now, or when it crashed: with what was synced,
   * and any part of what was not. Different seeds, different parts. This one is not changed by it.
   */
  afterCrash(seed = 1): FaultyFiles {
    const disk = this.#disk.afterCrash(chanceOf(seed), this.#inFlightAtCrash ?? this.#copyInFlight());
    return new FaultyFiles({ ...this.#options, seed, disk, capacityBytes: this.capacityBytes });
  }

  /** The same if only the process is killed: nothing of what it has written is lost, but what was being written. */
  afterKill(seed = 1): FaultyFiles {
    const disk = this.#disk.afterKill(chanceOf(seed), this.#inFlightAtCrash ?? this.#copyInFlight());
    return new FaultyFiles({ ...this.#options, seed, disk, capacityBytes: this.capacityBytes });
  }

  #copyInFlight(): readonly InFlight[] {
    return [...this.#inFlight].map((change) => ({ ...change, data: change.data && Uint8Array.from(change.data) }));
  }

  /** Paths of all files, sorted. */
  paths(): readonly string[] {
    return this.#disk.files();
  }

  /** A copy of what is in a file. */
  contents(path: string): Uint8Array {
    return Uint8Array.from(this.#disk.fileAt(path).view());
  }

  /** Puts a file there, and the folders that lead to it, without a call. Everything on the disk is synced then. */
  plant(path: string, octets: Uint8Array | string): void {
    const names = path.split('/').slice(1);
    for (let depth = 1; depth < names.length; depth++) {
      const folder = `/${names.slice(0, depth).join('/')}`;
      if (this.#disk.at(folder) === undefined) this.#disk.add(folder, new MemoryFolder());
    }
    if (this.#disk.at(path) !== undefined) this.#disk.remove(path);
    this.#disk.add(path, new MemoryFile(Buffer.from(octets)));
    this.#disk.syncAll();
  }

  /** Changes octets of a file on the disk, behind everybody's back. */
  damage(path: string, at: number, octets: Uint8Array): void {
    this.#disk.fileAt(path).damage(at, octets);
  }

  open(path: string, mode: OpenMode): Promise<OpenFile> {
    return this.#promise('open', path, (at) => {
      if (mode === 'create') {
        if (this.#freeBytes() <= 0) throw systemError('ENOSPC', 'open', at);
        this.#disk.add(at, new MemoryFile());
      }
      return new FaultyFile(at, mode, this.#disk.fileAt(at), this.#calls);
    });
  }

  list(path: string): Promise<readonly string[]> {
    return this.#promise('list', path, (at) => [...this.#disk.folderAt(at).entries.keys()].sort());
  }

  status(path: string): Promise<FileStatus | undefined> {
    return this.#promise('status', path, (at) => {
      const node = this.#disk.at(at);
      return node && { kind: node.kind, bytes: node instanceof MemoryFile ? node.bytes : 0 };
    });
  }

  makeFolder(path: string): Promise<void> {
    return this.#promise('makeFolder', path, (at) => {
      if (this.#freeBytes() <= 0) throw systemError('ENOSPC', 'mkdir', at);
      this.#disk.add(at, new MemoryFolder());
    });
  }

  removeFolder(path: string): Promise<void> {
    return this.#promise('removeFolder', path, (at) => {
      this.#disk.folderAt(at);
      this.#disk.remove(at);
    });
  }

  syncFolder(path: string): Promise<void> {
    return this.#promise('syncFolder', path, (at) => this.#disk.syncFolder(at));
  }

  rename(from: string, to: string): Promise<void> {
    return this.#promise('rename', to, (at) => this.#disk.rename(resolve(from), at));
  }

  remove(path: string): Promise<void> {
    return this.#promise('remove', path, (at) => {
      this.#disk.fileAt(at);
      this.#disk.remove(at);
    });
  }

  copy(from: string, to: string): Promise<void> {
    return this.#promise('copy', to, (at) => {
      const octets = this.#disk.fileAt(resolve(from)).view();
      if (octets.length > this.#freeBytes()) throw systemError('ENOSPC', 'copyfile', at);
      const file = new MemoryFile();
      this.#disk.add(at, file);
      file.write(0, octets);
    });
  }

  checkWritable(path: string): Promise<void> {
    return this.#promise('checkWritable', path, (at) => void this.#disk.folderAt(at));
  }

  room(path: string): Promise<DiskRoom> {
    return this.#promise('room', path, () => ({
      freeBytes: Math.max(0, this.#freeBytes()),
      totalBytes: Math.min(UNLIMITED_BYTES, this.capacityBytes),
    }));
  }

  lock(path: string): Promise<FolderLock> {
    return this.#promise('lock', path, (at) => {
      this.#disk.folderAt(at);
      if (this.#locked.has(at)) throw new StoreError(at, `data folder ${at} is in use by this process (in memory)`);
      this.#locked.add(at);
      return { release: async () => void this.#locked.delete(at) };
    });
  }

  #freeBytes(): number {
    return this.capacityBytes === Number.POSITIVE_INFINITY
      ? UNLIMITED_BYTES
      : this.capacityBytes - this.#disk.usedBytes();
  }

  #promise<T>(call: FileCall, path: string, effect: (path: string) => T): Promise<T> {
    const at = resolve(path);
    return new Promise((fulfil, reject) => {
      this.#begin(
        call,
        at,
        (failure) => {
          if (failure !== undefined) throw failure;
          return effect(at);
        },
        fulfil,
        reject,
      );
    });
  }

  /**
   * One call: `effect` happens when it is over, with the failure that was planned for it, if any; it throws what the call
   * fails with. Then `succeed` or `fail`.
   */
  #begin<T>(
    call: FileCall,
    path: string,
    effect: (failure: NodeJS.ErrnoException | undefined) => T,
    succeed: (value: T) => void,
    fail: (error: Error) => void,
  ): void {
    if (this.crashed) return;
    this.made.push(`${call} ${path}`);
    const failure = this.#plannedFor(call, path);
    const end = (): void => {
      if (this.crashed) return;
      let value: T;
      try {
        value = effect(failure);
      } catch (error) {
        fail(error as Error);
        return;
      }
      succeed(value);
    };
    this.#later(1 + this.#chance(this.#options.turnsMax ?? 1), () => {
      const hold = [...this.#holds].find(({ match }) => matches(match, call, path));
      if (hold === undefined) end();
      else hold.held.push(end);
    });
    if (this.made.length >= this.#crashAtCall) this.crash();
  }

  #plannedFor(call: FileCall, path: string): NodeJS.ErrnoException | undefined {
    for (const planned of this.#faults) {
      if (!matches(planned.fault, call, path)) continue;
      if (planned.skip > 0) {
        planned.skip--;
        continue;
      }
      planned.times--;
      if (planned.times <= 0) this.#faults.delete(planned);
      return systemError(planned.fault.code, call, path);
    }
    return undefined;
  }

  #later(turns: number, task: () => void): void {
    if (turns === 0) task();
    else setImmediate(() => this.#later(turns - 1, task));
  }

  /** What open files need of their file system. */
  readonly #calls: CallsOfFiles = {
    begin: (call, path, effect, succeed, fail) => this.#begin(call, path, effect, succeed, fail),
    freeBytes: () => this.#freeBytes(),
    chance: (below) => this.#chance(below),
    inFlight: this.#inFlight,
  };
}
