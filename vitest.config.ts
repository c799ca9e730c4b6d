import { defineConfig } from 'vitest/config';

/** `vitest run` runs the quick tests; `vitest run --mode slow` those of test/slow/, one file at a time. */
export default defineConfig(({ mode }) => ({
  test:
    mode === 'slow'
      ? {
          include: ['test/slow/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        }
      : {
          include: ['test/**/*.test.ts'],
          exclude: ['test/slow/**'],
          testTimeout: 15_000,
          hookTimeout: 15_000,
        },
}));
