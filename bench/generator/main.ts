/**
 * The generator process: one run of one scenario against one broker. Told what to do in its first message from the
 * bench, answers with the figures. A process of its own for each run, so that no run inherits another's heap or the
 * shapes that the compiler learnt from it.
 */
import { SCENARIOS } from '../scenarios/all.ts';
import type { Figure, RunContext } from '../scenarios/scenario.ts';

/** What the bench tells a generator. */
export interface RunOrder {
  readonly scenarioId: string;
  readonly context: RunContext;
}

process.once('message', (order: RunOrder) => {
  void run(order);
});

async function run({ scenarioId, context }: RunOrder): Promise<void> {
  const scenario = SCENARIOS.find(({ id }) => id === scenarioId);
  if (scenario === undefined) throw new Error(`no scenario ${scenarioId}`);
  const figures: readonly Figure[] = await scenario.run(context);
  process.send?.(figures);
  process.disconnect();
}
