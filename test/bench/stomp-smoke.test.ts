/** The STOMP scenarios still run: against the built broker, for a moment. */
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { warren } from '../../bench/peers/warren.ts';
import { runBench } from '../../bench/run.ts';
import { selectScenarios } from '../../bench/scenarios/all.ts';

// The bench reads /proc, which is Linux's.
test.skipIf(!existsSync('/proc/self/stat')).each(['i-16', 'i-durable-16'])(
  'scenario %s runs against Warren, loses nothing and yields a rate',
  async (id) => {
    const nothing = { connections: 0, queues: 0, backlog: 0, latencyRate: 0 };
    const sizes = { seconds: 0.1, warmupSeconds: 0.01, ...nothing };
    const runs = await runBench({ scenarios: selectScenarios([id]), peers: [warren()], rounds: 1, sizes });
    expect(runs[0]?.figures.find(({ name }) => name === 'rate')?.value).toBeGreaterThan(0);
  },
);
