/** STOMP over a disk that takes nothing for a while: receipts wait for it, publishers are held back, consumers go on. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import type { Broker, Channel } from '../../../broker/port.ts';
import { BEHIND_BYTES } from '../../../broker/storage/log-store.ts';
import type { Gateway } from '../../../gateways/gateway.ts';
import { startStompGateway } from '../../../gateways/stomp/gateway.ts';
import { LISTENER } from '../../interop/clients.ts';
import { eventually } from '../../support/eventually.ts';
import { brokerOn } from '../../support/faulty-disk-broker.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { RawStomp } from '../../support/raw-stomp.ts';

let broker: Broker;
let program: Channel;
let gateway: Gateway;
let letGo: () => void;
const clients: RawStomp[] = [];

beforeEach(async () => {
  const files = new FaultyFiles();
  broker = await brokerOn(files);
  program = (await broker.connect()).openChannel();
  for (const queue of ['q', 'filler']) await program.declareQueue({ queue, durable: true });
  gateway = await startStompGateway(broker, LISTENER);
  letGo = files.hold({ call: 'sync' });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  letGo();
  await broker.close();
  await gateway.close();
});

async function connect(): Promise<RawStomp> {
  const client = await RawStomp.open(gateway.addresses[0]?.port ?? 0);
  clients.push(client);
  expect((await client.login()).command).toBe('CONNECTED');
  return client;
}

/** More than the broker wants to hold in memory until it is on disk. */
async function fallBehind(): Promise<void> {
  const body = new Uint8Array(1024 * 1024);
  for (let count = 0; count * body.length <= BEHIND_BYTES; count += 1) {
    program.publish(createMessage({ routingKey: 'filler', body, properties: { deliveryMode: 2 } }));
    if (count % 8 === 0) await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

it('the receipt of a persistent message waits until it is on disk, others do not wait for it', async () => {
  const client = await connect();
  client.send('SEND', { destination: '/queue/q', persistent: true, receipt: 'on disk' });
  client.send('SEND', { destination: '/queue/q', receipt: 'in memory' });
  expect((await client.next()).headers['receipt-id']).toBe('in memory');
  letGo();
  expect((await client.next()).headers['receipt-id']).toBe('on disk');
});

it('the receipt of DISCONNECT waits for those before it, that of COMMIT for its messages', async () => {
  const client = await connect();
  client.send('SEND', { destination: '/queue/q', persistent: true, receipt: 'on disk' });
  client.send('DISCONNECT', { receipt: 'bye' });
  const other = await connect();
  other.send('BEGIN', { transaction: 't' });
  other.send('SEND', { destination: '/queue/q', persistent: true, transaction: 't' });
  other.send('COMMIT', { transaction: 't', receipt: 'committed' });
  await (await connect()).call('SEND', { destination: '/topic/nobody' });
  expect([client.waiting, other.waiting]).toEqual([[], []]);
  letGo();
  expect((await client.take(2)).map(({ headers }) => headers['receipt-id'])).toEqual(['on disk', 'bye']);
  expect((await other.next()).headers['receipt-id']).toBe('committed');
});

it('publishers are not read while too much waits to be written; consumers go on, and acks are taken', async () => {
  const [publisher, consumer] = [await connect(), await connect()];
  for (const body of ['1', '2']) await publisher.call('SEND', { destination: '/queue/q' }, body);
  await fallBehind();
  publisher.send('SEND', { destination: '/queue/q', receipt: 'held' }, '3');
  const subscribe = { id: 1, destination: '/queue/q', ack: 'client', 'prefetch-count': 1 };
  await consumer.call('SUBSCRIBE', subscribe);
  for (const body of ['1', '2']) {
    const message = await consumer.next();
    expect(message.body).toBe(body);
    consumer.send('ACK', { id: message.headers.ack ?? '' });
  }
  await consumer.call('BEGIN', { transaction: 't' });
  expect([publisher.waiting, consumer.waiting]).toEqual([[], []]);
  letGo();
  expect((await publisher.next()).headers['receipt-id']).toBe('held');
  expect((await consumer.next()).body).toBe('3');
});

it('what came before the end of the socket is carried out, though it had to wait', async () => {
  await fallBehind();
  const client = await connect();
  client.send('SEND', { destination: '/queue/q', receipt: 'held' }, 'x');
  client.socket.end();
  await (await connect()).call('BEGIN', { transaction: 't' });
  expect([client.waiting, client.ended]).toEqual([[], false]);
  letGo();
  expect((await client.next()).headers['receipt-id']).toBe('held');
  await client.end();
  await eventually(async () =>
    expect(await program.declareQueue({ queue: 'q', passive: true })).toMatchObject({ messageCount: 1 }),
  );
});
