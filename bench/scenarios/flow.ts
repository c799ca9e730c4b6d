/**
 * The steady flows: one publisher, an exchange or none, queues with a consumer each, every party on a connection of its
 * own. a (one queue), b (durable), c (fanout) and d (topic) differ in the plan only.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { ackFrames } from '../generator/frames.ts';
import { Link } from '../generator/link.ts';
import { Publisher } from '../generator/publisher.ts';
import type { MessageRing } from '../generator/source.ts';
import { MeasuredWindow, until } from '../generator/window.ts';
import { ProcessTree } from '../process-usage.ts';
import type { Figure, RunContext } from './scenario.ts';

/** Deliveries on their way at most, for messages up to `SMALL_BODY_BYTES`: 10 ms at two million a second. */
export const WINDOW_SMALL = 20_000;
/** Deliveries on their way at most, for larger messages. */
export const WINDOW_LARGE = 5_000;
const SMALL_BODY_BYTES = 128;

/** The window for a body size. */
export function windowFor(bodyBytes: number): number {
  return bodyBytes <= SMALL_BODY_BYTES ? WINDOW_SMALL : WINDOW_LARGE;
}

export interface FlowPlan {
  /** What is counted, in the singular: `msg`, or `delivery` where a message is delivered several times. */
  readonly unit: string;
  readonly queues: readonly string[];
  /** Declares what there is besides the queues, and binds; on the publisher's link. */
  readonly prepare?: (link: Link) => Promise<void>;
  /** Undoes `prepare`; the queues go by themselves. */
  readonly cleanUp?: (link: Link) => Promise<void>;
  /** Every message of it must reach every queue. */
  readonly ring: MessageRing;
  /** Deliveries on their way at most. */
  readonly window: number;
  /** Durable queues, publisher confirms and manual acks, each with this window; absent: transient, no acks. */
  readonly confirmWindow?: number;
}

/** Runs a plan: warm-up, measured window, then every message sent must have come. */
export async function runFlow(plan: FlowPlan, context: RunContext): Promise<readonly Figure[]> {
  const broker = new ProcessTree(context.brokerPid);
  const publishing = await Link.open(context.endpoint);
  const consuming = await Promise.all(plan.queues.map(() => Link.open(context.endpoint)));
  const copies = plan.queues.length;
  const durable = plan.confirmWindow !== undefined;
  for (const queue of plan.queues) await publishing.declareQueue(queue, { durable });
  await plan.prepare?.(publishing);
  if (durable) await publishing.confirmSelect();

  const { tally } = publishing.scanner;
  const publisher = new Publisher(publishing, plan.ring, {
    window: publisherWindow(plan),
    settled: settledCount(plan, publishing),
  });
  publishing.onChunk = () => publisher.pump();
  for (const [index, queue] of plan.queues.entries()) {
    const link = consuming[index];
    if (link === undefined) continue;
    link.scanner.tally = tally;
    link.onChunk = () => publisher.pump();
    if (plan.confirmWindow !== undefined) await ackEverything(link, plan.confirmWindow, publisher);
    await link.consume(queue, !durable);
  }

  publisher.start();
  await wait(context.sizes.warmupSeconds * 1000);
  const window = new MeasuredWindow(broker, () => tally.deliveries);
  await wait(context.sizes.seconds * 1000);
  const figures = window.close(plan.unit);
  publisher.stop();
  const missing = () => publisher.sent * copies - tally.deliveries;
  await until(
    () => `${missing()} of ${publisher.sent * copies} deliveries missing`,
    () => missing() <= 0,
  );
  if (missing() < 0) throw new Error(`${-missing()} deliveries too many`);

  for (const queue of plan.queues) await publishing.deleteQueue(queue);
  await plan.cleanUp?.(publishing);
  await Promise.all([publishing, ...consuming].map((link) => link.close()));
  return figures;
}

/** Messages, not deliveries, that the publisher may have under way. */
function publisherWindow(plan: FlowPlan): number {
  return plan.confirmWindow ?? Math.floor(plan.window / plan.queues.length);
}

/** How many of the publisher's messages are off its hands: delivered everywhere and, where it asked, confirmed. */
function settledCount(plan: FlowPlan, publishing: Link): () => number {
  const { tally, confirms } = publishing.scanner;
  const copies = plan.queues.length;
  if (plan.confirmWindow === undefined) return () => Math.floor(tally.deliveries / copies);
  const ahead = plan.window - plan.confirmWindow;
  return () => Math.min(confirms.confirmed, Math.floor(tally.deliveries / copies) + ahead);
}

/** Makes a link ack each delivery singly, the acks of one chunk in one write. For a flow with one queue. */
async function ackEverything(link: Link, prefetch: number, publisher: Publisher): Promise<void> {
  let acked = 0;
  await link.prefetch(prefetch);
  link.onChunk = () => {
    const { deliveries } = link.scanner.tally;
    if (deliveries > acked) link.socket.write(ackFrames(acked + 1, deliveries));
    acked = deliveries;
    publisher.pump();
  };
}
