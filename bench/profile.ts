/** What a `.cpuprofile` of the broker says in short: the functions in which the time was spent. */
import { readFileSync } from 'node:fs';

/** A function and its share of the time in which the process was busy. */
export interface SelfTime {
  /** e.g. `dispatch broker/queue.js:210`. */
  readonly name: string;
  readonly milliseconds: number;
  /** 0 to 100. */
  readonly percent: number;
}

/** The parts of V8's profile format that are read here. */
interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  /** Microseconds before each sample. */
  readonly timeDeltas: readonly number[];
}

const IDLE = '(idle)';

/** The functions of a profile by self time, most first. Time in which the process slept is left out. */
export function topSelfTimes(path: string, count = 25): readonly SelfTime[] {
  const profile = JSON.parse(readFileSync(path, 'utf8')) as CpuProfile;
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, describeFrame(callFrame)]));
  const times = new Map<string, number>();
  for (const [index, id] of profile.samples.entries()) {
    const name = names.get(id) ?? '?';
    if (name !== IDLE) times.set(name, (times.get(name) ?? 0) + (profile.timeDeltas[index] ?? 0));
  }
  const busy = [...times.values()].reduce((sum, value) => sum + value, 0);
  return [...times]
    .sort(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([name, time]) => ({ name, milliseconds: time / 1000, percent: (100 * time) / busy }));
}

/** A line a function, for the terminal. */
export function describeSelfTimes(times: readonly SelfTime[]): string {
  return times
    .map(({ name, milliseconds, percent }) => {
      return `${percent.toFixed(1).padStart(6)} %  ${milliseconds.toFixed(0).padStart(7)} ms  ${name}`;
    })
    .join('\n');
}

function describeFrame(frame: CpuProfile['nodes'][number]['callFrame']): string {
  const name = frame.functionName === '' ? '(anonymous)' : frame.functionName;
  if (frame.url === '') return name;
  const place = frame.url.replace(/^.*\/(dist|node_modules)\//, '');
  return `${name} ${place}:${frame.lineNumber + 1}`;
}
