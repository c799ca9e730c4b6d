/** A data folder has one owner, whoever asks at the same time, and none when that one is gone, however it went. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isLockName, lockFolder } from '../../../broker/storage/folder/lock.ts';
import { StoreError } from '../../../broker/storage/store-error.ts';
import { eventually } from '../../support/eventually.ts';

const CONTENDER = join(import.meta.dirname, '../../support/lock-contender.ts');

let folder: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'warren-lock-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) await killed(child);
  rmSync(folder, { recursive: true, force: true });
});

interface Contender {
  readonly child: ChildProcess;
  readonly pid: number;
  /** What it has printed so far. */
  lines(): readonly string[];
}

function contender(times: number, wrapper: readonly string[] = [], of = folder): Contender {
  const command = [...wrapper, process.execPath, '--import', import.meta.resolve('tsx'), CONTENDER, of, String(times)];
  const [program = '', ...args] = command;
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  return { child, pid: child.pid ?? 0, lines: () => printed.split('\n').slice(0, -1) };
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await gone;
}

/** A process that has the folder. */
async function owner(wrapper: readonly string[] = [], of = folder): Promise<Contender> {
  const owning = contender(0, wrapper, of);
  await eventually(() => expect(owning.lines()[0]).toMatch(/^has /), { timeoutMs: 10_000 });
  return owning;
}

function sockets(): string[] {
  return readdirSync(join(folder, 'lock'));
}

async function refusal(attempt: Promise<unknown>): Promise<string> {
  const error: unknown = await attempt.then(
    () => expect.unreachable(),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  return error instanceof StoreError ? error.message : '';
}

describe('the lock of a data folder', () => {
  it('is one socket with the process in its name, gone when it is released', async () => {
    const lock = await lockFolder(folder);
    expect(sockets()).toHaveLength(1);
    expect(sockets()[0]).toMatch(new RegExp(`^${process.pid}-[\\w-]{14}$`));
    expect(sockets().every(isLockName)).toBe(true);
    await lock.release();
    await lock.release();
    expect(sockets()).toEqual([]);
    await (await lockFolder(folder)).release();
  });

  it('is refused to everybody else, who leaves nothing behind', async () => {
    const before = new Date().toISOString();
    const lock = await lockFolder(folder);
    const text = await refusal(lockFolder(folder));
    const [, since = ''] = /\(since (.*)\)/.exec(text) ?? [];
    expect(text).toBe(
      `data folder ${folder} is in use by process ${process.pid} (since ${since}): ` +
        'end it first, or choose another data folder',
    );
    expect(since >= before && since <= new Date().toISOString()).toBe(true);
    expect(sockets()).toHaveLength(1);
    await lock.release();
  });

  it('goes to exactly one of many who ask at the same time', async () => {
    for (let round = 0; round < 5; round++) {
      const asked = await Promise.allSettled(Array.from({ length: 12 }, () => lockFolder(folder)));
      const owners = asked.filter((outcome) => outcome.status === 'fulfilled');
      expect(owners).toHaveLength(1);
      expect(sockets()).toHaveLength(1);
      await owners[0]?.value.release();
    }
    expect(sockets()).toEqual([]);
  });

  it('is had by one process at a time, of several that all want it', async () => {
    const contenders = Array.from({ length: 3 }, () => contender(10));
    for (const { child } of contenders) if (child.exitCode === null) await once(child, 'exit');
    const events = contenders
      .flatMap(({ pid, lines }) => lines().map((line) => ({ pid, what: line.split(' ')[0], at: line.split(' ')[1] })))
      .filter(({ what }) => what !== 'refused')
      .sort((one, other) => (BigInt(one.at ?? 0) < BigInt(other.at ?? 0) ? -1 : 1));
    expect(events).toHaveLength(3 * 10 * 2);
    events.forEach(({ pid, what }, index) => {
      expect(what).toBe(index % 2 === 0 ? 'has' : 'lets-go');
      if (what === 'lets-go') expect(events[index - 1]?.pid).toBe(pid);
    });
    const refused = contenders.flatMap(({ lines }) => lines().filter((line) => line.startsWith('refused')));
    for (const text of refused) expect(text).toMatch(/is in use by process \d+ \(since /);
    expect(sockets()).toEqual([]);
  });

  it('is free at once when its owner was killed, and what he left is tidied up', async () => {
    const { child, pid } = await owner();
    expect(await refusal(lockFolder(folder))).toContain(`is in use by process ${pid} (since 2`);
    await killed(child);
    expect(sockets()).toHaveLength(1);
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => lockFolder(folder)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(sockets()).toHaveLength(1);
    expect(sockets()[0]).toMatch(new RegExp(`^${process.pid}-`));
  });

  it('is had by an owner who has stopped answering', async () => {
    const { child, pid } = await owner();
    child.kill('SIGSTOP');
    expect(await refusal(lockFolder(folder, { answerMs: 50 }))).toContain(
      `is in use by process ${pid} (which does not answer): end it first`,
    );
    child.kill('SIGCONT');
    expect(await refusal(lockFolder(folder))).toContain(`is in use by process ${pid} (since `);
  });

  it('holds in a folder with a long name, and whether or not there are descriptors in the file system', async () => {
    const long = join(folder, 'x'.repeat(120), 'ü'.repeat(100));
    mkdirSync(long, { recursive: true });
    const lock = await lockFolder(long);
    expect(await refusal(lockFolder(long))).toContain(`is in use by process ${process.pid}`);
    const before = readdirSync(tmpdir()).length;
    expect(await refusal(lockFolder(long, { descriptorFolder: '/nowhere' }))).toContain('is in use by process');
    await lock.release();
    const other = await lockFolder(long, { descriptorFolder: '/nowhere' });
    expect(await refusal(lockFolder(long))).toContain('is in use by process');
    await other.release();
    expect(readdirSync(join(long, 'lock'))).toEqual([]);
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('w-')).length).toBeLessThanOrEqual(before);
  });

  it('is one lock whichever way leads to the folder, also after the folder was renamed', async () => {
    const inner = join(folder, 'inner');
    mkdirSync(inner);
    const lock = await lockFolder(inner);
    renameSync(inner, join(folder, 'renamed'));
    expect(await refusal(lockFolder(join(folder, 'renamed')))).toContain('is in use by process');
    await lock.release();
  });

  it('does not keep a process alive', async () => {
    const program = `import { lockFolder } from ${JSON.stringify(join(import.meta.dirname, '../../../broker/storage/folder/lock.ts'))};
      await lockFolder(${JSON.stringify(folder)});`;
    const child = spawn(
      process.execPath,
      ['--import', import.meta.resolve('tsx'), '--input-type=module', '--eval', program],
      { stdio: 'inherit' },
    );
    children.push(child);
    expect(await once(child, 'exit')).toEqual([0, null]);
    await (await lockFolder(folder)).release();
  });
});

describe('who is asked', () => {
  /** Everything that the owner says to who says `said`, until he ends. */
  async function conversation(said: string): Promise<string> {
    const socket = createConnection(join(folder, 'lock', sockets()[0] ?? ''));
    let heard = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      heard += text;
    });
    const closed = new Promise((resolve) => socket.on('close', resolve));
    // A reset is as good an end as any.
    socket.on('error', () => undefined);
    socket.write(said);
    await closed;
    return heard;
  }

  it('answers the question and nothing else', async () => {
    const lock = await lockFolder(folder);
    expect(JSON.parse(await conversation('who has this folder?\n'))).toEqual({
      pid: process.pid,
      host: hostname(),
      since: expect.stringMatching(/^2\d{3}-/),
    });
    for (const garbage of ['x', 'GET / HTTP/1.1\r\n\r\n', 'who has this folder\n', '\0'.repeat(100_000)]) {
      expect(await conversation(garbage)).toBe('');
    }
    expect(await refusal(lockFolder(folder))).toContain('is in use');
    await lock.release();
  });

  it('lets go also while somebody is connected who says nothing', async () => {
    const lock = await lockFolder(folder);
    const silent = createConnection(join(folder, 'lock', sockets()[0] ?? ''));
    await once(silent, 'connect');
    await lock.release();
    await (await lockFolder(folder)).release();
    silent.destroy();
  });

  it.each([
    ['nothing', ''],
    ['no JSON', 'hello\n'],
    ['JSON of something else', '[]\n'],
    ['null', 'null\n'],
    ['a process that is none', '{"pid":"1","host":"x"}\n'],
    ['too much', 'x'.repeat(100_000)],
  ])('is an owner, if he answers %s', async (_what, answer) => {
    mkdirSync(join(folder, 'lock'));
    const server = createServer((socket) => socket.on('error', () => undefined).end(answer));
    server.listen(join(folder, 'lock/77-bbbbhhhhrrrrrr'));
    await once(server, 'listening');
    expect(await refusal(lockFolder(folder, { answerMs: 100 }))).toContain(
      'is in use by process 77 (which does not answer)',
    );
    server.close();
  });

  it('does not write into the terminal of who is refused', async () => {
    mkdirSync(join(folder, 'lock'));
    const answer = JSON.stringify({ pid: 7, host: `\u001b[2J${'h'.repeat(500)}`, since: '\r\nroot: come here' });
    const server = createServer((socket) => socket.on('error', () => undefined).end(answer));
    server.listen(join(folder, 'lock/77-bbbbhhhhrrrrrr'));
    await once(server, 'listening');
    const text = await refusal(lockFolder(folder));
    expect(text).toMatch(/ is in use by process 7 on host \?\[2Jh+ \(since \?\?root: come here\)/);
    expect(text).toMatch(/^[ -~]{1,400}$/);
    server.close();
  });
});

describe('a file system that several machines have mounted', () => {
  const shared = { isShared: async (): Promise<boolean> => true };
  const elsewhere = { boot: async () => 'another boot', host: 'elsewhere', ...shared };

  /** Leaves the socket of a process that is gone, with the names that `surroundings` gives it. */
  async function leaveDead(surroundings: Parameters<typeof lockFolder>[1]): Promise<string> {
    const lock = await lockFolder(folder, surroundings);
    const [name = ''] = sockets();
    const kept = `${join(folder, 'lock', name)}.kept`;
    renameSync(join(folder, 'lock', name), kept);
    await lock.release();
    renameSync(kept, join(folder, 'lock', name));
    return name;
  }

  it('is refused when a process of another machine may have it, and says what to do', async () => {
    const name = await leaveDead(elsewhere);
    expect(await refusal(lockFolder(folder, shared))).toBe(
      `data folder ${folder} may be in use by process ${process.pid} of another machine, which cannot be asked from here: ` +
        `end it first; if there is none, remove ${join(folder, 'lock', name)}`,
    );
    expect(sockets()).toEqual([name]);
    rmSync(join(folder, 'lock', name));
    await (await lockFolder(folder, shared)).release();
  });

  it.each([
    ['the same boot: another container of the same machine', { ...elsewhere, host: 'container' }],
    ['the same host: it has been started again', { ...elsewhere, boot: async () => 'the next boot' }],
    ['a local file system: nobody else has it', { isShared: async (): Promise<boolean> => false }],
  ])('is free after %s', async (_what, surroundings) => {
    await leaveDead(elsewhere);
    const lock = await lockFolder(folder, surroundings);
    expect(sockets()).toHaveLength(1);
    await lock.release();
  });

  it('is refused with the host of the other container, if it can be asked', async () => {
    const lock = await lockFolder(folder, { host: 'c0ffee' });
    expect(await refusal(lockFolder(folder, shared))).toContain(
      `is in use by process ${process.pid} on host c0ffee (since `,
    );
    await lock.release();
  });

  it('never is one with hosts that are all called localhost', async () => {
    await leaveDead({ ...elsewhere, host: 'localhost' });
    expect(
      await refusal(lockFolder(folder, { ...elsewhere, boot: async () => 'the next boot', host: 'localhost' })),
    ).toContain('may be in use by process');
  });
});

describe('what is not Warren’s', () => {
  it('remains in the folder of sockets, and is in nobody’s way', async () => {
    mkdirSync(join(folder, 'lock'));
    for (const name of ['readme', `${process.pid}-bbbbhhhhrrrrrr`, 'new-bbbbhhhhrrrrrr']) {
      writeFileSync(join(folder, 'lock', name), 'mine');
    }
    const lock = await lockFolder(folder);
    await lock.release();
    expect(sockets()).toHaveLength(3);
  });

  it('is not made in a folder that does not exist', async () => {
    await refusal(lockFolder(join(folder, 'nowhere')));
    expect(existsSync(join(folder, 'nowhere'))).toBe(false);
  });
});
