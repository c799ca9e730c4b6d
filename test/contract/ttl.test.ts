/** Time to live of messages and queues: B12. */
import { describe, expect, it } from 'vitest';
import type { Table } from '../support/amqp-wire.ts';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import type { RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();

/** A queue that dead-letters to another one; answers both. */
async function withGraveyard(channel: RawChannel, args: Table = {}): Promise<{ queue: string; graveyard: string }> {
  const graveyard = await channel.queue(broker.fresh('graveyard'));
  const deadLetter = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': graveyard };
  return { queue: await channel.queue(broker.fresh('q'), { ...deadLetter, ...args }), graveyard };
}

/** Waits until so many messages are in a queue, then takes them all. */
async function collect(channel: RawChannel, queue: string, count: number): Promise<string[]> {
  await eventually(async () => expect(await channel.ready(queue)).toBe(count));
  return channel.drain(queue);
}

describe('B12: messages', () => {
  it('B12: x-message-ttl holds for every message of the queue', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-message-ttl': 100 });
    for (const body of ['a', 'b']) await channel.put('', queue, body);
    expect(await channel.ready(queue)).toBe(2);
    await eventually(async () => expect(await channel.ready(queue)).toBe(0));
    expect(await channel.get(queue)).toBeUndefined();
  });

  it('B12: expiration holds for one message', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'short', { expiration: '60' });
    await channel.put('', queue, 'for ever');
    expect(await collect(channel, queue, 1)).toEqual(['for ever']);
  });

  it('B12: the lower of the two wins', async () => {
    const channel = await broker.channel();
    const short = await withGraveyard(channel, { 'x-message-ttl': 60 });
    await channel.put('', short.queue, 'short queue', { expiration: '600000' });
    const long = await withGraveyard(channel, { 'x-message-ttl': 600_000 });
    await channel.put('', long.queue, 'short message', { expiration: '60' });
    expect(await collect(channel, short.graveyard, 1)).toEqual(['short queue']);
    expect(await collect(channel, long.graveyard, 1)).toEqual(['short message']);
  });

  onlyWarren('classic queues of RabbitMQ look at the head only')(
    'B12: a message expires wherever it is in the queue',
    async () => {
      const channel = await broker.channel();
      const { queue, graveyard } = await withGraveyard(channel);
      await channel.put('', queue, 'head');
      await channel.put('', queue, 'middle', { expiration: '60' });
      await channel.put('', queue, 'later', { expiration: '60000' });
      await channel.put('', queue, 'tail', { expiration: '120' });
      expect(await collect(channel, graveyard, 2)).toEqual(['middle', 'tail']);
      expect(await channel.drain(queue)).toEqual(['head', 'later']);
    },
  );

  it('B12: a TTL of 0 delivers at once or not at all', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await withGraveyard(channel);
    await channel.put('', queue, 'nobody there', { expiration: '0' });
    expect(await collect(channel, graveyard, 1)).toEqual(['nobody there']);
    await channel.consume(queue, { noAck: true });
    channel.publish('', queue, 'somebody there', { expiration: '0' });
    expect((await channel.delivery()).text).toBe('somebody there');
  });

  it('B12: a queue with x-message-ttl 0 likewise', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await withGraveyard(channel, { 'x-message-ttl': 0 });
    await channel.put('', queue, 'nobody there');
    expect(await collect(channel, graveyard, 1)).toEqual(['nobody there']);
    await channel.consume(queue, { noAck: true });
    channel.publish('', queue, 'somebody there');
    expect((await channel.delivery()).text).toBe('somebody there');
  });

  it('B12: an expired message is never delivered, and its dead letter keeps the order', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await withGraveyard(channel, { 'x-message-ttl': 80 });
    const bodies = Array.from({ length: 20 }, (_, index) => String(index));
    for (const body of bodies) await channel.put('', queue, body);
    expect(await collect(channel, graveyard, 20)).toEqual(bodies);
    await channel.consume(queue);
    expect(await channel.arrived(queue)).toEqual([]);
  });

  it('B12: an unacked message does not expire, but the rest of its time runs on after a requeue', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await withGraveyard(channel, { 'x-message-ttl': 150 });
    await channel.put('', queue, 'held');
    const held = await channel.mustGet(queue);
    await channel.put('', queue, 'not held');
    expect(await collect(channel, graveyard, 1)).toEqual(['not held']);
    channel.reject(held.tag, true);
    expect(await collect(channel, graveyard, 1)).toEqual(['held']);
  });

  it('B12: expiration reaches the consumer as it was sent', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-message-ttl': 50_000 });
    await channel.put('', queue, 'x', { expiration: '60000' });
    expect((await channel.mustGet(queue)).properties.expiration).toBe('60000');
  });

  it('B12: a huge expiration is for ever, not an overflow', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'ten years', { expiration: '315360000000' });
    await channel.put('', queue, 'two months', { expiration: '5184000000' });
    expect(await channel.drain(queue)).toEqual(['ten years', 'two months']);
  });
});

describe('B12: queues', () => {
  const gone = async (queue: string): Promise<void> => {
    const probe = await broker.channel();
    expect(await probe.refused('queue.declare', { queue, passive: true })).toMatchObject({ code: 404 });
  };

  it('B12: x-expires deletes an unused queue, messages and all, without dead letters', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await withGraveyard(channel, { 'x-expires': 100 });
    await channel.put('', queue, 'lost');
    await eventually(() => gone(queue), { everyMs: 150 });
    expect(await channel.ready(graveyard)).toBe(0);
  });

  it('B12: not while it has a consumer', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-expires': 60 });
    const other = await channel.queue(broker.fresh('q'), { 'x-expires': 120 });
    const consumerTag = await channel.consume(queue);
    await eventually(() => gone(other), { everyMs: 150 });
    expect(await channel.consumers(queue)).toBe(1);
    await channel.call('basic.cancel', { consumerTag });
    await eventually(() => gone(queue), { everyMs: 80 });
  });

  it('B12: basic.get and declaring it again begin its time anew', async () => {
    const channel = await broker.channel();
    const args = { 'x-expires': 250 };
    const [got, declared, left] = [broker.fresh('q'), broker.fresh('q'), broker.fresh('q')];
    for (const queue of [got, declared, left]) await channel.queue(queue, args);
    // a mandatory message that comes back tells that a queue is gone without touching the queue
    const exists = async (queue: string): Promise<boolean> => {
      channel.publish('', queue, 'probe', {}, { mandatory: true });
      await channel.call('basic.qos');
      return !channel.pending.some(({ name, args }) => name === 'basic.return' && args.routingKey === queue);
    };
    await eventually(
      async () => {
        await channel.get(got, true);
        await channel.queue(declared, args);
        expect(await exists(left)).toBe(false);
      },
      { everyMs: 20 },
    );
    expect([await exists(got), await exists(declared)]).toEqual([true, true]);
    await eventually(async () => expect([await exists(got), await exists(declared)]).toEqual([false, false]), {
      everyMs: 20,
    });
  });
});
