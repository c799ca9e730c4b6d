/** @cloudamqp/amqp-client, over TCP and as a web page uses it: over WebSocket, opened without a subprotocol. */
import { AMQPClient, type AMQPError, AMQPSession, AMQPWebSocketClient } from '@cloudamqp/amqp-client';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { itAdministered, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { amqpUrl, forceClosed, Inbox } from './clients.ts';
import { useWebSocket } from './web-socket.ts';

const broker = useBroker();
const webSocket = useWebSocket(broker);
const clients: AMQPClient[] = [];
const sessions: AMQPSession[] = [];

beforeAll(() => {
  // Browsers have it, and Node from version 22 on.
  Object.assign(globalThis, { WebSocket: globalThis.WebSocket ?? WebSocket });
});

afterEach(async () => {
  await Promise.allSettled(clients.splice(0).map((client) => client.close()));
  await Promise.allSettled(sessions.splice(0).map((session) => session.stop()));
});

/** A connection of the low-level interface; what it complains about is collected, not printed. */
async function open(options: Partial<Pick<AMQPClient, 'frameMax'>> = {}): Promise<AMQPClient> {
  const client = new AMQPClient(amqpUrl(broker));
  Object.assign(client, { logger: null }, options);
  clients.push(client);
  await client.connect();
  return client;
}

async function openSession(url: string, onconnect = (): void => {}): Promise<AMQPSession> {
  const session = await AMQPSession.connect(url, {
    vhost: broker.vhost,
    // Not less: the end of its old socket ends a new connection that is there before it.
    reconnectInterval: 200,
    logger: null,
    onconnect,
  });
  sessions.push(session);
  return session;
}

describe('the low-level example of its README', () => {
  it('publishes and consumes with a callback', async () => {
    const channel = await (await open()).channel();
    const queue = await channel.queueDeclare('', { exclusive: true, autoDelete: false });
    await channel.basicPublish('', queue.name, 'Hello World', { deliveryMode: 2 });
    const received = new Inbox<string | null>();
    const consumer = await channel.basicConsume(queue.name, { noAck: false }, async (message) => {
      received.add(message.bodyToString());
      await message.ack();
      await consumer.cancel();
    });
    await consumer.wait();
    expect(received.items).toEqual(['Hello World']);
    expect(await channel.queueDeclare(queue.name, { passive: true })).toMatchObject({
      messageCount: 0,
      consumerCount: 0,
    });
  });

  it('consumes with an iterator, and leaving the loop ends the consumer', async () => {
    const channel = await (await open()).channel();
    const queue = await channel.queueDeclare('', { exclusive: true, autoDelete: false });
    await channel.basicPublish('', queue.name, 'Hello World');
    const consumer = await channel.basicConsume(queue.name, { noAck: false });
    for await (const message of consumer.messages) {
      expect(message.bodyToString()).toBe('Hello World');
      await message.ack();
      break;
    }
    await eventually(async () => {
      expect(await channel.queueDeclare(queue.name, { passive: true })).toMatchObject({ consumerCount: 0 });
    });
  });

  it('with confirms, a publish resolves to its sequence number', async () => {
    const channel = await (await open()).channel();
    const queue = await channel.queueDeclare('', { exclusive: true, autoDelete: false });
    await channel.confirmSelect();
    const numbers = await Promise.all(['a', 'b', 'c'].map((body) => channel.basicPublish('', queue.name, body)));
    expect(numbers).toEqual([1, 2, 3]);
  });
});

describe('the high-level example of its README', () => {
  it.each([
    { transport: 'TCP', url: () => amqpUrl(broker) },
    { transport: 'WebSocket', url: () => webSocket.url },
  ])('publishes to a queue and subscribes to it over $transport', async ({ url }) => {
    const session = await openSession(url());
    const queue = await session.queue(broker.fresh('my-queue'), { durable: true });
    await queue.publish('Hello World', { deliveryMode: 2 });
    const received = new Inbox<string | null>();
    await queue.subscribe(async (message) => received.add(message.bodyString()));
    await eventually(() => expect(received.items).toEqual(['Hello World']));
    const events = await session.topicExchange(broker.fresh('events'), { durable: false, autoDelete: true });
    await queue.bind(events, 'events.user.#');
    await events.publish('user signed up', { routingKey: 'events.user.created' });
    await eventually(() => expect(received.items).toEqual(['Hello World', 'user signed up']));
    await queue.delete();
  });

  it('calls a remote procedure over direct reply-to', async () => {
    const session = await openSession(amqpUrl(broker));
    const queue = broker.fresh('my_rpc_queue');
    await session.rpcServer(queue, async (message) => `processed:${message.bodyString()}`);
    const reply = await session.rpcCall(queue, 'hello', { timeout: 5000 });
    expect(reply.bodyToString()).toBe('processed:hello');
  });
});

describe('over WebSocket', () => {
  it('a page that opens no subprotocol gets an AMQP connection, with bodies larger than a frame', async () => {
    const client = new AMQPWebSocketClient({ url: webSocket.url, vhost: broker.vhost, logger: null });
    const connection = await client.connect();
    const channel = await connection.channel();
    const queue = await channel.queueDeclare('', { exclusive: true, autoDelete: false });
    const body = 'x'.repeat(300_000);
    await channel.confirmSelect();
    await channel.basicPublish('', queue.name, body);
    const message = await channel.basicGet(queue.name);
    expect(message?.bodyString()).toBe(body);
    await connection.close();
  });

  it('a wrong password is refused with 403', async () => {
    const options = { url: webSocket.url, vhost: broker.vhost, username: 'guest', password: 'wrong', logger: null };
    await expect(new AMQPWebSocketClient(options).connect()).rejects.toThrow(/ACCESS_REFUSED/);
  });
});

describe('what goes wrong', () => {
  it('404: the channel says why it closed, the next one works', async () => {
    const client = await open();
    const channel = await client.channel();
    const reasons = new Inbox<string>();
    channel.onerror = reasons.add;
    await channel.basicPublish('no-such-exchange', 'key', 'x');
    await eventually(() => expect(reasons.items).toHaveLength(1));
    expect(reasons.items[0]).toContain(`NOT_FOUND - no exchange 'no-such-exchange' ${broker.here}`);
    expect(channel.closed).toBe(true);
    const next = await client.channel();
    await expect(next.queueDeclare('', { exclusive: true })).resolves.toMatchObject({ messageCount: 0 });
  });

  it('406: a refused declaration rejects with the reason', async () => {
    const client = await open();
    const name = broker.fresh('inequivalent');
    const channel = await client.channel();
    await channel.queueDeclare(name, { exclusive: true }, { 'x-max-length': 5 });
    const other = await client.channel();
    other.onerror = () => {};
    await expect(other.queueDeclare(name, { exclusive: true })).rejects.toThrow(
      `PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '${name}' ${broker.here}: ` +
        `received none but current is the value '5' of type 'signedint'`,
    );
  });

  it('a consumer whose queue is deleted learns that the server cancelled it', async () => {
    const client = await open();
    const channel = await client.channel();
    const queue = await channel.queueDeclare(broker.fresh('goes-away'), { durable: false });
    const consumer = await channel.basicConsume(queue.name, { noAck: true }, () => {});
    const failure = consumer.wait().catch((error: AMQPError) => error.message);
    await (await client.channel()).queueDelete(queue.name);
    expect(await failure).toBe('Consumer cancelled by the server');
  });

  itAdministered('320: a session connects again and its subscription goes on', async () => {
    const connects = new Inbox<void>();
    const session = await openSession(amqpUrl(broker), connects.add);
    const queue = await session.queue(broker.fresh('recovered'), { durable: true });
    const received = new Inbox<string | null>();
    await queue.subscribe({ prefetch: 10 }, async (message) => received.add(message.bodyString()));
    await queue.publish('before');
    await eventually(() => expect(received.items).toEqual(['before']));
    await forceClosed(broker);
    await eventually(() => expect(connects.items).toHaveLength(2));
    await queue.publish('after');
    await eventually(() => expect(received.distinct).toEqual(['before', 'after']));
    await queue.delete();
  });
});
