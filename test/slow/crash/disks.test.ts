/**
 * The program as users have it on disks with troubles: one that really fills up, files that cannot be changed, a damaged
 * folder, one that somebody else has. Mounting needs root, and marking files immutable a file system that knows it.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConfirmChannel, connect } from 'amqplib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { WarrenProcess, type WarrenProcessOptions } from '../../support/warren-process.ts';
import { copyFolder, fillSample, octetsOf } from './sample.ts';

const MEBIBYTE = 1024 * 1024;
const PATIENCE = { timeoutMs: 30_000 };

let root = '';
const ends: (() => unknown)[] = [];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'warren-disks-'));
  ends.push(() => rmSync(root, { recursive: true, force: true }));
});

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function succeeds(command: string, ...args: readonly string[]): boolean {
  return spawnSync(command, args).status === 0;
}

/** Whether this user may mount; says why not in the name of what is skipped. */
function canMount(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'warren-mount-probe-'));
  const can = succeeds('mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder);
  if (can) spawnSync('umount', [folder]);
  rmSync(folder, { recursive: true });
  return can;
}

function canMarkImmutable(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'warren-chattr-probe-'));
  const can = succeeds('chattr', '+i', folder) && succeeds('chattr', '-i', folder);
  rmSync(folder, { recursive: true });
  return can;
}

/** A disk of its own of so many MiB. */
function disk(mebibytes: number): string {
  const path = join(root, 'disk');
  mkdirSync(path);
  expect(succeeds('mount', '-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path)).toBe(true);
  ends.push(() => spawnSync('umount', ['--lazy', path]));
  return path;
}

async function start(options: WarrenProcessOptions): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start(options);
  ends.push(() => warren.stop());
  return warren;
}

async function refused(options: WarrenProcessOptions): Promise<string> {
  const warren = new WarrenProcess(options);
  ends.push(() => warren.stop());
  expect(await warren.exited).toEqual({ code: 1, signal: null });
  return warren.log.map(({ msg }) => msg).join('\n');
}

interface Dialled {
  readonly channel: ConfirmChannel;
  readonly told: string[];
}

async function dial(warren: WarrenProcess): Promise<Dialled> {
  const connection = await connect(`${warren.amqpUrl}?heartbeat=2`, { noDelay: true });
  const told: string[] = [];
  connection
    .on('error', (error) => told.push(String(error)))
    .on('blocked', (reason) => told.push(`blocked: ${reason}`))
    .on('unblocked', () => told.push('unblocked'));
  const channel = await connection.createConfirmChannel();
  channel.on('error', () => {});
  await channel.assertQueue('q', { durable: true });
  return { channel, told };
}

/** No room, or so little that an alarm has been raised. */
function isShort(warren: WarrenProcess): boolean {
  return /no space left|disk alarm/.test(warren.stderr);
}

/** Publishes until the broker says that it is blocked; what is confirmed, then or later, is in the answer. */
async function publishUntilBlocked(
  warren: WarrenProcess,
  { channel, told }: Dialled,
  bytes: number,
): Promise<{ sent: number; confirmed: number[] }> {
  const confirmed: number[] = [];
  let sent = 0;
  const send = (): void => {
    for (let n = 0; n < 20; n++) {
      const mine = ++sent;
      const options = { persistent: true, messageId: String(mine) };
      channel.sendToQueue('q', Buffer.alloc(bytes, `${mine} `), options, (error) => {
        if (error === null) confirmed.push(mine);
      });
    }
  };
  while (!isShort(warren)) {
    send();
    await eventually(() => expect(isShort(warren) || sent - confirmed.length < 40).toBe(true), PATIENCE);
    expect(sent).toBeLessThan(100_000);
  }
  // Whoever publishes now is told.
  send();
  await eventually(() => expect(told).toEqual(['blocked: low on disk']), PATIENCE);
  return { sent, confirmed };
}

/** Consumes and acks until `until` says that it is enough; answers the numbers that came. */
async function consumeUntil(warren: WarrenProcess, until: (received: readonly number[]) => boolean): Promise<number[]> {
  const { channel } = await dial(warren);
  const received: number[] = [];
  await channel.prefetch(50);
  await channel.consume('q', (message) => {
    if (message === null) return;
    received.push(Number(message.properties.messageId));
    channel.ack(message);
  });
  await eventually(() => expect(until(received)).toBe(true), PATIENCE);
  return received;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, index) => from + index);
}

describe.skipIf(!canMount())('a disk that fills up (skipped where nobody may mount)', () => {
  const flags = ['--disk-free-limit=0', '--message-memory=1MiB'];

  it.each(['goes on, when consumers have made room', 'is killed while it is full'])('%s', async (how) => {
    const dataDir = join(disk(48), 'data');
    const before = await start({ dataDir, flags });
    const publisher = await dial(before);
    const { sent, confirmed } = await publishUntilBlocked(before, publisher, 20_000);
    expect(publisher.told).toEqual(['blocked: low on disk']);
    expect(before.log.map(({ msg }) => msg)).toContainEqual(expect.stringMatching(/no space left on the disk/));
    expect(confirmed).toEqual(range(1, confirmed.length));
    expect(confirmed.length).toBeGreaterThan(500);
    expect(confirmed.length).toBeLessThan(sent);

    if (how.startsWith('is killed')) {
      await before.stop();
      const promised = confirmed.length;
      const after = await start({ dataDir, flags });
      const received = await consumeUntil(after, (numbers) => numbers.length >= promised);
      expect(received.slice(0, promised)).toEqual(range(1, promised));
      // Of what was not confirmed there may be a beginning.
      expect(received).toEqual(range(1, received.length));
      return;
    }
    const received = await consumeUntil(before, (numbers) => numbers.length >= sent);
    expect(received).toEqual(range(1, sent));
    await eventually(() => expect(publisher.told).toEqual(['blocked: low on disk', 'unblocked']), PATIENCE);
    await eventually(() => expect(confirmed).toEqual(range(1, sent)), PATIENCE);
    const { bavail, bsize } = statfsSync(join(root, 'disk'));
    await eventually(() => expect(bavail * bsize).toBeGreaterThan(8 * MEBIBYTE), PATIENCE);
    expect(before.child.exitCode).toBeNull();
  });

  it('because of somebody else lets publishers go on as soon as there is room', async () => {
    const path = disk(48);
    const warren = await start({ dataDir: join(path, 'data'), flags });
    const publisher = await dial(warren);
    writeFileSync(join(path, 'theirs'), Buffer.alloc(28 * MEBIBYTE, 'x'));
    const { sent, confirmed } = await publishUntilBlocked(warren, publisher, 20_000);
    expect(confirmed.length).toBeLessThan(sent);
    rmSync(join(path, 'theirs'));
    await eventually(() => expect(publisher.told).toEqual(['blocked: low on disk', 'unblocked']), PATIENCE);
    await eventually(() => expect(confirmed).toEqual(range(1, sent)), PATIENCE);
  });

  it('is not filled by Warren as far as disk-free-limit goes', async () => {
    const path = disk(64);
    const limit = 24 * MEBIBYTE;
    const warren = await start({ dataDir: join(path, 'data'), flags: [`--disk-free-limit=${limit}`] });
    const publisher = await dial(warren);
    await publishUntilBlocked(warren, publisher, 20_000);
    const { bavail, bsize } = statfsSync(path);
    expect(bavail * bsize).toBeGreaterThan(8 * MEBIBYTE);
    expect(warren.log.map(({ msg }) => msg)).toContainEqual(expect.stringMatching(/^disk alarm: publishers wait/));
    expect(warren.log.map(({ msg }) => msg)).not.toContainEqual(expect.stringMatching(/^cannot write/));
  });
});

describe('the program with a folder', () => {
  let dataDir = '';
  let killed = '';

  beforeEach(async () => {
    dataDir = join(root, 'ended');
    killed = join(root, 'killed');
    await fillSample(dataDir, killed);
  });

  it.each([
    ['log/00000002.log', 5],
    ['log/00000002.log', 60],
    ['log/00000003.log', 200],
    ['FORMAT', 3],
  ] as const)(
    'with a flipped bit in %s at %i ends with 1, says so, and changes nothing; salvage takes the rest',
    async (file, at) => {
      const path = join(killed, file);
      const octets = readFileSync(path);
      octets.writeUInt8(octets.readUInt8(at) ^ 4, at);
      writeFileSync(path, octets);
      const before = octetsOf(killed);
      const text = await refused({ dataDir: killed });
      expect(text).toContain(path);
      expect(octetsOf(killed)).toEqual(before);
      if (file === 'FORMAT') return;
      expect(text).toMatch(/, octet \d+: /);
      expect(text).toContain('--recover salvage');
      const salvaged = await start({ dataDir: killed, flags: ['--recover=salvage'] });
      expect(salvaged.log.map(({ msg }) => msg)).toContainEqual(expect.stringContaining(`${path}, octet`));
      const aside = [...octetsOf(killed)].find(([name]) => /^damaged-[^/]*\//.test(name));
      expect(aside?.[1].equals(octets)).toBe(true);
      salvaged.child.kill('SIGTERM');
      expect(await salvaged.exited).toEqual({ code: 0, signal: null });
      await start({ dataDir: killed });
    },
  );

  it('that another process has is refused, and says which; the other goes on', async () => {
    const owner = await start({ dataDir });
    for (const flags of [[], ['--recover=salvage']])
      expect(await refused({ dataDir, flags })).toContain(`is in use by process ${owner.child.pid}`);
    const { channel } = await dial(owner);
    channel.sendToQueue('q', Buffer.from('still here'), { persistent: true });
    await channel.waitForConfirms();
  });

  it('of a newer format is refused', async () => {
    writeFileSync(join(dataDir, 'FORMAT'), '{"format":9999,"writtenBy":"warren 99"}\n');
    const before = octetsOf(dataDir);
    expect(await refused({ dataDir })).toMatch(/has format 9999, written by warren 99; this is warren .*newer/);
    expect(octetsOf(dataDir)).toEqual(before);
  });

  it.skipIf(!canMarkImmutable()).each(['FORMAT', 'mark', 'log/00000003.log', 'log', '.'])(
    'in which %s is immutable is refused or served, and nothing is lost',
    async (name) => {
      const path = join(killed, name);
      const untouched = join(root, 'untouched');
      copyFolder(killed, untouched);
      expect(succeeds('chattr', '+i', path)).toBe(true);
      ends.push(() => spawnSync('chattr', ['-i', path]));
      const before = octetsOf(killed);
      const warren = new WarrenProcess({ dataDir: killed });
      ends.push(() => warren.stop());
      const isStarted = (): boolean => warren.stdout.includes('Server startup complete');
      await eventually(() => expect(warren.child.exitCode !== null || isStarted()).toBe(true), PATIENCE);
      if (!isStarted()) {
        expect(warren.child.exitCode).toBe(1);
        expect(String(warren.log.at(-1)?.msg)).toMatch(/EPERM|EACCES|permission|not permitted/);
        expect(octetsOf(killed)).toEqual(before);
      }
      await warren.stop();
      expect(succeeds('chattr', '-i', path)).toBe(true);
      const after = await start({ dataDir: killed });
      const counts = async (queue: string): Promise<number> => {
        const connection = await connect(after.amqpUrl);
        const { messageCount } = await (await connection.createChannel()).checkQueue(queue);
        await connection.close();
        return messageCount;
      };
      expect([await counts('orders'), await counts('urgent'), await counts('copies'), await counts('dead')]).toEqual([
        15, 9, 10, 1,
      ]);
    },
  );
});
