/** A disk that fails or is full: whoever waits is kept waiting, nothing is lost, and it goes on when the disk does. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { RETRY_MS } from '../../../broker/storage/log/commits.ts';
import type { StoreEvent } from '../../../broker/store.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { StoreLife } from './store-life.ts';

interface Troubled {
  readonly files: FaultyFiles;
  readonly life: StoreLife;
  readonly events: StoreEvent[];
}

async function begin(files: FaultyFiles, options: { readonly reserveBytes?: number } = {}): Promise<Troubled> {
  const events: StoreEvent[] = [];
  const onEvent = (event: StoreEvent): void => void events.push(event);
  const life = await StoreLife.open(files, { segmentBytes: 100_000, onEvent, ...options });
  if (life === undefined) throw new Error('no crash was planned');
  life.declare();
  await life.sync();
  return { files, life, events };
}

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await nextTurn();
}

async function texts(files: FaultyFiles): Promise<(string | undefined)[]> {
  const next = await StoreLife.open(files, { segmentBytes: 100_000 });
  return ((await next?.loadAll()) ?? []).map(({ position }) => String(position));
}

const FAILURES = [
  { call: 'write', code: 'EIO' },
  { call: 'write', code: 'ENOSPC' },
  { call: 'sync', code: 'EIO' },
  { call: 'sync', code: 'ENOSPC' },
] as const;

describe.each(FAILURES)('a $call that fails with $code', ({ call, code }) => {
  test('keeps whoever waits waiting until it works, and is told of once', async () => {
    const { files, life, events } = await begin(new FaultyFiles());
    const mend = files.fail({ call, code, path: '/log/', times: Number.POSITIVE_INFINITY });
    life.publish(life.queues, 100, 0, true);
    let isStored = false;
    void life.store.synced().then(() => {
      isStored = true;
    });
    for (let attempt = 0; attempt < 3; attempt++) {
      await turns(20);
      expect(isStored).toBe(false);
      // What happens meanwhile waits as well.
      life.publish(life.queues, 100, 0, true);
      life.clock.advance(RETRY_MS);
    }
    await turns(20);
    expect(events.map(({ type }) => type)).toEqual(['trouble']);
    expect(events[0]).toEqual({ type: 'trouble', text: expect.stringContaining(code) });
    mend();
    life.clock.advance(RETRY_MS);
    await life.sync();
    expect(isStored).toBe(true);
    expect(events.map(({ type }) => type)).toEqual(['trouble', 'recovered']);
    expect(await texts(files.afterCrash())).toEqual(['1', '2', '3', '4']);
  });

  test('loses nothing of before when the power fails meanwhile', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { files, life } = await begin(new FaultyFiles({ seed }));
      life.publish(life.queues, 100, 0, true);
      await life.sync();
      files.fail({ call, code, path: '/log/', times: Number.POSITIVE_INFINITY });
      life.publish(life.queues, 100, 0, true);
      await turns(5 + seed);
      life.clock.advance(RETRY_MS);
      await turns(seed);
      expect((await texts(files.afterCrash(seed)))[0]).toBe('1');
    }
  });

  test('leaves what is on disk readable', async () => {
    const { files, life } = await begin(new FaultyFiles());
    for (let index = 0; index < 5; index++) life.publish(life.queues, 100, 0, true);
    await life.sync();
    files.fail({ call, code, path: '/log/', times: Number.POSITIVE_INFINITY });
    life.publish(life.queues, 100, 0, true);
    await turns(20);
    const [queue] = life.queues;
    if (queue === undefined) throw new Error('no queue');
    life.pageOut(queue, 0, 1);
    expect(queue.pages).toHaveLength(1);
    expect(await life.load(queue, 0)).toBe(true);
  });
});

test('after a failed sync nothing is written to that file again, and the new one says how far it is good', async () => {
  const { files, life } = await begin(new FaultyFiles());
  files.fail({ call: 'sync', code: 'EIO', path: '.log' });
  const before = files.made.length;
  life.publish(life.queues, 100, 0, true);
  await life.sync();
  const made = files.made.slice(before).filter((call) => /^(write|sync) .*\.log$/.test(call));
  expect(made).toEqual([
    'write /data/log/00000001.log',
    'sync /data/log/00000001.log',
    'write /data/log/00000002.log',
    'sync /data/log/00000002.log',
  ]);
  for (let seed = 1; seed < 20; seed++) expect(await texts(files.afterCrash(seed))).toEqual(['1']);
});

test('a new segment that cannot be made is tried again under another name, and leaves no trace', async () => {
  const { files, life } = await begin(new FaultyFiles());
  // The current segment has ended.
  life.publish(life.queues, 100_000, 0, true);
  await life.sync();
  files.fail({ call: 'open', code: 'EMFILE', path: '.log', times: 2 });
  files.fail({ call: 'syncFolder', code: 'EIO', times: 2 });
  life.publish(life.queues, 100, 0, true);
  await life.sync();
  expect(files.paths().filter((path) => path.endsWith('.log'))).toHaveLength(2);
  expect(await texts(files.afterCrash())).toEqual(['1', '2']);
});

describe('a full disk', () => {
  test('is told of; when there is room again everything is stored', async () => {
    const { files, life, events } = await begin(new FaultyFiles({ capacityBytes: 50_000 }));
    for (let index = 0; index < 10; index++) {
      life.publish(life.queues, 9000, 0, true);
      life.clock.advance(10);
      await turns(10);
    }
    expect(events.map(({ type }) => type)).toEqual(['trouble']);
    expect(events[0]).toEqual({ type: 'trouble', text: expect.stringContaining('no space left') });
    files.capacityBytes = 1_000_000;
    life.clock.advance(RETRY_MS);
    await life.sync();
    expect(await texts(files.afterCrash())).toHaveLength(10);
  });

  /** Publishes until the disk is full. */
  async function fill({ life, events }: Troubled, queues: StoreLife['queues']): Promise<void> {
    while (events.length === 0) {
      life.publish(queues, 5000, 0, true);
      life.clock.advance(10);
      await turns(10);
    }
  }

  test('keeps its reserve from what is published, and gives it up for acks, which make room', async () => {
    const reserveBytes = 20_000;
    const full = await begin(new FaultyFiles({ capacityBytes: 300_000 }), { reserveBytes });
    const { files, life, events } = full;
    await turns(20);
    expect(files.paths()).toContain('/data/reserve');
    life.declare();
    const [kept, drained] = life.queues;
    if (kept === undefined || drained === undefined) throw new Error('no queue');
    await fill(full, [drained]);
    for (let attempt = 0; attempt < 3; attempt++) {
      life.clock.advance(RETRY_MS);
      await turns(20);
    }
    expect(files.paths()).toContain('/data/reserve');
    // Somebody else takes what is left.
    files.capacityBytes = 0;
    for (let count = drained.memory.length; count > 0; count--) life.settle(drained, 0);
    life.clock.advance(RETRY_MS);
    await turns(20);
    expect(files.paths()).not.toContain('/data/reserve');
    expect(events.map(({ type }) => type)).toEqual(['trouble']);
    files.capacityBytes = 300_000;
    await life.sync();
    expect(events.map(({ type }) => type)).toEqual(['trouble', 'recovered']);
    for (let round = 0; round < 30; round++) {
      life.publish([kept], 5000, 0, true);
      await life.sync();
      life.settle(kept, 0);
      life.clock.advance(RETRY_MS);
    }
    expect(files.paths()).toContain('/data/reserve');
  });

  test.each([
    { reserveBytes: 0, left: 0 },
    { reserveBytes: 20_000, left: 1 },
  ])('drained but for $left mends itself, with a reserve of $reserveBytes', async ({ reserveBytes, left }) => {
    const full = await begin(new FaultyFiles({ capacityBytes: 500_000 }), { reserveBytes });
    const { files, life, events } = full;
    const [queue] = life.queues;
    if (queue === undefined) throw new Error('no queue');
    await fill(full, life.queues);
    for (let round = 0; round < 20; round++) life.publish(life.queues, 5000, 0, true);
    await turns(20);
    const last = queue.lastPosition;
    // What is left came when nothing could be written any more.
    while (queue.memory.length > left) life.settle(queue, 0);
    life.deliver(queue);
    await life.sync();
    await turns(20);
    expect(events.map(({ type }) => type)).toEqual(['trouble', 'recovered']);
    const used = files
      .paths()
      .filter((path) => path.endsWith('.log'))
      .map((path) => files.contents(path).length);
    expect(used.reduce((a, b) => a + b)).toBeLessThan(200_000);
    expect(await texts(files.afterCrash())).toEqual([String(last)].slice(1 - left));
    // What comes next is stored as ever.
    for (let round = 0; round < 40; round++) {
      life.publish(life.queues, 5000, 0, true);
      await life.sync();
    }
    expect(await texts(files.afterCrash())).toHaveLength(40 + left);
  });

  test('writes what was published and changed meanwhile as it is when there is room, in order', async () => {
    const full = await begin(new FaultyFiles({ capacityBytes: 100_000 }));
    const { files, life } = full;
    life.declare();
    const [first, second] = life.queues;
    if (first === undefined || second === undefined) throw new Error('no queue');
    await fill(full, life.queues);
    for (let round = 0; round < 6; round++) {
      life.publish(life.queues, 40_000 + round, 0, true);
      life.settle(first, round * 7);
      life.amend(second, round * 5, round === 3);
      life.deliver(second);
      life.declare();
      life.endTurn();
      await turns(3);
      life.clock.advance(RETRY_MS);
      await turns(20);
    }
    files.capacityBytes = 10_000_000;
    await life.sync();
    const next = (await StoreLife.open(files.afterCrash(), { segmentBytes: 100_000 })) as StoreLife;
    life.check(next, (await next.loadAll()) ?? []);
  });

  test('does not keep the next process from working: what was not finished goes first', async () => {
    const full = await begin(new FaultyFiles({ capacityBytes: 50_000 }));
    const { files, life } = full;
    await fill(full, life.queues);
    const before = files.paths().filter((path) => path.endsWith('.log'));
    expect(before).toHaveLength(1);
    const [path = ''] = before;
    const after = files.afterKill();
    // A commit was cut short by the full disk.
    const intact = Buffer.from(after.contents(path));
    const tail = Buffer.from(intact.subarray(0, 2000));
    tail.fill(1, 60);
    after.plant(path, Buffer.concat([intact, tail]));
    after.capacityBytes = after.paths().reduce((sum, each) => sum + after.contents(each).length, 0);
    const next = (await StoreLife.open(after, { segmentBytes: 100_000 })) as StoreLife;
    const [queue] = next.queues;
    if (queue === undefined) throw new Error('no queue');
    while (queue.pages.length > 0) next.settlePage(queue, 0);
    await next.sync();
    expect(await texts(after.afterCrash())).toEqual([]);
    expect(await next.close()).toBe(true);
  });
});
