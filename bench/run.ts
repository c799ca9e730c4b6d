/**
 * Runs scenarios against brokers, alternating, and collects the figures. Every run is a new generator process; a scenario
 * starts its brokers anew, and all rounds of it share them unless it asks for a fresh one each time.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { RunOrder } from './generator/main.ts';
import type { Peer, RunningPeer } from './peers/peer.ts';
import type { Figure, RunContext, Scenario, Sizes } from './scenarios/scenario.ts';

const GENERATOR = fileURLToPath(new URL('generator/main.ts', import.meta.url));

export interface BenchPlan {
  readonly scenarios: readonly Scenario[];
  /** The first one is the one whose advantage the report tells. */
  readonly peers: readonly Peer[];
  readonly rounds: number;
  readonly sizes: Sizes;
  /** Hears of every run as it ends. */
  readonly progress?: (run: Run) => void;
  /** Ends the bench: the run under way fails and the brokers are stopped. */
  readonly signal?: AbortSignal;
}

/** One scenario against one broker, once. */
export interface Run {
  readonly scenario: string;
  readonly peer: string;
  /** From 1. */
  readonly round: number;
  readonly figures: readonly Figure[];
}

/** Resolves to all runs in the order in which they were made. Rejects at the first that fails; no broker stays behind. */
export async function runBench(plan: BenchPlan): Promise<readonly Run[]> {
  const runs: Run[] = [];
  for (const scenario of plan.scenarios) {
    const running = new Map<Peer, RunningPeer>();
    try {
      for (let round = 1; round <= plan.rounds; round++) {
        for (const peer of plan.peers) {
          plan.signal?.throwIfAborted();
          const broker = running.get(peer) ?? (await peer.start());
          running.set(peer, broker);
          const { endpoint, pid: brokerPid, loopDelayPath } = broker;
          const context = { endpoint, brokerPid, loopDelayPath, sizes: plan.sizes };
          const figures = await generate(scenario, context, plan.signal);
          const run = { scenario: scenario.id, peer: peer.name, round, figures };
          runs.push(run);
          plan.progress?.(run);
          if (scenario.freshBroker) {
            running.delete(peer);
            await broker.stop();
          }
        }
      }
    } finally {
      await Promise.all([...running.values()].map((broker) => broker.stop()));
    }
  }
  return runs;
}

/** One run in a generator process; what it prints goes where the bench's own output goes. */
async function generate(scenario: Scenario, context: RunContext, signal?: AbortSignal): Promise<readonly Figure[]> {
  const options = { execArgv: ['--import', import.meta.resolve('tsx')] };
  const child = fork(GENERATOR, [], signal === undefined ? options : { ...options, signal });
  let figures: readonly Figure[] | undefined;
  child.on('message', (message) => {
    figures = message as readonly Figure[];
  });
  const order: RunOrder = { scenarioId: scenario.id, context };
  child.send(order);
  await once(child, 'exit');
  if (figures === undefined) throw new Error(`${scenario.id}: the generator ended without figures`);
  return figures;
}
