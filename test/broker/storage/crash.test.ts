/**
 * The store against a model of it, over processes that end anywhere: killed, by a power failure, in the middle of a write.
 *
 * For longer runs: `CRASH_RUNS=5000 npx vitest run test/broker/storage/crash.test.ts`; with `CRASH_SEED` and `CRASH_PATH`
 * as a failure prints them, that one again. `CRASH_END=1` looks for no smaller example.
 */
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { life, runLives } from './crash-lives.ts';

const { CRASH_RUNS: runs = '60', CRASH_SEED: seed, CRASH_PATH: path, CRASH_END: end } = process.env;

const PARAMETERS = {
  numRuns: Number(runs),
  endOnFailure: end === '1',
  ...(seed === undefined ? {} : { seed: Number(seed) }),
  ...(path === undefined ? {} : { path }),
};

/** A shrinking failure may take long; one run takes some ten milliseconds. */
const TEST_MS = 60_000 + 500 * Number(runs);

describe('whatever happens, and wherever it ends', () => {
  test(
    'the next process finds what was there after some turn, and none before the last that was confirmed',
    async () => {
      const lives = fc.array(life, { minLength: 1, maxLength: 5 });
      await fc.assert(fc.asyncProperty(lives, runLives), PARAMETERS);
    },
    TEST_MS,
  );
});
