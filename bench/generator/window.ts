/** The measured window: readings of counters and clocks at both ends, and the figures that follow from them. */

import { availableParallelism } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import { machineBusySeconds, type ProcessTree } from '../process-usage.ts';
import type { Figure } from '../scenarios/scenario.ts';

/** Octets in the unit in which memory is told. */
export const MEBIBYTE = 2 ** 20;
/** How often `until` looks, and how long it looks at most, in milliseconds. */
const POLL_MS = 2;
const PATIENCE_MS = 120_000;

interface Reading {
  readonly count: number;
  readonly seconds: number;
  readonly brokerCpuSeconds: number;
  readonly ownCpuSeconds: number;
  readonly machineBusySeconds: number;
}

/** Something that is counted while a window is open. */
export class MeasuredWindow {
  readonly #broker: ProcessTree;
  readonly #count: () => number;
  readonly #start: Reading;

  /** Opens the window. `count` tells how much has been done so far. */
  constructor(broker: ProcessTree, count: () => number) {
    this.#broker = broker;
    this.#count = count;
    this.#start = this.#read();
  }

  /**
   * Closes the window: rate, CPU per unit of both sides, resident memory. `unit` is what is counted: `msg`, `delivery`;
   * `prefix` tells several windows of one run apart.
   */
  close(unit: string, prefix = ''): readonly Figure[] {
    const end = this.#read();
    const start = this.#start;
    const done = end.count - start.count;
    const seconds = end.seconds - start.seconds;
    const brokerCpu = end.brokerCpuSeconds - start.brokerCpuSeconds;
    const ownCpu = end.ownCpuSeconds - start.ownCpuSeconds;
    const others = end.machineBusySeconds - start.machineBusySeconds - brokerCpu - ownCpu;
    const microsecondsEach = (cpuSeconds: number) => (cpuSeconds * 1e6) / done;
    const figures: Figure[] = [
      { name: 'rate', unit: `${unit}/s`, better: 'higher', value: done / seconds },
      { name: 'broker CPU', unit: `µs/${unit}`, better: 'lower', value: microsecondsEach(brokerCpu) },
      { name: 'broker RSS', unit: 'MiB', better: 'lower', value: this.#broker.rssBytes() / MEBIBYTE },
      { name: 'generator CPU', unit: `µs/${unit}`, better: 'none', value: microsecondsEach(ownCpu) },
      otherLoad(others, seconds),
    ];
    return figures.map((figure) => ({ ...figure, name: prefix + figure.name }));
  }

  #read(): Reading {
    const own = process.cpuUsage();
    return {
      count: this.#count(),
      seconds: performance.now() / 1000,
      brokerCpuSeconds: this.#broker.cpuSeconds(),
      ownCpuSeconds: (own.user + own.system) / 1e6,
      machineBusySeconds: machineBusySeconds(),
    };
  }
}

/** Name of the figure that tells how noisy the machine was. */
export const OTHER_LOAD = 'other load';

function otherLoad(cpuSeconds: number, seconds: number): Figure {
  const share = Math.max(0, cpuSeconds / (seconds * availableParallelism()));
  return { name: OTHER_LOAD, unit: '% of machine', better: 'none', value: share * 100 };
}

/** Resolves when `done` says so. Rejects, with `what` is missing, after two minutes. */
export async function until(what: () => string, done: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what()}`);
    await wait(POLL_MS);
  }
}
