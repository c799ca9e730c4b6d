import { describe, expect, it } from 'vitest';
import { ARCHIVE_FORMAT, readArchive, writeArchive } from '../../../broker/archive/archive-lines.ts';
import type { ArchivedMessage } from '../../../broker/archive/message-entry.ts';
import { createMessage } from '../../../broker/message.ts';

const HEAD = { definitions: { queues: [{ name: 'q', vhost: '/' }] }, writtenBy: 'warren 9', createdMs: 0 };

async function* each<Item>(items: Iterable<Item>): AsyncGenerator<Item> {
  yield* items;
}

function message(body: string): ArchivedMessage {
  const keeper = { vhost: '/', kind: 'queue', name: 'q' } as const;
  const terms = { returnCount: 0, expiresInMs: Number.POSITIVE_INFINITY, heldForMs: 0 };
  return { keeper, message: createMessage({ body }), ...terms };
}

async function archive(...bodies: readonly string[]): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of writeArchive(HEAD, each(bodies.map(message)))) lines.push(line);
  return lines;
}

async function bodiesOf(lines: Iterable<string>): Promise<string[]> {
  const { messages } = await readArchive(each(lines));
  const bodies: string[] = [];
  for await (const archived of messages) bodies.push(Buffer.from(archived.message.body).toString());
  return bodies;
}

describe('an archive', () => {
  it('is definitions, messages, and how many', async () => {
    const lines = await archive('a', 'b');
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      {
        warren_archive: ARCHIVE_FORMAT,
        written_by: 'warren 9',
        created: '1970-01-01T00:00:00.000Z',
        definitions: HEAD.definitions,
      },
      expect.objectContaining({ body: 'YQ==' }),
      expect.objectContaining({ body: 'Yg==' }),
      { end: true, messages: 2 },
    ]);
    expect((await readArchive(each(lines))).definitions).toEqual(HEAD.definitions);
    expect(await bodiesOf(lines)).toEqual(['a', 'b']);
  });

  it('may be empty', async () => {
    expect(await bodiesOf(await archive())).toEqual([]);
  });

  it('may be definitions alone, on as many lines as they like', async () => {
    const document = JSON.stringify(HEAD.definitions, undefined, 2).split('\n');
    const { definitions } = await readArchive(each(document));
    expect(definitions).toEqual(HEAD.definitions);
    expect(await bodiesOf(document)).toEqual([]);
  });

  it('has definitions of a length that memory has room for', async () => {
    const document = ['{', '"queues": []', '}'];
    await readArchive(each(document), 14);
    await expect(readArchive(each(document), 13)).rejects.toThrow('too long for definitions');
  });

  it('is refused when it has been cut off, wherever', async () => {
    const lines = await archive('a', 'b', 'c');
    for (let kept = 1; kept < lines.length; kept += 1) {
      await expect(bodiesOf(lines.slice(0, kept))).rejects.toThrow(`it is cut off after ${kept - 1} messages`);
      const half = [...lines.slice(0, kept), lines[kept]?.slice(0, -5) ?? ''];
      await expect(bodiesOf(half)).rejects.toThrow(`line ${kept + 1} is no JSON object`);
    }
    await expect(bodiesOf([lines[0]?.slice(0, -5) ?? ''])).rejects.toThrow('neither an archive nor JSON');
  });

  it('is refused when messages are missing or too many', async () => {
    const lines = await archive('a', 'b');
    await expect(bodiesOf(lines.toSpliced(1, 1))).rejects.toThrow(
      'line 3: there should be 2 messages, and there are 1',
    );
    await expect(bodiesOf([...lines, lines[1] ?? ''])).rejects.toThrow('line 5: there is more after the end');
  });

  it('says which line is wrong', async () => {
    const lines = await archive('a', 'b');
    await expect(bodiesOf(lines.with(2, '{"vhost":1}'))).rejects.toThrow('line 3: body should be a string');
    await expect(bodiesOf(lines.with(2, '[]'))).rejects.toThrow('line 3 is no JSON object');
    await expect(bodiesOf(lines.with(1, '{"more":1}'))).rejects.toThrow('line 2: more should be true or false');
  });

  it.each([
    [[], 'it is neither an archive nor JSON'],
    [['[]'], 'it is neither an archive nor a JSON object'],
    [['hello', 'world'], 'it is neither an archive nor JSON'],
    [['{"warren_archive":2,"definitions":{}}'], 'it is an archive of format 2, this Warren reads 1: use a newer one'],
    [['{"warren_archive":1}'], 'line 1: definitions should be an object'],
  ])('is not just anything: %j', async (lines, text) => {
    await expect(bodiesOf(lines)).rejects.toThrow(text);
  });
});
