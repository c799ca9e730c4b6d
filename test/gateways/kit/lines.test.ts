import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { lineFile, readLines } from '../../../gateways/commands/lines.ts';

function fresh(): string {
  const folder = mkdtempSync(join(tmpdir(), 'warren-lines-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'file');
}

async function linesOf(content: string | Uint8Array, lengthMax?: number): Promise<string[]> {
  const path = fresh();
  writeFileSync(path, content);
  const lines: string[] = [];
  for await (const line of readLines(path, lengthMax)) lines.push(line);
  return lines;
}

it.each([
  ['', []],
  ['a', ['a']],
  ['a\n', ['a']],
  ['a\n\nb\n', ['a', '', 'b']],
  ['\uFEFFmarked\n', ['marked']],
])('reads %j', async (content, lines) => {
  expect(await linesOf(content)).toEqual(lines);
});

it('reads lines and characters that lie across two chunks', async () => {
  const line = `${'x'.repeat(1024 * 1024 - 1)}ü${'y'.repeat(2 * 1024 * 1024)}`;
  expect(await linesOf(`${line}\nz`)).toEqual([line, 'z']);
});

it('takes lines of so many characters, and no more', async () => {
  expect(await linesOf('12345\n12345', 5)).toEqual(['12345', '12345']);
  await expect(linesOf('12345\n123456', 5)).rejects.toThrow('a line is longer than 5 characters');
});

it.each([[[0xff]], [[0x61, 0xc3]]])('takes UTF-8 only: %j', async (octets) => {
  await expect(linesOf(Uint8Array.from(octets))).rejects.toThrow('it is not text in UTF-8');
});

it('says why a file cannot be read, and what to do', async () => {
  const path = fresh();
  await expect(readLines(path).next()).rejects.toThrow(/^there is no such file: look how it is spelt.*\(ENOENT\)$/);
  await expect(readLines(join(path, '..')).next()).rejects.toThrow(/^it is a folder: name a file in it \(EISDIR\)$/);
});

it('says why a file cannot be written, and what to do', async () => {
  const path = fresh();
  const inNone = join(path, 'none/file');
  await expect(lineFile(inNone)).rejects.toThrow(
    `${inNone}: the folder that it is to be in is not there: make that first`,
  );
  writeFileSync(path, '');
  await expect(lineFile(join(path, 'x'))).rejects.toThrow(
    /a part of its path is not a folder: name another file \(ENOTDIR\)$/,
  );
  await expect(lineFile(join(path, '..'))).rejects.toThrow(/it is a folder: name a file in it \(EISDIR\)$/);
});

it('writes a file that is there when it is complete, for its owner only', async () => {
  const path = fresh();
  const file = await lineFile(path);
  for (const line of ['a', 'b'.repeat(2 * 1024 * 1024), 'c']) await file.write(line);
  expect(readdirSync(join(path, '..'))).toEqual(['file.partial']);
  await file.finish();
  expect(readFileSync(path, 'utf8')).toBe(`a\n${'b'.repeat(2 * 1024 * 1024)}\nc\n`);
  expect(readdirSync(join(path, '..'))).toEqual(['file']);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

it('leaves nothing of what was in vain', async () => {
  const path = fresh();
  const file = await lineFile(path);
  await file.write('a');
  await file.discard();
  expect(readdirSync(join(path, '..'))).toEqual([]);
  await expect(lineFile(join(path, 'nowhere'))).rejects.toThrow('ENOENT');
});
