/** The same is done to files and to copies in memory: the copies look like the files, and their disk stays as it was. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { CopyOnWriteFiles } from '../../../broker/storage/folder/copy-on-write-files.ts';
import { type Files, nodeFiles, type OpenFile } from '../../../broker/storage/folder/files.ts';

const BYTES = 200_000;
const folders: string[] = [];

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true });
});

/** A folder with one file of so many octets, no two pages alike. */
async function folderWithFile(bytes = BYTES): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'warren-view-'));
  folders.push(folder);
  await writeFile(join(folder, 'file'), Buffer.alloc(bytes, 'once upon a time '));
  await mkdir(join(folder, 'sub'));
  return folder;
}

async function snapshot(folder: string): Promise<unknown> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return [entries.map(({ name }) => name), await Promise.all(files.map((file) => readFile(file, 'latin1')))];
}

function write(file: OpenFile, text: string, position: number): Promise<void> {
  const octets = Buffer.from(`..${text}..`);
  return new Promise((resolve, reject) => {
    file.write(octets, 2, octets.length - 4, position, (error) => (error === null ? resolve() : reject(error)));
  });
}

function read(file: OpenFile, bytes: number, position: number): Promise<string> {
  const target = Buffer.alloc(bytes + 4, '.');
  return new Promise((resolve, reject) => {
    file.read(target, 2, bytes, position, (error, count) => {
      if (error !== null) reject(error);
      else resolve(`${count}:${target.toString('latin1')}`);
    });
  });
}

type Step = (files: Files, folder: string) => Promise<unknown>;

async function within<Result>(
  files: Files,
  path: string,
  mode: 'read' | 'update' | 'create',
  use: (file: OpenFile) => Promise<Result>,
): Promise<Result> {
  const file = await files.open(path, mode);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

const NAMES = ['file', 'other', 'sub/inner'];
const name = fc.constantFrom(...NAMES);
const place = fc.nat(BYTES + 70_000);

const steps: fc.Arbitrary<readonly [string, Step]> = fc.oneof(
  fc
    .tuple(name, place, fc.integer({ min: 1, max: 150_000 }))
    .map(([path, at, length]): readonly [string, Step] => [
      `write ${length} to ${path} at ${at}`,
      (files, folder) => within(files, join(folder, path), 'update', (file) => write(file, 'x'.repeat(length), at)),
    ]),
  fc
    .tuple(name, place)
    .map(([path, bytes]): readonly [string, Step] => [
      `truncate ${path} to ${bytes}`,
      (files, folder) => within(files, join(folder, path), 'update', (file) => file.truncate(bytes)),
    ]),
  name.map((path): readonly [string, Step] => [
    `create ${path}`,
    (files, folder) => within(files, join(folder, path), 'create', (file) => write(file, 'new', 3)),
  ]),
  name.map((path): readonly [string, Step] => [`remove ${path}`, (files, folder) => files.remove(join(folder, path))]),
  fc
    .tuple(name, name)
    .filter(([from, to]) => from !== to)
    .map(([from, to]): readonly [string, Step] => [
      `rename ${from} to ${to}`,
      (files, folder) => files.rename(join(folder, from), join(folder, to)),
    ]),
  fc
    .tuple(name, name)
    .map(([from, to]): readonly [string, Step] => [
      `copy ${from} to ${to}`,
      (files, folder) => files.copy(join(folder, from), join(folder, to)),
    ]),
);

/** What can be seen of a folder through `files`. */
async function seen(files: Files, folder: string): Promise<unknown> {
  const contents = NAMES.map(async (path) => {
    const status = await files.status(join(folder, path));
    if (status === undefined) return path;
    return within(files, join(folder, path), 'read', async (file) => [
      path,
      status,
      await file.size(),
      await read(file, 50, 65_520),
      await read(file, BYTES + 500_000, 0),
    ]);
  });
  return [await files.list(folder), await files.list(join(folder, 'sub')), await Promise.all(contents)];
}

/** The code of the error, if there is one. */
function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => 'done',
    (error: NodeJS.ErrnoException) => error.code,
  );
}

describe('files that are copied when they are written to', () => {
  it('look as if they had been changed, and have not', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { maxLength: 8 }), async (list) => {
        const real = await folderWithFile();
        const looked = await folderWithFile();
        const before = await snapshot(looked);
        const view = new CopyOnWriteFiles(nodeFiles);
        for (const [, step] of list) {
          expect(await outcome(step(view, looked))).toBe(await outcome(step(nodeFiles, real)));
        }
        expect(await seen(view, looked)).toEqual(await seen(nodeFiles, real));
        expect(await snapshot(looked)).toEqual(before);
      }),
      { numRuns: 40 },
    );
  });

  it('are seen by everybody who has them open', async () => {
    const folder = await folderWithFile();
    const view = new CopyOnWriteFiles(nodeFiles);
    const path = join(folder, 'file');
    await within(view, path, 'read', (reader) =>
      within(view, path, 'update', async (writer) => {
        await write(writer, 'changed', 100);
        expect(await read(reader, 7, 100)).toBe('7:..changed..');
      }),
    );
  });

  it('have folders', async () => {
    const folder = await folderWithFile();
    const view = new CopyOnWriteFiles(nodeFiles);
    await view.makeFolder(join(folder, 'made'));
    await within(view, join(folder, 'made', 'a'), 'create', (file) => write(file, 'a', 0));
    expect(await view.list(folder)).toEqual(['file', 'made', 'sub']);
    expect(await view.list(join(folder, 'made'))).toEqual(['a']);
    expect(await outcome(view.removeFolder(join(folder, 'made')))).toBe('ENOTEMPTY');
    await view.removeFolder(join(folder, 'sub'));
    expect(await view.list(folder)).toEqual(['file', 'made']);
    expect(await readdir(folder)).toEqual(['file', 'sub']);
  });
});
