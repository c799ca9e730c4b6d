#!/usr/bin/env node
/**
 * What `npm start` and `npm test` run first: everything that a fresh clone needs, with nothing but Node and npm. Installs
 * the dependencies when those in node_modules are not the ones of package-lock.json, and builds dist/ when it is older
 * than a source. Does nothing, in a few milliseconds and without a word, when nothing is to be done. Plain JavaScript
 * without dependencies, because it runs before there are any.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, linkSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const SOURCE_FOLDERS = ['broker', 'gateways'];
const SOURCE_FILES = ['package.json', 'tsconfig.json', 'tsconfig.build.json'];
const MAIN = join(ROOT, 'dist/gateways/main.js');
/** Holds the time of the newest source that was built; goes with node_modules, so a new compiler builds anew. */
const BUILD_STAMP = join(ROOT, 'node_modules/.warren-build');
/** One setup at a time works on this folder; the others wait for it. Holds the number of the process. */
const LOCK = join(tmpdir(), `warren-setup-${createHash('sha256').update(ROOT).digest('hex').slice(0, 16)}.lock`);
const LOCK_POLL_MS = 100;

/** Ends the setup after it has said why. */
class Failure extends Error {}

try {
  setUp();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
}

function setUp() {
  checkNode();
  if (isInstalled() && isBuilt()) return;
  lock();
  try {
    if (!isInstalled())
      npm('Installing what package-lock.json lists (npm ci)', ['ci', '--include=dev', '--no-audit', '--no-fund']);
    if (!isBuilt()) build();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

/** `engines` in package.json is ranges like `^20.19` (of that major version) and `>=22.12` between `||`. */
function checkNode() {
  const has = process.versions.node;
  const [major, minor] = has.split('.').map(Number);
  const needed = readJson('package.json')
    .engines.node.split('||')
    .map((range) => {
      const [, kind, from, fromMinor] = range.match(/^\s*(\^|>=)(\d+)\.(\d+)\s*$/);
      const isIn = major === Number(from) ? minor >= Number(fromMinor) : kind === '>=' && major > Number(from);
      return { isIn, text: kind === '^' ? `${from} (from ${from}.${fromMinor})` : `${from}.${fromMinor} or newer` };
    });
  if (needed.some(({ isIn }) => isIn)) return;
  const versions = needed.map(({ text }) => text).join(' or ');
  fail(`Warren needs Node.js ${versions}; this is ${has}. Get it from https://nodejs.org or with "nvm install 22".`);
}

/** Are the packages of package-lock.json, and no older ones, in node_modules? */
function isInstalled() {
  const installedLock = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(installedLock)) return false;
  if (statSync(installedLock).mtimeMs >= statSync(join(ROOT, 'package-lock.json')).mtimeMs) return true;
  // A checkout makes files look new: compare what they say.
  const installed = readJson('node_modules/.package-lock.json').packages;
  return Object.entries(readJson('package-lock.json').packages).every(
    // Optional ones are for other platforms, unless they are here.
    ([path, { version, optional }]) =>
      path === '' || (installed[path] === undefined ? optional === true : installed[path].version === version),
  );
}

function isBuilt() {
  if (!existsSync(MAIN) || !existsSync(BUILD_STAMP)) return false;
  return newestSourceMs() <= Number(readFileSync(BUILD_STAMP, 'utf8'));
}

function newestSourceMs() {
  const sources = SOURCE_FILES.map((name) => join(ROOT, name));
  for (const folder of SOURCE_FOLDERS) {
    // Folders too: theirs is the time at which a file was removed or renamed.
    sources.push(join(ROOT, folder));
    for (const name of readdirSync(join(ROOT, folder), { recursive: true })) sources.push(join(ROOT, folder, name));
  }
  return Math.max(...sources.map((path) => statSync(path).mtimeMs));
}

function build() {
  const newestMs = newestSourceMs();
  npm('Building dist/ (npm run build)', ['run', '--silent', 'build']);
  for (const folder of SOURCE_FOLDERS) removeOrphans(join('dist', folder));
  writeFileSync(BUILD_STAMP, String(newestMs));
}

/** The compiler leaves what it made of sources that are gone, and what an older one made. */
function removeOrphans(folder) {
  for (const name of readdirSync(join(ROOT, folder), { recursive: true })) {
    const output = join(ROOT, folder, name);
    const source = output.replace(join(ROOT, 'dist'), ROOT).replace(/\.(js|d\.ts)$/, '.ts');
    if (!existsSync(source)) rmSync(output, { recursive: true, force: true });
  }
}

function npm(what, args) {
  console.error(`${what}…`);
  const cli = process.env.npm_execpath;
  const [command, first] = cli?.endsWith('.js') ? [process.execPath, [cli]] : ['npm', []];
  const result = spawnSync(command, [...first, ...args], {
    cwd: ROOT,
    encoding: 'utf8',
    shell: process.platform === 'win32' && !cli,
  });
  if (result.status === 0) return;
  console.error(`${result.stdout ?? ''}${result.stderr ?? ''}`);
  fail(`"npm ${args.join(' ')}" did not work: ${result.error?.message ?? `its exit code is ${result.status}`}.`);
}

/**
 * When a holder has died, two who wait could both find it dead and the second remove the lock of the first. It takes a kill
 * in the middle of a setup and the same millisecond; deleting node_modules mends it.
 */
function lock() {
  const mine = `${LOCK}.${process.pid}`;
  writeFileSync(mine, String(process.pid));
  try {
    while (!tryLink(mine)) {
      const holder = readHolder();
      if (holder !== undefined && !isRunning(holder)) rmSync(LOCK, { force: true });
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_POLL_MS);
    }
  } finally {
    rmSync(mine, { force: true });
  }
}

/** A link appears with its content, or not at all. */
function tryLink(file) {
  try {
    linkSync(file, LOCK);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

/** The process that holds the lock; undefined when it has just gone. */
function readHolder() {
  try {
    return Number(readFileSync(LOCK, 'utf8')) || undefined;
  } catch {
    return undefined;
  }
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function readJson(path) {
  return JSON.parse(readFileSync(join(ROOT, path), 'utf8'));
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
  throw new Failure();
}
