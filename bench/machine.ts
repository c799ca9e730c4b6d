/** Facts about the machine that a figure means nothing without. */
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';

export interface MachineFacts {
  readonly date: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryMebibytes: number;
  readonly kernel: string;
  readonly node: string;
  /** Processes that wanted to run, mean of the last minute before the bench began. */
  readonly loadBefore: number;
}

/** The facts as of now. */
export function machineFacts(): MachineFacts {
  return {
    date: new Date().toISOString().slice(0, 16),
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryMebibytes: Math.round(totalmem() / 2 ** 20),
    kernel: release(),
    node: process.versions.node,
    loadBefore: loadavg()[0] ?? 0,
  };
}

/** The facts in two lines. */
export function describeMachine(facts: MachineFacts, versions: readonly string[]): string {
  const { processor, cores, memoryMebibytes, kernel, node, loadBefore, date } = facts;
  return [
    `${date}Z, ${cores} x ${processor}, ${memoryMebibytes} MiB, Linux ${kernel}, generator on Node ${node}.`,
    `${versions.join('; ')}. Load average before: ${loadBefore.toFixed(2)}.`,
  ].join('\n');
}
