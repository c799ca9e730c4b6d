/** Processes on one disk, one after the other, each of which does this and that and ends somewhere. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { type LifeOptions, StoreLife } from './store-life.ts';

/**
 * Small batches and lots of small segments, so that batches wait for each other and segments are begun, emptied and cleaned
 * all the time.
 */
const OPTIONS: LifeOptions = { segmentBytes: 400, batchBytes: 250, cleanSegmentsMin: 2 };

/** What a turn does; the numbers choose among what is there. */
type Step =
  | { readonly do: 'declare' | 'confirm' | 'rest' | 'sync' | 'pause' }
  | { readonly do: 'delete' | 'deliver'; readonly queue: number }
  | {
      readonly do: 'publish';
      readonly queues: number;
      readonly bytes: number;
      readonly priority: number;
      readonly survives: boolean;
      readonly stows: number;
    }
  | {
      readonly do: 'settle' | 'amend' | 'hold' | 'load' | 'purge' | 'bury';
      readonly queue: number;
      readonly index: number;
    }
  | { readonly do: 'drain'; readonly queue: number; readonly keep: number }
  | { readonly do: 'page'; readonly queue: number; readonly priority: number; readonly skip: number }
  | { readonly do: 'fail'; readonly call: 'write' | 'sync' | 'open' | 'syncFolder' | 'remove'; readonly code: string };

const small = fc.nat({ max: 7 });

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('declare' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('confirm' as const, 'rest' as const, 'sync' as const, 'pause' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('delete' as const), queue: small }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('deliver' as const), queue: small }) },
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant('publish' as const),
      queues: fc.integer({ min: 1, max: 15 }),
      bytes: fc.oneof(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 1, max: 900 })),
      priority: fc.nat({ max: 1 }),
      survives: fc.nat({ max: 3 }).map((chance) => chance > 0),
      stows: fc.nat({ max: 15 }),
    }),
  },
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'settle' as const,
        'settle' as const,
        'bury' as const,
        'amend' as const,
        'hold' as const,
        'load' as const,
        'purge' as const,
      ),
      queue: small,
      index: fc.nat({ max: 30 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('drain' as const), queue: small, keep: fc.nat({ max: 2 }) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('page' as const),
      queue: small,
      priority: fc.nat({ max: 1 }),
      skip: fc.nat({ max: 2 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      call: fc.constantFrom(
        'write' as const,
        'sync' as const,
        'open' as const,
        'syncFolder' as const,
        'remove' as const,
      ),
      code: fc.constantFrom('EIO', 'ENOSPC'),
    }),
  },
);

/** One process: what it does, each time followed by some turns of the event loop, and how it ends. */
export const life = fc.record({
  steps: fc.array(fc.tuple(step, fc.nat({ max: 12 })), { minLength: 1, maxLength: 120, size: 'max' }),
  end: fc.constantFrom('close' as const, 'kill' as const, 'power' as const),
  /** The end comes in the middle of the call with this number, if there are so many. */
  crashAt: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 1, max: 1500 })),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
});

/** False when the disk has crashed. */
async function take(on: StoreLife, what: Step): Promise<boolean> {
  const { queues, store } = on;
  const queue = 'queue' in what ? queues[what.queue % Math.max(1, queues.length)] : undefined;
  switch (what.do) {
    case 'declare':
      on.declare();
      break;
    case 'confirm':
      on.confirmLater();
      break;
    case 'rest':
      on.clock.advance(200);
      break;
    case 'pause':
      break;
    case 'sync':
      on.endTurn();
      return on.sync();
    case 'publish': {
      const chosen = queues.filter((_, index) => (what.queues & (1 << index)) !== 0);
      on.publish(chosen, what.bytes, what.priority, what.survives, what.stows);
      break;
    }
    case 'fail':
      on.files.fail({ call: what.call, path: '/log', code: what.code, times: 1 });
      break;
    default:
      if (queue === undefined) break;
      if (what.do === 'delete') on.delete(queue);
      else if (what.do === 'deliver') on.deliver(queue);
      else if (what.do === 'settle') on.settle(queue, what.index);
      else if (what.do === 'amend' || what.do === 'hold') on.amend(queue, what.index, what.do === 'hold');
      else if (what.do === 'page') on.pageOut(queue, what.priority, what.skip);
      else if (what.do === 'purge') on.settlePage(queue, what.index);
      else if (what.do === 'drain') while (queue.memory.length > what.keep) on.settle(queue, what.keep);
      else if (what.do === 'load') return on.load(queue, what.index);
      else if (what.do === 'bury') {
        // Dead-lettered: there or here, never nowhere.
        const [to] = queues;
        if (to !== undefined && queue.memory.length > 0) {
          on.publish([to], 20, 0, true);
          on.settle(queue, what.index);
        }
      }
  }
  expect(store.batch).toBeGreaterThan(0);
  return true;
}

type Life = typeof life extends fc.Arbitrary<infer T> ? T : never;

/**
 * Runs them. After each, what the next one finds must be what was there after some turn, and not before the last one that
 * somebody was told to be on disk; and nothing may be called damaged.
 */
export async function runLives(lives: readonly Life[]): Promise<void> {
  let files = new FaultyFiles({ turnsMax: 3, seed: lives[0]?.seed ?? 1 });
  let now = await StoreLife.open(files, OPTIONS);
  now?.adopt([]);
  now?.declare();
  now?.declare();
  now?.endTurn();
  for (const { steps, end, crashAt, seed } of lives) {
    if (now === undefined) return;
    const before: StoreLife = now;
    files.crashAt(files.made.length + crashAt);
    for (const [what, turns] of steps) {
      if (!(await take(before, what)) || files.crashed) break;
      before.endTurn();
      await before.pass(turns);
    }
    before.endTurn();
    if (end === 'close' && !files.crashed) await before.close();
    const wasCut = files.crashed;
    files.crash();
    const isKill = end !== 'power' && (end === 'kill' || wasCut);
    const copy = (): FaultyFiles => (isKill ? files.afterKill(seed) : files.afterCrash(seed));
    // One to look at, one to go on with.
    const looked = await StoreLife.open(copy(), OPTIONS);
    const seen = await looked?.loadAll();
    if (looked === undefined || seen === undefined) throw new Error('it crashed without a crash');
    before.check(looked, seen);
    files = copy();
    now = await StoreLife.open(files, OPTIONS);
    now?.adopt(seen);
  }
}
