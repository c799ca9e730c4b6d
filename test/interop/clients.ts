/** What the tests of foreign clients share: the broker's address as they take it, and the worst a broker can do to them. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { ListenerOptions } from '../../gateways/listener.ts';
import { SILENT_LOG } from '../../gateways/log.ts';
import { type BrokerUnderTest, isWarren } from '../support/broker-under-test.ts';

const run = promisify(execFile);

/** A listener of Warren's for a test, on any free port unless another is named. */
export const LISTENER = {
  host: '127.0.0.1',
  port: 0,
  connectionsMax: 100,
  handshakeTimeoutMs: 10_000,
  log: SILENT_LOG,
} satisfies ListenerOptions;

/** The broker and virtual host under test as one URL, with a heartbeat that no test lives long enough to feel. */
export function amqpUrl(broker: BrokerUnderTest, password = 'guest'): string {
  return `amqp://guest:${password}@${broker.host}:${broker.port}/${encodeURIComponent(broker.vhost)}?heartbeat=30`;
}

/**
 * Closes every connection to the virtual host under test as an administrator does (320 CONNECTION_FORCED), for tests
 * that are `itAdministered`.
 */
export async function forceClosed(broker: BrokerUnderTest, reason = 'maintenance'): Promise<void> {
  if (isWarren) {
    const { administration } = broker.embedded;
    const connections = await administration.connections();
    await Promise.all(connections.map(({ name }) => administration.closeConnection(name, reason)));
    return;
  }
  const [program = 'rabbitmqctl', ...prefix] = (process.env.AMQP_TEST_RABBITMQCTL ?? '').split(' ');
  await run(program, [...prefix, 'close_all_connections', '--vhost', broker.vhost, reason]);
}

/** Collects what arrives, so that a test can wait for it with `eventually`. */
export class Inbox<T> {
  readonly items: T[] = [];

  readonly add = (item: T): void => {
    this.items.push(item);
  };

  /** Each item once: an ack that is on its way when a connection ends is lost, and the message comes again. */
  get distinct(): T[] {
    return [...new Set(this.items)];
  }
}
