/** The files of segments: their names, handles to read them, and their end. */
import { join } from 'node:path';
import type { Segment } from '../log/segment.ts';
import { copyFileName, segmentFileName } from './data-folder.ts';
import type { Files, OpenFile } from './files.ts';

/** Files that are kept open for reading. */
const OPEN_MAX = 32;

export class SegmentFiles {
  readonly files: Files;
  readonly logPath: string;
  /** The one used last comes last. */
  readonly #open = new Map<Segment, Promise<OpenFile>>();
  /** To be removed when nobody reads them any more. */
  readonly #doomed = new Set<Segment>();
  readonly #removing = new Set<Promise<void>>();
  #reading = 0;
  #onIdle: (() => void) | undefined;
  readonly #onFailure: (path: string, error: unknown) => void;

  /** `onFailure` hears of files that cannot be removed; they are tried again at the next start. */
  constructor(files: Files, logPath: string, onFailure: (path: string, error: unknown) => void) {
    this.files = files;
    this.logPath = logPath;
    this.#onFailure = onFailure;
  }

  path(id: number): string {
    return join(this.logPath, segmentFileName(id));
  }

  create(id: number): Promise<OpenFile> {
    return this.files.open(this.path(id), 'create');
  }

  /** Of the file with the second copy of a segment's state. */
  copyPath(id: number): string {
    return join(this.logPath, copyFileName(id));
  }

  createCopy(id: number): Promise<OpenFile> {
    return this.files.open(this.copyPath(id), 'create');
  }

  /** The file of the segment stays until `letGo` has been called as often. */
  hold(segment: Segment): void {
    segment.readers++;
    this.#reading++;
  }

  letGo(segment: Segment): void {
    segment.readers--;
    if (--this.#reading === 0) this.#onIdle?.();
    if (segment.readers === 0 && this.#doomed.has(segment)) this.#remove(segment);
  }

  /** The file of a segment that is held, to be read. */
  open(segment: Segment): Promise<OpenFile> {
    const known = this.#open.get(segment);
    const handle = known ?? this.files.open(this.path(segment.id), 'read');
    this.#open.delete(segment);
    this.#open.set(segment, handle);
    if (known === undefined) {
      handle.catch(() => this.#open.delete(segment));
      this.#closeSome();
    }
    return handle;
  }

  #closeSome(): void {
    for (const segment of this.#open.keys()) {
      if (this.#open.size <= OPEN_MAX) return;
      if (segment.readers === 0) this.#close(segment);
    }
  }

  #close(segment: Segment): void {
    const handle = this.#open.get(segment);
    this.#open.delete(segment);
    handle?.then((file) => file.close()).catch(() => {});
  }

  /** Removes the file of a segment that holds nothing any more, when nobody reads it. */
  remove(segment: Segment): void {
    if (segment.readers > 0) this.#doomed.add(segment);
    else this.#remove(segment);
  }

  #remove(segment: Segment): void {
    this.#doomed.delete(segment);
    this.#close(segment);
    segment.release();
    this.removeFile(this.path(segment.id));
  }

  removeFile(path: string): void {
    const removing = this.files.remove(path).catch((error) => this.#onFailure(path, error));
    this.#removing.add(removing);
    void removing.finally(() => this.#removing.delete(removing));
  }

  /** Closes what is open, after all reads and removals are through. */
  async close(): Promise<void> {
    if (this.#reading > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve;
      });
    }
    const handles = [...this.#open.values()];
    this.#open.clear();
    await Promise.allSettled([...this.#removing, ...handles.map(async (handle) => (await handle).close())]);
  }
}
