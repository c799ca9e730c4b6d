/** FORMAT: what a data folder says of itself, and how an older one becomes a newer one. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Files } from '../../../broker/storage/folder/files.ts';
import {
  FORMAT_BYTES_MAX,
  FORMATS,
  type Formats,
  readFormat,
  upgradeFormat,
  writeFormat,
} from '../../../broker/storage/folder/format.ts';
import { StoreError } from '../../../broker/storage/store-error.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { runs } from '../../support/runs.ts';

const FILE = '/d/FORMAT';

function withFormat(text: string | Uint8Array): FaultyFiles {
  const files = new FaultyFiles();
  files.plant(FILE, text);
  return files;
}

function textOf(files: FaultyFiles, path: string): string {
  return new TextDecoder().decode(files.contents(path));
}

/** The error that reading FORMAT leads to; nothing may have been written by it. */
async function refusal(files: FaultyFiles, formats = FORMATS): Promise<string> {
  const before = files.paths().map((path) => [path, textOf(files, path)]);
  const error: unknown = await readFormat('/d', files, formats, '0.1.0').then(
    (format) => expect.unreachable(JSON.stringify(format)),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  expect(files.paths().map((path) => [path, textOf(files, path)])).toEqual(before);
  return error instanceof StoreError ? error.message : '';
}

describe('a FORMAT', () => {
  it('is what was written', async () => {
    const files = new FaultyFiles();
    await files.makeFolder('/d');
    expect(await readFormat('/d', files, FORMATS, '0.1.0')).toBeUndefined();
    await writeFormat('/d', files, FORMATS.current, '0.1.0');
    expect(textOf(files, FILE)).toBe('{"format":2,"writtenBy":"warren 0.1.0"}\n');
    expect(files.paths()).toEqual([FILE]);
    expect(await readFormat('/d', files, FORMATS, '0.2.0')).toEqual({ format: 2, writtenBy: 'warren 0.1.0' });
  });

  it('may say more than is asked', async () => {
    const files = withFormat('{"format":2,"writtenBy":"warren 0.1.7","since":"2026","more":{"__proto__":[1]}}');
    expect(await readFormat('/d', files, FORMATS, '0.1.0')).toEqual({ format: 2, writtenBy: 'warren 0.1.7' });
  });

  it.each([
    ['empty', '', 'empty'],
    ['truncated', '{"format":2,"writ', 'not JSON'],
    ['of another program', 'ext4', 'not JSON'],
    ['octets', Uint8Array.of(0, 255, 254, 0), 'not JSON'],
    ['a list', '[1]', 'no number of a format'],
    ['null', 'null', 'not an object'],
    ['a number', '1', 'not an object'],
    ['without a number', '{}', 'no number of a format'],
    ['with a number in words', '{"format":"1"}', 'no number of a format'],
    ['with half a number', '{"format":2.5}', 'no number of a format'],
    ['with zero', '{"format":0}', 'no number of a format'],
    ['with less than zero', '{"format":-1}', 'no number of a format'],
    ['with a number that is none', '{"format":2e999}', 'no number of a format'],
    ['with too large a number', '{"format":9007199254740993}', 'no number of a format'],
    ['with the number in its prototype', '{"__proto__":{"format":2}}', 'no number of a format'],
    ['deep', '['.repeat(FORMAT_BYTES_MAX), 'not JSON'],
    ['long', ' '.repeat(FORMAT_BYTES_MAX + 1), 'too long'],
  ])('that is %s is refused', async (_what, content, why) => {
    expect(await refusal(withFormat(content))).toBe(
      `${FILE} is damaged (${why}): put it back from a backup; if warren 0.1.0 wrote this folder, ` +
        'it is the line {"format":2,"writtenBy":"warren 0.1.0"}',
    );
  });

  it(`of ${FORMAT_BYTES_MAX} octets is read, a longer one is not even opened`, async () => {
    const files = withFormat('{"format":2}'.padEnd(FORMAT_BYTES_MAX));
    expect(await readFormat('/d', files, FORMATS, '0.1.0')).toEqual({ format: 2, writtenBy: 'an unknown version' });
    const longer = withFormat('{"format":2}'.padEnd(FORMAT_BYTES_MAX + 1));
    await refusal(longer);
    expect(longer.made.filter((call) => call.startsWith('open'))).toEqual([]);
  });

  it('that is a folder is refused', async () => {
    const files = new FaultyFiles();
    files.plant(`${FILE}/x`, '');
    expect(await refusal(files)).toMatch('/d/FORMAT is not a file');
  });

  it('that cannot be read is not taken for one that is not there', async () => {
    for (const call of ['status', 'open', 'read'] as const) {
      const files = withFormat('{"format":2}');
      files.fail({ call, path: FILE, code: 'EIO' });
      expect(await refusal(files)).toBe(
        'cannot read /d/FORMAT: the disk reports an I/O error: look at the log of the operating system, and check the disk (EIO)',
      );
    }
  });

  it('of a newer version is refused, naming both', async () => {
    expect(await refusal(withFormat('{"format":3,"writtenBy":"warren 3.1.4"}'))).toBe(
      'data folder /d has format 3, written by warren 3.1.4; this is warren 0.1.0, which knows formats up to 2: ' +
        'start the version that wrote it or a newer one, or choose another data folder',
    );
  });

  it('does not write into the terminal of who reads the error', async () => {
    const hostile = JSON.stringify({ format: 3, writtenBy: `\u001b[2J\r\n\u202e${'x'.repeat(1000)}` });
    const text = await refusal(withFormat(hostile));
    expect(text).toMatch(/^[ -~]{1,400}$/);
  });

  it('of chance is refused or understood, and nothing else', async () => {
    const likely = fc.mixedCase(fc.constantFrom('{"format":2}', '{"format":2,"writtenBy":"warren"}', '{"format":77}'));
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 30 }), likely), async (content) => {
        try {
          expect(await readFormat('/d', withFormat(content), FORMATS, '0.1.0')).toMatchObject({ format: 2 });
        } catch (error) {
          expect(error).toBeInstanceOf(StoreError);
        }
      }),
      runs(300),
    );
  });
});

/** Steps that write what they did into a file, and have to find what the one before has left. */
function planted(current: number, from = 1): Formats {
  return {
    current,
    steps: Array.from({ length: current - from }, (_, index) => ({
      from: from + index,
      upgrade: (path: string, files: Files) => replace(`${path}/content`, `format ${from + index + 1}`, files),
    })),
  };
}

/** Replaces a file in one step. */
async function replace(path: string, text: string, files: Files): Promise<void> {
  const next = `${path}.new`;
  if ((await files.status(next)) !== undefined) await files.remove(next);
  const file = await files.open(next, 'create');
  const octets = new TextEncoder().encode(text);
  await new Promise<void>((resolve, reject) => {
    const done = (error: Error | null): void => (error === null ? resolve() : reject(error));
    file.write(octets, 0, octets.length, 0, (error) => (error === null ? file.sync(done) : reject(error)));
  });
  await file.close();
  await files.rename(next, path);
  await files.syncFolder('/d');
}

async function upgraded(files: FaultyFiles, formats: Formats): Promise<void> {
  const found = await readFormat('/d', files, formats, '4.0.0');
  if (found === undefined) throw new Error('FORMAT has gone');
  await upgradeFormat('/d', files, found, formats, '4.0.0');
}

describe('an older format', () => {
  function old(): FaultyFiles {
    const files = withFormat('{"format":1,"writtenBy":"warren 0.1.0"}');
    files.plant('/d/content', 'format 1');
    return files;
  }

  it('is upgraded by one step after the other', async () => {
    const files = old();
    const done: string[] = [];
    const { current, steps } = planted(4);
    const recorded = steps.map((step) => ({
      ...step,
      upgrade: async (path: string, on: Files) => {
        done.push(`${textOf(files, '/d/content')}, ${textOf(files, FILE).slice(1, 11)}`);
        await step.upgrade(path, on);
      },
    }));
    await upgraded(files, { current, steps: recorded.reverse() });
    expect(done).toEqual(['format 1, "format":1', 'format 2, "format":2', 'format 3, "format":3']);
    expect(textOf(files, '/d/content')).toBe('format 4');
    expect(textOf(files, FILE)).toBe('{"format":4,"writtenBy":"warren 4.0.0"}\n');
    await upgraded(files, { current, steps: [] });
  });

  it('without a step for it is refused, naming both', async () => {
    expect(await refusal(old(), planted(4, 2))).toBe(
      'data folder /d has format 1, written by warren 0.1.0; this is warren 0.1.0, which cannot upgrade from format 1: ' +
        'open it with a version in between first, or choose another data folder',
    );
  });

  it('is there as before when the first step fails', async () => {
    const files = old();
    files.fail({ call: 'open', path: '/d/content', code: 'ENOSPC' });
    await expect(upgraded(files, planted(3))).rejects.toThrow(
      'cannot upgrade from format 1 to 2 the data folder /d: /d/content.new: no space left on the disk',
    );
    expect(await readFormat('/d', files, planted(3), '4.0.0')).toMatchObject({ format: 1 });
    await upgraded(files, planted(3));
    expect(textOf(files, '/d/content')).toBe('format 3');
  });

  it('is upgraded in the end, wherever a crash cuts it short', async () => {
    const formats = planted(4);
    const whole = old();
    await upgraded(whole, formats);
    for (let call = 1; call <= whole.made.length; call++) {
      for (let seed = 0; seed < 10; seed++) {
        const files = old();
        files.crashAt(call);
        void upgraded(files, formats);
        while (!files.crashed) await new Promise((resolve) => setImmediate(resolve));
        const after = seed % 2 === 0 ? files.afterCrash(seed) : files.afterKill(seed);
        const found = await readFormat('/d', after, formats, '4.0.0');
        // FORMAT never says more than what has been done, and less by one step at most.
        const content = Number(textOf(after, '/d/content').at(-1));
        expect([content, content - 1]).toContain(found?.format);
        await upgraded(after, formats);
        expect(textOf(after, '/d/content')).toBe('format 4');
        expect(after.paths()).toEqual([FILE, '/d/content']);
      }
    }
  });
});

describe('writing a FORMAT', () => {
  it('that fails at any call leaves that of before, or that of after when only the folder could not be synced', async () => {
    const whole = withFormat('{"format":1}');
    await writeFormat('/d', whole, 2, '0.2.0');
    for (let skip = 0; skip < whole.made.length; skip++) {
      const files = withFormat('{"format":1}');
      files.fail({ code: 'EIO', skip });
      await expect(writeFormat('/d', files, 2, '0.2.0')).rejects.toThrow(
        /^cannot write \/d\/FORMAT: .*the disk reports/,
      );
      const isRenamed = whole.made[skip] === 'syncFolder /d';
      expect(textOf(files, FILE)).toBe(isRenamed ? textOf(whole, FILE) : '{"format":1}');
      expect(files.paths()).toEqual([FILE]);
    }
  });
});
