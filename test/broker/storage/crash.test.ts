import fc from 'fast-check';
import { describe, test } from 'vitest';
import { life, runLives } from './crash-lives.ts';

describe('whatever happens, and wherever it ends', () => {
  test('the next process finds what was there after some turn, and none before the last that was confirmed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 5 }), (lives) => runLives(lives)),
      {
        numRuns: Number(process.env.CRASH_RUNS ?? 60),
        endOnFailure: process.env.CRASH_END === '1',
        ...(process.env.CRASH_SEED ? { seed: Number(process.env.CRASH_SEED) } : {}),
      },
    );
  }, 600_000);
});
