/**
 * Scenario i: over STOMP, one publisher, one queue, one consumer, each on a connection of its own. Transient messages with
 * automatic acks; and persistent ones, a receipt asked for each and each acked singly.
 */
import { setTimeout as wait } from 'node:timers/promises';
import { Link } from '../generator/link.ts';
import { Publisher } from '../generator/publisher.ts';
import { MessageRing } from '../generator/source.ts';
import { StompLink, stompFrame } from '../generator/stomp-link.ts';
import { MeasuredWindow, until } from '../generator/window.ts';
import { ProcessTree } from '../process-usage.ts';
import { windowFor } from './flow.ts';
import { sizeName } from './flows.ts';
import type { Figure, RunContext, Scenario } from './scenario.ts';

const QUEUE = 'bench.i';
const DESTINATION = `/queue/${QUEUE}`;
/** Receipts outstanding, and prefetch, of the persistent flow. */
const RECEIPT_WINDOW = 1_000;

function flow(bodyBytes: number, persistent: boolean): Scenario {
  const how = persistent ? `persistent, receipts and acks (window ${RECEIPT_WINDOW})` : 'transient, auto-ack';
  return {
    id: `i-${persistent ? 'durable-' : ''}${bodyBytes}`,
    title: `i. STOMP, 1 publisher > 1 queue > 1 consumer, ${how}, ${sizeName(bodyBytes)}`,
    freshBroker: false,
    run: (context) => run(bodyBytes, persistent, context),
  };
}

function ringOf(bodyBytes: number, persistent: boolean): MessageRing {
  const more = persistent ? { persistent: 'true', receipt: 'r' } : {};
  const headers = { destination: DESTINATION, ...more, 'content-length': String(bodyBytes) };
  return new MessageRing([stompFrame('SEND', headers, 'x'.repeat(bodyBytes))]);
}

async function run(bodyBytes: number, persistent: boolean, context: RunContext): Promise<readonly Figure[]> {
  const broker = new ProcessTree(context.brokerPid);
  const publishing = await StompLink.open(context.endpoint);
  const consuming = await StompLink.open(context.endpoint);
  const ack = persistent ? { ack: 'client-individual', 'prefetch-count': String(RECEIPT_WINDOW) } : { ack: 'auto' };
  const subscribe = { id: 'c', destination: DESTINATION, receipt: 's', ...ack };
  await consuming.call(stompFrame('SUBSCRIBE', subscribe));

  const publisher = new Publisher(publishing, ringOf(bodyBytes, persistent), {
    window: persistent ? RECEIPT_WINDOW : windowFor(bodyBytes),
    // With receipts as with AMQP's confirms, the consumer may lag behind, within bounds.
    settled: persistent
      ? () => Math.min(publishing.frames, consuming.frames + windowFor(bodyBytes))
      : () => consuming.frames,
  });
  publishing.onChunk = () => publisher.pump();
  const acker = persistent ? new Acker(consuming) : undefined;
  consuming.onChunk = () => {
    acker?.acknowledge();
    publisher.pump();
  };

  publisher.start();
  await wait(context.sizes.warmupSeconds * 1000);
  const window = new MeasuredWindow(broker, () => consuming.frames);
  await wait(context.sizes.seconds * 1000);
  const figures = window.close('msg');
  publisher.stop();
  const missing = () => publisher.sent - consuming.frames;
  await until(
    () => `${missing()} of ${publisher.sent} messages missing`,
    () => missing() <= 0,
  );
  if (missing() < 0) throw new Error(`${-missing()} messages too many`);

  publishing.close();
  consuming.close();
  const link = await Link.open(context.endpoint);
  await link.deleteQueue(QUEUE);
  await link.close();
  return figures;
}

/** Acks every message singly; the acks of one chunk go out in one write. */
class Acker {
  readonly #link: StompLink;
  #prefix = '';
  #acked = 0;

  constructor(link: StompLink) {
    this.#link = link;
  }

  acknowledge(): void {
    const { frames, first } = this.#link;
    // Tags count from 1, as part of an id that both brokers write alike.
    if (this.#prefix === '') this.#prefix = /\nack:(.*@@)1\n/.exec(first)?.[1] ?? '';
    if (frames > 0 && this.#prefix === '') throw new Error(`no id to ack in ${first}`);
    let acks = '';
    while (this.#acked < frames) {
      this.#acked += 1;
      acks += `ACK\nid:${this.#prefix}${this.#acked}\n\n\0`;
    }
    if (acks !== '') this.#link.socket.write(acks, 'latin1');
  }
}

/** i in its variants. */
export const STOMP_SCENARIOS: readonly Scenario[] = [
  flow(16, false),
  flow(1024, false),
  flow(16, true),
  flow(1024, true),
];
