/** Medians of the rounds, and a Markdown table that sets the first broker beside the others. */
import { OTHER_LOAD } from './generator/window.ts';
import type { Run } from './run.ts';
import type { Figure, Scenario } from './scenarios/scenario.ts';

/** One figure of one scenario over all rounds. */
export interface Summary {
  readonly scenario: string;
  readonly figure: string;
  readonly unit: string;
  readonly better: Figure['better'];
  readonly peers: readonly PeerSummary[];
}

export interface PeerSummary {
  readonly peer: string;
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
  /** How many times better the first broker of the summary is; undefined for itself and where nothing is compared. */
  readonly advantage: number | undefined;
}

/** Summarises runs; scenarios, figures and brokers keep the order in which they first appear. */
export function summarise(runs: readonly Run[]): readonly Summary[] {
  const groups = new Map<string, { run: Run; figure: Figure; values: Map<string, number[]> }>();
  for (const run of runs) {
    for (const figure of run.figures) {
      const key = `${run.scenario}\n${figure.name}`;
      const group = groups.get(key) ?? { run, figure, values: new Map<string, number[]>() };
      groups.set(key, group);
      group.values.set(run.peer, [...(group.values.get(run.peer) ?? []), figure.value]);
    }
  }
  return [...groups.values()].map(({ run, figure, values }) => {
    const ours = median([...values.values()][0] ?? []);
    const peers = [...values].map(([peer, all], index) => ({
      peer,
      median: median(all),
      lowest: Math.min(...all),
      highest: Math.max(...all),
      advantage: index === 0 ? undefined : advantage(figure.better, ours, median(all)),
    }));
    return { scenario: run.scenario, figure: figure.name, unit: figure.unit, better: figure.better, peers };
  });
}

function advantage(better: Figure['better'], ours: number, theirs: number): number | undefined {
  if (better === 'none') return undefined;
  return better === 'higher' ? ours / theirs : theirs / ours;
}

/** The middle value, or the mean of the two in the middle; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
  const lower = sorted[Math.floor((sorted.length - 1) / 2)] ?? Number.NaN;
  return (lower + upper) / 2;
}

/** The table: a row a figure, a column a broker, and how many times better the first broker is than each other. */
export function markdownTable(summaries: readonly Summary[], scenarios: readonly Scenario[]): string {
  const shown = summaries.filter(({ figure }) => !figure.endsWith(OTHER_LOAD));
  const names = [...new Set(shown.flatMap(({ peers }) => peers.map(({ peer }) => peer)))];
  const [first = '', ...others] = names;
  const head = ['scenario', 'figure', ...names, ...others.map((other) => `${first} : ${other}`)];
  const rows = shown.map((summary, index) => {
    const title = scenarios.find(({ id }) => id === summary.scenario)?.title ?? summary.scenario;
    const repeated = shown[index - 1]?.scenario === summary.scenario;
    const of = (name: string) => summary.peers.find(({ peer }) => peer === name);
    return [
      repeated ? '' : title,
      `${summary.figure}, ${summary.unit}`,
      ...names.map((name) => cell(of(name))),
      ...others.map((name) => ratio(of(name)?.advantage)),
    ];
  });
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, index) => (index < 2 ? '---' : '---:'));
  return [line(head), line(rule), ...rows.map(line)].join('\n');
}

/** How busy other programs kept the machine during the windows: one sentence for under the table. */
export function noiseNote(summaries: readonly Summary[]): string {
  const loads = summaries.filter(({ figure }) => figure.endsWith(OTHER_LOAD)).flatMap(({ peers }) => peers);
  const typical = median(loads.map((load) => load.median));
  const worst = Math.max(...loads.map(({ highest }) => highest));
  return `Other programs took ${shortNumber(typical)} % of the machine during the windows (median; worst ${shortNumber(worst)} %).`;
}

function cell(summary: PeerSummary | undefined): string {
  if (summary === undefined) return '';
  const { lowest, highest } = summary;
  const spread = lowest === highest ? '' : ` (${shortNumber(lowest)}–${shortNumber(highest)})`;
  return shortNumber(summary.median) + spread;
}

function ratio(value: number | undefined): string {
  return value === undefined ? '' : `${shortNumber(value)}x`;
}

/** To three significant digits, whole from 100 on, with thousands apart. */
export function shortNumber(value: number): string {
  const digits = value === 0 ? 1 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString('en-GB', { maximumFractionDigits: Math.min(digits, 3) });
}
