import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeEach, describe, expect, test } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { BATCH_BYTES, BEHIND_BYTES, CLOSE_MS, LAZY_MS } from '../../../broker/storage/log-store.ts';
import { openStore } from '../../../broker/storage/open-store.ts';
import { LARGE_BYTES_MIN } from '../../../broker/storage/record/record-buffer.ts';
import type { StoreEvent } from '../../../broker/store.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { DATA_DIR, StoreLife, untilCrash } from './store-life.ts';
import { TestCustody } from './test-custody.ts';

const OPTIONS = { segmentBytes: 1024 * 1024 };

let files: FaultyFiles;
let life: StoreLife;

async function open(on: FaultyFiles, options: Partial<Parameters<typeof StoreLife.open>[1]> = {}): Promise<StoreLife> {
  const opened = await StoreLife.open(on, { ...OPTIONS, ...options });
  if (opened === undefined) throw new Error('no crash was planned');
  return opened;
}

/** The queue of the test. */
function queue(of = life): StoreLife['queues'][number] {
  const [first] = of.queues;
  if (first === undefined) throw new Error('no queue');
  return first;
}

function logBytes(on: FaultyFiles): number {
  return on
    .paths()
    .filter((path) => path.endsWith('.log'))
    .reduce((sum, path) => sum + on.contents(path).length, 0);
}

beforeEach(async () => {
  files = new FaultyFiles();
  life = await open(files);
  life.declare();
  await life.sync();
});

describe('when something is written', () => {
  test('at the end of the turn when somebody waits, all of the turn in one write', async () => {
    const before = files.made.length;
    const told: number[] = [];
    life.store.whenSynced({ onSynced: () => void told.push(1) });
    for (let index = 0; index < 100; index++) life.publish([queue()], 10, 0, true);
    life.store.whenSynced({ onSynced: () => void told.push(2) });
    expect(files.made).toHaveLength(before);
    expect(told).toEqual([]);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    expect(told).toEqual([1, 2]);
    expect(files.made.slice(before).filter((call) => call.includes('.log'))).toEqual([
      'write /data/log/00000001.log',
      'sync /data/log/00000001.log',
    ]);
  });

  test(`within ${LAZY_MS} ms when nobody waits`, async () => {
    const before = files.made.length;
    life.publish([queue()], 10, 0, true);
    life.clock.advance(LAZY_MS - 1);
    await nextTurn();
    expect(files.made).toHaveLength(before);
    life.clock.advance(1);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    expect(files.made.length).toBeGreaterThan(before);
    expect(queue().memory[0]?.record?.written).toBe(true);
  });

  test('without delay when there is much of it', async () => {
    life.publish([queue()], BATCH_BYTES + 1, 0, true);
    for (let turn = 0; turn < 10; turn++) await nextTurn();
    expect(queue().memory[0]?.record?.written).toBe(true);
  });

  test('not at all when it was settled before', async () => {
    const before = logBytes(files);
    for (let index = 0; index < 50; index++) life.publish([queue()], 1000, 0, true);
    while (queue().memory.length > 0) life.settle(queue(), 0);
    await life.sync();
    expect(logBytes(files)).toBe(before);
  });

  test('once, for several queues', async () => {
    life.declare();
    life.declare();
    await life.sync();
    const before = logBytes(files);
    life.publish(life.queues, 10_000, 0, true);
    await life.sync();
    expect(logBytes(files) - before).toBeLessThan(10_200);
    const next = await open(files.afterCrash());
    expect(await next.loadAll()).toHaveLength(3);
  });

  test('messages beyond any buffer, in the order in which they came', async () => {
    for (const bytes of [10, LARGE_BYTES_MIN, 10, LARGE_BYTES_MIN - 1, 3 * LARGE_BYTES_MIN, LARGE_BYTES_MIN + 1]) {
      life.publish([queue()], bytes, 0, true);
    }
    await life.sync();
    const next = await open(files.afterCrash());
    expect((await next.loadAll())?.map(({ text }) => text.length)).toEqual(
      queue().memory.map(({ text }) => text.length),
    );
  });
});

describe('whoever waits', () => {
  test('hears of it in the order of asking, never within the call, also when nothing is to be written', async () => {
    const told: number[] = [];
    for (let index = 0; index < 3; index++) life.store.whenSynced({ onSynced: () => void told.push(index) });
    expect(told).toEqual([]);
    await nextTurn();
    await nextTurn();
    expect(told).toEqual([0, 1, 2]);
  });

  test('hears of his batch when it is on disk, and of no other', async () => {
    const first = life.store.batch;
    const goOn = files.hold({ call: 'sync', path: '.log' });
    life.publish([queue()], 10, 0, true);
    const told: string[] = [];
    life.store.whenSynced({ onSynced: () => void told.push('first') });
    for (let turn = 0; turn < 5; turn++) await nextTurn();
    expect(life.store.batch).toBe(first + 1);
    life.publish([queue()], 10, 0, true);
    life.store.whenSynced({ onSynced: () => void told.push('second') });
    for (let turn = 0; turn < 50; turn++) await nextTurn();
    expect(told).toEqual([]);
    expect(queue().memory[0]?.record?.written).toBe(false);
    goOn();
    await life.sync();
    expect(told).toEqual(['first', 'second']);
  });

  test('does not wait when nothing waits to be stored', async () => {
    let done = false;
    void life.store.synced().then(() => {
      done = true;
    });
    await Promise.resolve();
    expect(done).toBe(true);
  });

  test('is told also when another one throws', async () => {
    const thrown: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.once('uncaughtException', (error) => thrown.push(error));
    const told: boolean[] = [];
    life.publish([queue()], 10, 0, true);
    life.store.whenSynced({
      onSynced() {
        throw new Error('a defect of its own');
      },
    });
    life.store.whenSynced({ onSynced: () => void told.push(true) });
    await life.sync();
    for (const listener of listeners) process.on('uncaughtException', listener);
    expect(told).toEqual([true]);
    expect(thrown).toHaveLength(1);
  });
});

describe('a disk that is slower than the publishers', () => {
  test('is told of once, and again when it has caught up', async () => {
    const events: StoreEvent[] = [];
    const slow = new FaultyFiles();
    const behind = await open(slow, { onEvent: (event) => events.push(event) });
    behind.declare();
    await behind.sync();
    const goOn = slow.hold({ call: 'sync', path: '.log' });
    for (let bytes = 0; bytes < BEHIND_BYTES * 1.5; bytes += BATCH_BYTES) {
      behind.publish([queue(behind)], BATCH_BYTES + 1, 0, true);
      await nextTurn();
      await nextTurn();
    }
    expect(events).toEqual([{ type: 'behind' }]);
    goOn();
    await behind.sync();
    expect(events).toEqual([{ type: 'behind' }, { type: 'caught-up' }]);
  });
});

describe('after a restart', () => {
  test('what was only kept out of memory is gone, and what was delivered has come back', async () => {
    for (let index = 0; index < 6; index++) life.publish([queue()], 10, 0, index % 2 === 0);
    const { holder } = queue();
    holder.deliveredThrough = 3;
    life.store.delivered(holder);
    await life.sync();
    const next = await open(files.afterKill());
    const seen = await next.loadAll();
    expect(seen?.map(({ position, returnCount }) => [position, returnCount])).toEqual([
      [1, 1],
      [3, 1],
      [5, 0],
    ]);
    // Also after a second, orderly one.
    await next.close();
    const last = await open(next.files.afterKill());
    expect((await last.loadAll())?.map(({ returnCount }) => returnCount)).toEqual([1, 1, 0]);
  });

  test('nothing has come back after an orderly end', async () => {
    life.publish([queue()], 10, 0, true);
    const { holder } = queue();
    holder.deliveredThrough = 1;
    life.store.delivered(holder);
    await life.close();
    const next = await open(files.afterCrash());
    expect((await next.loadAll())?.map(({ returnCount }) => returnCount)).toEqual([0]);
  });

  test('messages whose queue is not defined any more are dropped, with a word', async () => {
    life.declare();
    life.publish(life.queues, 10, 0, true);
    life.store.undefine('queue', ['q1']);
    await life.sync();
    const events: StoreEvent[] = [];
    const next = await open(files.afterCrash(), { onEvent: (event) => events.push(event) });
    expect(await next.loadAll()).toHaveLength(1);
    expect(events).toEqual([{ type: 'notice', text: expect.stringContaining('1 messages of 1 queues') }]);
    await next.sync();
    const later: StoreEvent[] = [];
    await open(next.files.afterCrash(), { onEvent: (event) => later.push(event) });
    expect(later).toEqual([]);
  });

  test('no holder gets a number that another one had', async () => {
    const ids = new Set<number>();
    let on = files.afterKill();
    for (let round = 0; round < 4; round++) {
      const each = await open(on);
      each.declare();
      ids.add(each.store.holder().id);
      await each.sync();
      for (const { holder } of each.queues) ids.add(holder.id);
      on = on.afterCrash(round + 1);
    }
    const found = (await open(on)).queues.map(({ holder }) => holder.id);
    expect(new Set(found).size).toBe(5);
  });

  test('definitions come in the order of their making; one that was replaced keeps its place', async () => {
    const { store } = life;
    for (const name of ['b', 'a', 'c']) store.define('exchange', [name], { name });
    store.define('exchange', ['a'], { name: 'a', again: true });
    store.undefine('exchange', ['b']);
    store.define('exchange', ['b'], { name: 'b' });
    store.undefine('exchange', ['unknown']);
    await life.sync();
    const next = await open(files.afterCrash());
    expect(next.store.definitions('exchange').map(({ key, value }) => [key, value])).toEqual([
      [['a'], { name: 'a', again: true }],
      [['c'], { name: 'c' }],
      [['b'], { name: 'b' }],
    ]);
  });

  test('pages are of bounded size, and their order is that of positions', async () => {
    for (let index = 0; index < 5000; index++) life.publish([queue()], 10, 0, true);
    await life.sync();
    const next = await open(files.afterCrash());
    const sizes = queue(next).pages.map(({ page }) => page.count);
    expect(sizes.length).toBeGreaterThan(2);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(2048);
    expect(sizes.reduce((a, b) => a + b)).toBe(5000);
    expect((await next.loadAll())?.map(({ position }) => position)).toEqual(
      Array.from({ length: 5000 }, (_, index) => index + 1),
    );
  });
});

describe('space', () => {
  test('is reclaimed although one old message stays, and the message is still there', async () => {
    const small = await open(new FaultyFiles(), { segmentBytes: 20_000 });
    small.declare();
    small.publish([queue(small)], 500, 0, true);
    await small.sync();
    const [pinned] = queue(small).memory;
    for (let round = 0; round < 300; round++) {
      for (let index = 0; index < 10; index++) small.publish([queue(small)], 200, 0, true);
      await small.sync();
      while (queue(small).memory.length > 1) small.settle(queue(small), 1);
      small.clock.advance(200);
      await small.sync();
    }
    for (let round = 0; round < 20; round++) {
      small.clock.advance(200);
      await small.sync();
    }
    expect(logBytes(small.files)).toBeLessThan(200_000);
    const paged = small.store.page(queue(small).holder, [pinned as TestCustody], 500);
    const restored = await untilCrash(small.files, small.clock, small.store.load(paged));
    expect(restored?.map(({ position }) => position)).toEqual([1]);
    const next = await open(small.files.afterCrash());
    expect((await next.loadAll())?.map(({ position }) => position)).toEqual([1]);
  });
});

describe('a page', () => {
  async function paged(count: number): Promise<void> {
    for (let index = 0; index < count; index++) life.publish([queue()], 50, 0, true);
    await life.sync();
    life.pageOut(queue(), 0, 0);
  }

  test('that is settled before it is loaded is empty, and its messages are gone', async () => {
    await paged(10);
    const [entry] = queue().pages;
    if (entry === undefined) throw new Error('no page');
    life.store.settlePage(entry.page);
    life.store.settlePage(entry.page);
    expect(await untilCrash(files, life.clock, life.store.load(entry.page))).toEqual([]);
    await life.sync();
    expect(await (await open(files.afterCrash())).loadAll()).toEqual([]);
  });

  test('that is settled while it is loaded is empty too', async () => {
    await paged(10);
    const [entry] = queue().pages;
    if (entry === undefined) throw new Error('no page');
    const loading = life.store.load(entry.page);
    life.store.settlePage(entry.page);
    expect(await untilCrash(files, life.clock, loading)).toEqual([]);
  });

  test('that has been loaded is not settled as a page, and loaded again without what has ended since', async () => {
    await paged(10);
    const [entry] = queue().pages;
    if (entry === undefined) throw new Error('no page');
    await life.load(queue(), 0);
    life.store.settlePage(entry.page);
    expect(queue().memory).toHaveLength(10);
    life.settle(queue(), 3);
    const again = await untilCrash(files, life.clock, life.store.load(entry.page));
    expect(again?.map(({ position }) => position)).toEqual([1, 2, 3, 5, 6, 7, 8, 9, 10]);
  });

  test('is read again when the disk fails for a time', async () => {
    await paged(10);
    files.fail({ call: 'read', path: '.log', code: 'EIO', times: 3 });
    expect(await life.load(queue(), 0)).toBe(true);
    expect(queue().memory).toHaveLength(10);
  });

  test('is loaded without what is damaged, which is said once and kept', async () => {
    const events: StoreEvent[] = [];
    const on = new FaultyFiles();
    const each = await open(on, { onEvent: (event) => events.push(event) });
    each.declare();
    await each.sync();
    for (let record = 0; record < 3; record++) {
      each.publish([queue(each)], 50, 0, true);
      each.endTurn();
      await each.sync();
    }
    const custodies = queue(each).memory;
    const octets = Buffer.from(on.contents('/data/log/00000001.log'));
    on.damage('/data/log/00000001.log', octets.indexOf(custodies[1]?.text ?? '?') + 20, Uint8Array.of(1));
    const page = each.store.page(queue(each).holder, custodies, 150);
    const restored = await untilCrash(on, each.clock, each.store.load(page));
    expect(restored?.map(({ position }) => position)).toEqual([1, 3]);
    expect(await untilCrash(on, each.clock, each.store.load(page))).toHaveLength(2);
    expect(events).toEqual([{ type: 'damage', text: expect.stringMatching(/00000001\.log at octet \d+/) }]);
  });
});

describe('the end', () => {
  test('stores what is left, lets go of the folder, and comes once', async () => {
    life.publish([queue()], 10, 0, true);
    const closing = life.store.close();
    expect(life.store.close()).toBe(closing);
    await untilCrash(files, life.clock, closing);
    // The same file system: somebody else may have the folder now.
    const next = await open(files);
    expect(await next.loadAll()).toHaveLength(1);
  });

  test('does not wait for a disk that hangs', async () => {
    files.hold({ call: 'sync', path: '.log' });
    life.publish([queue()], 10, 0, true);
    const closing = life.store.close();
    await expect(untilCrash(files, life.clock, closing)).rejects.toThrow(`within ${CLOSE_MS / 1000} s`);
  });

  test('nothing is written when nothing was told', async () => {
    await life.close();
    const before = files.paths().map((path) => [path, Buffer.from(files.contents(path)).toString('hex')]);
    const next = await openStore({ dataDir: DATA_DIR, version: '0.1.0', files, reserveBytes: 0 });
    next.restore(1);
    next.restored();
    await next.close();
    expect(files.paths().map((path) => [path, Buffer.from(files.contents(path)).toString('hex')])).toEqual(before);
  });
});

test('a message without octets of properties is stored with them', async () => {
  const { store } = life;
  const { holder } = queue();
  const custody = new TestCustody(holder, { position: 1, priority: 0, expiresAtMs: 5 }, '', true);
  const headers = { a: 1, b: 'x', c: [1n, true, null], d: new Date(5000) };
  store.admit(custody, createMessage({ body: 'b', properties: { headers, expiration: '7', timestamp: 9 } }), true);
  await life.sync();
  const page = store.page(holder, [custody], 1);
  const [restored] = (await untilCrash(files, life.clock, store.load(page))) ?? [];
  expect(restored?.message.properties).toEqual({ headers, expiration: '7', timestamp: 9 });
  expect(restored?.expiresAtMs).toBe(5);
  expect(restored?.message.exchange).toBe('');
});

test('a turn that tells more than one record may hold is stored in several, in order, and lost in no part', async () => {
  const files = new FaultyFiles();
  const life = (await StoreLife.open(files, {
    segmentBytes: 1_000_000,
    batchBytes: 1000,
    turnBytesMax: 3000,
  })) as StoreLife;
  life.declare();
  await life.sync();
  const path = '/data/log/00000001.log';
  const records = (): number => Buffer.from(files.contents(path)).toString('latin1').split('WRN1').length - 1;
  const before = records();
  // The limit is above: one record.
  life.publish(life.queues, 500, 0, true);
  life.publish(life.queues, 500, 0, true);
  await life.sync();
  expect(records()).toBe(before + 1);
  for (let index = 0; index < 10; index++) life.publish(life.queues, 1000, 0, true);
  await life.sync();
  // The third of each record is beyond the limit.
  expect(records()).toBeGreaterThanOrEqual(before + 4);
  const next = (await StoreLife.open(files.afterCrash(), { segmentBytes: 1_000_000 })) as StoreLife;
  const positions = ((await next.loadAll()) ?? []).map(({ position }) => position);
  expect(positions).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});
