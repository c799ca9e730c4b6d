/** What a scenario is: work for one run against one broker, in a generator process of its own, and the figures of it. */
import type { Endpoint } from '../peers/peer.ts';

/** One figure of one run. */
export interface Figure {
  /** e.g. `rate`, `broker CPU`; the same for every broker. */
  readonly name: string;
  /** e.g. `msg/s`, `µs/msg`, `MiB`. */
  readonly unit: string;
  /** Which way is better; `none`: told for the reader's judgement, not compared. */
  readonly better: 'higher' | 'lower' | 'none';
  readonly value: number;
}

/** How much to do; the same for every broker of a report. */
export interface Sizes {
  /** Length of the measured window, in seconds. */
  readonly seconds: number;
  /** Time under load before the window, in seconds. */
  readonly warmupSeconds: number;
  /** Connections of f. */
  readonly connections: number;
  /** Queues of g. */
  readonly queues: number;
  /** Messages of e. */
  readonly backlog: number;
  /** Messages per second of h. */
  readonly latencyRate: number;
}

/** What one run is told. */
export interface RunContext {
  readonly endpoint: Endpoint;
  /** The broker's first process. */
  readonly brokerPid: number;
  /** See `RunningPeer`. */
  readonly loopDelayPath?: string | undefined;
  readonly sizes: Sizes;
}

export interface Scenario {
  /** e.g. `a-16`; begins with the letter by which the command line asks for it. */
  readonly id: string;
  /** What the table calls it. */
  readonly title: string;
  /** Every run gets a broker just started; otherwise the rounds of the scenario share one. */
  readonly freshBroker: boolean;
  /** Runs once; leaves the broker as it found it unless `freshBroker`. Rejects when a message is lost or doubled. */
  run(context: RunContext): Promise<readonly Figure[]>;
}
