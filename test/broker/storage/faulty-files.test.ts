/** The file system that tests put in place of the real one does what it is asked for, and the worst that it may. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { OpenFile } from '../../../broker/storage/folder/files.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { runs } from '../../support/runs.ts';

function write(file: OpenFile, text: string, position = 0): Promise<void> {
  const octets = Buffer.from(text);
  return new Promise((resolve, reject) => {
    file.write(octets, 0, octets.length, position, (error) => (error === null ? resolve() : reject(error)));
  });
}

function sync(file: OpenFile): Promise<void> {
  return new Promise((resolve, reject) => file.sync((error) => (error === null ? resolve() : reject(error))));
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A file in a folder, both on disk, with `text` in it, synced. */
async function synced(files: FaultyFiles, text: string): Promise<OpenFile> {
  files.plant('/d/a', text);
  return files.open('/d/a', 'update');
}

function text(files: FaultyFiles, path = '/d/a'): string {
  return Buffer.from(files.contents(path)).toString('latin1');
}

/** What is found after crashes with many seeds, each once. */
function outcomes<T>(files: FaultyFiles, look: (after: FaultyFiles) => T): Set<T> {
  return new Set(Array.from({ length: 300 }, (_, seed) => look(files.afterCrash(seed))));
}

describe('a planned failure', () => {
  it('hits the calls that are meant, as often as it should, from when it should', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, '');
    files.fail({ call: 'write', path: '/d/a', code: 'EIO', skip: 1, times: 2 });
    await write(file, '1');
    await expect(write(file, '2')).rejects.toMatchObject({ code: 'EIO', syscall: 'write' });
    await expect(write(file, '3')).rejects.toMatchObject({ code: 'EIO' });
    await write(file, '4');
    expect(text(files)).toBe('4');
    files.fail({ call: ['list', 'status'], path: /^\/d$/, code: 'EACCES', times: Number.POSITIVE_INFINITY });
    await expect(files.list('/d')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(files.status('/d')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(files.status('/d/a')).resolves.toEqual({ kind: 'file', bytes: 1 });
  });

  it('can be taken away', async () => {
    const files = new FaultyFiles();
    const heal = files.fail({ code: 'EMFILE', times: Number.POSITIVE_INFINITY });
    await expect(files.list('/')).rejects.toMatchObject({ code: 'EMFILE' });
    heal();
    expect(await files.list('/')).toEqual([]);
  });

  it('of a write leaves any part of it', async () => {
    const found = new Set<string>();
    for (let seed = 0; seed < 100; seed++) {
      const files = new FaultyFiles({ seed });
      const file = await synced(files, '....');
      files.fail({ call: 'write', code: 'EIO' });
      await expect(write(file, 'abcd')).rejects.toThrow('EIO');
      found.add(text(files));
    }
    expect(found).toEqual(new Set(['....', 'a...', 'ab..', 'abc.', 'abcd']));
  });

  it('of a sync may lose what was written, also when the next sync succeeds', async () => {
    const found = new Set<string>();
    for (let seed = 0; seed < 100; seed++) {
      const files = new FaultyFiles({ seed });
      const file = await synced(files, 'old.');
      await write(file, 'new');
      files.fail({ call: 'sync', code: 'EIO' });
      await expect(sync(file)).rejects.toThrow('EIO');
      expect(text(files)).toBe('new.');
      await write(file, '!', 3);
      await sync(file);
      expect(text(files)).toBe('new!');
      expect(outcomes(files, text).size).toBe(1);
      found.add(text(files.afterCrash()));
    }
    expect(found).toContain('old!');
    expect(found).toContain('new!');
  });
});

describe('a full disk', () => {
  it('takes what fits, and more when there is room again', async () => {
    const files = new FaultyFiles({ capacityBytes: 10 });
    const file = await synced(files, '12345678');
    expect(await files.room('/d')).toEqual({ freeBytes: 2, totalBytes: 10 });
    await expect(write(file, 'abc', 8)).rejects.toMatchObject({ code: 'ENOSPC' });
    expect(text(files).length).toBeLessThanOrEqual(10);
    await write(file, 'ABCDEFGHIJ', 0);
    await expect(files.open('/d/b', 'create')).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(files.makeFolder('/e')).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(files.copy('/d/a', '/d/c')).rejects.toMatchObject({ code: 'ENOSPC' });
    await file.truncate(4);
    await (await files.open('/d/b', 'create')).close();
    files.capacityBytes = 20;
    await write(file, 'abcdefghijkl', 4);
    expect(text(files)).toBe('ABCDabcdefghijkl');
  });
});

describe('a slow disk', () => {
  it('does nothing until it is told to go on', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, 'old');
    const release = files.hold({ call: 'write', path: '/d/a' });
    let isOver = false;
    const writing = write(file, 'new').then(() => {
      isOver = true;
    });
    await turns(20);
    expect(isOver).toBe(false);
    expect(text(files)).toBe('old');
    release();
    await writing;
    expect(text(files)).toBe('new');
  });

  it('takes more than a turn for a call, if asked to', async () => {
    const files = new FaultyFiles({ turnsMax: 9 });
    const lengths = new Set<number>();
    for (let call = 0; call < 50; call++) {
      let count = 0;
      let isOver = false;
      const listing = files.list('/').then(() => {
        isOver = true;
      });
      while (!isOver) {
        await turns(1);
        count++;
      }
      await listing;
      lengths.add(count);
    }
    expect(lengths.size).toBeGreaterThan(5);
  });
});

describe('after a crash', () => {
  it('what was synced is there', async () => {
    const files = new FaultyFiles();
    await files.makeFolder('/d');
    await files.syncFolder('/');
    const file = await files.open('/d/a', 'create');
    await write(file, 'kept');
    await sync(file);
    await files.syncFolder('/d');
    expect(outcomes(files, text)).toEqual(new Set(['kept']));
  });

  it('what was written is there in any part', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, 'aaaa');
    await write(file, 'bb', 0);
    await write(file, 'cc', 4);
    const found = outcomes(files, text);
    for (const possible of ['aaaa', 'bbaa', 'bbaacc', 'bbaac']) expect(found).toContain(possible);
    // Out of order, and a length without its octets.
    expect(found).toContain('aaaacc');
    expect(found).toContain('aaaa\0\0');
    expect(text(files)).toBe('bbaacc');
  });

  it('a large write is there in any of its sectors', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, '');
    await write(file, 'x'.repeat(1500), 100);
    const found = outcomes(files, (after) => {
      const octets = text(after);
      return [octets[100], octets[600], octets[1200]].map((octet) => octet ?? '-').join('');
    });
    for (const possible of ['xxx', '---', 'x--', 'x\0x', '\0x\0', '\0\0\0']) expect(found).toContain(possible);
  });

  it('what was being written is there in any part, as it was at that moment', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, 'aaaa');
    files.hold({ call: 'write' });
    const octets = Buffer.from('bbbb');
    file.write(octets, 0, 4, 0, () => expect.unreachable());
    await turns(2);
    files.crash();
    octets.fill('!');
    expect(outcomes(files, text)).toEqual(new Set(['aaaa', 'baaa', 'bbaa', 'bbba', 'bbbb']));
  });

  it('a file of which only the octets were synced may have lost its name', async () => {
    const files = new FaultyFiles();
    const folder = (after: FaultyFiles): string => after.paths().join();
    files.plant('/d/a', 'a');
    const file = await files.open('/d/b', 'create');
    await write(file, 'b');
    await sync(file);
    await files.makeFolder('/d/e');
    expect(outcomes(files, folder)).toEqual(new Set(['/d/a', '/d/a,/d/b']));
    await files.syncFolder('/d');
    expect(outcomes(files, folder)).toEqual(new Set(['/d/a,/d/b']));
    expect(outcomes(files, (after) => text(after, '/d/b'))).toEqual(new Set(['b']));
    await files.remove('/d/a');
    expect(outcomes(files, folder)).toEqual(new Set(['/d/a,/d/b', '/d/b']));
  });

  it('a renaming has happened as a whole or not at all', async () => {
    const files = new FaultyFiles();
    files.plant('/d/a', 'old');
    files.plant('/d/a.new', 'new');
    await files.rename('/d/a.new', '/d/a');
    const look = (after: FaultyFiles): string => `${after.paths().join()} ${text(after)}`;
    expect(outcomes(files, look)).toEqual(new Set(['/d/a,/d/a.new old', '/d/a new']));
    await files.syncFolder('/d');
    expect(outcomes(files, look)).toEqual(new Set(['/d/a new']));
  });

  it('it is all synced: a second crash changes nothing', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, 'aaaa');
    await write(file, 'bbbb', 2);
    await (await files.open('/d/new', 'create')).close();
    for (let seed = 0; seed < 50; seed++) {
      const after = files.afterCrash(seed);
      const state = (of: FaultyFiles): string => JSON.stringify(of.paths().map((path) => [path, text(of, path)]));
      for (const again of [after.afterCrash(seed + 1), after.afterCrash(seed + 2), after.afterKill(seed)]) {
        expect(state(again)).toBe(state(after));
      }
    }
  });

  it('nothing that was under way is ever over, and nothing more is done', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, 'aaaa');
    const before = files.made.length;
    files.crashAt(before + 2);
    await write(file, 'b');
    void write(file, 'c').then(() => expect.unreachable());
    expect(files.crashed).toBe(true);
    void files.list('/').then(() => expect.unreachable());
    await turns(5);
    expect(files.made.slice(before)).toEqual(['write /d/a', 'write /d/a']);
    expect(text(files)).toBe('baaa');
  });

  it('of the process alone, everything it had written is there, and as little synced as before', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, 'aaaa');
    await write(file, 'bb');
    await (await files.open('/d/new', 'create')).close();
    files.hold({ call: 'write' });
    void write(file, 'cc', 2);
    await turns(2);
    files.crash();
    const killed = new Set(Array.from({ length: 50 }, (_, seed) => text(files.afterKill(seed))));
    expect(killed).toEqual(new Set(['bbaa', 'bbca', 'bbcc']));
    expect(files.afterKill().paths()).toEqual(['/d/a', '/d/new']);
    expect(outcomes(files.afterKill(), text)).toContain('aaaa');
    expect(outcomes(files.afterKill(), (after) => after.paths().length)).toEqual(new Set([1, 2]));
  });

  it('the lock is gone, which was held before', async () => {
    const files = new FaultyFiles();
    files.plant('/d/a', '');
    await files.lock('/d');
    await expect(files.lock('/d')).rejects.toThrow('in use');
    const after = files.afterCrash();
    const lock = await after.lock('/d');
    await lock.release();
    await after.lock('/d');
  });
});

describe('what the interface forbids', () => {
  it('throws: two calls on a file at a time, a call after close, a write when open for reading', async () => {
    const files = new FaultyFiles();
    const file = await synced(files, 'aaaa');
    const writing = write(file, 'b');
    expect(() => file.sync(() => undefined)).toThrow('sync of /d/a during a write');
    await writing;
    await file.close();
    expect(() => file.sync(() => undefined)).toThrow('closed');
    const reader = await files.open('/d/a', 'read');
    expect(() => file.write(Buffer.alloc(1), 0, 1, 0, () => undefined)).toThrow('closed');
    await expect(write(reader, 'x')).rejects.toThrow('open for reading');
  });
});

it('the same seed gives the same run', async () => {
  const operation = fc.oneof(
    fc.record({ call: fc.constant('write'), at: fc.nat(2000), text: fc.string({ maxLength: 900 }) }),
    fc.record({ call: fc.constantFrom('sync', 'truncate', 'failing sync', 'failing write'), at: fc.nat(2000) }),
  );
  const run = async (operations: readonly { call: string; at: number; text?: string }[], seed: number) => {
    const files = new FaultyFiles({ seed });
    const file = await synced(files, '0123456789');
    for (const { call, at, text = 'x' } of operations) {
      if (call.startsWith('failing')) files.fail({ call: call === 'failing sync' ? 'sync' : 'write', code: 'EIO' });
      if (call === 'truncate') await file.truncate(at);
      else if (call.endsWith('sync')) await sync(file).catch(() => undefined);
      else await write(file, text, at).catch(() => undefined);
    }
    return [text(files), text(files.afterCrash(seed)), text(files.afterKill(seed))];
  };
  await fc.assert(
    fc.asyncProperty(fc.array(operation, { maxLength: 12 }), fc.integer(), async (operations, seed) => {
      const first = await run(operations, seed);
      expect(await run(operations, seed)).toEqual(first);
      expect(first[2]).toBe(first[0]);
    }),
    runs(100),
  );
});
