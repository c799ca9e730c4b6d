/** scripts/setup.mjs in a small project of the same shape, whose "compiler" copies files. */
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';

const SCRIPT = join(import.meta.dirname, '../../scripts/setup.mjs');

/** Copies every x.ts of broker/ and gateways/ to dist/…/x.js, and counts how often it is called. */
const COMPILER = `
import { appendFileSync, cpSync, existsSync } from 'node:fs';
appendFileSync('builds', '.');
if (existsSync('gateways/broken.ts')) { console.error('gateways/broken.ts: error'); process.exit(2); }
cpSync('broker', 'dist/broker', { recursive: true });
cpSync('gateways', 'dist/gateways', { recursive: true });
`;

const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function write(folder: string, path: string, content: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), content);
}

const SMALL = { name: 'small', version: '1.0.0', dependencies: { part: 'file:part' } };

/** The one dependency, which is a folder of the project, in this version. */
function lockDependency(folder: string, version: string): void {
  const packages = { '': SMALL, 'node_modules/part': { resolved: 'part', link: true }, part: { version } };
  write(folder, 'part/package.json', JSON.stringify({ name: 'part', version }));
  write(folder, 'package-lock.json', JSON.stringify({ ...SMALL, lockfileVersion: 3, packages }));
}

function makeProject(engines = { node: '^20.19 || >=22.12' }): string {
  const folder = mkdtempSync(join(tmpdir(), 'warren-setup-'));
  folders.push(folder);
  mkdirSync(join(folder, 'scripts'));
  cpSync(SCRIPT, join(folder, 'scripts/setup.mjs'));
  const scripts = { build: 'node compiler.mjs' };
  write(folder, 'package.json', JSON.stringify({ ...SMALL, engines, scripts }));
  lockDependency(folder, '1.0.0');
  write(folder, 'compiler.mjs', COMPILER);
  write(folder, 'broker/old.js', 'a source that is JavaScript stands for what the compiler made');
  write(folder, 'broker/old.ts', '');
  for (const file of ['tsconfig.json', 'tsconfig.build.json', 'gateways/main.js', 'gateways/main.ts'])
    write(folder, file, '');
  return folder;
}

async function setUp(folder: string): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [join(folder, 'scripts/setup.mjs')]);
  let output = '';
  child.stdout.on('data', (octets) => (output += octets));
  child.stderr.on('data', (octets) => (output += octets));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output };
}

/** Sets the modification time of a file later than now, as an edit after the build would. */
function edit(folder: string, path: string): void {
  const later = new Date(Date.now() + 60_000);
  utimesSync(join(folder, path), later, later);
}

const INSTALLING = 'Installing what package-lock.json lists (npm ci)…\n';
const BUILDING = 'Building dist/ (npm run build)…\n';

describe('the set-up of a clone', () => {
  it('installs and builds once, and then finds nothing to do', async () => {
    const folder = makeProject();
    expect(await setUp(folder)).toEqual({ code: 0, output: INSTALLING + BUILDING });
    expect(await setUp(folder)).toEqual({ code: 0, output: '' });
  });

  it('builds again after an edit, and removes what was made of a source that is gone', async () => {
    const folder = makeProject();
    await setUp(folder);
    expect(readFileSync(join(folder, 'dist/broker/old.js'), 'utf8')).toContain('a source');
    rmSync(join(folder, 'broker/old.ts'));
    write(folder, 'dist/broker/left/old.js', 'made of a folder that is gone');
    write(folder, 'dist/gateways/main.js.map', 'what the build of today does not make');
    edit(folder, 'gateways/main.ts');
    expect(await setUp(folder)).toEqual({ code: 0, output: BUILDING });
    const left = readdirSync(join(folder, 'dist'), { recursive: true, encoding: 'utf8' });
    expect(left.filter((name) => /old|left|map/.test(name))).toEqual([]);
    expect(left).toContain('gateways/main.js');
  });

  it('shows what the compiler says when it fails, and tries again the next time', async () => {
    const folder = makeProject();
    write(folder, 'gateways/broken.ts', '');
    const failed = await setUp(folder);
    expect(failed.code).toBe(1);
    expect(failed.output).toContain('gateways/broken.ts: error');
    expect(failed.output).toContain('"npm run --silent build" did not work: its exit code is 2.');
    rmSync(join(folder, 'gateways/broken.ts'));
    expect(await setUp(folder)).toEqual({ code: 0, output: BUILDING });
  });

  it('installs again when the lock lists another version, but not because the lock only looks newer', async () => {
    const folder = makeProject();
    await setUp(folder);
    edit(folder, 'package-lock.json');
    expect(await setUp(folder)).toEqual({ code: 0, output: '' });
    lockDependency(folder, '1.0.1');
    edit(folder, 'package-lock.json');
    expect((await setUp(folder)).output).toBe(INSTALLING + BUILDING);
  });

  it('is done once when two run at the same time', async () => {
    const folder = makeProject();
    const outputs = await Promise.all([setUp(folder), setUp(folder)]);
    expect(outputs.map(({ code }) => code)).toEqual([0, 0]);
    expect(readFileSync(join(folder, 'builds'), 'utf8')).toBe('.');
  });

  it('says which Node is needed', async () => {
    const { code, output } = await setUp(makeProject({ node: '^18.99 || >=99.1' }));
    expect(code).toBe(1);
    expect(output).toContain(
      `Warren needs Node.js 18 (from 18.99) or 99.1 or newer; this is ${process.versions.node}.`,
    );
  });

  it('takes a Node that is in any of the ranges, and none that is older than its own', async () => {
    const [major, minor] = process.versions.node.split('.').map(Number);
    const fitting = [`^${major}.${minor} || >=99.1`, '>=0.1', `^0.1 || >=${major}.0`];
    for (const node of fitting) expect((await setUp(makeProject({ node }))).code, node).toBe(0);
    const others = [`^${major}.999 || >=99.1`, '^0.1 || >=99.1', `>=${major}.999`];
    for (const node of others) expect((await setUp(makeProject({ node }))).code, node).toBe(1);
  });
});
