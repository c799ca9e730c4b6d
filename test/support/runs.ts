/**
 * How often a property is tried, and with what. The cases are the same in every run of the tests; with `PROPERTY_SEED`
 * they are others, with `PROPERTY_RUNS` that many times as many: for a longer search when something was changed.
 */
export function runs(numRuns: number): { readonly numRuns: number; readonly seed: number } {
  return {
    numRuns: numRuns * Number(process.env.PROPERTY_RUNS ?? 1),
    seed: Number(process.env.PROPERTY_SEED ?? 1),
  };
}
