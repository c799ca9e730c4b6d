/**
 * What a data folder may be that is none, or is no longer what it was: the store says which file and what to do, and
 * leaves everything as it was. Real folders, real files.
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { openStore, type StoreOptions } from '../../../broker/storage/open-store.ts';
import { StoreError } from '../../../broker/storage/store-error.ts';
import type { Custody, Store, StoreEvent } from '../../../broker/store.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';

const SEGMENT_BYTES = 4096;
const BODIES = Array.from({ length: 30 }, (_, index) => `message ${index} `.padEnd(500, String(index % 10)));

function open(dataDir: string, options: Partial<StoreOptions> = {}): Promise<Store> {
  return openStore({ dataDir, version: '0.1.0', segmentBytes: SEGMENT_BYTES, reserveBytes: 1 << 16, ...options });
}

/** A data folder with several segments, of which none can be spared; closed. */
async function fill(path: string): Promise<void> {
  const store = await open(path);
  store.restored();
  const holder = store.holder();
  store.define('queue', ['/', 'tasks'], { holder: holder.id });
  for (const [index, body] of BODIES.entries()) {
    const custody: Custody = {
      holder,
      position: index + 1,
      priority: 0,
      expiresAtMs: Number.POSITIVE_INFINITY,
      returnCount: 0,
      heldUntilMs: 0,
      record: undefined,
      slot: 0,
    };
    store.admit(custody, createMessage({ exchange: '', routingKey: 'tasks', body: Buffer.from(body) }), true);
    await store.synced();
  }
  await store.close();
}

/** The bodies in the store, which is closed then. */
async function contents(store: Store): Promise<string[]> {
  const bodies: string[] = [];
  for (const { value } of store.definitions('queue')) {
    for (const page of store.restore((value as { holder: number }).holder).pages) {
      for (const { message } of await store.load(page)) bodies.push(Buffer.from(message.body).toString());
    }
  }
  store.restored();
  await store.close();
  return bodies;
}

let filled: string;
let root: string;
/** A fresh copy of `filled` for each test. */
let data: string;

beforeAll(async () => {
  filled = mkdtempSync(join(tmpdir(), 'warren-filled-'));
  await fill(join(filled, 'data'));
});

afterAll(() => rmSync(filled, { recursive: true, force: true }));

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'warren-bad-folders-'));
  data = join(root, 'data');
  cpSync(join(filled, 'data'), data, { recursive: true });
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Everything in `folder`: names, kinds, rights, times of change of content, and contents. */
function state(folder = root): readonly string[] {
  return readdirSync(folder)
    .sort()
    .flatMap((name) => {
      const path = join(folder, name);
      const status = lstatSync(path);
      const content = status.isFile() ? readFileSync(path).toString('base64') : '';
      // Who looks whether a folder can be had has a socket in lock/ for a moment.
      const changed = name === 'lock' ? 0 : status.mtimeMs;
      const line = `${path} ${status.mode.toString(8)} ${changed} ${content}`;
      return status.isDirectory() ? [line, ...state(path)] : [line];
    });
}

/** Why the folder is refused. Nothing below `root` may be different afterwards. */
async function refusal(path: string, options?: Partial<StoreOptions>): Promise<string> {
  const before = state();
  const error: unknown = await open(path, options).then(
    async (store) => expect.unreachable(`it was opened: ${(await contents(store)).length} messages`),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  expect(state()).toEqual(before);
  const text = error instanceof StoreError ? error.message : '';
  // Which, and what to do.
  expect(text).toContain(path);
  expect(text).toMatch(/choose|put .*back|move .*away|make room|mount|let the user|mend|--recover salvage/i);
  return text.replaceAll(root, '~');
}

function segments(): string[] {
  const names = readdirSync(join(data, 'log')).filter((name) => name.endsWith('.log'));
  return names.map((name) => join(data, 'log', name));
}

it('what the tests start from is a good one, of several segments', async () => {
  expect(segments().length).toBeGreaterThan(3);
  expect(readdirSync(data).sort()).toEqual(['FORMAT', 'lock', 'log', 'mark', 'reserve']);
  expect(await contents(await open(data))).toEqual(BODIES);
});

describe('a path', () => {
  it('that is a file', async () => {
    writeFileSync(join(root, 'file'), 'mine');
    expect(await refusal(join(root, 'file'))).toBe('data folder ~/file is a file: choose another data folder');
    expect(await refusal(join(root, 'file/data'))).toContain('a part of its path is not a folder');
  });

  it('that is a device, a pipe, or a link to nothing', async () => {
    expect(await refusal('/dev/null')).toContain('is a file');
    spawnSync('mkfifo', [join(root, 'pipe')]);
    expect(await refusal(join(root, 'pipe'))).toContain('is a file');
    symlinkSync(join(root, 'nowhere'), join(root, 'link'));
    expect(await refusal(join(root, 'link'))).toContain('is a symbolic link that leads nowhere');
  });

  it('at which nothing can be made', async () => {
    for (const path of ['/proc/self/warren', '/sys/warren'].filter(() => existsSync('/proc/self'))) {
      expect(await refusal(path)).toContain(path);
    }
  });
});

describe('a folder', () => {
  it('with files of somebody else, also if they have names like those of Warren', async () => {
    mkdirSync(join(root, 'theirs/log'), { recursive: true });
    writeFileSync(join(root, 'theirs/log/00000001.log'), 'GET / 200\n');
    expect(await refusal(join(root, 'theirs'))).toBe(
      'data folder ~/theirs has no FORMAT file, but "log/00000001.log" in it: choose an empty folder; ' +
        "if this is one of Warren's, put FORMAT back from a backup",
    );
    writeFileSync(join(root, 'theirs/FORMAT'), 'A4\n');
    expect(await refusal(join(root, 'theirs'))).toContain('/FORMAT is damaged (not JSON)');
  });

  it('of Warren, with files of somebody else in its log', async () => {
    writeFileSync(join(data, 'log/notes.txt'), 'mine');
    expect(await refusal(data)).toBe(
      '~/data/log has "notes.txt" in it, which Warren has not put there: move that away',
    );
  });

  it('of a newer version', async () => {
    writeFileSync(join(data, 'FORMAT'), '{"format":3,"writtenBy":"warren 1.0.0"}');
    expect(await refusal(data)).toContain('has format 3, written by warren 1.0.0; this is warren 0.1.0, which knows');
  });

  it('of a store that is open', async () => {
    const store = await open(data);
    expect(await refusal(data)).toContain(`is in use by process ${process.pid} (since 2`);
    expect(await contents(store)).toEqual(BODIES);
  });
});

describe('a folder without the right to it', () => {
  /** The user that owns nothing. */
  const NOBODY = 65534;
  const isRoot = process.getuid?.() === 0;
  let opener: ChildProcessWithoutNullStreams;
  let answers: AsyncIterator<string>;

  beforeAll(() => {
    const script = join(import.meta.dirname, '../../support/unprivileged-opener.ts');
    opener = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), script]);
    opener.stderr.pipe(process.stderr);
    answers = createInterface({ input: opener.stdout })[Symbol.asyncIterator]();
  });

  afterAll(() => void opener.kill());

  beforeEach(() => {
    if (!isRoot) return;
    for (const name of ['.', ...readdirSync(root, { recursive: true, encoding: 'utf8' })]) {
      chownSync(join(root, name), NOBODY, NOBODY);
    }
  });

  afterEach(() => {
    for (const path of [root, data, join(data, 'log')]) chmodSync(path, 0o700);
  });

  /** What comes of it when the folder is opened by somebody for whom permissions hold. */
  async function opened(path: string): Promise<string> {
    opener.stdin.write(`${path}\n`);
    const { value: line } = await answers.next();
    return line === 'opened' ? line : (JSON.parse(line) as Error).message.replaceAll(root, '~');
  }

  const ADVICE = 'permission denied: let the user that Warren runs as own the data folder and all in it (EACCES)';

  it('is opened when there is the right to it', async () => {
    expect(await opened(data)).toBe('opened');
  });

  it.each([
    ['to read it', '', 0o000, `cannot read ~/data/FORMAT: ${ADVICE}`],
    ['to write to it', '', 0o500, `cannot write to the data folder ~/data: ${ADVICE}`],
    ['to read its log', 'log', 0o000, `cannot read the folder ~/data/log: ${ADVICE}`],
    ['to write to its log', 'log', 0o500, `cannot write to the data folder ~/data/log: ${ADVICE}`],
    ['to read its FORMAT', 'FORMAT', 0o000, `cannot read ~/data/FORMAT: ${ADVICE}`],
    ['to read its mark', 'mark', 0o000, `cannot open ~/data: ~/data/mark: ${ADVICE}`],
    ['to read a segment', 'log/00000001.log', 0o000, `cannot read ~/data/log/00000001.log: ${ADVICE}`],
    ['to make it', '..', 0o500, `cannot make the data folder: trouble with ~/new: ${ADVICE}`],
  ])('%s', async (_right, name, mode, text) => {
    const path = join(data, name);
    const before = state();
    const rights = statSync(path).mode;
    chmodSync(path, mode);
    expect(await opened(name === '..' ? join(root, 'new') : data)).toBe(text);
    chmodSync(path, rights);
    expect(state()).toEqual(before);
    expect(await opened(data)).toBe('opened');
  });
});

/** What becomes of a file: its name, and how. */
const RUIN: readonly (readonly [string, (path: string) => void])[] = [
  ['empty', (path) => truncateSync(path, 0)],
  ['cut in half', (path) => truncateSync(path, Math.floor(statSync(path).size / 2))],
  // One octet of FORMAT says nothing: the end of its line.
  ['cut by two octets', (path) => truncateSync(path, statSync(path).size - 2)],
  ['zeros', (path) => writeFileSync(path, Buffer.alloc(statSync(path).size))],
  ['text', (path) => writeFileSync(path, 'somebody’s notes\n'.repeat(300))],
  ['another file of the folder', (path) => cpSync(join(data, path.endsWith('mark') ? 'FORMAT' : 'mark'), path)],
  ['gone', (path) => rmSync(path)],
];

/** What is not a file in the place of one. */
const NO_FILES: readonly (readonly [string, (path: string) => void])[] = [
  ['a folder', (path) => mkdirSync(path)],
  ['a pipe', (path) => void spawnSync('mkfifo', [path])],
  ['a link to a device', (path) => symlinkSync('/dev/zero', path)],
  ['a link to a folder', (path) => symlinkSync('/', path)],
  ['a link to itself', (path) => symlinkSync(path, path)],
];

describe.each(['FORMAT', 'mark', 'reserve', 'the first segment', 'a segment', 'the last segment'])('%s', (which) => {
  function pathOf(): string {
    const all = segments();
    const [first = '', middle = '', last = ''] = [all[0], all[1], all.at(-1)];
    if (!which.endsWith('segment')) return join(data, which);
    return which.startsWith('the first') ? first : which.startsWith('the last') ? last : middle;
  }

  it.each(RUIN)('that is %s', async (_how, ruin) => {
    const path = pathOf();
    ruin(path);
    if (which === 'mark' || which === 'reserve') {
      // Nothing rests on them while the rest is intact.
      expect(await contents(await open(data))).toEqual(BODIES);
      return;
    }
    const text = await refusal(data);
    expect(text).toContain(which === 'FORMAT' ? 'FORMAT' : path.replaceAll(root, '~'));
    if (which !== 'FORMAT') expect(text).toContain('--recover salvage');
  });

  it.each(NO_FILES)('that is %s', async (_what, make) => {
    const path = pathOf();
    rmSync(path);
    make(path);
    expect(await refusal(data)).toContain(which.endsWith('segment') ? path.slice(-12) : path.replaceAll(root, '~'));
  });
});

describe('a log', () => {
  it('that is empty, or has lost all of its segments', async () => {
    for (const path of segments()) rmSync(path);
    const text = await refusal(data);
    expect(text).toContain('~/data/log/');
    expect(text).toContain('--recover salvage');
  });

  it('with something at its end that Warren did not write', async () => {
    const last = segments().at(-1) ?? '';
    appendFileSync(last, 'x'.repeat(1000));
    // It may be a commit that was not finished: nothing is missing, and nobody is kept from his messages.
    const events: StoreEvent[] = [];
    expect(await contents(await open(data, { onEvent: (event) => events.push(event) }))).toEqual(BODIES);
    expect(events.map(({ type }) => type)).toEqual(['notice']);
  });

  it('whose segments have changed places', async () => {
    const [first = '', second = ''] = segments();
    renameSync(first, `${first}.x`);
    renameSync(second, first);
    renameSync(`${first}.x`, second);
    const text = await refusal(data);
    expect(text).toContain(first.replaceAll(root, '~'));
    expect(text).toContain(second.replaceAll(root, '~'));
  });

  it('with a segment of another folder', async () => {
    await fill(join(root, 'other'));
    const before = segments();
    const [name = ''] = readdirSync(join(root, 'other/log')).filter((each) => each.endsWith('.log'));
    cpSync(join(root, 'other/log', name), join(data, 'log/00009999.log'));
    expect(segments()).toHaveLength(before.length + 1);
    const outcome = await open(data).then(contents, (error: Error) => error.message);
    if (Array.isArray(outcome)) expect(outcome).toEqual(BODIES);
    else expect(outcome).toContain('00009999.log');
  });
});

describe('a full disk', () => {
  it('on which there is no room for a new folder', async () => {
    const files = new FaultyFiles({ capacityBytes: 100 });
    files.plant('/other', 'x'.repeat(90));
    const opening = open('/data', { files });
    await expect(opening).rejects.toThrow(StoreError);
    await expect(opening).rejects.toThrow(/\/data.*no space left on the disk: make room, or choose .*\(ENOSPC\)$/);
    expect(files.paths()).toEqual(['/other']);
    expect(await files.list('/')).toEqual(['other']);
  });

  it('keeps nobody from what is in a folder', async () => {
    const files = new FaultyFiles();
    for (const name of readdirSync(data, { recursive: true, encoding: 'utf8' })) {
      const path = join(data, name);
      if (lstatSync(path).isFile()) files.plant(join('/data', name), readFileSync(path));
    }
    files.capacityBytes = 1;
    const before = files.paths().filter((path) => path !== '/data/reserve');
    const store = await open('/data', { files, reserveBytes: 0 });
    const bodies: string[] = [];
    for (const page of store.restore(1).pages) {
      for (const { message } of await store.load(page)) bodies.push(Buffer.from(message.body).toString());
    }
    expect(bodies).toEqual(BODIES);
    expect(files.paths().filter((path) => path !== '/data/reserve')).toEqual(before);
  });
});
