/**
 * The crash test, a short run of it: a broker of its own process is killed under load again and again, and everything it
 * owes is looked for after each restart. `npm run test:crash` is the long run. docs/crash-tests.md says what is checked.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { CrashRun } from '../support/crash/crash-run.ts';
import { builtVictims } from '../support/crash/victim.ts';

let folder = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'warren-crash-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** The seed makes the choices the same, not the instants: those are the machine's. */
const SEED = Number(process.env.PROPERTY_SEED ?? 1);
const ROUNDS = 5;

it('keeps every promise through kills at random instants', { timeout: 60_000 }, async () => {
  const run = new CrashRun({
    victims: builtVictims({ dataDir: join(folder, 'data') }),
    rounds: ROUNDS,
    seed: SEED,
    loadMsMax: 300,
  });
  await run.run();
  expect(run.ledger.violations).toEqual([]);
  const { counts } = run.ledger;
  expect(counts.crashes).toBeGreaterThanOrEqual(ROUNDS);
  for (const count of [counts.asked, counts.answered, counts.arrived, counts.settled]) expect(count).toBeGreaterThan(0);
});
