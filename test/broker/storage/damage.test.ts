import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { beforeAll, describe, expect, test } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { writeHeader } from '../../../broker/storage/record/record.ts';
import { StoreError } from '../../../broker/storage/store-error.ts';
import type { StoreEvent } from '../../../broker/store.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { type Seen, StoreLife } from './store-life.ts';
import { TestCustody } from './test-custody.ts';

const OPTIONS = { segmentBytes: 300 };

/** A log of a few segments, with messages that wait in each of them. */
async function makeLog(end: 'close' | 'kill'): Promise<FaultyFiles> {
  const files = new FaultyFiles();
  const life = (await StoreLife.open(files, OPTIONS)) as StoreLife;
  life.declare();
  life.declare();
  await life.sync();
  for (let round = 0; round < 5; round++) {
    life.publish(life.queues, 5 + round * 20, round % 2, true);
    life.publish(life.queues.slice(0, 1), 40, 0, round !== 2);
    await life.sync();
    const [queue] = life.queues;
    if (queue === undefined) continue;
    life.settle(queue, round);
    life.amend(queue, 0, round === 3);
    life.deliver(queue);
    await life.sync();
  }
  if (end === 'close') await life.close();
  await nextTurn();
  return files.afterKill();
}

interface Look {
  readonly queues: readonly string[];
  readonly seen: readonly Seen[];
}

/** What a store finds on the disk. Throws what it throws. */
async function look(
  files: FaultyFiles,
  recover: 'refuse' | 'salvage' = 'refuse',
  events: StoreEvent[] = [],
): Promise<Look> {
  const life = await StoreLife.open(files, { ...OPTIONS, recover, onEvent: (event) => events.push(event) });
  const seen = await life?.loadAll();
  if (life === undefined || seen === undefined) throw new Error('no crash was planned');
  await life.close();
  return {
    queues: life.queues.map(({ name }) => name),
    seen: [...seen].sort((a, b) => a.holder - b.holder || a.position - b.position),
  };
}

/** The state as it was, or the damage that keeps the store from opening; anything else fails. */
async function judge(files: FaultyFiles, expected: Look, path: string): Promise<string | undefined> {
  const before = new Map(files.paths().map((each) => [each, Buffer.from(files.contents(each)).toString('hex')]));
  try {
    expect(await look(files)).toEqual(expected);
    return undefined;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    expect(error.message).toContain(path);
    expect(error.message).toContain('--recover salvage');
    const after = new Map(files.paths().map((each) => [each, Buffer.from(files.contents(each)).toString('hex')]));
    expect(after).toEqual(before);
    return error.message;
  }
}

describe.each(['close', 'kill'] as const)('a log after a %s', (end) => {
  let log: FaultyFiles;
  let expected: Look;
  let paths: readonly string[];

  beforeAll(async () => {
    log = await makeLog(end);
    expected = await look(log.afterKill());
    paths = log.paths().filter((path) => path.endsWith('.log'));
  });

  test('has several segments, and messages in them', () => {
    expect(paths.length).toBeGreaterThan(2);
    expect(expected.seen.length).toBeGreaterThan(4);
    expect(expected.queues).toEqual(['q1', 'q2']);
  });

  test('with any octet changed: the state is what it was, or the place is reported and nothing touched', async () => {
    let reported = 0;
    for (const path of [...paths, '/data/mark']) {
      for (const [at, octet] of log.contents(path).entries()) {
        const files = log.afterKill();
        files.damage(path, at, Uint8Array.of(octet ^ (1 << (at % 8))));
        const message = await judge(files, expected, path);
        if (message === undefined) continue;
        reported++;
        expect(message).toMatch(/octet \d+/);
      }
    }
    expect(reported).toBeGreaterThan(300);
  }, 60_000);

  test('cut off at any length: the state is what it was, or the damage is reported', async () => {
    for (const path of paths) {
      let reported = 0;
      const whole = log.contents(path);
      for (let bytes = 0; bytes < whole.length; bytes++) {
        const files = log.afterKill();
        files.plant(path, whole.subarray(0, bytes));
        if ((await judge(files, expected, path)) !== undefined) reported++;
      }
      expect(reported, path).toBeGreaterThan(0);
    }
  }, 60_000);

  test('with a segment missing: reported, or it held nothing', async () => {
    for (const path of paths) {
      const files = log.afterKill();
      await files.remove(path);
      expect(await judge(files, expected, path), path).toContain('missing');
    }
  });

  test('with all segments missing, or empty: reported', async () => {
    const emptied = log.afterKill();
    const missing = log.afterKill();
    for (const path of paths) {
      await missing.remove(path);
      emptied.plant(path, '');
    }
    await expect(look(missing)).rejects.toThrow('the file is missing');
    await expect(look(emptied)).rejects.toThrow(/ends at octet 0/);
  });

  test('with the newest segment appended to itself: reported at the octet, and salvaged without a difference', async () => {
    const newest = paths.toSorted().at(-1) ?? '';
    const files = log.afterKill();
    const whole = log.contents(newest);
    files.plant(newest, Buffer.concat([whole, whole]));
    const message = await judge(files, expected, newest);
    expect(message).toMatch(/octet \d+.*written before/);
    // After damage anything may have been delivered before.
    const kept = expected.seen.map((message) => ({ ...message, returnCount: expect.any(Number) }));
    expect((await look(files, 'salvage')).seen).toEqual(kept);
  });

  test('salvaged: all that is intact is taken, what is lost is said, and the damaged file is kept', async () => {
    let lost = 0;
    for (const path of paths) {
      for (let at = 3; at < log.contents(path).length; at += 7) {
        const files = log.afterKill();
        const octet = log.contents(path)[at] as number;
        files.damage(path, at, Uint8Array.of(octet ^ 16));
        const damaged = files.contents(path);
        const message = await judge(files.afterKill(), expected, path);
        if (message === undefined) continue;
        const events: StoreEvent[] = [];
        const { seen } = await look(files, 'salvage', events);
        expect(events.filter(({ type }) => type === 'damage').length).toBeGreaterThan(0);
        const copy = files.paths().find((each) => /^\/data\/damaged-[^/]+\/\d+\.log$/.test(each));
        expect(files.contents(copy ?? '')).toEqual(damaged);
        for (const each of seen) expect(each.text).toMatch(/^\d+ q\d/);
        lost += expected.seen.filter(
          (each) => !seen.some(({ holder, position }) => holder === each.holder && position === each.position),
        ).length;
        // From now on nothing is wrong any more.
        expect((await look(files)).seen).toEqual(seen);
      }
    }
    expect(lost).toBeGreaterThan(0);
  }, 60_000);
});

describe('a mark that is', () => {
  const newest = '/data/log/00000001.log';

  /** A log whose last record holds a confirmed message. */
  async function marked(): Promise<FaultyFiles> {
    const files = new FaultyFiles();
    const life = (await StoreLife.open(files, OPTIONS)) as StoreLife;
    life.declare();
    await life.sync();
    life.publish(life.queues, 10, 0, true);
    await life.sync();
    await nextTurn();
    return files.afterKill();
  }

  test.each([
    ['missing', (files: FaultyFiles) => files.remove('/data/mark')],
    ['damaged', async (files: FaultyFiles) => files.plant('/data/mark', 'no mark'.repeat(20))],
    ['damaged', async (files: FaultyFiles) => files.plant('/data/mark', '')],
  ])('%s is told of, and damage at the end of the log is no unfinished commit then', async (what, spoil) => {
    const files = await marked();
    await spoil(files);
    const events: StoreEvent[] = [];
    expect((await look(files.afterKill(), 'refuse', events)).seen).toHaveLength(1);
    expect(events).toEqual([{ type: 'notice', text: expect.stringContaining(`the file mark, which says how far`) }]);
    expect(events[0]).toEqual({ type: 'notice', text: expect.stringContaining(`is ${what};`) });
    const octets = files.contents(newest);
    files.plant(newest, octets.subarray(0, octets.length - 1));
    await expect(look(files)).rejects.toThrow(/octet \d+: .*it held 1 message/);
    expect((await look(files, 'salvage')).queues).toEqual(['q1']);
    // It is made anew.
    const later: StoreEvent[] = [];
    expect((await look(files, 'refuse', later)).seen).toEqual([]);
    expect(later).toEqual([]);
  });

  test('damaged in part is told of, and not called harmless', async () => {
    const files = await marked();
    const octets = files.contents(newest);
    files.damage('/data/mark', 10, Uint8Array.of(77));
    files.plant(newest, Buffer.concat([octets, Buffer.from('torn')]));
    const events: StoreEvent[] = [];
    expect((await look(files, 'refuse', events)).seen).toHaveLength(1);
    expect(events.map(({ type }) => type)).toEqual(['notice', 'notice']);
    expect(events[1]).toEqual({ type: 'notice', text: expect.stringContaining('as far as is known') });
  });

  test('fine, with a newest file that nobody of ours has begun: refused, and kept aside when salvaged', async () => {
    const files = await marked();
    const foreign = '/data/log/00000002.log';
    files.plant(foreign, 'Z'.repeat(100_000));
    await expect(look(files)).rejects.toThrow(`${foreign}, octet 0: nothing in it is what Warren writes`);
    expect((await look(files, 'salvage')).seen).toHaveLength(1);
    expect(files.paths().filter((path) => /damaged-.*00000002\.log$/.test(path))).toHaveLength(1);
  });
});

test('a message that looks like a record is never taken for one', async () => {
  const files = new FaultyFiles();
  const life = (await StoreLife.open(files, OPTIONS)) as StoreLife;
  life.declare();
  await life.sync();
  const [queue] = life.queues;
  if (queue === undefined) throw new Error('no queue');
  const before = files.contents('/data/log/00000001.log').length;
  // All that a publisher can know or guess.
  const payload = Buffer.from([3, 4, ...Buffer.from('user'), 1, 5, ...Buffer.from('mallo'), 2, ...Buffer.from('{}')]);
  const forged = Buffer.alloc(56 + payload.length);
  forged.set(payload, 56);
  const facts = { payloadBytes: payload.length, payloadCrc: crc32(payload), stateBytes: payload.length };
  const counts = { firstSlot: 0, slotCount: 0, settledCount: 0, definitionCount: 1 };
  writeHeader(forged, { segment: 1, sequence: 3, seal: 0n, ...facts, ...counts });
  const position = { position: 1, priority: 0, expiresAtMs: Number.POSITIVE_INFINITY };
  life.store.admit(new TestCustody(queue.holder, position, '', true), createMessage({ body: forged }), true);
  await life.sync();

  // The record with the message is damaged, and is the last one as far as anybody knows.
  const damaged = files.afterKill();
  damaged.damage('/data/log/00000001.log', before, Uint8Array.of(0));
  damaged.plant('/data/mark', damaged.contents('/data/mark').fill(0, 0, 80));
  const events: StoreEvent[] = [];
  expect(await look(damaged, 'refuse', events)).toEqual({ queues: ['q1'], seen: [] });
  expect(events).toEqual([{ type: 'notice', text: expect.stringContaining('not finished') }]);
});

test.each([
  ['its header', 0],
  ['its payload', 5_000_000],
])('a record that is larger than what is read at a time, with %s damaged, costs no other one', async (_, at) => {
  const files = new FaultyFiles();
  const life = (await StoreLife.open(files, { segmentBytes: 2 ** 30 })) as StoreLife;
  life.declare();
  for (const bytes of [10, 9_000_000, 20, 5_000_000, 30]) {
    life.publish(life.queues, bytes, 0, true);
    await life.sync();
  }
  const path = '/data/log/00000001.log';
  const octets = Buffer.from(files.contents(path));
  const starts: number[] = [];
  for (let start = octets.indexOf('WRN1'); start >= 0; start = octets.indexOf('WRN1', start + 1)) starts.push(start);
  const damaged = files.afterKill();
  damaged.damage(path, (starts[1] as number) + at, Uint8Array.of(octets[(starts[1] as number) + at] === 1 ? 2 : 1));
  await expect(look(damaged)).rejects.toThrow(`octet ${starts[1]}: `);
  const { seen } = await look(damaged, 'salvage');
  expect(seen.map(({ position, text }) => [position, text.length])).toEqual([
    [1, 10],
    [3, 20],
    [4, 5_000_000],
    [5, 30],
  ]);
});
