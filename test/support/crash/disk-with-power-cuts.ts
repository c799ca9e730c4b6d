/**
 * A disk in memory that outlives its process as a power cut leaves it: with all that was synced, and any part of what was
 * not. A SIGKILL cannot test that, because the operating system still writes what the process has handed over.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { FaultyFiles } from '../faulty-files.ts';

/** Folders that must be there although nothing is in them: as a file system has them, which `FaultyFiles` says by name. */
const FOLDERS_FILE = 'folders.json';

export class DiskWithPowerCuts {
  /** Where the data folder is on it. */
  static readonly dataDir = '/data';
  readonly files: FaultyFiles;
  readonly #kept: string;
  #isCut = false;

  private constructor(files: FaultyFiles, kept: string) {
    this.files = files;
    this.#kept = kept;
  }

  /** What the folder `kept` has of an earlier disk; an empty one when it is not there. */
  static async load(kept: string): Promise<DiskWithPowerCuts> {
    const files = new FaultyFiles({ seed: process.pid });
    let entries: ReturnType<typeof filesBelow> = [];
    let folders: string[] = [];
    try {
      entries = filesBelow(kept);
      folders = JSON.parse(readFileSync(join(kept, FOLDERS_FILE), 'utf8'));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    for (const folder of folders) await files.makeFolder(folder);
    for (const { path, octets } of entries) if (path !== FOLDERS_FILE) files.plant(`/${path}`, octets);
    // Nothing of what has been put there may be lost by a power cut to come.
    if (entries.length > 0) files.plant('/planted', '');
    return new DiskWithPowerCuts(files, kept);
  }

  /** The power fails now: keeps what is left of the disk, and ends the process. */
  async cut(): Promise<void> {
    if (this.#isCut) return;
    this.#isCut = true;
    this.files.crash();
    const left = this.files.afterCrash(process.pid);
    rmSync(this.#kept, { recursive: true, force: true });
    for (const path of left.paths()) {
      const file = join(this.#kept, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, left.contents(path));
    }
    mkdirSync(this.#kept, { recursive: true });
    writeFileSync(join(this.#kept, FOLDERS_FILE), JSON.stringify(await foldersOf(left)));
    process.kill(process.pid, 'SIGKILL');
  }
}

/** Parents come first. */
async function foldersOf(files: FaultyFiles): Promise<string[]> {
  const folders: string[] = [];
  for (const path of [DiskWithPowerCuts.dataDir, join(DiskWithPowerCuts.dataDir, 'log')]) {
    if ((await files.status(path))?.kind === 'folder') folders.push(path);
  }
  return folders;
}

function filesBelow(folder: string): { readonly path: string; readonly octets: Buffer }[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path: relative(folder, path), octets: readFileSync(path) }));
}
