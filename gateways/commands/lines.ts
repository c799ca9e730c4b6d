/** Lines of text, from files and to them, and what stands in the way of that in words. */
import { createReadStream, createWriteStream, type WriteStream } from 'node:fs';
import { realpath, rename, rm, stat } from 'node:fs/promises';
import { finished } from 'node:stream/promises';
import { TextDecoder } from 'node:util';
import { ArchiveError } from '../../broker/archive/archive-error.ts';
import { errorCode } from '../../broker/storage/store-error.ts';

/** Octets read at a time. */
const CHUNK_BYTES = 1024 * 1024;

/** Characters of a line; more is no archive, and would not fit into a string much longer. */
export const LINE_LENGTH_MAX = 256 * 1024 * 1024;

/** What the system says of a file that cannot be read, and what to do. */
const READ_WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file: look how it is spelt, and from which folder this was started',
  ENOTDIR: 'a part of its path is not a folder: look how it is spelt',
  EISDIR: 'it is a folder: name a file in it',
  EACCES: 'permission denied: let the user who gave this command read it',
  EIO: 'the disk reports an I/O error: look at the log of the operating system',
};

/** The same of one that cannot be written. */
const WRITE_WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'the folder that it is to be in is not there: make that first, or name another file',
  ENOTDIR: 'a part of its path is not a folder: name another file',
  EISDIR: 'it is a folder: name a file in it',
  EACCES: 'permission denied: let the user who gave this command write there, or name another file',
  EPERM: 'not permitted: let the user who gave this command write there, or name another file',
  EROFS: 'the file system is read-only: name a file on another one',
  ENOSPC: 'no space left on the disk: make room, or name a file on another one',
  EFBIG: 'the file is larger than the file system or a limit (ulimit -f) allows: name a file on another disk',
  EDQUOT: 'the disk quota is used up: make room, or name a file on another disk',
  EIO: 'the disk reports an I/O error: look at the log of the operating system, or name a file on another disk',
};

/** An error of the system in words that say what to do; other errors stay what they are. */
function explained(error: unknown, words: Readonly<Record<string, string>>, path?: string): unknown {
  const code = errorCode(error);
  const text = words[code];
  if (text === undefined) return error;
  return new ArchiveError(`${path === undefined ? '' : `${path}: `}${text} (${code})`);
}

/**
 * The lines of a file without their ends. Throws ArchiveError, without the name of the file, for what is not UTF-8 or too
 * long a line, and when the file cannot be read.
 */
export async function* readLines(path: string, lengthMax = LINE_LENGTH_MAX): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let parts: string[] = [];
  let length = 0;
  for await (const chunk of chunksOf(path)) {
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

async function* chunksOf(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path, { highWaterMark: CHUNK_BYTES });
  } catch (error) {
    throw explained(error, READ_WORDS);
  }
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
  /** The name of a file, for errors; undefined for the standard output. */
  readonly #path: string | undefined;
  #text = '';

  /** `finish` after everything has been written, `discard` when it was in vain. */
  constructor(stream: NodeJS.WritableStream, finish: () => Promise<void>, discard: () => Promise<void>, path?: string) {
    this.#stream = stream;
    this.#finish = finish;
    this.#discard = discard;
    this.#path = path;
  }

  /** Undefined, or a promise that resolves when there is room for more. Rejects with what is in the way. */
  write(line: string): Promise<void> | undefined {
    this.#text += `${line}\n`;
    return this.#text.length < CHUNK_BYTES ? undefined : this.#flush();
  }

  #flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    return new Promise((resolve, reject) => {
      this.#stream.write(text, (error) => (error ? reject(explained(error, WRITE_WORDS, this.#path)) : resolve()));
    });
  }

  /** Everything has been written, and is on disk as one. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#finish().catch((error: unknown) => {
      throw explained(error, WRITE_WORDS, this.#path);
    });
  }

  /** Nothing is left of it. */
  discard(): Promise<void> {
    return this.#discard();
  }
}

/**
 * A file for nobody but its owner, for there may be password hashes in it. It appears under its name, and takes the place
 * of one of that name, when it is complete. What is no file (a device, a pipe) is written into; a link stays one. Rejects
 * with an ArchiveError that says what to do, as do the calls of the sink.
 */
export async function lineFile(name: string): Promise<LineSink> {
  try {
    const path = await realpath(name).catch(() => name);
    const there = await stat(path).catch(() => undefined);
    return await (there === undefined || there.isFile() ? fileSink(path) : deviceSink(path));
  } catch (error) {
    throw explained(error, WRITE_WORDS, name);
  }
}

async function fileSink(path: string): Promise<LineSink> {
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
  return new LineSink(stream, finish, discard, path);
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
  return new LineSink(stream, finish, discard, path);
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
