/** Data folders with something in them, and the commands that work on such: for the tests of export and import. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import { AMQP_PROPERTIES } from '../../../broker/encoding/properties.ts';
import { createMessage, type MessageProperties } from '../../../broker/message.ts';
import type { Broker, Channel } from '../../../broker/port.ts';
import { type Ended, warrenCommand } from '../../support/warren-command.ts';

/** A path that is not there yet, in a folder of its own, which is gone when the test has finished. */
export function fresh(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'warren-archive-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, name);
}

/** A broker over the folder, ended when the test has finished. */
export async function open(dataDir: string): Promise<Broker> {
  const broker = await createBroker({ dataDir });
  onTestFinished(() => broker.close());
  return broker;
}

/** A channel of the program's own, in confirm mode. */
export async function channelOf(broker: Broker, vhost = '/'): Promise<Channel> {
  const channel = (await broker.connect(undefined, vhost)).openChannel();
  await channel.confirmSelect();
  return channel;
}

/** Uses a broker over the folder, and ends it. */
export async function within<Result>(dataDir: string, use: (broker: Broker) => Promise<Result>): Promise<Result> {
  const broker = await createBroker({ dataDir });
  try {
    return await use(broker);
  } finally {
    await broker.close();
  }
}

/** A persistent message to a queue. */
export function put(channel: Channel, queue: string, body: string, properties: MessageProperties = {}): void {
  channel.publish(createMessage({ routingKey: queue, body, properties: { deliveryMode: 2, ...properties } }));
}

/** A message as a consumer sees it. */
export interface Taken {
  readonly body: string;
  readonly redelivered: boolean;
  readonly address: string;
  readonly block: string;
}

/** Everything that a queue has ready. */
export async function drain(channel: Channel, queue: string): Promise<Taken[]> {
  const taken: Taken[] = [];
  for (;;) {
    const got = await channel.get(queue, { noAck: true });
    if (got === undefined) return taken;
    const { message, redelivered } = got;
    taken.push({
      body: Buffer.from(message.body).toString(),
      redelivered,
      address: `${message.exchange}/${message.routingKey}`,
      block: Buffer.from(message.encodedProperties(AMQP_PROPERTIES)).toString('hex'),
    });
  }
}

/** The bodies of everything that a queue has ready. */
export async function bodies(channel: Channel, queue: string): Promise<string[]> {
  return (await drain(channel, queue)).map(({ body }) => body);
}

/** Every file with its time and content; what other processes do to `lock` is theirs. */
export function fingerprint(folder: string): Record<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    entries.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const hash = createHash('sha256').update(readFileSync(path)).digest('hex');
      return [path, `${hash} ${statSync(path).mtimeMs}`];
    }),
  );
}

/** `warren export` from the folder. */
export function exported(dataDir: string, ...words: readonly string[]): Promise<Ended> {
  return warrenCommand(['export', '--data-dir', dataDir, ...words]);
}

/** `warren import` into the folder. */
export function imported(dataDir: string, ...words: readonly string[]): Promise<Ended> {
  return warrenCommand(['import', '--data-dir', dataDir, ...words]);
}

/** Lines of an archive, without what differs from one making to the next. */
export function lines(file: string): unknown[] {
  return readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const { created: _, expires_in_ms: expires, ...rest } = JSON.parse(line);
      return { ...rest, expires: expires !== undefined };
    });
}

/** A folder with something of everything that an export has to keep. */
export async function sample(): Promise<string> {
  const dataDir = fresh('data');
  await within(dataDir, async (broker) => {
    const { administration } = broker;
    await administration.putUser({ name: 'ann', password: 'secret', tags: ['monitoring'] });
    await administration.putVhost({ name: 'shop' });
    await administration.setPolicy({
      vhost: '/',
      name: 'short',
      pattern: '^orders$',
      applyTo: 'queues',
      priority: 1,
      definition: { 'max-length': 1000 },
    });
    const channel = await channelOf(broker);
    await channel.declareExchange({ exchange: 'events', type: 'topic', durable: true });
    await channel.declareExchange({
      exchange: 'later',
      type: 'x-delayed-message',
      durable: true,
      arguments: { 'x-delayed-type': 'fanout' },
    });
    await channel.declareQueue({ queue: 'orders', durable: true });
    await channel.declareQueue({ queue: 'urgent', durable: true, arguments: { 'x-max-priority': 5 } });
    await channel.bind({ source: 'events', destination: 'orders', destinationKind: 'queue', bindingKey: 'order.*' });
    await channel.bind({ source: 'later', destination: 'orders', destinationKind: 'queue', bindingKey: '' });
    for (const [number, properties] of [
      { contentType: 'text/plain', headers: { n: 1, long: 2n ** 40n, at: new Date(1e12), bytes: new Uint8Array([7]) } },
      { expiration: '3600000', messageId: 'with-ttl' },
      { headers: { nested: { list: [1, 'x', null, true, 0.5] } }, timestamp: 1_700_000_000, type: 't' },
    ].entries()) {
      const message = { exchange: 'events', routingKey: `order.${number}`, body: `order ${number}` };
      channel.publish(createMessage({ ...message, properties: { deliveryMode: 2, ...properties } }));
    }
    put(channel, 'urgent', 'slow', { priority: 1 });
    put(channel, 'urgent', 'fast', { priority: 9 });
    channel.publish(
      createMessage({
        exchange: 'later',
        body: 'tomorrow',
        properties: { deliveryMode: 2, headers: { 'x-delay': 86_400_000 } },
      }),
    );
    const got = await channel.get('orders', { noAck: false });
    if (got !== undefined) channel.reject(got.deliveryTag, { requeue: true, multiple: false });
    const shop = await channelOf(broker, 'shop');
    await shop.declareQueue({ queue: 'orders', durable: true });
    put(shop, 'orders', 'of the shop');
  });
  return dataDir;
}
