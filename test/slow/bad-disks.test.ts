/** Data folders on file systems that are read-only, full, or fill up while they are used: real ones, mounted for the test. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import { openStore } from '../../broker/storage/open-store.ts';
import { StoreError } from '../../broker/storage/store-error.ts';
import type { Custody, Holder, Store, StoreEvent } from '../../broker/store.ts';
import { eventually } from '../support/eventually.ts';

const KIB = 1024;

let root: string;
const mounted: string[] = [];

function mount(options: string, folder = 'disk'): string {
  const path = join(root, folder);
  mkdirSync(path, { recursive: true });
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  mounted.push(path);
  return path;
}

function remount(path: string, options: string): void {
  expect(spawnSync('mount', ['-o', `remount,${options}`, path]).status).toBe(0);
}

/** Whether this user may mount. */
function canMount(): boolean {
  root = mkdtempSync(join(tmpdir(), 'warren-mount-probe-'));
  try {
    mount('size=64k');
    return true;
  } catch {
    return false;
  } finally {
    unmountAll();
  }
}

function unmountAll(): void {
  for (const path of mounted.splice(0)) spawnSync('umount', ['--lazy', path]);
  rmSync(root, { recursive: true, force: true });
}

function open(dataDir: string, onEvent: (event: StoreEvent) => void = () => undefined): Promise<Store> {
  return openStore({ dataDir, version: '0.1.0', segmentBytes: 64 * KIB, reserveBytes: 64 * KIB, onEvent });
}

function custodyOf(holder: Holder, position: number): Custody {
  return {
    holder,
    position,
    priority: 0,
    expiresAtMs: Number.POSITIVE_INFINITY,
    returnCount: 0,
    heldUntilMs: 0,
    record: undefined,
    slot: 0,
  };
}

function messageOf(position: number): ReturnType<typeof createMessage> {
  const body = Buffer.alloc(4 * KIB, `${position} `);
  return createMessage({ exchange: '', routingKey: 'tasks', body });
}

/** Positions of the messages that the store has brought back; all their octets are checked. */
async function positions(store: Store): Promise<number[]> {
  const [definition] = store.definitions('queue');
  const { holder } = (definition?.value ?? { holder: 0 }) as { holder: number };
  const found: number[] = [];
  for (const page of store.restore(holder).pages) {
    for (const { message, position } of await store.load(page)) {
      expect(Buffer.from(message.body).equals(Buffer.from(messageOf(position).body))).toBe(true);
      found.push(position);
    }
  }
  store.restored();
  return found;
}

async function fill(path: string, count: number): Promise<void> {
  const store = await open(path);
  store.restored();
  const holder = store.holder();
  store.define('queue', ['/', 'tasks'], { holder: holder.id });
  for (let position = 1; position <= count; position++)
    store.admit(custodyOf(holder, position), messageOf(position), true);
  await store.synced();
  await store.close();
}

function contentsOf(path: string): readonly string[] {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const file = join(entry.parentPath, entry.name);
      return entry.isFile() ? `${file} ${readFileSync(file).toString('base64')}` : file;
    })
    .sort();
}

async function refusal(path: string): Promise<string> {
  const before = contentsOf(root);
  const error: unknown = await open(path).then(
    () => expect.unreachable(),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(StoreError);
  expect(contentsOf(root)).toEqual(before);
  return error instanceof StoreError ? error.message.replaceAll(root, '~') : '';
}

describe.skipIf(!canMount())('a data folder on a disk', () => {
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'warren-bad-disks-'));
  });

  afterEach(() => unmountAll());

  it('that is read-only, new or not, is refused', async () => {
    const disk = mount('size=4m');
    await fill(join(disk, 'data'), 10);
    remount(disk, 'ro');
    const advice = 'the file system is read-only: mount it for writing, or choose another data folder (EROFS)';
    expect(await refusal(join(disk, 'data'))).toBe(`cannot write to the data folder ~/disk/data: ${advice}`);
    expect(await refusal(join(disk, 'new'))).toBe(`cannot make the data folder: trouble with ~/disk/new: ${advice}`);
    expect(await refusal(disk)).toMatch(/has no FORMAT file, but "data" in it/);
    remount(disk, 'rw');
    const store = await open(join(disk, 'data'));
    expect(await positions(store)).toEqual(Array.from({ length: 10 }, (_, index) => index + 1));
    await store.close();
  });

  it.each(['size=64k', 'nr_inodes=4'])('that is full (%s) is refused when it has to be made', async (options) => {
    const disk = mount(options);
    if (options.startsWith('size')) writeFileSync(join(disk, 'theirs'), Buffer.alloc(64 * KIB));
    else for (const name of ['a', 'b']) writeFileSync(join(disk, name), '');
    expect(await refusal(join(disk, 'data'))).toMatch(
      / ~\/disk\/data.*: no space left on the disk: make room, .*\(ENOSPC\)$/,
    );
  });

  it('that fills up: nothing is confirmed that is not on it, and all is well when there is room again', async () => {
    const disk = mount('size=2m');
    const path = join(disk, 'data');
    const events: StoreEvent[] = [];
    const store = await open(path, (event) => events.push(event));
    store.restored();
    const holder = store.holder();
    store.define('queue', ['/', 'tasks'], { holder: holder.id });
    const confirmed: number[] = [];
    let position = 0;
    while (!events.some(({ type }) => type === 'trouble')) {
      const mine = ++position;
      store.admit(custodyOf(holder, mine), messageOf(mine), true);
      store.whenSynced({ onSynced: () => void confirmed.push(mine) });
      await new Promise((resolve) => setImmediate(resolve));
      expect(position).toBeLessThan(5000);
    }
    expect(confirmed.length).toBeGreaterThan(100);
    expect(confirmed.length).toBeLessThan(position);
    expect(events.map((event) => (event.type === 'trouble' ? event.text : '')).join('')).toMatch(
      /no space left on the disk/,
    );
    remount(disk, 'size=32m');
    await eventually(() => expect(confirmed).toHaveLength(position), { timeoutMs: 20_000 });
    expect(events.at(-1)?.type).toBe('recovered');
    await store.close();
    const again = await open(path);
    expect(await positions(again)).toEqual(Array.from({ length: position }, (_, index) => index + 1));
    await again.close();
  });

  it('that fills up: acks make room by themselves', async () => {
    const disk = mount('size=2m');
    const events: StoreEvent[] = [];
    const store = await open(join(disk, 'data'), (event) => events.push(event));
    store.restored();
    const holder = store.holder();
    store.define('queue', ['/', 'tasks'], { holder: holder.id });
    const custodies: Custody[] = [];
    while (!events.some(({ type }) => type === 'trouble')) {
      const custody = custodyOf(holder, custodies.length + 1);
      store.admit(custody, messageOf(custody.position), true);
      custodies.push(custody);
      store.whenSynced({ onSynced: () => undefined });
      await new Promise((resolve) => setImmediate(resolve));
      expect(custodies.length).toBeLessThan(5000);
    }
    for (const custody of custodies.slice(0, -5)) if (custody.record !== undefined) store.settle(custody);
    await eventually(() => expect(events.at(-1)?.type).toBe('recovered'), { timeoutMs: 20_000 });
    await store.synced();
    const { bavail, bsize } = statfsSync(disk);
    expect(bavail * bsize).toBeGreaterThan(512 * KIB);
    await store.close();
    const again = await open(join(disk, 'data'));
    expect(await positions(again)).toEqual(custodies.slice(-5).map((custody) => custody.position));
    await again.close();
  });

  it('that is full when it is opened gives all that is in it', async () => {
    const disk = mount('size=1m');
    const path = join(disk, 'data');
    await fill(path, 20);
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, 'theirs'), Buffer.alloc(bavail * bsize));
    expect(statfsSync(disk).bavail).toBe(0);
    const store = await open(path);
    expect(await positions(store)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    rmSync(join(disk, 'theirs'));
    await store.close();
  });
});
