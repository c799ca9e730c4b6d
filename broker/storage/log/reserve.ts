/**
 * Room kept for a full disk: a file of real blocks that is given up when nothing else can be written, so that acks can be,
 * which set free far more.
 */
import type { Files } from '../folder/files.ts';

/** Octets of the reserve: more than a commit usually takes. */
export const RESERVE_BYTES = 8 * 1024 * 1024;

/** The reserve is made when so many times its size is free. */
const ROOM_FACTOR = 4;

/** Written at a time. */
const CHUNK_BYTES = 1024 * 1024;

export class Reserve {
  readonly #files: Files;
  readonly #path: string;
  /** How much room it is; octets. */
  readonly bytes: number;
  /** What is under way, after which the next thing may begin. */
  #last: Promise<void> = Promise.resolve();

  /** `bytes`: 0 for none. */
  constructor(files: Files, path: string, bytes: number) {
    this.#files = files;
    this.#path = path;
    this.bytes = bytes;
  }

  /** Makes the reserve when there is none and room for it. Never rejects. */
  prepare(): Promise<void> {
    this.#last = this.#last.then(() => this.#prepare()).catch(() => {});
    return this.#last;
  }

  /** Gives the room back to the disk. Never rejects. */
  release(): Promise<void> {
    this.#last = this.#last.then(() => this.#files.remove(this.#path)).catch(() => {});
    return this.#last;
  }

  /** Resolves when nothing is under way any more. */
  idle(): Promise<void> {
    return this.#last;
  }

  async #prepare(): Promise<void> {
    if (this.bytes === 0) return;
    const status = await this.#files.status(this.#path);
    if (status !== undefined) {
      if (status.bytes === this.bytes) return;
      await this.#files.remove(this.#path);
    }
    if ((await this.#files.room(this.#path.replace(/[^/\\]*$/, '.'))).freeBytes < this.bytes * ROOM_FACTOR) return;
    const file = await this.#files.open(this.#path, 'create');
    try {
      // Not zeros alone: some file systems keep no blocks for those.
      const chunk = Buffer.alloc(CHUNK_BYTES, 'reserve ');
      for (let at = 0; at < this.bytes; at += CHUNK_BYTES) {
        const length = Math.min(CHUNK_BYTES, this.bytes - at);
        await new Promise<void>((resolve, reject) => {
          file.write(chunk, 0, length, at, (error) => (error === null ? resolve() : reject(error)));
        });
      }
    } finally {
      await file.close();
    }
  }
}
