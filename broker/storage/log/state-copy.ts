/**
 * The second copy of what the newest segment says besides messages: its checkpoint, and every record of it that makes or
 * ends definitions, each without its messages. So no damaged place, and no lost file, takes a definition with it.
 *
 * The copy lies in a file of its own, `log/NNNNNNNN.state`, is written and synced together with the segment, and is as
 * much part of a commit as that: nobody is told before both are on disk. It is needed only while its segment is the
 * newest, and goes when the next one has begun. Its records are those of the segment, with another seal (record.ts).
 */
import type { OpenFile } from '../folder/files.ts';
import type { Part } from '../record/record-buffer.ts';

/** `error` is null when all has been written and synced. `isSync`: it is the sync that has failed. */
export type CopyDone = (error: Error | null, isSync: boolean) => void;

export class StateCopy {
  readonly #file: OpenFile;
  /** Octets that count. */
  #bytes = 0;
  #at = 0;

  /** `file`: a new one. It is closed by `close`. */
  constructor(file: OpenFile) {
    this.#file = file;
  }

  get path(): string {
    return this.#file.path;
  }

  /** Writes the copy of a record behind those that have been kept, and syncs it. `done` is never called synchronously. */
  write(parts: readonly Part[], done: CopyDone): void {
    this.#at = this.#bytes;
    this.#writePart(parts, 0, done);
  }

  #writePart(parts: readonly Part[], index: number, done: CopyDone): void {
    const part = parts[index];
    if (part === undefined) {
      this.#file.sync((error) => done(error, true));
      return;
    }
    this.#file.write(part.octets, part.offset, part.length, this.#at, (error) => {
      if (error !== null) {
        done(error, false);
        return;
      }
      this.#at += part.length;
      this.#writePart(parts, index + 1, done);
    });
  }

  /** What was written last counts: its commit is on disk. */
  keep(): void {
    this.#bytes = this.#at;
  }

  /** Gives back the room of what does not count. Never rejects. */
  async cutOff(): Promise<void> {
    this.#at = this.#bytes;
    await this.#file.truncate(this.#bytes).catch(() => {});
  }

  /** Never rejects. */
  async close(): Promise<void> {
    await this.#file.close().catch(() => {});
  }
}
