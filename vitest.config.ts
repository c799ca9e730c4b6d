import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** `vitest run` runs the quick tests; `vitest run --mode slow` those of test/slow/, one file at a time. */
export default defineConfig(({ mode }) => ({
  // As `paths` in tsconfig.json: the examples import the package by its name, and are tested with the sources.
  resolve: {
    alias: [
      { find: /^warren$/, replacement: join(import.meta.dirname, 'broker/index.ts') },
      { find: /^warren\/websocket$/, replacement: join(import.meta.dirname, 'gateways/websocket.ts') },
      { find: /^warren\/([a-z-]+)$/, replacement: join(import.meta.dirname, 'gateways/$1/gateway.ts') },
    ],
  },
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
