/**
 * A disk in memory that knows what of it has been synced: what is on it now, as programs see it, and what would be on it
 * after the power had failed. The rules are the worst that `Files` allows (broker/storage/folder/files.ts): what is not synced
 * survives in any part, order or not at all, and so do names in folders.
 */
import { basename, dirname } from 'node:path/posix';

/** Numbers of chance, the same for the same seed: at least 0 and below `below`, whole. */
export type Chance = (below: number) => number;

/** [mulberry32, in the public domain] */
export function chanceOf(seed: number): Chance {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** The error of a failed system call, as Node makes them. */
export function systemError(code: string, call: string, path: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, syscall: call, path });
}

/** What a disk writes as a whole or not at all, octets. */
const SECTOR_BYTES = 512;

/** Octets that can grow. */
class Octets {
  #buffer: Buffer;
  length: number;

  constructor(octets: Uint8Array) {
    this.#buffer = Buffer.from(octets);
    this.length = octets.length;
  }

  view(from = 0, to = this.length): Buffer {
    return this.#buffer.subarray(Math.min(from, this.length), Math.min(to, this.length));
  }

  write(at: number, data: Uint8Array): void {
    if (at + data.length > this.length) this.resize(at + data.length);
    this.#buffer.set(data, at);
  }

  resize(bytes: number): void {
    if (bytes > this.#buffer.length) {
      const larger = Buffer.alloc(Math.max(bytes, 2 * this.#buffer.length));
      larger.set(this.view());
      this.#buffer = larger;
    }
    if (bytes < this.length) this.#buffer.fill(0, bytes, this.length);
    this.length = bytes;
  }
}

/** A write (at, data) or, without data, a new length. */
interface Change {
  readonly at: number;
  readonly data: Uint8Array | undefined;
}

function apply(octets: Octets, { at, data }: Change): void {
  if (data === undefined) octets.resize(at);
  else octets.write(at, data);
}

/** A part of `change`, or nothing, or all of it. */
function applyInPart(octets: Octets, change: Change, chance: Chance): void {
  const { at, data } = change;
  const how = chance(4);
  if (how === 0) return;
  if (how === 1 || data === undefined) {
    apply(octets, change);
  } else if (how === 2) {
    octets.write(at, data.subarray(0, chance(data.length + 1)));
  } else {
    // The length has grown; some sectors have never been written.
    octets.resize(Math.max(octets.length, at + data.length));
    for (let from = 0; from < data.length; ) {
      const to = Math.min(data.length, (Math.floor((at + from) / SECTOR_BYTES) + 1) * SECTOR_BYTES - at);
      if (chance(2) === 0) octets.write(at + from, data.subarray(from, to));
      from = to;
    }
  }
}

/**
 * Some of `changes` in their order: all, none, those before one moment, or any. `whole` applies one, `part` applies one
 * that may be torn.
 */
function survive<T>(
  changes: readonly T[],
  chance: Chance,
  whole: (change: T) => void,
  part: (change: T) => void,
): void {
  const how = chance(4);
  if (how === 0) return;
  const end = how === 1 ? changes.length : chance(changes.length + 1);
  changes.forEach((change, index) => {
    if (how === 3) part(change);
    else if (index < end) whole(change);
    else if (index === end) part(change);
  });
}

export class MemoryFile {
  readonly kind = 'file';
  /** As programs see it. */
  readonly #now: Octets;
  readonly #synced: Octets;
  /** Since the last sync. */
  #changes: Change[] = [];

  constructor(now: Uint8Array = Buffer.alloc(0), synced: Uint8Array = now) {
    this.#now = new Octets(now);
    this.#synced = new Octets(synced);
  }

  get bytes(): number {
    return this.#now.length;
  }

  view(from?: number, to?: number): Buffer {
    return this.#now.view(from, to);
  }

  write(at: number, data: Uint8Array): void {
    this.#change({ at, data: Uint8Array.from(data) });
  }

  resize(bytes: number): void {
    this.#change({ at: bytes, data: undefined });
  }

  #change(change: Change): void {
    this.#changes.push(change);
    apply(this.#now, change);
  }

  sync(): void {
    for (const change of this.#changes) apply(this.#synced, change);
    this.#changes = [];
  }

  /**
   * As Linux does it: programs go on seeing what they wrote, but nobody will write the lost part of it to the disk again,
   * and the next sync succeeds.
   */
  failSync(chance: Chance): void {
    this.#survive(this.#synced, this.#changes, chance);
    this.#changes = [];
  }

  /** Changes octets on the disk itself, synced. */
  damage(at: number, data: Uint8Array): void {
    this.#now.write(at, data);
    this.#synced.write(at, data);
  }

  /** The file after the power has failed while `inFlight` was being written. */
  afterCrash(chance: Chance, inFlight: readonly Change[]): MemoryFile {
    const octets = new Octets(this.#synced.view());
    this.#survive(octets, [...this.#changes, ...inFlight], chance);
    return new MemoryFile(octets.view());
  }

  /** The file after the program has been killed while `inFlight` was being written; not synced any more than before. */
  afterKill(chance: Chance, inFlight: readonly Change[]): MemoryFile {
    const copy = new MemoryFile(this.#now.view(), this.#synced.view());
    copy.#changes = [...this.#changes];
    for (const { at, data } of inFlight) {
      if (data !== undefined) copy.write(at, data.subarray(0, chance(data.length + 1)));
    }
    return copy;
  }

  #survive(octets: Octets, changes: readonly Change[], chance: Chance): void {
    survive(
      changes,
      chance,
      (change) => apply(octets, change),
      (change) => applyInPart(octets, change, chance),
    );
  }
}

export class MemoryFolder {
  readonly kind = 'folder';
  readonly entries = new Map<string, MemoryNode>();
  readonly synced = new Map<string, MemoryNode>();
}

export type MemoryNode = MemoryFile | MemoryFolder;

/** A name in a folder that was given to something, or to nothing. A renaming is two of them, which happen as one. */
interface Naming {
  readonly folder: MemoryFolder;
  readonly name: string;
  readonly node: MemoryNode | undefined;
}

function give(map: 'entries' | 'synced', { folder, name, node }: Naming): void {
  if (node === undefined) folder[map].delete(name);
  else folder[map].set(name, node);
}

function walk(node: MemoryNode, path: string, visit: (node: MemoryNode, path: string) => void): void {
  visit(node, path);
  if (node instanceof MemoryFolder) for (const [name, inner] of node.entries) walk(inner, `${path}/${name}`, visit);
}

/** What is being written to a file when a crash happens. */
export interface InFlight extends Change {
  readonly file: MemoryFile;
}

export class MemoryDisk {
  #root = new MemoryFolder();
  /** Namings since the sync of their folders, in order. */
  #namings: (readonly Naming[])[] = [];

  /** What lies at the absolute `path`. */
  at(path: string): MemoryNode | undefined {
    let node: MemoryNode | undefined = this.#root;
    for (const name of path.split('/').filter((part) => part !== '')) {
      if (node instanceof MemoryFile) throw systemError('ENOTDIR', 'stat', path);
      node = node?.entries.get(name);
    }
    return node;
  }

  folderAt(path: string): MemoryFolder {
    const node = this.at(path);
    if (node === undefined) throw systemError('ENOENT', 'scandir', path);
    if (node instanceof MemoryFile) throw systemError('ENOTDIR', 'scandir', path);
    return node;
  }

  fileAt(path: string): MemoryFile {
    const node = this.at(path);
    if (node === undefined) throw systemError('ENOENT', 'open', path);
    if (node instanceof MemoryFolder) throw systemError('EISDIR', 'open', path);
    return node;
  }

  /** Puts a new node at a path that must be free. */
  add(path: string, node: MemoryNode): void {
    const folder = this.folderAt(dirname(path));
    if (folder.entries.has(basename(path))) throw systemError('EEXIST', 'open', path);
    this.#name({ folder, name: basename(path), node });
  }

  remove(path: string): void {
    const node = this.at(path);
    if (node === undefined) throw systemError('ENOENT', 'unlink', path);
    if (node instanceof MemoryFolder && node.entries.size > 0) throw systemError('ENOTEMPTY', 'rmdir', path);
    this.#name({ folder: this.folderAt(dirname(path)), name: basename(path), node: undefined });
  }

  rename(from: string, to: string): void {
    const file = this.fileAt(from);
    if (this.at(to) instanceof MemoryFolder) throw systemError('EISDIR', 'rename', to);
    if (from === to) return;
    this.#name(
      { folder: this.folderAt(dirname(from)), name: basename(from), node: undefined },
      { folder: this.folderAt(dirname(to)), name: basename(to), node: file },
    );
  }

  #name(...namings: readonly Naming[]): void {
    for (const naming of namings) give('entries', naming);
    this.#namings.push(namings);
  }

  syncFolder(path: string): void {
    const folder = this.folderAt(path);
    const rest: (readonly Naming[])[] = [];
    for (const namings of this.#namings) {
      if (!namings.some((naming) => naming.folder === folder)) rest.push(namings);
      else for (const naming of namings) give('synced', naming);
    }
    this.#namings = rest;
  }

  /** Paths of all files, sorted. */
  files(): readonly string[] {
    const found: string[] = [];
    walk(this.#root, '', (node, path) => {
      if (node instanceof MemoryFile) found.push(path);
    });
    return found.sort();
  }

  /** Octets of all files. */
  usedBytes(): number {
    return this.files().reduce((sum, path) => sum + this.fileAt(path).bytes, 0);
  }

  /** Everything is on disk as it is now. */
  syncAll(): void {
    walk(this.#root, '', (node) => {
      if (node instanceof MemoryFile) {
        node.sync();
      } else {
        node.synced.clear();
        for (const [name, inner] of node.entries) node.synced.set(name, inner);
      }
    });
    this.#namings = [];
  }

  /** The disk after the power has failed while `inFlight` was being written. This one stays as it is. */
  afterCrash(chance: Chance, inFlight: readonly InFlight[]): MemoryDisk {
    const names = new Map<MemoryFolder, Map<string, MemoryNode>>();
    const namesOf = (folder: MemoryFolder): Map<string, MemoryNode> => {
      const known = names.get(folder) ?? new Map(folder.synced);
      names.set(folder, known);
      return known;
    };
    const keep = (namings: readonly Naming[]): void => {
      for (const { folder, name, node } of namings) {
        if (node === undefined) namesOf(folder).delete(name);
        else namesOf(folder).set(name, node);
      }
    };
    survive(this.#namings, chance, keep, (namings) => {
      if (chance(2) === 0) keep(namings);
    });
    const disk = this.#copy(namesOf, (file) =>
      file.afterCrash(
        chance,
        inFlight.filter((change) => change.file === file),
      ),
    );
    disk.syncAll();
    return disk;
  }

  /** The disk after the program has been killed while `inFlight` was being written; the machine has gone on. */
  afterKill(chance: Chance, inFlight: readonly InFlight[]): MemoryDisk {
    const copies = new Map<MemoryNode, MemoryNode>();
    const disk = this.#copy(
      (folder) => folder.entries,
      (file) =>
        file.afterKill(
          chance,
          inFlight.filter((change) => change.file === file),
        ),
      copies,
    );
    // What was not synced then, is not synced now.
    const copyOf = (node: MemoryNode): MemoryNode => copies.get(node) ?? this.#orphan(node, copies);
    for (const [original, copy] of [...copies]) {
      if (!(original instanceof MemoryFolder && copy instanceof MemoryFolder)) continue;
      for (const [name, node] of original.synced) copy.synced.set(name, copyOf(node));
    }
    disk.#namings = this.#namings.map((namings) =>
      namings.flatMap(({ folder, name, node }) => {
        const there = copies.get(folder);
        if (!(there instanceof MemoryFolder)) return [];
        return [{ folder: there, name, node: node === undefined ? undefined : copyOf(node) }];
      }),
    );
    return disk;
  }

  /** A node that has no name any more but may get one back by a crash. */
  #orphan(node: MemoryNode, copies: Map<MemoryNode, MemoryNode>): MemoryNode {
    const copy = node instanceof MemoryFile ? node.afterKill(() => 0, []) : new MemoryFolder();
    copies.set(node, copy);
    return copy;
  }

  #copy(
    namesOf: (folder: MemoryFolder) => ReadonlyMap<string, MemoryNode>,
    copyFile: (file: MemoryFile) => MemoryFile,
    copies = new Map<MemoryNode, MemoryNode>(),
  ): MemoryDisk {
    const copyNode = (node: MemoryNode): MemoryNode => {
      const known = copies.get(node);
      if (known !== undefined) return known;
      if (node instanceof MemoryFile) {
        const file = copyFile(node);
        copies.set(node, file);
        return file;
      }
      const folder = new MemoryFolder();
      copies.set(node, folder);
      for (const [name, inner] of namesOf(node)) folder.entries.set(name, copyNode(inner));
      return folder;
    };
    const disk = new MemoryDisk();
    const root = copyNode(this.#root);
    if (root instanceof MemoryFolder) disk.#root = root;
    return disk;
  }
}
