/**
 * Scenario p: persistent messages that stay. One publisher, confirms, a durable queue that nobody reads: what it costs
 * that a confirm means "on disk". Every confirm is timed from the write of the publish that it is for.
 */
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { Link } from '../generator/link.ts';
import { Publisher } from '../generator/publisher.ts';
import { uniformRing } from '../generator/source.ts';
import { MeasuredWindow, until } from '../generator/window.ts';
import { ProcessTree } from '../process-usage.ts';
import { LatencyRecord } from './latency.ts';
import type { Figure, Scenario } from './scenario.ts';

/** How late an event loop was, in milliseconds beyond the sampling interval; see ../loop-delay.mjs. */
interface LoopDelay {
  readonly p99Ms: number;
  readonly maxMs: number;
}

const CONFIRM_WINDOW = 1_000;
const QUEUE = 'bench.p';
/** Confirms timed per second at most; more are counted and not timed. */
const TIMED_PER_SECOND = 1_000_000;

function persistent(bodyBytes: number): Scenario {
  const size = bodyBytes < 1024 ? `${bodyBytes} B` : `${bodyBytes / 1024} KB`;
  return {
    id: `p-${bodyBytes}`,
    title: `p. persistent, durable queue, nobody reads, confirms (window ${CONFIRM_WINDOW}), ${size}`,
    freshBroker: true,
    run: async ({ endpoint, brokerPid, loopDelayPath, sizes }) => {
      const broker = new ProcessTree(brokerPid);
      const link = await Link.open(endpoint);
      await link.declareQueue(QUEUE, { durable: true });
      await link.confirmSelect();
      const { confirms } = link.scanner;
      const settled = () => confirms.confirmed;
      const publisher = new Publisher(link, uniformRing('', QUEUE, bodyBytes, true), {
        window: CONFIRM_WINDOW,
        settled,
      });
      const record = new LatencyRecord(TIMED_PER_SECOND * (sizes.seconds + 1));
      const timer = new ConfirmTimer(record);
      link.onChunk = () => {
        timer.confirmed(confirms.confirmed);
        publisher.pump();
        timer.sent(publisher.sent);
      };
      publisher.start();
      timer.sent(publisher.sent);
      await wait(sizes.warmupSeconds * 1000);
      await readLoopDelay(loopDelayPath);
      record.clear();
      const window = new MeasuredWindow(broker, settled);
      const writtenBefore = broker.writtenBytes();
      const confirmedBefore = settled();
      await wait(sizes.seconds * 1000);
      const figures = window.close('msg');
      const written = (broker.writtenBytes() - writtenBefore) / (settled() - confirmedBefore);
      const loopDelay = await readLoopDelay(loopDelayPath);
      const percentiles = record.percentiles().map((figure) => ({ ...figure, name: `confirm ${figure.name}` }));
      publisher.stop();
      await until(
        () => `${publisher.sent - settled()} confirms missing`,
        () => settled() === publisher.sent,
      );
      const count = await link.declareQueue(QUEUE, { durable: true });
      if (count !== publisher.sent) throw new Error(`${publisher.sent} confirmed, ${count} in the queue`);
      await link.close();
      return [
        ...figures,
        { name: 'written', unit: 'B/msg', better: 'lower', value: written },
        ...percentiles,
        ...loopDelay,
      ];
    },
  };
}

/** Times confirms by the order of publishes: those of one write share its time. */
class ConfirmTimer {
  readonly #record: LatencyRecord;
  /** Of each write whose publishes are not all confirmed: the number of its last publish, and when it was. */
  readonly #writes: { readonly last: number; readonly atMs: number }[] = [];
  #sent = 0;
  #confirmed = 0;

  constructor(record: LatencyRecord) {
    this.#record = record;
  }

  sent(count: number): void {
    if (count > this.#sent) this.#writes.push({ last: count, atMs: performance.now() });
    this.#sent = count;
  }

  confirmed(count: number): void {
    const nowMs = performance.now();
    for (let oldest = this.#writes[0]; oldest !== undefined && this.#confirmed < count; oldest = this.#writes[0]) {
      const through = Math.min(count, oldest.last);
      for (; this.#confirmed < through; this.#confirmed++) this.#record.add(nowMs - oldest.atMs);
      if (through === oldest.last) this.#writes.shift();
    }
  }
}

/** How late the broker's event loop was since the last call; nothing of a broker that does not tell. */
async function readLoopDelay(path: string | undefined): Promise<readonly Figure[]> {
  if (path === undefined) return [];
  const delay: LoopDelay = JSON.parse(await text(connect(path)));
  return [
    { name: 'loop delay p99', unit: 'ms', better: 'lower', value: delay.p99Ms },
    { name: 'loop delay max', unit: 'ms', better: 'lower', value: delay.maxMs },
  ];
}

/** p, in its sizes. */
export const DURABILITY_SCENARIOS: readonly Scenario[] = [persistent(16), persistent(1024)];
