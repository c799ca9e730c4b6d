/** rabbitmq-client: consumers and publishers that mend themselves, on top of a protocol implementation of its own. */
import { Connection, ConsumerStatus } from 'rabbitmq-client';
import { afterEach, describe, expect, it } from 'vitest';
import { itAdministered, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { amqpUrl, forceClosed, Inbox } from './clients.ts';

const broker = useBroker();
/** Ended after each test, the last opened first. */
const opened: { close(): Promise<void> }[] = [];

function closing<T extends { close(): Promise<void> }>(what: T): T {
  opened.push(what);
  return what;
}

function open(): { rabbit: Connection; errors: Inbox<{ code?: string }>; connects: Inbox<void> } {
  const errors = new Inbox<{ code?: string }>();
  const connects = new Inbox<void>();
  const rabbit = closing(new Connection({ url: amqpUrl(broker), retryLow: 10, retryHigh: 50 }));
  rabbit.on('error', errors.add);
  rabbit.on('connection', connects.add);
  return { rabbit, errors, connects };
}

afterEach(async () => {
  for (const what of opened.splice(0).reverse()) await what.close();
});

describe('the example of its README', () => {
  it('publishes to a topic exchange and to a queue, and a consumer that declares both gets it all', async () => {
    const { rabbit } = open();
    const [queue, exchange] = [broker.fresh('user-events'), broker.fresh('my-events')];
    const received = new Inbox<unknown>();
    const consumer = closing(
      rabbit.createConsumer(
        {
          queue,
          queueOptions: { durable: true },
          qos: { prefetchCount: 2 },
          exchanges: [{ exchange, type: 'topic', autoDelete: true }],
          queueBindings: [{ exchange, routingKey: 'users.*' }],
        },
        async (message) => received.add(message.body),
      ),
    );
    await new Promise<void>((resolve) => consumer.on('ready', resolve));
    const publisher = closing(
      rabbit.createPublisher({
        confirm: true,
        maxAttempts: 2,
        exchanges: [{ exchange, type: 'topic', autoDelete: true }],
      }),
    );
    const alan = { id: 1, name: 'Alan Turing' };
    await publisher.send({ exchange, routingKey: 'users.visit' }, alan);
    await publisher.send({ exchange, routingKey: 'orders.visit' }, 'not for this queue');
    await publisher.send(queue, alan);
    await eventually(() => expect(received.items).toEqual([alan, alan]));
    await consumer.close();
    expect(await rabbit.queueDelete(queue)).toMatchObject({ messageCount: 0 });
  });

  it('calls a remote procedure', async () => {
    const { rabbit } = open();
    const queue = broker.fresh('my-rpc-queue');
    const queueOptions = { exclusive: true };
    const server = closing(
      rabbit.createConsumer({ queue, queueOptions }, async (request, reply) => {
        await reply(`${request.body} pong`);
      }),
    );
    await new Promise<void>((resolve) => server.on('ready', resolve));
    const client = closing(rabbit.createRPCClient({ confirm: true }));
    const replies = await Promise.all(['1', '2', '3'].map((text) => client.send(queue, text)));
    expect(replies.map(({ body }) => body)).toEqual(['1 pong', '2 pong', '3 pong']);
  });
});

describe('what a handler answers', () => {
  it('DROP sends the message to the dead-letter exchange, a thrown error puts it back', async () => {
    const { rabbit } = open();
    const [queue, graveyard] = [broker.fresh('work'), broker.fresh('graveyard')];
    await rabbit.queueDeclare({ queue: graveyard, exclusive: true });
    const attempts = new Inbox<boolean>();
    const consumer = closing(
      rabbit.createConsumer(
        {
          queue,
          queueOptions: {
            exclusive: true,
            arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': graveyard },
          },
        },
        async (message) => {
          attempts.add(message.redelivered);
          if (!message.redelivered) throw new Error('try again');
          return ConsumerStatus.DROP;
        },
      ),
    );
    consumer.on('error', () => {});
    await new Promise<void>((resolve) => consumer.on('ready', resolve));
    const publisher = closing(rabbit.createPublisher({ confirm: true }));
    await publisher.send(queue, 'hopeless');
    const dead = await eventually(async () => {
      const message = await rabbit.basicGet(graveyard);
      if (message === undefined) throw new Error('nothing there yet');
      return message;
    });
    expect(attempts.items).toEqual([false, true]);
    expect(dead).toMatchObject({
      body: 'hopeless',
      headers: { 'x-death': [{ count: 1, reason: 'rejected', queue, 'routing-keys': [queue] }] },
    });
  });
});

describe('what goes wrong', () => {
  it('NOT_FOUND for a queue that is not there; the connection lives on', async () => {
    const { rabbit } = open();
    await expect(rabbit.basicGet('no-such-queue')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: `BasicGet: NOT_FOUND - no queue 'no-such-queue' ${broker.here}`,
    });
    await expect(rabbit.queueDeclare({ exclusive: true })).resolves.toMatchObject({ messageCount: 0 });
  });

  it('a mandatory message that nobody wants comes back', async () => {
    const { rabbit } = open();
    const returned = new Inbox<{ replyCode: number; replyText: string; body?: unknown }>();
    const publisher = closing(rabbit.createPublisher({ confirm: true }));
    publisher.on('basic.return', returned.add);
    await publisher.send({ routingKey: broker.fresh('nobody'), mandatory: true }, 'lost');
    const expected = [{ replyCode: 312, replyText: 'NO_ROUTE', body: 'lost' }];
    await eventually(() => expect(returned.items).toMatchObject(expected));
  });

  it('a consumer whose queue is deleted declares it anew and goes on', async () => {
    const { rabbit } = open();
    const queue = broker.fresh('reborn');
    const received = new Inbox<unknown>();
    const consumer = closing(
      rabbit.createConsumer({ queue, queueOptions: { durable: false } }, async (message) => received.add(message.body)),
    );
    const [errors, readies] = [new Inbox<{ code?: string }>(), new Inbox<void>()];
    consumer.on('error', errors.add);
    consumer.on('ready', readies.add);
    await eventually(() => expect(readies.items).toHaveLength(1));
    await rabbit.queueDelete(queue);
    await eventually(() => expect(readies.items).toHaveLength(2));
    expect(errors.items).toMatchObject([{ code: 'CANCEL_FORCED' }]);
    const publisher = closing(rabbit.createPublisher({ confirm: true }));
    await publisher.send(queue, 'hello again');
    await eventually(() => expect(received.items).toEqual(['hello again']));
    await consumer.close();
    await rabbit.queueDelete(queue);
  });

  itAdministered('320: it connects again, the consumer is back, and the publisher sends on', async () => {
    const { rabbit, errors, connects } = open();
    const queue = broker.fresh('survivor');
    const received = new Inbox<unknown>();
    const consumer = closing(
      rabbit.createConsumer({ queue, queueOptions: { durable: true } }, async (message) => received.add(message.body)),
    );
    const readies = new Inbox<void>();
    consumer.on('error', () => {});
    consumer.on('ready', readies.add);
    const publisher = closing(rabbit.createPublisher({ confirm: true, maxAttempts: 5 }));
    await publisher.send(queue, 'before');
    await eventually(() => expect(readies.items).toHaveLength(1));
    await forceClosed(broker);
    await eventually(() => expect(readies.items).toHaveLength(2));
    await publisher.send(queue, 'after');
    await eventually(() => expect(received.distinct).toEqual(['before', 'after']));
    expect(connects.items).toHaveLength(2);
    expect(errors.items).toMatchObject([{ code: 'CONNECTION_FORCED' }]);
    await consumer.close();
    await rabbit.queueDelete(queue);
  });
});
