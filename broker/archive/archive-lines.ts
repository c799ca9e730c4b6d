/**
 * An archive as lines of text: definitions, and the messages of queues. Line by line, because there may be more messages
 * than memory.
 *
 * ```
 * {"warren_archive":1,"written_by":"warren 0.1.0","created":"2026-11-22T08:00:00.000Z","definitions":{…}}
 * {"vhost":"/","queue":"orders",…,"body":"aGVsbG8="}          one for each message, see message-entry.ts
 * {"end":true,"messages":1}                                   without it, the archive has been cut off
 * ```
 *
 * Definitions alone are no archive but the document that RabbitMQ exports and imports; both are read here.
 */
import type { Definitions } from '../administration/administration.ts';
import { ArchiveError } from './archive-error.ts';
import {
  type ArchivedMessage,
  decodeEntry,
  EntryError,
  encodeEntry,
  hasMore,
  type JsonObject,
} from './message-entry.ts';

/** The number in the first line. A reader refuses larger ones. */
export const ARCHIVE_FORMAT = 1;

/** Characters of a definitions document; more is taken for a file of another kind. */
export const DOCUMENT_LENGTH_MAX = 128 * 1024 * 1024;

export interface ArchiveHead {
  readonly definitions: Definitions;
  /** e.g. `warren 0.1.0` */
  readonly writtenBy: string;
  /** Milliseconds since 1970. */
  readonly createdMs: number;
}

/** The lines of an archive, without their ends. Returns the number of messages. */
export async function* writeArchive(
  { definitions, writtenBy, createdMs }: ArchiveHead,
  messages: AsyncIterable<ArchivedMessage>,
): AsyncGenerator<string, number> {
  const created = new Date(createdMs).toISOString();
  yield JSON.stringify({ warren_archive: ARCHIVE_FORMAT, written_by: writtenBy, created, definitions });
  let count = 0;
  for await (const message of messages) {
    yield* encodeEntry(message);
    count += 1;
  }
  yield JSON.stringify({ end: true, messages: count });
  return count;
}

/** What has been read. */
export interface ReadArchive {
  readonly definitions: Definitions;
  /** To be read once, to its end; throws ArchiveError at what is wrong or missing. Empty for definitions alone. */
  readonly messages: AsyncIterable<ArchivedMessage>;
}

/**
 * Reads an archive or a definitions document, which may have `documentLengthMax` characters. Throws ArchiveError when it
 * is neither.
 */
export async function readArchive(
  lines: AsyncIterable<string>,
  documentLengthMax = DOCUMENT_LENGTH_MAX,
): Promise<ReadArchive> {
  const iterator = lines[Symbol.asyncIterator]();
  const first = await iterator.next();
  const text = first.done ? '' : first.value;
  const head = parseObject(text);
  if (head === undefined || !Object.hasOwn(head, 'warren_archive')) {
    return { definitions: await readDocument(text, iterator, documentLengthMax), messages: nothing() };
  }
  const { warren_archive: format, definitions } = head;
  if (format !== ARCHIVE_FORMAT) {
    throw new ArchiveError(
      `it is an archive of format ${format}, this Warren reads ${ARCHIVE_FORMAT}: use a newer one`,
    );
  }
  if (!isObject(definitions)) throw new ArchiveError('line 1: definitions should be an object');
  return { definitions, messages: readMessages(iterator) };
}

async function* nothing(): AsyncGenerator<never> {}

async function readDocument(first: string, rest: AsyncIterator<string>, lengthMax: number): Promise<Definitions> {
  const lines = [first];
  let length = first.length;
  for (let next = await rest.next(); !next.done; next = await rest.next()) {
    lines.push(next.value);
    length += next.value.length;
    if (length > lengthMax) throw new ArchiveError('it is no archive, and too long for definitions');
  }
  try {
    const document: unknown = JSON.parse(lines.join('\n'));
    if (isObject(document)) return document;
  } catch (error) {
    throw new ArchiveError(`it is neither an archive nor JSON: ${reasonOf(error)}`);
  }
  throw new ArchiveError('it is neither an archive nor a JSON object');
}

async function* readMessages(lines: AsyncIterator<string>): AsyncGenerator<ArchivedMessage> {
  let number = 1;
  let count = 0;
  const parts: JsonObject[] = [];
  for (let next = await lines.next(); !next.done; next = await lines.next()) {
    number += 1;
    const line = parseLine(next.value, number);
    try {
      if (parts.length === 0 && line.end === true) {
        await checkEnd(lines, line, count, number);
        return;
      }
      parts.push(line);
      if (hasMore(line)) continue;
      yield decodeEntry(parts.splice(0));
    } catch (error) {
      throw error instanceof EntryError ? new ArchiveError(`line ${number}: ${error.message}`) : error;
    }
    count += 1;
  }
  throw new ArchiveError(`it is cut off after ${count} messages: the last line, which says how many, is missing`);
}

async function checkEnd(lines: AsyncIterator<string>, end: JsonObject, count: number, number: number): Promise<void> {
  if (end.messages !== count) {
    throw new ArchiveError(`line ${number}: there should be ${end.messages} messages, and there are ${count}`);
  }
  if (!(await lines.next()).done) throw new ArchiveError(`line ${number + 1}: there is more after the end`);
}

function parseLine(text: string, number: number): JsonObject {
  const line = parseObject(text);
  if (line !== undefined) return line;
  throw new ArchiveError(`line ${number} is no JSON object: the file has been damaged or cut off there`);
}

function parseObject(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
