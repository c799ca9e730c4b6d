/** A Warren that goes away and comes back at the same address: every client that promises to reconnect does. */
import { AMQPSession } from '@cloudamqp/amqp-client';
import { connect as connectManager } from 'amqp-connection-manager';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { Connection } from 'rabbitmq-client';
import rascal from 'rascal';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import { startAmqpGateway } from '../../gateways/amqp/gateway.ts';
import { eventually } from '../support/eventually.ts';
import { Inbox, LISTENER } from './clients.ts';

const QUEUE = 'across-the-restart';

interface RunningWarren {
  readonly port: number;
  stop(): Promise<void>;
}

let warren: RunningWarren;
let client: { close(): Promise<unknown> } | undefined;

async function start(port: number): Promise<RunningWarren> {
  const broker = await createBroker();
  const gateway = await startAmqpGateway(broker, { ...LISTENER, port });
  return {
    port: gateway.addresses[0]?.port ?? 0,
    async stop() {
      gateway.stopAccepting();
      await broker.close();
      await gateway.close();
    },
  };
}

async function restart(): Promise<void> {
  await warren.stop();
  warren = await start(warren.port);
}

const url = (): string => `amqp://guest:guest@${LISTENER.host}:${warren.port}`;

/** Sends as somebody who was not there before, as soon as the client's consumer is back. */
async function send(text: string): Promise<void> {
  const connection = await connect(url());
  const channel = await connection.createConfirmChannel();
  await eventually(async () => {
    const { queue } = await channel.assertQueue(QUEUE, { durable: true });
    expect(await channel.checkQueue(queue)).toMatchObject({ consumerCount: 1 });
  });
  channel.sendToQueue(QUEUE, Buffer.from(text));
  await channel.waitForConfirms();
  await connection.close();
}

beforeEach(async () => {
  warren = await start(0);
});

afterEach(async () => {
  await client?.close();
  client = undefined;
  await warren.stop();
});

/** One message before and one after, each received by the consumer that the client keeps alive. */
async function survives(received: Inbox<string | null>): Promise<void> {
  await send('before');
  await eventually(() => expect(received.distinct).toEqual(['before']));
  await restart();
  await send('after');
  await eventually(() => expect(received.distinct).toEqual(['before', 'after']));
}

it('amqplib with recovery', async () => {
  const received = new Inbox<string | null>();
  const setup = async (model: ChannelModel): Promise<void> => {
    const channel = await model.createChannel();
    await channel.assertQueue(QUEUE, { durable: true });
    await channel.consume(QUEUE, (message) => received.add(message?.content.toString() ?? null), { noAck: true });
  };
  const connection = await connect(url(), { recovery: { initialDelay: 10, maxDelay: 50, setup } });
  connection.on('error', () => {});
  client = connection;
  await survives(received);
});

it('amqp-connection-manager', async () => {
  const received = new Inbox<string | null>();
  const manager = connectManager(url(), { reconnectTimeInSeconds: 0.02 });
  client = manager;
  const wrapper = manager.createChannel({
    setup: async (channel: Channel) => {
      await channel.assertQueue(QUEUE, { durable: true });
      await channel.consume(QUEUE, (message) => received.add(message?.content.toString() ?? null), { noAck: true });
    },
  });
  await wrapper.waitForConnect();
  await survives(received);
});

it('@cloudamqp/amqp-client', async () => {
  const received = new Inbox<string | null>();
  // Not less: the end of its old socket ends a new connection that is there before it.
  const session = await AMQPSession.connect(url(), { reconnectInterval: 200, maxReconnectInterval: 200, logger: null });
  client = { close: () => session.stop() };
  const queue = await session.queue(QUEUE, { durable: true });
  await queue.subscribe({ noAck: true }, (message) => received.add(message.bodyString()));
  await survives(received);
});

it('rabbitmq-client', async () => {
  const received = new Inbox<string | null>();
  const rabbit = new Connection({ url: url(), retryLow: 10, retryHigh: 50 });
  rabbit.on('error', () => {});
  const consumer = rabbit.createConsumer({ queue: QUEUE, queueOptions: { durable: true }, noAck: true }, (message) => {
    received.add(String(message.body));
  });
  consumer.on('error', () => {});
  client = {
    async close() {
      await consumer.close();
      await rabbit.close();
    },
  };
  await survives(received);
});

it('rascal', async () => {
  const received = new Inbox<string | null>();
  const config = {
    vhosts: {
      '/': {
        connection: { url: url(), retry: { min: 10, max: 50, factor: 1, strategy: 'linear' as const } },
        queues: { [QUEUE]: { options: { durable: true } } },
        subscriptions: { sub: { queue: QUEUE, contentType: 'text/plain', options: { noAck: true } } },
      },
    },
  };
  const application = await rascal.BrokerAsPromised.create(rascal.withDefaultConfig(config));
  application.on('error', () => {});
  client = { close: () => application.shutdown() };
  const subscription = await application.subscribe('sub');
  subscription.on('message', (_message, content) => received.add(String(content))).on('error', () => {});
  await survives(received);
});
