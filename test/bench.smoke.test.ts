/** The bench still runs: scenario a against the built broker, for a moment. */
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { warren } from '../bench/peers/warren.ts';
import { markdownTable, summarise } from '../bench/report.ts';
import { runBench } from '../bench/run.ts';
import { selectScenarios } from '../bench/scenarios/all.ts';

// The bench reads /proc, which is Linux's.
test.skipIf(!existsSync('/proc/self/stat'))(
  'scenario a runs against Warren, loses nothing and yields a rate',
  async () => {
    const scenarios = selectScenarios(['a-16']);
    const nothing = { connections: 0, queues: 0, backlog: 0, latencyRate: 0 };
    const sizes = { seconds: 0.1, warmupSeconds: 0.01, ...nothing };
    const runs = await runBench({ scenarios, peers: [warren()], rounds: 1, sizes });
    expect(runs.map(({ scenario, peer, round }) => [scenario, peer, round])).toEqual([['a-16', 'warren', 1]]);
    expect(runs[0]?.figures.find(({ name }) => name === 'rate')?.value).toBeGreaterThan(0);
    expect(markdownTable(summarise(runs), scenarios)).toContain('rate, msg/s');
  },
);
