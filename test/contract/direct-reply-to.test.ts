/** Direct reply-to: B14. */
import { describe, expect, it } from 'vitest';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel, closesConnection, type RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();
const REPLY_TO = 'amq.rabbitmq.reply-to';

/** A requester that waits for replies, and the address under which a server sees it. */
async function requester(): Promise<{ channel: RawChannel; address: string; server: RawChannel; queue: string }> {
  const server = await broker.channel();
  const queue = await server.queue(broker.fresh('server'));
  const channel = await broker.channel();
  await channel.consume(REPLY_TO, { noAck: true, consumerTag: 'replies' });
  channel.publish('', queue, 'request', { replyTo: REPLY_TO });
  const request = await eventually(() => server.mustGet(queue, true));
  return { channel, address: request.properties.replyTo ?? '', server, queue };
}

describe('B14: direct reply-to', () => {
  it('B14: the broker rewrites reply-to, and a reply to that address reaches the requester', async () => {
    const { channel, address, server } = await requester();
    expect(address).toMatch(/^amq\.rabbitmq\.reply-to\.[^\s]{16,}$/);
    server.publish('', address, 'reply', { correlationId: '7', headers: { mine: 1 } });
    const reply = await channel.delivery();
    expect(reply.args).toEqual({
      consumerTag: 'replies',
      deliveryTag: 1,
      redelivered: false,
      exchange: '',
      routingKey: address,
    });
    expect(reply.properties).toEqual({ correlationId: '7', headers: { mine: 1 } });
    server.publish('', address, 'another');
    expect([(await channel.delivery()).text]).toEqual(['another']);
  });

  it('B14: every other property of the request stays', async () => {
    const { channel, server, queue } = await requester();
    const properties = { contentType: 'a/b', correlationId: 'c', messageId: 'm', headers: { n: 5n } };
    channel.publish('', queue, 'request', { ...properties, replyTo: REPLY_TO });
    const request = await eventually(() => server.mustGet(queue, true));
    expect(request.properties).toEqual({ ...properties, replyTo: expect.stringContaining(`${REPLY_TO}.`) });
  });

  it('B14: another reply-to is left alone', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    channel.publish('', queue, 'x', { replyTo: 'my own queue' });
    expect((await channel.mustGet(queue)).properties.replyTo).toBe('my own queue');
  });

  it('B14: the consumer must be no-ack: 406', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('basic.consume', { queue: REPLY_TO })).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - reply consumer cannot acknowledge', 'basic.consume'),
    );
  });

  it('B14: one on each channel: 406', async () => {
    const channel = await broker.channel();
    await channel.consume(REPLY_TO, { noAck: true });
    expect(await channel.refused('basic.consume', { queue: REPLY_TO, noAck: true })).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - reply consumer already set', 'basic.consume'),
    );
  });

  it('B14: its tag is taken like any other: 530', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { consumerTag: 'mine' });
    expect(await channel.refused('basic.consume', { queue: REPLY_TO, noAck: true, consumerTag: 'mine' })).toEqual(
      closesConnection(530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'", 'basic.consume'),
    );
  });

  it('B14: a request before there is a consumer is 406', async () => {
    const channel = await broker.channel();
    channel.publish('amq.fanout', '', 'request', { replyTo: REPLY_TO });
    expect(await channel.closed()).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - fast reply consumer does not exist', 'basic.publish'),
    );
  });

  it('B14: the server may ask whether the requester is still there', async () => {
    const { channel, address, server } = await requester();
    expect(await server.call('queue.declare', { queue: address, passive: true })).toEqual({
      queue: address,
      messageCount: 0,
      consumerCount: 1,
    });
    await channel.close();
    await eventually(async () => {
      const probe = await broker.channel();
      expect(await probe.refused('queue.declare', { queue: address, passive: true })).toMatchObject({
        scope: 'channel',
        code: 404,
        method: 'queue.declare',
      });
    });
  });

  it('B14: a mandatory reply to somebody who has gone comes back', async () => {
    const { channel, address, server } = await requester();
    await channel.call('basic.cancel', { consumerTag: 'replies' });
    server.publish('', address, 'too late', {}, { mandatory: true });
    const returned = await server.next();
    expect([returned.name, returned.text]).toEqual(['basic.return', 'too late']);
  });

  onlyWarren('RabbitMQ 3 returns it although it delivers it')(
    'B14: a mandatory reply that arrives does not come back',
    async () => {
      const { channel, address, server } = await requester();
      server.publish('', address, 'in time', {}, { mandatory: true });
      expect((await channel.delivery()).text).toBe('in time');
      expect(await server.call('basic.qos')).toEqual({});
      expect(server.pending).toEqual([]);
    },
  );

  it('B14: replies are confirmed', async () => {
    const { channel, address, server } = await requester();
    expect(await server.put('', address, 'reply')).toBe(true);
    expect((await channel.delivery()).text).toBe('reply');
  });

  it('B14: after a cancel it may be set again', async () => {
    const { channel } = await requester();
    await channel.call('basic.cancel', { consumerTag: 'replies' });
    expect(await channel.consume(REPLY_TO, { noAck: true, consumerTag: 'again' })).toBe('again');
  });

  onlyWarren('RabbitMQ 3 says 404')('B14: the address cannot be bound: 403', async () => {
    const { address, server } = await requester();
    for (const method of ['queue.bind', 'queue.unbind']) {
      const probe = await broker.channel();
      expect(await probe.refused(method, { queue: address, exchange: 'amq.direct', routingKey: 'k' })).toMatchObject({
        scope: 'channel',
        code: 403,
        method,
      });
    }
    expect(await server.call('basic.qos')).toEqual({});
  });

  it('B14: request and reply with amqplib', async () => {
    const requests = await (await broker.amqplib()).createChannel();
    const replies = await (await broker.amqplib()).createChannel();
    const { queue } = await replies.assertQueue(broker.fresh('server'), { durable: false });
    await replies.consume(
      queue,
      (message) => {
        if (message === null) return;
        const { replyTo, correlationId } = message.properties;
        replies.sendToQueue(replyTo, Buffer.from(`${message.content} pong`), { correlationId });
      },
      { noAck: true },
    );
    const heard: string[] = [];
    await requests.consume(
      REPLY_TO,
      (message) => heard.push(`${message?.properties.correlationId}: ${message?.content}`),
      {
        noAck: true,
      },
    );
    for (const correlationId of ['1', '2', '3']) {
      requests.sendToQueue(queue, Buffer.from('ping'), { correlationId, replyTo: REPLY_TO });
    }
    await eventually(() => expect(heard).toEqual(['1: ping pong', '2: ping pong', '3: ping pong']));
  });
});
