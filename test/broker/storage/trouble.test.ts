/** A disk that fails or is full: whoever waits is kept waiting, nothing is lost, and it goes on when the disk does. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { RETRY_MS } from '../../../broker/storage/commits.ts';
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

  test('gives up its reserve for acks, which make room', async () => {
    const reserveBytes = 20_000;
    const { files, life, events } = await begin(new FaultyFiles({ capacityBytes: 200_000 }), { reserveBytes });
    await turns(20);
    expect(files.paths()).toContain('/data/reserve');
    const [queue] = life.queues;
    if (queue === undefined) throw new Error('no queue');
    while (events.length === 0) {
      life.publish([queue], 5000, 0, true);
      life.clock.advance(10);
      await turns(10);
    }
    expect(files.paths()).not.toContain('/data/reserve');
    while (queue.memory.length > 0) life.settle(queue, 0);
    await life.sync();
    expect(events.map(({ type }) => type)).toEqual(['trouble', 'recovered']);
    for (let round = 0; round < 30; round++) {
      life.publish([queue], 5000, 0, true);
      await life.sync();
      life.settle(queue, 0);
      life.clock.advance(RETRY_MS);
    }
    expect(files.paths()).toContain('/data/reserve');
  });
});
