/**
 * Scenario h: how long a message takes from publisher to consumer at a modest, steady rate. Both are in this process and
 * the body carries the time of its own write, so one clock measures both ends.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { publishFrames } from '../generator/frames.ts';
import { Link } from '../generator/link.ts';
import { MeasuredWindow, until } from '../generator/window.ts';
import { ProcessTree } from '../process-usage.ts';
import type { Figure, Scenario } from './scenario.ts';

const BODY_BYTES = 16;
const QUEUE = 'bench.h';
/** The publisher wakes this often, in milliseconds, and writes what is due: every message in a write of its own. */
const TICK_MS = 1;
const PERCENTILES = [50, 99, 99.9];

export const LATENCY_SCENARIO: Scenario = {
  id: 'h',
  title: 'h. latency at a steady rate, 16 B',
  freshBroker: false,
  run: async ({ endpoint, brokerPid, sizes }) => {
    const broker = new ProcessTree(brokerPid);
    const [publishing, consuming] = await Promise.all([Link.open(endpoint), Link.open(endpoint)]);
    await publishing.declareQueue(QUEUE);
    await consuming.consume(QUEUE, true);
    const { tally } = consuming.scanner;
    const record = new LatencyRecord(sizes.latencyRate * (sizes.seconds + 1));
    consuming.scanner.onBody = (chunk, at) => record.add(performance.now() - chunk.readDoubleBE(at));

    const publisher = new PacedPublisher(publishing, sizes.latencyRate);
    await wait(sizes.warmupSeconds * 1000);
    record.clear();
    const window = new MeasuredWindow(broker, () => tally.deliveries);
    await wait(sizes.seconds * 1000);
    const figures = window.close('msg');
    const percentiles = record.percentiles();
    publisher.stop();
    await until(
      () => `${publisher.sent - tally.deliveries} messages missing`,
      () => tally.deliveries >= publisher.sent,
    );
    await publishing.deleteQueue(QUEUE);
    await Promise.all([publishing.close(), consuming.close()]);
    // The rate is the publisher's doing, not the broker's.
    return [...percentiles, ...figures.map((f) => (f.name === 'rate' ? { ...f, better: 'none' as const } : f))];
  },
};

/** Sends messages at a steady rate from its making until `stop`. */
class PacedPublisher {
  sent = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(link: Link, perSecond: number) {
    const template = publishFrames('', QUEUE, Buffer.alloc(BODY_BYTES));
    const bodyOffset = template.length - 1 - BODY_BYTES;
    const start = performance.now();
    this.#timer = setInterval(() => {
      const due = Math.floor(((performance.now() - start) / 1000) * perSecond);
      while (this.sent < due) {
        const frames = Buffer.from(template);
        frames.writeDoubleBE(performance.now(), bodyOffset);
        link.socket.write(frames);
        this.sent++;
      }
    }, TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

/** Latencies in milliseconds, in room made beforehand. */
export class LatencyRecord {
  readonly #values: Float64Array;
  #count = 0;

  constructor(capacity: number) {
    this.#values = new Float64Array(Math.ceil(capacity));
  }

  /** Values over the capacity are dropped. */
  add(milliseconds: number): void {
    if (this.#count < this.#values.length) this.#values[this.#count++] = milliseconds;
  }

  clear(): void {
    this.#count = 0;
  }

  percentiles(): Figure[] {
    const sorted = this.#values.slice(0, this.#count).sort();
    return PERCENTILES.map((percent) => {
      const value = sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN;
      return { name: `p${percent}`, unit: 'ms', better: 'lower', value };
    });
  }
}
