/** The headers of SEND and MESSAGE, and what they are to AMQP. */
import { describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { useStomp } from './scene.ts';

const scene = useStomp();

describe('headers', () => {
  it('properties become properties, the rest headers, the transport nothing', async () => {
    const queue = scene.fresh('headers');
    const client = await scene.connect();
    await client.call(
      'SEND',
      {
        destination: `/queue/${queue}`,
        persistent: true,
        'content-type': 'text/plain',
        'content-encoding': 'gzip',
        priority: 5,
        'correlation-id': 'c\\c1',
        'reply-to': '/queue/r',
        expiration: 60000,
        'amqp-message-id': 'm1',
        timestamp: 1700000000,
        type: 't',
        'user-id': 'guest',
        'app-id': 'app',
        'x-max-length': 9,
        'content-length': 2,
        foo: 'bar\\nbaz',
        'x-arg-x-overflow': 'drop-head',
        constructor: 'c',
      },
      'hi',
    );
    const got = await scene.program.openChannel().get(queue, { noAck: true });
    expect(got?.message.persistent).toBe(true);
    expect(got?.message.properties).toEqual({
      contentType: 'text/plain',
      contentEncoding: 'gzip',
      deliveryMode: 2,
      priority: 5,
      correlationId: 'c:1',
      replyTo: '/queue/r',
      expiration: '60000',
      messageId: 'm1',
      timestamp: 1700000000,
      type: 't',
      userId: 'guest',
      appId: 'app',
      headers: { foo: 'bar\nbaz', constructor: 'c' },
    });
  });

  it('an AMQP message shows its properties, and headers of every type', async () => {
    const queue = scene.fresh('typed');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    const headers = {
      s: 'text',
      n: 5,
      b: true,
      f: 1.5,
      big: 2n ** 60n,
      t: new Date(5000),
      list: [1, 'a'],
      map: { k: 1n },
    };
    const properties = { contentType: 'a/b', deliveryMode: 2, priority: 3, messageId: 'm', timestamp: 9, headers };
    scene.program.openChannel().publish(createMessage({ routingKey: queue, body: 'x', properties }));
    expect((await client.next()).headers).toMatchObject({
      'content-type': 'a/b',
      persistent: 'true',
      priority: '3',
      'amqp-message-id': 'm',
      timestamp: '9',
      s: 'text',
      n: '5',
      b: 'true',
      f: '1.5',
      big: '1152921504606846976',
      t: '5',
      list: '[1,"a"]',
      map: '{"k":1}',
    });
  });

  it.each([
    ['message-id', 'x'],
    ['priority', 'high'],
    ['priority', '256'],
    ['timestamp', 'now'],
    ['mandatory', 'maybe'],
  ])('%s:%s on SEND is refused', async (name, value) => {
    const client = await scene.connect();
    const answer = await client.call('SEND', { destination: '/topic/x', [name]: value }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'Invalid header']);
    expect(answer.body).toContain(`'${name}'`);
  });

  it('queue arguments on SUBSCRIBE have the types that the broker expects', async () => {
    const queue = scene.fresh('args');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', {
      id: 1,
      destination: `/queue/${queue}`,
      'x-message-ttl': 1000,
      'x-max-length': 5,
      'x-dead-letter-exchange': 'amq.topic',
      'x-overflow': 'reject-publish',
      'x-single-active-consumer': true,
      'x-delivery-limit': 3,
      'x-arg-x-max-length-bytes': 'i\\c100',
      'x-arg-x-own': 's\\c5',
    });
    const { queues } = await scene.broker.snapshot('/');
    expect({ ...queues.find(({ name }) => name === queue)?.arguments }).toEqual({
      'x-message-ttl': 1000,
      'x-max-length': 5,
      'x-dead-letter-exchange': 'amq.topic',
      'x-overflow': 'reject-publish',
      'x-single-active-consumer': true,
      'x-delivery-limit': 3,
      'x-max-length-bytes': 100,
      'x-own': '5',
    });
  });

  it('binary bodies with NULs pass, and empty ones', async () => {
    const queue = scene.fresh('binary');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    const body = Buffer.from([0, 1, 0, 255, 10, 0]);
    client.send('SEND', { destination: `/queue/${queue}`, 'content-length': body.length }, body);
    client.send('SEND', { destination: `/queue/${queue}` });
    expect((await client.take(2)).map((frame) => frame.body)).toEqual([body.toString('latin1'), '']);
  });
});

it('a message that an AMQP exchange delays is delayed by x-delay', async () => {
  const channel = scene.program.openChannel();
  await channel.declareExchange({
    exchange: 'late',
    type: 'x-delayed-message',
    arguments: { 'x-delayed-type': 'topic' },
  });
  const client = await scene.connect();
  await client.call('SUBSCRIBE', { id: 1, destination: '/exchange/late/k' });
  client.send('SEND', { destination: '/exchange/late/k', 'x-delay': 60 }, 'second');
  client.send('SEND', { destination: '/exchange/late/k', AMQ_SCHEDULED_DELAY: 30 }, 'first');
  const got = await client.take(2);
  expect(got.map(({ body }) => body)).toEqual(['first', 'second']);
});

it('x-cc sends copies to further keys', async () => {
  const client = await scene.connect();
  await client.call('SUBSCRIBE', { id: 1, destination: '/queue/cc1' });
  await client.call('SUBSCRIBE', { id: 2, destination: '/queue/cc2' });
  client.send('SEND', { destination: '/queue/cc1', 'x-cc': 'cc2' }, 'x');
  expect((await client.take(2)).map(({ headers }) => headers.subscription).sort()).toEqual(['1', '2']);
});
