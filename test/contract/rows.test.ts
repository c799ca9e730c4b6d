/** Every row of the contract's table of exact behaviour has a test named after it. */
import { readdir, readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';

/** Rows B1 to B25 of the contract on AMQP 0-9-1, section 2. */
const ROWS = Array.from({ length: 25 }, (_, index) => `B${index + 1}`);

it('every row B1 to B25 has at least one test named after it', async () => {
  const files = (await readdir(import.meta.dirname)).filter(
    (name) => name.endsWith('.test.ts') && name !== 'rows.test.ts',
  );
  const source = (await Promise.all(files.map((name) => readFile(`${import.meta.dirname}/${name}`, 'utf8')))).join(
    '\n',
  );
  const named = new Set(Array.from(source.matchAll(/['"`](B\d+): /g), ([, row]) => row));
  expect(ROWS.filter((row) => !named.has(row))).toEqual([]);
});
