/** amqplib, the client most programs on Node use: promises, callbacks, confirms, recovery and every way it fails. */
import { type Channel, type ChannelModel, connect, credentials } from 'amqplib';
import { connect as connectWithCallback } from 'amqplib/callback_api';
import { afterEach, describe, expect, it } from 'vitest';
import { itAdministered, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { amqpUrl, forceClosed, Inbox } from './clients.ts';

const broker = useBroker();
const opened: { close(): Promise<void> }[] = [];

async function open(): Promise<ChannelModel> {
  const connection = await connect(amqpUrl(broker));
  connection.on('error', () => {});
  opened.push(connection);
  return connection;
}

afterEach(async () => {
  await Promise.allSettled(opened.splice(0).map((connection) => connection.close()));
});

/** The next error event of a channel, which amqplib emits when the broker closes it. */
function nextError(channel: Channel): Promise<Error> {
  return new Promise((resolve) => channel.once('error', resolve));
}

describe('the example of its README', () => {
  it('sends to a queue on one channel and consumes on another, with promises', async () => {
    const queue = broker.fresh('tasks');
    const connection = await open();
    const listener = await connection.createChannel();
    await listener.assertQueue(queue);
    const received = new Inbox<string>();
    await listener.consume(queue, (message) => {
      if (message === null) return;
      received.add(message.content.toString());
      listener.ack(message);
    });
    const sender = await connection.createChannel();
    expect(sender.sendToQueue(queue, Buffer.from('something to do'))).toBe(true);
    await eventually(() => expect(received.items).toEqual(['something to do']));

    await listener.close();
    expect(await sender.checkQueue(queue)).toEqual({ queue, messageCount: 0, consumerCount: 0 });
    await sender.deleteQueue(queue);
  });

  it('does the same with callbacks', async () => {
    const queue = broker.fresh('tasks');
    const content = await new Promise<string>((resolve, reject) => {
      connectWithCallback(amqpUrl(broker), (failure, connection) => {
        if (failure) return reject(failure);
        connection.createChannel((listenerFailure, listener) => {
          if (listenerFailure) return reject(listenerFailure);
          listener.assertQueue(queue, { autoDelete: true });
          listener.consume(queue, (message) => {
            if (message === null) return;
            listener.ack(message);
            connection.close(() => resolve(message.content.toString()));
          });
          connection.createChannel((senderFailure, sender) => {
            if (senderFailure) return reject(senderFailure);
            sender.assertQueue(queue, { autoDelete: true });
            sender.sendToQueue(queue, Buffer.from('something to do'));
          });
        });
      });
    });
    expect(content).toBe('something to do');
  });
});

describe('properties and headers', () => {
  it('come back as they were sent', async () => {
    const channel = await (await open()).createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    expect(queue).toMatch(/^amq\.gen-/);
    const headers = {
      text: 'Grüße',
      count: 7,
      big: 2 ** 40,
      pi: 3.5,
      yes: true,
      none: null,
      list: [1, 'two'],
      in: { a: 1 },
    };
    channel.sendToQueue(queue, Buffer.from('{}'), {
      headers,
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      persistent: true,
      priority: 3,
      correlationId: 'c',
      replyTo: 'r',
      expiration: 60_000,
      messageId: 'm',
      timestamp: 1_700_000_000,
      type: 't',
      userId: 'guest',
      appId: 'a',
    });
    const message = await eventually(async () => {
      const got = await channel.get(queue, { noAck: true });
      if (got === false) throw new Error('nothing there yet');
      return got;
    });
    expect(message.fields).toMatchObject({ exchange: '', routingKey: queue, redelivered: false, messageCount: 0 });
    expect(message.properties).toMatchObject({
      headers,
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      deliveryMode: 2,
      priority: 3,
      correlationId: 'c',
      replyTo: 'r',
      expiration: '60000',
      messageId: 'm',
      timestamp: 1_700_000_000,
      type: 't',
      userId: 'guest',
      appId: 'a',
    });
  });

  it('bodies of many frames and of none arrive whole', async () => {
    const channel = await (await open()).createConfirmChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    const sizes = [0, 1, 131_064, 131_065, 1_000_000];
    for (const size of sizes) channel.sendToQueue(queue, Buffer.alloc(size, 'abcdefg'));
    await channel.waitForConfirms();
    for (const size of sizes) {
      const message = await channel.get(queue, { noAck: true });
      expect(message !== false && message.content.equals(Buffer.alloc(size, 'abcdefg'))).toBe(true);
    }
  });
});

describe('publisher confirms and returns', () => {
  it('waitForConfirms settles all that was published; a mandatory message that nobody wants comes back first', async () => {
    const channel = await (await open()).createConfirmChannel();
    const events: string[] = [];
    channel.on('return', ({ fields, content }) => {
      const { replyCode, replyText } = fields as unknown as { replyCode: number; replyText: string };
      events.push(`return ${replyCode} ${replyText} ${content.toString()}`);
    });
    channel.publish('amq.direct', broker.fresh('nobody'), Buffer.from('lost'), { mandatory: true }, (failure) => {
      events.push(failure ? 'nack' : 'confirm');
    });
    await channel.waitForConfirms();
    expect(events).toEqual(['return 312 NO_ROUTE lost', 'confirm']);
  });

  it('a full queue that rejects gives the callback an error', async () => {
    const channel = await (await open()).createConfirmChannel();
    const { queue } = await channel.assertQueue('', {
      exclusive: true,
      maxLength: 1,
      arguments: { 'x-overflow': 'reject-publish' },
    });
    channel.sendToQueue(queue, Buffer.from('1'));
    await channel.waitForConfirms();
    channel.sendToQueue(queue, Buffer.from('2'));
    await expect(channel.waitForConfirms()).rejects.toThrow('message nacked');
    expect(await channel.checkQueue(queue)).toMatchObject({ messageCount: 1 });
  });
});

describe('channel errors leave the connection alone', () => {
  it('404 for an exchange that is not there', async () => {
    const connection = await open();
    const channel = await connection.createChannel();
    const failure = nextError(channel);
    channel.publish('no-such-exchange', 'key', Buffer.from('x'));
    expect(await failure).toMatchObject({
      code: 404,
      classId: 60,
      methodId: 40,
      message: expect.stringContaining(`NOT_FOUND - no exchange 'no-such-exchange' ${broker.here}`),
    });
    const second = await connection.createChannel();
    await expect(second.assertQueue('', { exclusive: true })).resolves.toMatchObject({ messageCount: 0 });
  });

  it('404 for a queue that is not there', async () => {
    const channel = await (await open()).createChannel();
    channel.on('error', () => {});
    await expect(channel.checkQueue('no-such-queue')).rejects.toMatchObject({
      code: 404,
      message: `Operation failed: QueueDeclare; 404 (NOT-FOUND) with message "NOT_FOUND - no queue 'no-such-queue' ${broker.here}"`,
    });
  });

  it('406 for a queue declared with other arguments', async () => {
    const connection = await open();
    const queue = broker.fresh('inequivalent');
    await (await connection.createChannel()).assertQueue(queue, { durable: false, autoDelete: true });
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    const text = `inequivalent arg 'durable' for queue '${queue}' ${broker.here}: received 'true' but current is 'false'`;
    await expect(channel.assertQueue(queue, { durable: true, autoDelete: true })).rejects.toMatchObject({
      code: 406,
      message: `Operation failed: QueueDeclare; 406 (PRECONDITION-FAILED) with message "PRECONDITION_FAILED - ${text}"`,
    });
    await (await connection.createChannel()).deleteQueue(queue);
  });

  it('no error for an exclusive queue declared durable once and not the other time: it is never durable', async () => {
    const channel = await (await open()).createChannel();
    const queue = broker.fresh('exclusive');
    await channel.assertQueue(queue, { exclusive: true, durable: true });
    await expect(channel.assertQueue(queue, { exclusive: true, durable: false })).resolves.toMatchObject({ queue });
  });

  it('406 for an ack of what was never delivered', async () => {
    const channel = await (await open()).createChannel();
    const failure = nextError(channel);
    channel.ack({ fields: { deliveryTag: 82 } } as Parameters<Channel['ack']>[0]);
    expect(await failure).toMatchObject({
      code: 406,
      message: expect.stringContaining('PRECONDITION_FAILED - unknown delivery tag 82'),
    });
  });
});

describe('a consumer', () => {
  it('is told with a null message when its queue is deleted', async () => {
    const connection = await open();
    const channel = await connection.createChannel();
    const queue = broker.fresh('goes-away');
    await channel.assertQueue(queue, { durable: false });
    const received = new Inbox<unknown>();
    await channel.consume(queue, received.add);
    await (await connection.createChannel()).deleteQueue(queue);
    await eventually(() => expect(received.items).toEqual([null]));
  });

  it('gets back what was not acked when its channel closes, marked as redelivered', async () => {
    const connection = await open();
    const queue = broker.fresh('redelivered');
    const first = await connection.createChannel();
    await first.assertQueue(queue, { exclusive: true });
    await first.prefetch(2);
    const held = new Inbox<string>();
    await first.consume(queue, (message) => held.add(message?.content.toString() ?? 'cancelled'));
    for (const text of ['1', '2', '3']) first.sendToQueue(queue, Buffer.from(text));
    await eventually(() => expect(held.items).toEqual(['1', '2']));
    await first.close();
    const second = await connection.createChannel();
    const again = new Inbox<[string | undefined, boolean | undefined]>();
    await second.consume(queue, (message) => again.add([message?.content.toString(), message?.fields.redelivered]));
    await eventually(() =>
      expect(again.items).toEqual([
        ['1', true],
        ['2', true],
        ['3', false],
      ]),
    );
  });

  it('sends what it nacks without requeue to the dead-letter exchange', async () => {
    const channel = await (await open()).createChannel();
    const { queue: graveyard } = await channel.assertQueue('', { exclusive: true });
    const { queue } = await channel.assertQueue('', {
      exclusive: true,
      deadLetterExchange: '',
      deadLetterRoutingKey: graveyard,
    });
    await channel.consume(queue, (message) => message && channel.nack(message, false, false));
    const dead = new Inbox<{ headers: Record<string, unknown>; content: string }>();
    await channel.consume(graveyard, (message) => {
      if (message) dead.add({ headers: message.properties.headers ?? {}, content: message.content.toString() });
    });
    channel.sendToQueue(queue, Buffer.from('bad'));
    const [message] = await eventually(() => {
      expect(dead.items).toHaveLength(1);
      return dead.items;
    });
    expect(message).toMatchObject({
      content: 'bad',
      headers: {
        'x-first-death-queue': queue,
        'x-first-death-reason': 'rejected',
        'x-first-death-exchange': '',
        'x-death': [{ count: 1, reason: 'rejected', queue, exchange: '', 'routing-keys': [queue] }],
      },
    });
  });
});

describe('request and reply', () => {
  it('works over amq.rabbitmq.reply-to', async () => {
    const connection = await open();
    const server = await connection.createChannel();
    const { queue } = await server.assertQueue('', { exclusive: true });
    await server.consume(
      queue,
      (request) => {
        if (request === null) return;
        const { replyTo, correlationId } = request.properties;
        server.sendToQueue(replyTo, Buffer.from(`${request.content.toString()} pong`), { correlationId });
      },
      { noAck: true },
    );
    const client = await connection.createChannel();
    const replies = new Inbox<[string, string]>();
    await client.consume(
      'amq.rabbitmq.reply-to',
      (reply) => reply && replies.add([reply.properties.correlationId, reply.content.toString()]),
      { noAck: true },
    );
    client.sendToQueue(queue, Buffer.from('ping'), { replyTo: 'amq.rabbitmq.reply-to', correlationId: '1' });
    await eventually(() => expect(replies.items).toEqual([['1', 'ping pong']]));
  });
});

describe('opening a connection', () => {
  it('works with AMQPLAIN too', async () => {
    const options = { credentials: credentials.amqplain('guest', 'guest') };
    const connection = await connect(amqpUrl(broker), options);
    opened.push(connection);
    await expect(connection.createChannel()).resolves.toBeDefined();
  });

  it('is refused with 403 for a wrong password', async () => {
    await expect(connect(amqpUrl(broker, 'wrong'))).rejects.toThrow(
      '403 (ACCESS-REFUSED) with message "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. ' +
        'For details see the broker logfile."',
    );
  });

  it('is refused with connection.close for a virtual host that is not there', async () => {
    const { host, port } = broker;
    await expect(connect(`amqp://guest:guest@${host}:${port}/no-such-vhost`)).rejects.toThrow(
      'Expected ConnectionOpenOk; got <ConnectionClose channel:0>',
    );
  });
});

describe('a connection that the broker closes', () => {
  itAdministered('emits no error for 320, only close with the reason', async () => {
    const connection = await connect(amqpUrl(broker));
    const errors = new Inbox<Error>();
    connection.on('error', errors.add);
    const closed = new Promise<Error | undefined>((resolve) => connection.once('close', resolve));
    await forceClosed(broker);
    expect(String(await closed)).toContain(`320 (CONNECTION-FORCED) with message "CONNECTION_FORCED - maintenance"`);
    expect(errors.items).toEqual([]);
  });

  itAdministered('comes back by itself with recovery, and its setup runs again', async () => {
    const queue = broker.fresh('recovered');
    const received = new Inbox<string>();
    const connects = new Inbox<unknown>();
    const connection = await connect(amqpUrl(broker), {
      recovery: {
        initialDelay: 10,
        async setup(model: ChannelModel): Promise<void> {
          const channel = await model.createChannel();
          await channel.assertQueue(queue, { durable: true });
          await channel.consume(queue, (message) => {
            if (message === null) return;
            received.add(message.content.toString());
            channel.ack(message);
          });
        },
      },
    });
    opened.push(connection);
    connection.on('error', () => {});
    connection.on('connect', connects.add);
    await forceClosed(broker);
    await eventually(() => expect(connects.items).toHaveLength(1));
    const channel = await connection.createChannel();
    channel.sendToQueue(queue, Buffer.from('after the break'));
    await eventually(() => expect(received.items).toEqual(['after the break']));
    await channel.deleteQueue(queue);
  });
});
