/**
 * Definitions are in the log twice (broker/storage/log/state-copy.ts): whatever happens to one place, or to one file, a
 * salvage has all of them, and every message whose own record is intact.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { HEADER_BYTES } from '../../../broker/storage/record/record.ts';
import type { StoreEvent } from '../../../broker/store.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { DATA_DIR, type LifeOptions, type Seen, StoreLife } from './store-life.ts';

const MARK = `${DATA_DIR}/mark`;

/** Octets of which one is tried, with one of its bits; `EVERY_BIT=1` in the environment: all of them, which takes minutes. */
const STRIDE = process.env.EVERY_BIT === undefined ? 5 : 1;

/** What a folder holds. */
interface Contents {
  readonly queues: readonly unknown[];
  readonly seen: readonly Seen[];
}

async function contentsOf(files: FaultyFiles, options: LifeOptions, events: StoreEvent[] = []): Promise<Contents> {
  const life = await StoreLife.open(files, { ...options, onEvent: (event) => events.push(event) });
  const seen = await life?.loadAll();
  if (life === undefined || seen === undefined) throw new Error('no crash was planned');
  const queues = life.store.definitions('queue').map(({ key, value }) => [...key, value]);
  await life.close();
  return { queues, seen: [...seen].sort((a, b) => a.holder - b.holder || a.position - b.position) };
}

/** A log in which definitions are made and ended between messages, each with a commit of its own. */
async function makeLog(segmentBytes: number, end: 'close' | 'kill'): Promise<FaultyFiles> {
  const files = new FaultyFiles();
  const life = (await StoreLife.open(files, { segmentBytes })) as StoreLife;
  const step = async (act: () => void): Promise<void> => {
    act();
    life.endTurn();
    await life.sync();
  };
  await step(() => life.declare());
  await step(() => life.publish(life.queues, 30, 0, true));
  await step(() => life.declare());
  await step(() => life.publish(life.queues, 31, 1, true));
  // Several things in one commit.
  await step(() => {
    life.declare();
    life.publish(life.queues, 33, 0, true);
    life.publish(life.queues.slice(1, 2), 34, 0, true);
  });
  await step(() => life.settle(life.queues[0] as StoreLife['queues'][0], 0));
  await step(() => life.delete(life.queues[1] as StoreLife['queues'][0]));
  await step(() => life.publish(life.queues, 35, 0, true));
  await step(() => life.declare());
  await step(() => life.settle(life.queues[0] as StoreLife['queues'][0], 0));
  if (end === 'close') await life.close();
  await nextTurn();
  return files.afterKill();
}

/** Where the records of a file begin, and where the last one ends. */
function recordsOf(octets: Uint8Array): number[] {
  const view = Buffer.from(octets);
  const starts = [0];
  for (let at = 0; at < view.length; starts.push(at)) at += HEADER_BYTES + view.readUInt32LE(at + 16);
  return starts;
}

/** The record of `file` that the octet is in. */
function recordAt(files: FaultyFiles, file: string, at: number): readonly [from: number, to: number] {
  const starts = recordsOf(files.contents(file));
  const index = starts.findLastIndex((start) => start <= at);
  return [starts[index] as number, starts[index + 1] as number];
}

describe.each([
  ['one segment', 2 ** 30, 'close'],
  ['one segment', 2 ** 30, 'kill'],
  ['several segments', 250, 'close'],
  ['several segments', 250, 'kill'],
] as const)('a log of %s', (_, segmentBytes, end) => {
  let log: FaultyFiles;
  let whole: Contents;
  let paths: readonly string[];

  beforeAll(async () => {
    log = await makeLog(segmentBytes, end);
    whole = await contentsOf(log.afterKill(), { segmentBytes });
    paths = log.paths().filter((path) => /\.(log|state)$/.test(path));
  });

  /** Holds what a salvage has found to what must be there: everything but messages with octets in `[from, to)` of `path`. */
  function check(found: Contents, path: string, from: number, to: number): void {
    expect(found.queues).toEqual(whole.queues);
    const gone = path.endsWith('.log') ? Buffer.from(log.contents(path).subarray(from, to)).toString('latin1') : '';
    for (const each of whole.seen) {
      if (gone.includes(each.text.trimEnd())) continue;
      const { returnCount: _returned, ...expected } = each;
      expect(found.seen).toContainEqual(expect.objectContaining(expected));
    }
  }

  test('is one with a copy of the newest, and holds messages', () => {
    expect(paths.filter((path) => path.endsWith('.state'))).toHaveLength(1);
    expect(paths.at(-1)).toMatch(/\.state$/);
    if (segmentBytes > 250) expect(paths).toHaveLength(2);
    else expect(paths.length).toBeGreaterThan(2);
    expect(whole.queues.map((queue) => (queue as string[])[0])).toEqual(['q1', 'q3', 'q4']);
    expect(whole.seen.length).toBeGreaterThan(2);
  });

  test('with any bit flipped: every definition is there, and every message whose record is intact', async () => {
    for (const path of [...paths, MARK]) {
      const octets = log.contents(path);
      for (let at = end === 'kill' ? 0 : 2; at < octets.length; at += STRIDE) {
        const [from, to] = path === MARK ? [0, 0] : recordAt(log, path, at);
        for (const bit of STRIDE > 1 ? [(at + (at >> 3)) % 8] : [0, 1, 2, 3, 4, 5, 6, 7]) {
          const files = log.afterKill();
          files.damage(path, at, Uint8Array.of((octets[at] as number) ^ (1 << bit)));
          check(await contentsOf(files, { segmentBytes, recover: 'salvage' }), path, from, to);
        }
      }
    }
  }, 600_000);

  test('with a disk sector of zeros anywhere: every definition is there', async () => {
    for (const path of paths) {
      const { length } = log.contents(path);
      for (let at = 0; at < length; at += 64) {
        const files = log.afterKill();
        const to = Math.min(length, at + 512);
        files.damage(path, at, new Uint8Array(to - at));
        const [from] = recordAt(log, path, at);
        check(
          await contentsOf(files, { segmentBytes, recover: 'salvage' }),
          path,
          from,
          recordAt(log, path, to - 1)[1],
        );
      }
    }
  });

  test.each(['missing', 'empty', 'of chance'])('with a file that is %s: every definition is there', async (how) => {
    for (const path of paths) {
      const files = log.afterKill();
      if (how === 'missing') await files.remove(path);
      else files.plant(path, how === 'empty' ? '' : 'chance'.repeat(100));
      const events: StoreEvent[] = [];
      check(await contentsOf(files, { segmentBytes, recover: 'salvage' }, events), path, 0, 2 ** 30);
      expect(events.length).toBeGreaterThan(0);
      // It is mended.
      const later: StoreEvent[] = [];
      check(await contentsOf(files, { segmentBytes }, later), path, 0, 2 ** 30);
      expect(later).toEqual([]);
    }
  });

  test('whose copy is damaged, or gone: opens all the same, says so where it is known, and has one again', async () => {
    const copy = paths.at(-1) as string;
    for (const spoil of [
      (files: FaultyFiles) => files.remove(copy),
      async (files: FaultyFiles) => files.damage(copy, 70, Uint8Array.of(255)),
      async (files: FaultyFiles) => files.plant(copy, 'mine, I think'),
    ]) {
      const files = log.afterKill();
      await spoil(files);
      const events: StoreEvent[] = [];
      const found = await contentsOf(files, { segmentBytes }, events);
      expect(found.queues).toEqual(whole.queues);
      expect(found.seen).toHaveLength(whole.seen.length);
      const texts = events.map((event) => ('text' in event ? event.text : ''));
      expect(texts.some((text) => /second copy.* is (damaged|missing)/.test(text))).toBe(true);
      const copies = files.paths().filter((path) => path.startsWith(`${DATA_DIR}/log/`) && path.endsWith('.state'));
      expect(copies).toHaveLength(1);
      expect(copies).not.toContain(copy);
    }
  });

  test('of the format before, which has no copies: opens without a word, and has one from then on', async () => {
    const files = log.afterKill();
    await files.remove(paths.at(-1) as string);
    files.plant(`${DATA_DIR}/FORMAT`, '{"format":1,"writtenBy":"warren 0.1.0"}\n');
    const events: StoreEvent[] = [];
    const found = await contentsOf(files, { segmentBytes }, events);
    expect(found).toEqual(whole);
    expect(events).toEqual([]);
    expect(files.paths().filter((path) => path.endsWith('.state'))).toHaveLength(1);
    expect(Buffer.from(files.contents(`${DATA_DIR}/FORMAT`)).toString()).toContain('"format":2');
  });
});

test('a definition that only the copy has, because the power failed in between, is nobody’s', async () => {
  const files = new FaultyFiles();
  const life = (await StoreLife.open(files, { segmentBytes: 2 ** 30 })) as StoreLife;
  life.declare();
  await life.sync();
  const goOn = files.hold({ call: 'write', path: '.log' });
  life.declare();
  for (let turn = 0; turn < 20; turn++) {
    await nextTurn();
    life.clock.advance(5);
  }
  const crashed = files.afterKill();
  expect(Buffer.from(crashed.contents(`${DATA_DIR}/log/00000001.state`)).toString('latin1')).toContain('q2');
  expect(Buffer.from(crashed.contents(`${DATA_DIR}/log/00000001.log`)).toString('latin1')).not.toContain('q2');
  const { queues } = await contentsOf(crashed, { segmentBytes: 2 ** 30 });
  expect(queues).toHaveLength(1);
  goOn();
});

test.each([
  ['write', 'ENOSPC'],
  ['write', 'EIO'],
  ['sync', 'EIO'],
  ['open', 'EMFILE'],
] as const)('a %s of the copy that fails with %s keeps the commit back, and is made good', async (call, code) => {
  const files = new FaultyFiles();
  const events: StoreEvent[] = [];
  const options = { segmentBytes: 2 ** 30, onEvent: (event: StoreEvent) => events.push(event) };
  const life = (await StoreLife.open(files, options)) as StoreLife;
  if (call !== 'open') {
    life.declare();
    await life.sync();
  }
  const before = files.made.length;
  const goWell = files.fail({ call, path: '.state', code, times: 1 });
  life.declare();
  await life.sync();
  goWell();
  expect(events.map(({ type }) => type)).toEqual(['trouble', 'recovered']);
  expect(files.made.slice(before).some((made) => made.startsWith(call) && made.includes('.state'))).toBe(true);
  const copies = files.paths().filter((path) => path.endsWith('.state'));
  await nextTurn();
  // What is on disk is whole: the log and its copy alone tell all.
  for (const path of [...copies, ...files.paths().filter((each) => each.endsWith('.log'))]) {
    const damaged = files.afterCrash();
    damaged.plant(path, '');
    const { queues } = await contentsOf(damaged, { segmentBytes: 2 ** 30, recover: 'salvage' });
    expect(queues).toHaveLength(call === 'open' ? 1 : 2);
  }
});

describe('a first commit that nobody was told of', () => {
  const ONE_SEGMENT = { segmentBytes: 2 ** 30 };

  /** A folder with one commit, as it is when its mark is still the one that the folder was made with. */
  async function oneCommit(): Promise<FaultyFiles> {
    const fresh = new FaultyFiles();
    const empty = (await StoreLife.open(fresh, ONE_SEGMENT)) as StoreLife;
    await nextTurn();
    const mark = fresh.afterKill().contents(MARK);
    empty.declare();
    empty.publish(empty.queues, 30, 0, true);
    empty.endTurn();
    await empty.sync();
    await nextTurn();
    const files = fresh.afterKill();
    files.plant(MARK, mark);
    return files;
  }

  test.each([
    ['its log is torn', 'torn'],
    ['its log is empty', 'empty'],
    ['its log is missing', 'missing'],
  ] as const)('is none when %s and its copy is whole', async (_, state) => {
    const files = await oneCommit();
    const log = files.paths().find((path) => path.endsWith('.log')) ?? '';
    const octets = files.contents(log);
    if (state === 'torn') files.plant(log, octets.subarray(0, octets.length - 3));
    else if (state === 'empty') files.plant(log, Buffer.alloc(0));
    else await files.remove(log);
    expect(await contentsOf(files, ONE_SEGMENT)).toEqual({ queues: [], seen: [] });
    // And it stays so.
    expect(await contentsOf(files.afterKill(), ONE_SEGMENT)).toEqual({ queues: [], seen: [] });
  });

  test('is there when its log is whole', async () => {
    const found = await contentsOf(await oneCommit(), ONE_SEGMENT);
    expect([found.queues.length, found.seen.length]).toEqual([1, 1]);
  });
});
