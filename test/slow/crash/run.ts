/**
 * The crash test, the long run: `npm run test:crash -- --rounds 300 --seed 7 --mode small`. Prints a line for each round
 * and at the end a row for the table of docs/crash-tests.md. When a promise is broken it says which, keeps the data folder
 * and exits with 1.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CrashRun, type CrashRunOptions } from '../../support/crash/crash-run.ts';
import { builtVictims, forkedVictims } from '../../support/crash/victim.ts';

type Mode = (dataDir: string) => Pick<CrashRunOptions, 'victims' | 'startKills' | 'startMsMax' | 'loadMsMax' | 'stops'>;

/** Segments of 64 KiB, cleaned from the second on, and nearly nothing of a backlog in memory. */
const SMALL_PAGES = { pageMessages: 32, pageBytes: 16_384, readAheadMessages: 16, frontBytesMin: 8192 };
const SMALL = { segmentBytes: 65_536, cleanSegmentsMin: 2, residentBytesMax: 20_000, reserveBytes: 65_536 };

const MODES: Readonly<Record<string, Mode>> = {
  /** The program as it is installed. */
  program: (dataDir) => ({ victims: builtVictims({ dataDir }), loadMsMax: 700 }),
  /** Every second segments end, begin, are cleaned and removed; and users, rights and policies change. */
  small: (dataDir) => ({
    victims: forkedVictims({ dataDir, store: SMALL, paging: SMALL_PAGES }),
    loadMsMax: 700,
  }),
  /** Most starts are killed before they are over. */
  starts: (dataDir) => ({
    victims: forkedVictims({ dataDir, store: SMALL, paging: SMALL_PAGES }),
    loadMsMax: 300,
    startKills: 0.8,
    startMsMax: 1500,
  }),
  /** The power fails: what was not synced is lost in part. Also most of the time while it starts. */
  power: (dataDir) => ({
    victims: forkedVictims({ dataDir, store: SMALL, paging: SMALL_PAGES, powerCuts: true }),
    loadMsMax: 500,
    startKills: 0.4,
    startMsMax: 1500,
    stops: 0,
  }),
};

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '300' },
    seed: { type: 'string', default: '1' },
    mode: { type: 'string', default: 'program' },
    'data-dir': { type: 'string' },
  },
});
const mode = MODES[values.mode];
if (mode === undefined) throw new Error(`--mode is one of ${Object.keys(MODES).join(', ')}`);
const root = mkdtempSync(join(tmpdir(), 'warren-crash-'));
const dataDir = values['data-dir'] ?? join(root, 'data');

const began = performance.now();
const run = new CrashRun({
  ...mode(dataDir),
  rounds: Number(values.rounds),
  seed: Number(values.seed),
  onRound(round, { ledger, done }) {
    console.log(`round ${round}: ${done.kills} kills, ${ledger.size} copies live, ${ledger.counts.answered} answers`);
  },
});
try {
  await run.run();
} catch (error) {
  run.ledger.violation(String(error));
}
const { counts, violations } = run.ledger;
const { kills, startKills, inspectionKills, stops, starts, startMs, startMsMax } = run.done;
const seconds = Math.round((performance.now() - began) / 1000);
const cells = [
  values.mode,
  values.seed,
  kills,
  startKills,
  inspectionKills,
  stops,
  counts.asked,
  counts.answered,
  counts.arrived,
  counts.settled,
  `${counts.openKept} / ${counts.openLost}`,
  counts.unflagged,
  `${Math.round(startMs / starts)} / ${Math.round(startMsMax)}`,
  seconds,
  violations.length,
];
console.log(`| ${cells.join(' | ')} |`);
if (violations.length > 0) {
  console.error(`${violations.join('\n')}\nthe data folder is kept: ${dataDir}`);
  process.exitCode = 1;
} else rmSync(root, { recursive: true });
