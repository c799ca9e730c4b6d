/** Delivery counts and limits, delayed retries, the time that a delivery may stay unacked (B17). */
import { describe, expect, it } from 'vitest';
import type { Table } from '../support/amqp-wire.ts';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import type { RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();
const countOf = (headers: Table): number | undefined =>
  headers['x-delivery-count'] === undefined ? undefined : Number(headers['x-delivery-count']);

describe('x-delivery-count and x-delivery-limit', () => {
  it('a quorum queue counts redeliveries; the first delivery has no count', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-queue-type': 'quorum' }, { durable: true });
    await channel.put('', queue, 'x', { headers: { mine: 1 } });
    await channel.consume(queue);
    const counts = [];
    for (let round = 0; round < 3; round++) {
      const delivery = await channel.delivery();
      expect(delivery.redelivered).toBe(round > 0);
      expect(delivery.headers.mine).toBe(1);
      counts.push(countOf(delivery.headers));
      channel.reject(delivery.tag, true);
    }
    expect(counts).toEqual([undefined, 1, 2]);
  });

  it('the count belongs to the queue, not to the message that was published', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout');
    const args = { 'x-queue-type': 'quorum' };
    const one = await channel.queue(broker.fresh('q'), args, { durable: true });
    const two = await channel.queue(broker.fresh('q'), args, { durable: true });
    for (const queue of [one, two]) await channel.bind(queue, exchange);
    await channel.put(exchange, '', 'x');
    await channel.consume(one);
    channel.reject((await channel.delivery()).tag, true);
    expect(countOf((await channel.delivery()).headers)).toBe(1);
    await channel.consume(two);
    expect(countOf((await channel.delivery()).headers)).toBeUndefined();
  });

  it('more returns than the limit and the message is dropped', async () => {
    const channel = await broker.channel();
    const args = { 'x-queue-type': 'quorum', 'x-delivery-limit': 2 };
    const queue = await channel.queue(broker.fresh('q'), args, { durable: true });
    await channel.put('', queue, 'troublesome');
    await channel.put('', queue, 'fine');
    await channel.call('basic.qos', { prefetchCount: 1 });
    await channel.consume(queue);
    for (let round = 0; round < 3; round++) {
      const delivery = await channel.delivery();
      expect(delivery.text).toBe('troublesome');
      channel.reject(delivery.tag, true);
    }
    expect((await channel.delivery()).text).toBe('fine');
  });

  it('a closed channel counts as a failed delivery too', async () => {
    const publisher = await broker.channel();
    const args = { 'x-queue-type': 'quorum', 'x-delivery-limit': 1 };
    const queue = await publisher.queue(broker.fresh('q'), args, { durable: true });
    await publisher.put('', queue, 'crashes its reader');
    for (let round = 0; round < 2; round++) {
      const reader = await broker.channel();
      await reader.consume(queue);
      expect(countOf((await reader.delivery()).headers)).toBe(round === 0 ? undefined : 1);
      await reader.close();
    }
    const reader = await broker.channel();
    await reader.consume(queue);
    await publisher.put('', queue, 'next');
    expect((await reader.delivery()).text).toBe('next');
  });

  onlyWarren('RabbitMQ has it for quorum queues only')('x-delivery-limit holds for any queue', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-delivery-limit': 1 });
    await channel.put('', queue, 'x');
    await channel.consume(queue);
    const first = await channel.delivery();
    expect(countOf(first.headers)).toBeUndefined();
    channel.nack(first.tag, { requeue: true });
    const second = await channel.delivery();
    expect(countOf(second.headers)).toBe(1);
    channel.nack(second.tag, { requeue: true });
    expect(await channel.arrived(queue)).toEqual([]);
    expect(await channel.ready(queue)).toBe(0);
  });
});

describe('delayed retry', () => {
  const reason = 'RabbitMQ has it since 4.3, for quorum queues only';

  async function requeueOne(channel: RawChannel, args: Table, how: 'reject' | 'nack'): Promise<string> {
    const queue = await channel.queue(broker.fresh('q'), args);
    await channel.put('', queue, 'x');
    const got = await channel.mustGet(queue);
    if (how === 'reject') channel.reject(got.tag, true);
    else channel.nack(got.tag, { requeue: true });
    await channel.call('basic.qos');
    return queue;
  }

  onlyWarren(reason)('a requeued message waits; it is neither ready nor unacked meanwhile', async () => {
    const channel = await broker.channel();
    const queue = await requeueOne(channel, { 'x-delayed-retry-type': 'all', 'x-delayed-retry-min': 150 }, 'reject');
    const startedAt = performance.now();
    expect(await channel.ready(queue)).toBe(0);
    const { queues } = await broker.embedded.snapshot(broker.vhost);
    expect(queues.find(({ name }) => name === queue)).toMatchObject({
      messagesReady: 0,
      messagesUnacked: 0,
      messagesDelayed: 1,
    });
    await channel.consume(queue);
    const again = await channel.delivery();
    expect([again.text, again.redelivered]).toEqual(['x', true]);
    expect(performance.now() - startedAt).toBeGreaterThan(100);
  });

  onlyWarren(reason)('failed is what was rejected, returned is what was nacked', async () => {
    const channel = await broker.channel();
    for (const [type, how, waits] of [
      ['failed', 'reject', true],
      ['failed', 'nack', false],
      ['returned', 'nack', true],
      ['returned', 'reject', false],
      ['disabled', 'reject', false],
    ] as const) {
      const args = { 'x-delayed-retry-type': type, 'x-delayed-retry-min': 60_000 };
      const queue = await requeueOne(channel, args, how);
      expect(await channel.ready(queue), `${type} ${how}`).toBe(waits ? 0 : 1);
    }
  });

  onlyWarren(reason)('the wait grows with every attempt up to x-delayed-retry-max', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), {
      'x-delayed-retry-type': 'all',
      'x-delayed-retry-min': 60,
      'x-delayed-retry-max': 120,
    });
    await channel.put('', queue, 'x');
    await channel.consume(queue);
    const waits: number[] = [];
    let delivery = await channel.delivery();
    for (let attempt = 1; attempt <= 3; attempt++) {
      const startedAt = performance.now();
      channel.reject(delivery.tag, true);
      delivery = await channel.delivery();
      waits.push(performance.now() - startedAt);
    }
    const [first = 0, second = 0, third = 0] = waits;
    expect(first).toBeGreaterThan(50);
    expect(second).toBeGreaterThan(110);
    expect(third).toBeGreaterThan(110);
  });
});

describe('B17: consumer timeout', () => {
  onlyWarren('RabbitMQ looks only once a minute, and closes the channel')(
    'B17: what stays unacked too long goes back, and the consumer is cancelled; the channel lives on',
    async () => {
      const channel = await broker.channel({ capabilities: { consumer_cancel_notify: true } });
      const queue = await channel.queue(broker.fresh('q'), { 'x-consumer-timeout': 100 });
      const consumerTag = await channel.consume(queue);
      await channel.put('', queue, 'forgotten');
      expect((await channel.delivery()).text).toBe('forgotten');
      const cancel = await channel.next();
      expect([cancel.name, cancel.args.consumerTag]).toEqual(['basic.cancel', consumerTag]);
      await eventually(async () => expect(await channel.ready(queue)).toBe(1));
      expect((await channel.mustGet(queue)).redelivered).toBe(true);
    },
  );

  onlyWarren('see above')('B17: a consumer may have a timeout of its own; acking in time is enough', async () => {
    const channel = await broker.channel({ capabilities: { consumer_cancel_notify: true } });
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { consumerTag: 'slow', arguments: { 'x-consumer-timeout': 150 } });
    for (let i = 0; i < 5; i++) {
      await channel.put('', queue, String(i));
      channel.ack((await channel.delivery()).tag);
    }
    await channel.put('', queue, 'forgotten');
    await channel.delivery();
    expect((await channel.next()).name).toBe('basic.cancel');
  });

  onlyWarren('see above')('B17: a client that does not know of cancels loses the channel: 406', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-consumer-timeout': 100 });
    await channel.consume(queue);
    await channel.put('', queue, 'forgotten');
    await channel.delivery();
    const refusal = await channel.closed();
    expect(refusal).toMatchObject({ scope: 'channel', code: 406 });
    expect(refusal.text).toBe(
      'PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 100 ms. ' +
        'This timeout value can be configured, see consumers doc guide to learn more',
    );
  });
});
