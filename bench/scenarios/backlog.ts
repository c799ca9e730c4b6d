/** Scenario e: a backlog is filled with nobody consuming, then drained. */
import { Link } from '../generator/link.ts';
import { Publisher } from '../generator/publisher.ts';
import { uniformRing } from '../generator/source.ts';
import { MeasuredWindow, until } from '../generator/window.ts';
import { ProcessTree } from '../process-usage.ts';
import type { Scenario } from './scenario.ts';

const BODY_BYTES = 100;
const QUEUE = 'bench.e';

export const BACKLOG_SCENARIO: Scenario = {
  id: 'e',
  title: `e. backlog of ${BODY_BYTES} B messages without consumer, then drained`,
  freshBroker: true,
  run: async ({ endpoint, brokerPid, sizes }) => {
    const broker = new ProcessTree(brokerPid);
    const publishing = await Link.open(endpoint);
    await publishing.declareQueue(QUEUE);
    const publisher = new Publisher(publishing, uniformRing('', QUEUE, BODY_BYTES), { total: sizes.backlog });
    let enqueued = 0;
    const filling = new MeasuredWindow(broker, () => enqueued);
    publisher.start();
    const room = () => sizes.backlog - publisher.sent;
    await until(
      () => `${room()} messages unsent`,
      () => room() === 0,
    );
    // The broker's answer stands behind the publishes of the same channel.
    await until(
      () => `${sizes.backlog - enqueued} messages not in the queue`,
      async () => {
        enqueued = await publishing.declareQueue(QUEUE, { passive: true });
        return enqueued >= sizes.backlog;
      },
    );
    const filled = filling.close('msg', 'fill: ');

    const consuming = await Link.open(endpoint);
    const { tally } = consuming.scanner;
    const draining = new MeasuredWindow(broker, () => tally.deliveries);
    await consuming.consume(QUEUE, true);
    await until(
      () => `${sizes.backlog - tally.deliveries} messages undelivered`,
      () => tally.deliveries >= sizes.backlog,
    );
    const drained = draining.close('msg', 'drain: ');
    await publishing.deleteQueue(QUEUE);
    await Promise.all([publishing.close(), consuming.close()]);
    return [...filled, ...drained];
  },
};
