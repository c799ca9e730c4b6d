/** Consumers: tags, exclusive, cancelling and being cancelled, prefetch, priorities, single active consumer (B9, B22). */
import { describe, expect, it } from 'vitest';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel, closesConnection } from '../support/raw-channel.ts';

const broker = useBroker();
const CANCEL_NOTIFY = { capabilities: { consumer_cancel_notify: true } };

describe('B9: consumer tags', () => {
  it('B9: the client may choose the tag, or the broker does', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    expect(await channel.consume(queue, { consumerTag: 'mine' })).toBe('mine');
    const first = await channel.consume(queue);
    expect(first).toMatch(/^amq\.ctag-[\w-]{22}$/);
    expect(await channel.consume(queue)).not.toBe(first);
  });

  it('B9: a tag in use is 530, which ends the connection', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { consumerTag: 'mine' });
    expect(await channel.refused('basic.consume', { queue, consumerTag: 'mine' })).toEqual(
      closesConnection(530, "NOT_ALLOWED - attempt to reuse consumer tag 'mine'", 'basic.consume'),
    );
  });

  it('B9: tags belong to a channel, and are free again after a cancel', async () => {
    const connection = await broker.connect();
    const [one, two] = [await connection.openChannel(), await connection.openChannel()];
    const queue = await one.queue(broker.fresh('q'));
    await one.consume(queue, { consumerTag: 'mine' });
    await two.consume(queue, { consumerTag: 'mine' });
    await one.call('basic.cancel', { consumerTag: 'mine' });
    expect(await one.consume(queue, { consumerTag: 'mine' })).toBe('mine');
  });

  it('B9: consume-ok comes before the first delivery', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'waiting');
    channel.send('basic.consume', { queue, consumerTag: 'mine' });
    expect((await channel.next()).name).toBe('basic.consume-ok');
    const delivery = await channel.delivery();
    expect(delivery.args).toEqual({
      consumerTag: 'mine',
      deliveryTag: 1,
      redelivered: false,
      exchange: '',
      routingKey: queue,
    });
  });

  it('B9: no-wait consumes without an answer', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    channel.send('basic.consume', { queue, consumerTag: 'mine', noWait: true });
    channel.publish('', queue, 'hello');
    expect((await channel.delivery()).args.consumerTag).toBe('mine');
  });

  it('B9: consuming from a missing queue is 404', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('basic.consume', { queue: 'nowhere' })).toEqual(
      closesChannel(404, `NOT_FOUND - no queue 'nowhere' ${broker.here}`, 'basic.consume'),
    );
  });

  it('B9: arguments that mean nothing to the broker are accepted', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const args = { 'x-cancel-on-ha-failover': true, 'x-mine': [1, { two: null }] };
    expect(await channel.consume(queue, { consumerTag: 'mine', arguments: args })).toBe('mine');
  });

  it('B9: no-local is accepted and changes nothing', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { noLocal: true });
    channel.publish('', queue, 'my own');
    expect((await channel.delivery()).text).toBe('my own');
  });
});

describe('B9: exclusive consumers', () => {
  const inExclusiveUse = (queue: string): string => `ACCESS_REFUSED - queue '${queue}' ${broker.here} in exclusive use`;

  it('B9: nobody beside an exclusive consumer: 403', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { exclusive: true });
    const other = await broker.channel();
    expect(await other.refused('basic.consume', { queue })).toEqual(
      closesChannel(403, inExclusiveUse(queue), 'basic.consume'),
    );
  });

  it('B9: nor an exclusive consumer beside others: 403', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue);
    expect(await channel.refused('basic.consume', { queue, exclusive: true })).toEqual(
      closesChannel(403, inExclusiveUse(queue), 'basic.consume'),
    );
  });

  it.each(['channel', 'connection'])('B9: it goes with its %s', async (what) => {
    const connection = await broker.connect();
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { exclusive: true });
    await (what === 'channel' ? channel : connection).close();
    await eventually(async () => (await broker.channel()).consume(queue, { exclusive: true }));
  });

  it('B9: once it has gone, others may come', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const consumerTag = await channel.consume(queue, { exclusive: true });
    await channel.call('basic.cancel', { consumerTag });
    await channel.consume(queue);
    expect(await channel.consumers(queue)).toBe(1);
  });
});

describe('cancelling', () => {
  it('a cancelled consumer gets nothing more; what it held it may still ack', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const consumerTag = await channel.consume(queue);
    channel.publish('', queue, 'held');
    const held = await channel.delivery();
    expect(await channel.call('basic.cancel', { consumerTag })).toEqual({ consumerTag });
    await channel.put('', queue, 'stays');
    expect(await channel.arrived(queue)).toEqual([]);
    channel.ack(held.tag);
    expect(await channel.drain(queue)).toEqual(['stays']);
  });

  it('cancelling an unknown tag is answered', async () => {
    const channel = await broker.channel();
    expect(await channel.call('basic.cancel', { consumerTag: 'never' })).toEqual({ consumerTag: 'never' });
  });

  it('no-wait cancels without an answer', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    channel.send('basic.cancel', { consumerTag: await channel.consume(queue), noWait: true });
    await eventually(async () => expect(await channel.consumers(queue)).toBe(0));
    expect(channel.pending).toEqual([]);
  });

  it('the broker cancels when the queue goes, for clients that know of it', async () => {
    const knowing = await broker.channel(CANCEL_NOTIFY);
    const queue = await knowing.queue(broker.fresh('q'));
    const consumerTag = await knowing.consume(queue);
    const deleting = await broker.channel();
    await deleting.call('queue.delete', { queue });
    const cancel = await knowing.next();
    expect([cancel.name, cancel.args]).toEqual(['basic.cancel', { consumerTag, noWait: true }]);
    expect(await knowing.call('basic.cancel', { consumerTag })).toEqual({ consumerTag });
    expect(await knowing.consume(await knowing.queue(broker.fresh('q')), { consumerTag })).toBe(consumerTag);
  });

  it('the channel that deletes hears first that it is done, then of its consumers', async () => {
    const channel = await broker.channel(CANCEL_NOTIFY);
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { consumerTag: 'mine' });
    channel.send('queue.delete', { queue });
    expect([(await channel.next()).name, (await channel.next()).name]).toEqual(['queue.delete-ok', 'basic.cancel']);
  });

  it('every consumer of a deleted queue hears of it, on whatever channel', async () => {
    const connection = await broker.connect(CANCEL_NOTIFY);
    const [one, two] = [await connection.openChannel(), await connection.openChannel()];
    const queue = await one.queue(broker.fresh('q'));
    for (const channel of [one, two]) {
      for (const consumerTag of ['a', 'b']) await channel.consume(queue, { consumerTag });
    }
    await (await broker.channel()).call('queue.delete', { queue });
    for (const channel of [one, two]) {
      const cancels = [await channel.expect('basic.cancel'), await channel.expect('basic.cancel')];
      expect(cancels.map(({ args }) => args.consumerTag).toSorted()).toEqual(['a', 'b']);
    }
  });

  it('the broker says nothing of it to clients that do not', async () => {
    const channel = await broker.channel();
    const [queue, other] = [await channel.queue(broker.fresh('q')), await channel.queue(broker.fresh('q'))];
    await channel.consume(queue);
    await channel.call('queue.delete', { queue });
    expect(await channel.arrived(other)).toEqual([]);
  });

  it('amqplib hears of it as a null message', async () => {
    const channel = await (await broker.amqplib()).createChannel();
    const { queue } = await channel.assertQueue(broker.fresh('q'), { durable: false });
    const heard: unknown[] = [];
    await channel.consume(queue, (message) => heard.push(message));
    await channel.deleteQueue(queue);
    await eventually(() => expect(heard).toEqual([null]));
  });
});

describe('B22: prefetch', () => {
  it('B22: not global: a limit for each new consumer of the channel', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    for (let i = 0; i < 10; i++) await channel.put('', queue, String(i));
    await channel.call('basic.qos', { prefetchCount: 2 });
    await channel.consume(queue, { consumerTag: 'two' });
    await channel.call('basic.qos', { prefetchCount: 3 });
    await channel.consume(queue, { consumerTag: 'three' });
    const deliveries = await channel.arrived(queue);
    const of = (tag: string): number => deliveries.filter(({ args }) => args.consumerTag === tag).length;
    expect([of('two'), of('three')]).toEqual([2, 3]);
    expect(await channel.ready(queue)).toBe(5);
    const last = deliveries.findLast(({ args }) => args.consumerTag === 'two');
    channel.ack(last?.tag ?? 0);
    expect((await channel.delivery()).args.consumerTag).toBe('two');
    expect(await channel.arrived(queue)).toEqual([]);
  });

  it('B22: global: a limit for the channel as a whole, at once', async () => {
    const channel = await broker.channel();
    const [one, two] = [await channel.queue(broker.fresh('q')), await channel.queue(broker.fresh('q'))];
    for (const queue of [one, two]) for (let i = 0; i < 5; i++) await channel.put('', queue, String(i));
    await channel.call('basic.qos', { prefetchCount: 3, global: true });
    await channel.consume(one);
    await channel.consume(two);
    await channel.arrived(one);
    await eventually(async () => expect((await channel.ready(one)) + (await channel.ready(two))).toBe(7));
    channel.ack(0, true);
    await channel.deliveries(3);
    expect(await channel.arrived(two)).toEqual([]);
    await channel.call('basic.qos', { prefetchCount: 5, global: true });
    await channel.deliveries(2);
    expect(await channel.arrived(two)).toEqual([]);
  });

  it('B22: both limits hold together', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    for (let i = 0; i < 10; i++) await channel.put('', queue, String(i));
    await channel.call('basic.qos', { prefetchCount: 2 });
    await channel.call('basic.qos', { prefetchCount: 3, global: true });
    await channel.consume(queue, { consumerTag: 'first' });
    await channel.consume(queue, { consumerTag: 'second' });
    const tags = (await channel.arrived(queue)).map(({ args }) => args.consumerTag);
    expect(tags.filter((tag) => tag === 'first').length).toBe(2);
    expect(tags.length).toBe(3);
  });

  it('B22: qos is answered always; 0 is no limit', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    expect(await channel.call('basic.qos', { prefetchCount: 1 })).toEqual({});
    expect(await channel.call('basic.qos', { prefetchCount: 0, global: true })).toEqual({});
    expect(await channel.call('basic.qos', { prefetchCount: 0 })).toEqual({});
    for (let i = 0; i < 50; i++) channel.publish('', queue, 'x');
    await channel.consume(queue);
    await channel.deliveries(50);
  });

  it('B22: no-ack deliveries and messages got do not count', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    for (let i = 0; i < 10; i++) await channel.put('', queue, String(i));
    await channel.call('basic.qos', { prefetchCount: 1 });
    await channel.mustGet(queue);
    await channel.mustGet(queue);
    await channel.consume(queue, { noAck: true });
    await channel.deliveries(8);
  });

  it('B22: with a prefetch of 1 the next comes after the ack, to whoever is free', async () => {
    const slow = await broker.channel();
    const fast = await broker.channel();
    const queue = await slow.queue(broker.fresh('q'));
    for (const channel of [slow, fast]) {
      await channel.call('basic.qos', { prefetchCount: 1 });
      await channel.consume(queue);
    }
    for (let i = 0; i < 6; i++) slow.publish('', queue, String(i));
    const held = await slow.delivery();
    for (let i = 0; i < 5; i++) fast.ack((await fast.delivery()).tag);
    slow.ack(held.tag);
    await eventually(async () => expect(await slow.ready(queue)).toBe(0));
    expect(await slow.arrived(queue)).toEqual([]);
  });
});

describe('B22: single active consumer', () => {
  it('B22: the first consumer gets all; the next in line takes over', async () => {
    const connection = await broker.connect();
    const channels = [];
    const queue = broker.fresh('q');
    for (let i = 0; i < 3; i++) {
      const channel = await connection.openChannel();
      await channel.queue(queue, { 'x-single-active-consumer': true });
      await channel.consume(queue, { consumerTag: `consumer ${i}`, noAck: true });
      channels.push(channel);
    }
    const [first, second, third] = channels;
    const publisher = await broker.channel();
    for (let i = 0; i < 5; i++) await publisher.put('', queue, String(i));
    expect(await first?.deliveries(5)).toEqual(['0', '1', '2', '3', '4']);
    await first?.call('basic.cancel', { consumerTag: 'consumer 0' });
    await publisher.put('', queue, 'for the second');
    expect(await second?.deliveries(1)).toEqual(['for the second']);
    await second?.close();
    await publisher.put('', queue, 'for the third');
    expect(await third?.deliveries(1)).toEqual(['for the third']);
    expect(first?.pending).toEqual([]);
  });

  it('B22: what the first still holds does not keep the second from the rest', async () => {
    const [first, second] = [await broker.channel(), await broker.channel()];
    const queue = await first.queue(broker.fresh('q'), { 'x-single-active-consumer': true });
    const consumerTag = await first.consume(queue);
    await second.consume(queue);
    first.publish('', queue, 'held');
    const held = await first.delivery();
    await first.call('basic.cancel', { consumerTag });
    await first.put('', queue, 'next');
    expect((await second.delivery()).text).toBe('next');
    first.reject(held.tag, true);
    const again = await second.delivery();
    expect([again.text, again.redelivered]).toEqual(['held', true]);
  });

  it('B22: an exclusive consumer is refused: 403', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-single-active-consumer': true });
    expect(await channel.refused('basic.consume', { queue, exclusive: true })).toEqual(
      closesChannel(403, `ACCESS_REFUSED - queue '${queue}' ${broker.here} in exclusive use`, 'basic.consume'),
    );
  });

  onlyWarren('asks the broker in this process')('B22: the list of consumers says who is active', async () => {
    const channel = await broker.channel();
    const single = await channel.queue(broker.fresh('q'), { 'x-single-active-consumer': true });
    const plain = await channel.queue(broker.fresh('q'));
    for (const consumerTag of ['a', 'b']) await channel.consume(single, { consumerTag });
    await channel.consume(plain, { consumerTag: 'c' });
    const { queues } = await broker.embedded.snapshot(broker.vhost);
    const statusOf = (queue: string): unknown =>
      queues
        .find(({ name }) => name === queue)
        ?.consumers.map(({ consumerTag, active, activityStatus }) => [consumerTag, active, activityStatus]);
    expect(statusOf(single)).toEqual([
      ['a', true, 'single_active'],
      ['b', false, 'waiting'],
    ]);
    expect(statusOf(plain)).toEqual([['c', true, 'up']]);
  });
});
