/** Lines of text, from files and to them. */
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { realpath, rename, rm, stat } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import { TextDecoder } from 'node:util';
import { ArchiveError } from '../../broker/archive/archive-error.ts';

/** Octets read at a time. */
const CHUNK_BYTES = 1024 * 1024;

/** Characters of a line; more is no archive, and would not fit into a string much longer. */
export const LINE_LENGTH_MAX = 256 * 1024 * 1024;

/**
 * The lines of a file without their ends. Throws ArchiveError for what is not UTF-8 or too long a line, and the error of
 * the system when the file cannot be read.
 */
export async function* readLines(path: string, lengthMax = LINE_LENGTH_MAX): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let parts: string[] = [];
  let length = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
    const lines = decode(decoder, chunk).split('\n');
    for (const [index, text] of lines.entries()) {
      parts.push(text);
      length += text.length;
      if (length > lengthMax) throw new ArchiveError(`a line is longer than ${lengthMax} characters`);
      if (index === lines.length - 1) break;
      yield parts.join('');
      parts = [];
      length = 0;
    }
  }
  decode(decoder, undefined);
  if (length > 0) yield parts.join('');
}

function decode(decoder: TextDecoder, chunk: Uint8Array | undefined): string {
  try {
    return decoder.decode(chunk, { stream: chunk !== undefined });
  } catch {
    throw new ArchiveError('it is not text in UTF-8');
  }
}

/** Where lines go: packed, because a call of the system for each would take longer than all the rest. */
export class LineSink {
  readonly #stream: NodeJS.WritableStream;
  readonly #finish: () => Promise<void>;
  readonly #discard: () => Promise<void>;
  #text = '';

  /** `finish` after everything has been written, `discard` when it was in vain. */
  constructor(stream: NodeJS.WritableStream, finish: () => Promise<void>, discard: () => Promise<void>) {
    this.#stream = stream;
    this.#finish = finish;
    this.#discard = discard;
  }

  /** Undefined, or a promise that resolves when there is room for more. Rejects with the error of the system. */
  write(line: string): Promise<void> | undefined {
    this.#text += `${line}\n`;
    return this.#text.length < CHUNK_BYTES ? undefined : this.#flush();
  }

  #flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    return new Promise((resolve, reject) => {
      this.#stream.write(text, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** Everything has been written, and is on disk as one. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#finish();
  }

  /** Nothing is left of it. */
  discard(): Promise<void> {
    return this.#discard();
  }
}

/**
 * A file for nobody but its owner, for there may be password hashes in it. It appears under its name, and takes the place
 * of one of that name, when it is complete. What is no file (a device, a pipe) is written into; a link stays one. Rejects
 * with the error of the system.
 */
export async function lineFile(name: string): Promise<LineSink> {
  const path = await realpath(name).catch(() => name);
  const there = await stat(path).catch(() => undefined);
  if (there !== undefined && !there.isFile()) return deviceSink(path);
  const partial = `${path}.partial`;
  await rm(partial, { force: true });
  const stream = createWriteStream(partial, { flags: 'wx', mode: 0o600, flush: true });
  await opened(stream);
  const finish = async (): Promise<void> => {
    stream.end();
    await finished(stream);
    await rename(partial, path);
  };
  const discard = async (): Promise<void> => {
    stream.destroy();
    await rm(partial, { force: true });
  };
  return new LineSink(stream, finish, discard);
}

async function deviceSink(path: string): Promise<LineSink> {
  const stream = createWriteStream(path, { flags: 'w' });
  await opened(stream);
  const finish = async (): Promise<void> => {
    stream.end();
    await finished(stream);
  };
  const discard = async (): Promise<void> => {
    stream.destroy();
  };
  return new LineSink(stream, finish, discard);
}

function opened(stream: WriteStream): Promise<void> {
  return new Promise((resolve, reject) => stream.once('ready', resolve).once('error', reject));
}

/** The standard output. */
export function standardOutput(): LineSink {
  // Whoever reads may stop; the next write says so.
  process.stdout.on('error', () => {});
  const nothing = (): Promise<void> => Promise.resolve();
  return new LineSink(process.stdout, nothing, nothing);
}
