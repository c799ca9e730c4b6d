/** What the store relies on, of the real file system and of the one that tests put in its place. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Files, nodeFiles, type OpenFile } from '../../../broker/storage/folder/files.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';

function write(file: OpenFile, text: string, position: number): Promise<void> {
  const octets = Buffer.from(`<<${text}>>`);
  return new Promise((resolve, reject) => {
    file.write(octets, 2, octets.length - 4, position, (error) => (error === null ? resolve() : reject(error)));
  });
}

function read(file: OpenFile, length: number, position: number): Promise<string> {
  const octets = Buffer.alloc(length + 2, '-');
  return new Promise((resolve, reject) => {
    file.read(octets, 2, length, position, (error, count) => {
      if (error === null) resolve(octets.toString('latin1', 2, 2 + count));
      else reject(error);
    });
  });
}

function sync(file: OpenFile): Promise<void> {
  return new Promise((resolve, reject) => file.sync((error) => (error === null ? resolve() : reject(error))));
}

describe.each(['real', 'in memory'])('files, %s', (which) => {
  let folder: string;
  let files: Files;

  beforeAll(async () => {
    folder = which === 'real' ? mkdtempSync(join(tmpdir(), 'warren-files-')) : '/tmp';
    files = which === 'real' ? nodeFiles : new FaultyFiles();
    if (which === 'in memory') await files.makeFolder(folder);
  });

  afterAll(() => {
    if (which === 'real') rmSync(folder, { recursive: true, force: true });
  });

  it('are written and read at any position, cut off and filled up', async () => {
    const file = await files.open(join(folder, 'a'), 'create');
    expect(file.path).toBe(join(folder, 'a'));
    await write(file, 'hello world', 0);
    await write(file, 'W', 6);
    await write(file, '!', 12);
    await sync(file);
    expect(await read(file, 100, 0)).toBe('hello World\0!');
    expect(await read(file, 5, 6)).toBe('World');
    expect(await read(file, 5, 13)).toBe('');
    expect(await read(file, 5, 1000)).toBe('');
    await file.truncate(5);
    expect(await file.size()).toBe(5);
    await file.truncate(7);
    expect(await read(file, 100, 0)).toBe('hello\0\0');
    await write(file, '', 3);
    await file.close();
    const again = await files.open(join(folder, 'a'), 'update');
    await write(again, 'J', 0);
    await again.close();
    const reader = await files.open(join(folder, 'a'), 'read');
    expect(await Promise.all([read(reader, 2, 0), read(reader, 3, 2)])).toEqual(['Je', 'llo']);
    await reader.close();
  });

  it('call back in a later turn', async () => {
    const file = await files.open(join(folder, 'later'), 'create');
    const order: string[] = [];
    const octets = Buffer.from('x');
    await new Promise<void>((resolve) => {
      file.write(octets, 0, 1, 0, () => {
        order.push('written');
        file.sync(() => {
          order.push('synced');
          file.read(octets, 0, 1, 0, () => resolve());
        });
        order.push('after sync');
      });
      order.push('after write');
    });
    expect(order).toEqual(['after write', 'written', 'after sync', 'synced']);
    await file.close();
  });

  it('are listed, renamed over each other, copied and removed', async () => {
    const inner = join(folder, 'inner');
    await files.makeFolder(inner);
    for (const name of ['b', 'a', 'c']) {
      const file = await files.open(join(inner, name), 'create');
      await write(file, name, 0);
      await file.close();
    }
    expect(await files.list(inner)).toEqual(['a', 'b', 'c']);
    await files.rename(join(inner, 'a'), join(inner, 'b'));
    await files.copy(join(inner, 'b'), join(inner, 'd'));
    await files.remove(join(inner, 'c'));
    await files.syncFolder(inner);
    expect(await files.list(inner)).toEqual(['b', 'd']);
    for (const name of ['b', 'd']) {
      const file = await files.open(join(inner, name), 'read');
      expect(await read(file, 9, 0)).toBe('a');
      await file.close();
    }
    expect(await files.status(inner)).toMatchObject({ kind: 'folder' });
    expect(await files.status(join(inner, 'b'))).toEqual({ kind: 'file', bytes: 1 });
    expect(await files.status(join(inner, 'c'))).toBeUndefined();
    await files.remove(join(inner, 'b'));
    await files.remove(join(inner, 'd'));
    await files.removeFolder(inner);
    expect(await files.status(inner)).toBeUndefined();
  });

  it('fail with the codes of the system', async () => {
    const file = join(folder, 'plain');
    await (await files.open(file, 'create')).close();
    const there = join(folder, 'there');
    await files.makeFolder(there);
    await (await files.open(join(there, 'x'), 'create')).close();
    const failures: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['EEXIST', () => files.open(file, 'create')],
      ['ENOENT', () => files.open(join(folder, 'nowhere'), 'read')],
      ['ENOENT', () => files.open(join(folder, 'nowhere'), 'update')],
      ['ENOENT', () => files.open(join(folder, 'nowhere', 'x'), 'create')],
      ['EISDIR', () => files.open(there, 'update')],
      ['ENOTDIR', () => files.status(join(file, 'x'))],
      ['ENOTDIR', () => files.list(file)],
      ['ENOENT', () => files.list(join(folder, 'nowhere'))],
      ['EEXIST', () => files.makeFolder(there)],
      ['ENOTEMPTY', () => files.removeFolder(there)],
      ['ENOTDIR', () => files.removeFolder(file)],
      ['ENOENT', () => files.remove(join(folder, 'nowhere'))],
      ['EISDIR', () => files.rename(file, there)],
      ['ENOENT', () => files.rename(join(folder, 'nowhere'), file)],
      ['EEXIST', () => files.copy(file, join(there, 'x'))],
      ['ENOENT', () => files.checkWritable(join(folder, 'nowhere'))],
    ];
    for (const [code, call] of failures) await expect(call(), `${call}`).rejects.toMatchObject({ code });
  });

  it('know how much room there is', async () => {
    const { freeBytes, totalBytes } = await files.room(folder);
    expect(freeBytes).toBeGreaterThan(0);
    expect(totalBytes).toBeGreaterThanOrEqual(freeBytes);
    await files.checkWritable(folder);
  });
});

it('files and folders are for nobody but their owner', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'warren-files-'));
  await (await nodeFiles.open(join(folder, 'private'), 'create')).close();
  await nodeFiles.makeFolder(join(folder, 'private-folder'));
  expect(statSync(join(folder, 'private')).mode & 0o777).toBe(0o600);
  expect(statSync(join(folder, 'private-folder')).mode & 0o777).toBe(0o700);
  rmSync(folder, { recursive: true });
});
