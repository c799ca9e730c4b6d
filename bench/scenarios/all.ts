/** Every scenario, in the order of the report. */
import { BACKLOG_SCENARIO } from './backlog.ts';
import { DURABILITY_SCENARIOS } from './durability.ts';
import { FLOW_SCENARIOS } from './flows.ts';
import { LATENCY_SCENARIO } from './latency.ts';
import { POPULATION_SCENARIOS } from './population.ts';
import type { Scenario } from './scenario.ts';
import { STOMP_SCENARIOS } from './stomp.ts';

export const SCENARIOS: readonly Scenario[] = [
  ...FLOW_SCENARIOS,
  ...DURABILITY_SCENARIOS,
  BACKLOG_SCENARIO,
  ...POPULATION_SCENARIOS,
  LATENCY_SCENARIO,
  ...STOMP_SCENARIOS,
];

/**
 * The scenarios that the words name: a letter means all its variants, a full id the one. Throws for a word that names
 * none.
 */
export function selectScenarios(words: readonly string[]): readonly Scenario[] {
  for (const word of words) {
    if (!SCENARIOS.some((scenario) => named(scenario, word))) {
      throw new Error(`no scenario '${word}'; there are ${SCENARIOS.map(({ id }) => id).join(', ')}`);
    }
  }
  return SCENARIOS.filter((scenario) => words.some((word) => named(scenario, word)));
}

function named(scenario: Scenario, word: string): boolean {
  return scenario.id === word || scenario.id.split('-')[0] === word;
}
