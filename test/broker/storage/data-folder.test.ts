/** A data folder is opened, made, or refused with a word on why; refused, it is as it was. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type DataFolder,
  openDataFolder,
  segmentFileName,
  segmentOfFileName,
} from '../../../broker/storage/folder/data-folder.ts';
import { type Files, nodeFiles } from '../../../broker/storage/folder/files.ts';
import type { Formats } from '../../../broker/storage/folder/format.ts';
import { StoreError } from '../../../broker/storage/store-error.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';

const FORMAT = '{"format":2,"writtenBy":"warren 0.1.0"}\n';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'warren-data-folder-'));
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

function open(path: string, files: Files = nodeFiles, formats?: Formats): Promise<DataFolder> {
  return openDataFolder({ path, version: '0.1.0', files, ...(formats && { formats }) });
}

/** Everything below a folder: names, kinds, and what is in files. */
function treeOf(path: string): readonly (readonly [string, string])[] {
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const status = lstatSync(join(path, name));
      return [name, status.isFile() ? readFileSync(join(path, name), 'utf8') : 'other'];
    });
}

/** The text with which a folder is refused; `root` must be the same before and after. */
async function refusal(path: string): Promise<string> {
  const before = treeOf(root);
  const error: unknown = await open(path).then(
    () => expect.unreachable(),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  expect(treeOf(root)).toEqual(before);
  return error instanceof StoreError ? error.message.replaceAll(root, '~') : '';
}

function plant(path: string, content = ''): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), content);
}

/** One of Warren's, closed, at `<root>/data`. */
async function closedFolder(): Promise<string> {
  const path = join(root, 'data');
  await (await open(path)).close();
  return path;
}

describe('a data folder', () => {
  it('is made when it is not there, with all that leads to it, for nobody but its owner', async () => {
    const folder = await open(join(root, 'a/b/data'));
    expect(folder.path).toBe(join(root, 'a/b/data'));
    expect(folder.logPath).toBe(join(root, 'a/b/data/log'));
    expect(folder.upgradedFrom).toBeUndefined();
    expect(readFileSync(join(folder.path, 'FORMAT'), 'utf8')).toBe(FORMAT);
    for (const name of ['a', 'a/b', 'a/b/data', 'a/b/data/log', 'a/b/data/lock']) {
      expect(statSync(join(root, name)).mode & 0o777, name).toBe(0o700);
    }
    expect(statSync(join(folder.path, 'FORMAT')).mode & 0o777).toBe(0o600);
    await folder.close();
    await folder.close();
    expect(treeOf(folder.path)).toEqual([
      ['FORMAT', FORMAT],
      ['lock', 'other'],
      ['log', 'other'],
    ]);
  });

  it('is opened again, with all that is in it', async () => {
    const path = await closedFolder();
    plant(`data/log/${segmentFileName(7)}`, 'records');
    plant('data/reserve', 'room');
    plant('data/damaged-2026-01-01/x', 'aside');
    plant('data/notes.txt', 'somebody else’s, but harmless here');
    plant('data/log/.nfs0000000a0001', 'removed while open');
    plant('data/log/.DS_Store', 'of a desktop');
    const before = treeOf(path);
    const folder = await open(path);
    await folder.close();
    expect(treeOf(path)).toEqual(before);
  });

  it('may be an empty one, a mounted disk, one reached by links, and named relative to here', async () => {
    mkdirSync(join(root, 'disk/lost+found'), { recursive: true });
    symlinkSync(join(root, 'disk'), join(root, 'link'));
    symlinkSync('link', join(root, 'link-to-link'));
    const folder = await open(join(root, 'link-to-link'));
    expect(readdirSync(join(root, 'disk'))).toEqual(['FORMAT', 'lock', 'log', 'lost+found']);
    await expect(open(join(root, 'disk'))).rejects.toThrow(`is in use by process ${process.pid} (since `);
    await folder.close();
    // Its log on another disk.
    mkdirSync(join(root, 'faster'));
    rmSync(join(root, 'disk/log'), { recursive: true });
    symlinkSync(join(root, 'faster'), join(root, 'disk/log'));
    await (await open(join(root, 'disk'))).close();
    const relative = join('..', '..', '..', '..', '..', '..', '..', '..', '..', root, 'disk');
    await (await open(relative)).close();
  });

  it('is one process’s alone', async () => {
    const folder = await open(join(root, 'data'));
    const before = treeOf(root);
    await expect(open(join(root, 'data'))).rejects.toThrow(
      /^data folder .*\/data is in use by process \d+ \(since 2\d{3}-.*\): end it first, or choose another data folder$/,
    );
    expect(treeOf(root)).toEqual(before);
    await folder.close();
    await (await open(join(root, 'data'))).close();
  });

  it('is opened where one that was never begun was left behind', async () => {
    mkdirSync(join(root, 'data/lock'), { recursive: true });
    mkdirSync(join(root, 'data/log'));
    plant('data/FORMAT.new', '{"form');
    plant('data/lock/new-abcdefghijklmn');
    const folder = await open(join(root, 'data'));
    await folder.close();
    expect(readdirSync(folder.path)).toEqual(['FORMAT', 'lock', 'log']);
  });
});

describe('refused, with nothing created, changed or deleted, is', () => {
  it('a file', async () => {
    plant('data', 'content');
    expect(await refusal(join(root, 'data'))).toBe('data folder ~/data is a file: choose another data folder');
  });

  it('a folder in a file', async () => {
    plant('file', 'content');
    expect(await refusal(join(root, 'file/data'))).toBe(
      'cannot open ~/file/data: a part of its path is not a folder: choose another data folder (ENOTDIR)',
    );
    expect(await refusal(join(root, 'file/deep/data'))).toMatch(/^cannot open .*\(ENOTDIR\)$/);
  });

  it('a device', async () => {
    expect(await refusal('/dev/null')).toBe('data folder /dev/null is a file: choose another data folder');
  });

  it('a link that leads nowhere, or in a circle', async () => {
    symlinkSync(join(root, 'nowhere'), join(root, 'dangling'));
    expect(await refusal(join(root, 'dangling'))).toBe(
      'data folder ~/dangling is a symbolic link that leads nowhere: mend it, or remove it',
    );
    symlinkSync('b', join(root, 'a'));
    symlinkSync('a', join(root, 'b'));
    expect(await refusal(join(root, 'a'))).toBe(
      'cannot open ~/a: its symbolic links lead in a circle: choose another data folder (ELOOP)',
    );
  });

  it('a name that is too long', async () => {
    expect(await refusal(join(root, 'x'.repeat(300)))).toMatch(/its path is too long: choose another data folder/);
  });

  it.each(['/proc/warren/data', '/sys/warren'])('a place where nothing can be made: %s', async (path) => {
    if (!existsSync(path.slice(0, 5))) return;
    expect(await refusal(path)).toMatch(/^cannot (make|open|write to) .*\/.*: /);
  });

  it('a folder with files of somebody else', async () => {
    plant('photos/cat.jpg', 'meow');
    expect(await refusal(join(root, 'photos'))).toBe(
      'data folder ~/photos has no FORMAT file, but "cat.jpg" in it: choose an empty folder; ' +
        "if this is one of Warren's, put FORMAT back from a backup",
    );
    for (const name of ['a\nb', 'dog.jpg', 'emu.jpg']) plant(`photos/${name}`);
    expect(await refusal(join(root, 'photos'))).toContain('"a\\nb", "cat.jpg", "dog.jpg" and 1 more in it');
  });

  it('a folder with somebody else’s lock and log', async () => {
    plant('project/log/today.txt');
    plant('project/lock/pid', '1');
    expect(await refusal(join(root, 'project'))).toContain('"lock/pid" and "log/today.txt" in it');
    plant('other/lock', '1');
    expect(await refusal(join(root, 'other'))).toContain('"lock" in it');
  });

  it('one of Warren’s without its FORMAT, or with a damaged one', async () => {
    const path = await closedFolder();
    plant(`data/log/${segmentFileName(1)}`, 'records');
    for (const damaged of ['', '{"format":', 'x'.repeat(10_000)]) {
      writeFileSync(join(path, 'FORMAT'), damaged);
      expect(await refusal(path)).toMatch(/^~\/data\/FORMAT is damaged \(.*\): put it back from a backup; /);
    }
    rmSync(join(path, 'FORMAT'));
    expect(await refusal(path)).toBe(
      'data folder ~/data has no FORMAT file, but "log/00000001.log" in it: choose an empty folder; ' +
        "if this is one of Warren's, put FORMAT back from a backup",
    );
    mkdirSync(join(path, 'FORMAT'));
    expect(await refusal(path)).toMatch(/^~\/data\/FORMAT is not a file: /);
  });

  it('one of a newer version', async () => {
    const path = await closedFolder();
    writeFileSync(join(path, 'FORMAT'), '{"format":9,"writtenBy":"warren 9.0.0"}');
    rmSync(join(path, 'log'), { recursive: true });
    expect(await refusal(path)).toMatch(/has format 9, written by warren 9.0.0; this is warren 0.1.0/);
  });

  it('one of Warren’s that has lost its log', async () => {
    const path = await closedFolder();
    rmSync(join(path, 'log'), { recursive: true });
    expect(await refusal(path)).toBe(
      'data folder ~/data has lost its folder ~/data/log: put it back from a backup, or choose another data folder',
    );
    plant('data/log', 'a file');
    expect(await refusal(path)).toMatch(/^data folder ~\/data has no folder, but something else, at ~\/data\/log: /);
  });

  it('one of Warren’s with something in its log that is none of its segments', async () => {
    const path = await closedFolder();
    plant(`data/log/${segmentFileName(1)}`);
    plant('data/log/00000001.log.bak');
    expect(await refusal(path)).toBe(
      '~/data/log has "00000001.log.bak" in it, which Warren has not put there: move that away',
    );
    rmSync(join(path, 'log/00000001.log.bak'));
    mkdirSync(join(path, 'log', segmentFileName(2)));
    expect(await refusal(path)).toContain('"00000002.log" in it');
  });

  it('one with something else where its lock should be', async () => {
    const path = await closedFolder();
    rmSync(join(path, 'lock'), { recursive: true });
    plant('data/lock', 'a file');
    expect(await refusal(path)).toBe("~/data/lock is not a folder, and not Warren's: move it away");
  });
});

describe('names of segments', () => {
  it.each([
    [1, '00000001.log'],
    [99_999_999, '99999999.log'],
    [100_000_000, '100000000.log'],
    [2 ** 32 - 1, '4294967295.log'],
  ])('%i is %s', (segment, name) => {
    expect(segmentFileName(segment)).toBe(name);
    expect(segmentOfFileName(name)).toBe(segment);
  });

  it.each(['00000000.log', '1.log', '000000001.log', '4294967296.log', '00000001.LOG', '00000001.log.new', 'x'])(
    'nothing is %s',
    (name) => expect(segmentOfFileName(name)).toBeUndefined(),
  );
});

describe('when a call fails', () => {
  /** What is on the disk of `files`, with folders. */
  async function namesOf(files: FaultyFiles, path = '/'): Promise<readonly string[]> {
    const names: string[] = [];
    for (const name of await files.list(path)) {
      const inner = join(path, name);
      names.push(inner);
      if ((await files.status(inner))?.kind === 'folder') names.push(...(await namesOf(files, inner)));
    }
    return names;
  }

  it.each([
    ['the folder is not there', (_files: FaultyFiles): void => undefined],
    ['the folder is empty', (files: FaultyFiles) => files.plant('/srv/data/lost+found/x', '')],
  ])('of making one, whichever, and %s, nothing of it remains', async (_what, prepare) => {
    const whole = new FaultyFiles();
    prepare(whole);
    await open('/srv/data', whole);
    let refused = 0;
    for (let skip = 0; skip < whole.made.length; skip++) {
      for (const code of ['EIO', 'ENOSPC', 'EROFS']) {
        const files = new FaultyFiles();
        prepare(files);
        const before = await namesOf(files);
        files.fail({ code, skip });
        const error: unknown = await open('/srv/data', files).catch((reason) => reason);
        if (!(error instanceof StoreError)) continue;
        refused++;
        expect(error.message, whole.made[skip]).toMatch(new RegExp(` /.*\\(${code}\\)$`));
        expect(await namesOf(files), whole.made[skip]).toEqual(before);
        // And it was not the fault of the folder.
        await (await open('/srv/data', files)).close();
      }
    }
    expect(refused).toBeGreaterThan(30);
  });

  it('of opening one, whichever, all of it remains', async () => {
    const begun = new FaultyFiles();
    await (await open('/srv/data', begun)).close();
    begun.plant(`/srv/data/log/${segmentFileName(1)}`, 'records');
    const whole = begun.afterCrash();
    await open('/srv/data', whole);
    for (let skip = 0; skip < whole.made.length; skip++) {
      const files = begun.afterCrash();
      files.fail({ code: 'EIO', skip });
      await expect(open('/srv/data', files), whole.made[skip]).rejects.toThrow(StoreError);
      expect(await namesOf(files)).toEqual(await namesOf(begun));
      expect(Buffer.from(files.contents('/srv/data/FORMAT')).toString()).toBe(FORMAT);
      expect(whole.made[skip]).not.toMatch(/^(write|rename|remove|makeFolder|copy|truncate) /);
      await (await open('/srv/data', files)).close();
    }
  });

  it('a full disk is called one', async () => {
    const files = new FaultyFiles({ capacityBytes: 30 });
    files.plant('/srv/other', 'x'.repeat(10));
    await expect(open('/srv/data', files)).rejects.toThrow(
      'cannot write /srv/data/FORMAT: /srv/data/FORMAT.new: no space left on the disk: make room, or choose a data folder on another disk (ENOSPC)',
    );
    expect(await namesOf(files)).toEqual(['/srv', '/srv/other']);
  });
});

describe('a crash', () => {
  it('while one is made leaves one that can be opened, whenever it happens', async () => {
    const whole = new FaultyFiles();
    await open('/srv/data', whole);
    for (let call = 1; call <= whole.made.length; call++) {
      for (let seed = 0; seed < 20; seed++) {
        const files = new FaultyFiles();
        files.crashAt(call);
        void open('/srv/data', files);
        while (!files.crashed) await new Promise((resolve) => setImmediate(resolve));
        const after = seed % 2 === 0 ? files.afterCrash(seed) : files.afterKill(seed);
        await open('/srv/data', after);
        expect(after.paths()).toEqual(['/srv/data/FORMAT']);
      }
    }
  });

  it('after one was made finds it', async () => {
    const files = new FaultyFiles();
    await open('/srv/data', files);
    for (let seed = 0; seed < 50; seed++) {
      const after = files.afterCrash(seed);
      expect(Buffer.from(after.contents('/srv/data/FORMAT')).toString()).toBe(FORMAT);
      expect(await after.list('/srv/data')).toEqual(['FORMAT', 'log']);
    }
  });
});

describe('one of an older format', () => {
  it('is upgraded, and says so', async () => {
    const path = await closedFolder();
    // In format 1 of this planted history there was no log/ yet.
    writeFileSync(join(path, 'FORMAT'), '{"format":1,"writtenBy":"warren 0.1.0"}\n');
    rmSync(join(path, 'log'), { recursive: true });
    const formats: Formats = {
      current: 3,
      steps: [
        { from: 1, upgrade: (at, files) => files.makeFolder(join(at, 'records')) },
        {
          from: 2,
          upgrade: async (at, files) => {
            await files.removeFolder(join(at, 'records'));
            await files.makeFolder(join(at, 'log'));
          },
        },
      ],
    };
    const folder = await open(path, nodeFiles, formats);
    expect(folder.upgradedFrom).toBe(1);
    expect(readFileSync(join(path, 'FORMAT'), 'utf8')).toBe('{"format":3,"writtenBy":"warren 0.1.0"}\n');
    expect(readdirSync(path)).toEqual(['FORMAT', 'lock', 'log']);
    await folder.close();
    expect((await open(path, nodeFiles, formats)).upgradedFrom).toBeUndefined();
    await expect(open(path)).rejects.toThrow(
      'has format 3, written by warren 0.1.0; this is warren 0.1.0, which knows',
    );
  });
});
