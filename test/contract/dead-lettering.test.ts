/** Dead-lettering and its headers, to the field: B13. */
import { describe, expect, it } from 'vitest';
import type { Properties, Table } from '../support/amqp-wire.ts';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import type { RawChannel } from '../support/raw-channel.ts';
import type { Incoming } from '../support/raw-frames.ts';

const broker = useBroker();

interface Grave {
  readonly queue: string;
  /** The dead letter exchange, a topic exchange. */
  readonly exchange: string;
  /** Bound to it with #. */
  readonly graveyard: string;
}

async function dig(channel: RawChannel, args: Table = {}, flags: { durable?: boolean } = {}): Promise<Grave> {
  const exchange = await channel.exchange(broker.fresh('dlx'), 'topic');
  const graveyard = await channel.queue(broker.fresh('graveyard'));
  await channel.bind(graveyard, exchange, '#');
  const queue = await channel.queue(broker.fresh('q'), { 'x-dead-letter-exchange': exchange, ...args }, flags);
  return { queue, exchange, graveyard };
}

/** Waits for a message in a queue and takes it (without ack). */
async function await1(channel: RawChannel, queue: string): Promise<Incoming> {
  return eventually(() => channel.mustGet(queue, true));
}

/** The entries of x-death without their times, which must be recent. */
function deathsOf(message: Incoming): unknown[] {
  const deaths = message.headers['x-death'] as Record<string, unknown>[];
  return deaths.map(({ time, ...rest }) => {
    expect(Math.abs((time as Date).getTime() - Date.now())).toBeLessThan(10_000);
    return rest;
  });
}

/** Publishes, takes and rejects one message. */
async function rejectOne(channel: RawChannel, queue: string, body: string, properties?: Properties): Promise<void> {
  await channel.put('', queue, body, properties);
  channel.reject((await channel.mustGet(queue)).tag);
}

describe('B13: reasons', () => {
  it('B13: rejected', async () => {
    const channel = await broker.channel();
    const { queue, exchange, graveyard } = await dig(channel);
    await rejectOne(channel, queue, 'unwanted', { contentType: 'text/plain', headers: { mine: 1 }, deliveryMode: 2 });
    const dead = await await1(channel, graveyard);
    expect(dead.args).toMatchObject({ exchange, routingKey: queue, redelivered: false });
    expect(dead.text).toBe('unwanted');
    expect(dead.properties).toMatchObject({ contentType: 'text/plain', deliveryMode: 2 });
    expect(deathsOf(dead)).toEqual([{ queue, reason: 'rejected', count: 1n, exchange: '', 'routing-keys': [queue] }]);
    expect(dead.headers).toMatchObject({
      mine: 1,
      'x-first-death-queue': queue,
      'x-first-death-reason': 'rejected',
      'x-first-death-exchange': '',
    });
  });

  it('B13: expired by its own expiration, which is removed and kept as original-expiration', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(channel);
    await channel.put('', queue, 'late', { expiration: '30' });
    const dead = await await1(channel, graveyard);
    expect(dead.properties.expiration).toBeUndefined();
    expect(deathsOf(dead)).toEqual([
      { queue, reason: 'expired', count: 1n, exchange: '', 'routing-keys': [queue], 'original-expiration': '30' },
    ]);
    expect(dead.headers['x-first-death-reason']).toBe('expired');
  });

  it('B13: expired by the TTL of the queue', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(channel, { 'x-message-ttl': 30 });
    await channel.put('', queue, 'late');
    const dead = await await1(channel, graveyard);
    expect(deathsOf(dead)).toEqual([{ queue, reason: 'expired', count: 1n, exchange: '', 'routing-keys': [queue] }]);
  });

  it.each([{ 'x-max-length': 1 }, { 'x-max-length-bytes': 6 }])('B13: maxlen by %j', async (args) => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(channel, args);
    await channel.put('', queue, 'first');
    await channel.put('', queue, 'second');
    const dead = await await1(channel, graveyard);
    expect(dead.text).toBe('first');
    expect(deathsOf(dead)).toEqual([{ queue, reason: 'maxlen', count: 1n, exchange: '', 'routing-keys': [queue] }]);
  });

  it('B13: delivery_limit', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(
      channel,
      { 'x-queue-type': 'quorum', 'x-delivery-limit': 1 },
      { durable: true },
    );
    await channel.put('', queue, 'troublesome');
    await channel.consume(queue);
    for (const count of [undefined, 1]) {
      const delivery = await channel.delivery();
      expect(Number(delivery.headers['x-delivery-count'] ?? 0)).toBe(count ?? 0);
      channel.reject(delivery.tag, true);
    }
    const dead = await await1(channel, graveyard);
    expect(deathsOf(dead)).toEqual([
      { queue, reason: 'delivery_limit', count: 1n, exchange: '', 'routing-keys': [queue] },
    ]);
  });

  it('B13: the time is that of the death, in whole seconds', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(channel);
    const before = Math.floor(Date.now() / 1000) * 1000;
    await rejectOne(channel, queue, 'x');
    const dead = await await1(channel, graveyard);
    const time = (dead.headers['x-death'] as Record<string, unknown>[])[0]?.time;
    expect(time).toBeInstanceOf(Date);
    expect((time as Date).getTime()).toBeGreaterThanOrEqual(before);
    expect((time as Date).getTime()).toBeLessThanOrEqual(Date.now());
  });

  it('B13: not by purging or deleting, nor by being acked', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(channel);
    for (const body of ['acked', 'purged', 'deleted']) await channel.put('', queue, body);
    channel.ack((await channel.mustGet(queue)).tag);
    await channel.call('queue.purge', { queue });
    await channel.put('', queue, 'deleted');
    await channel.call('queue.delete', { queue });
    await channel.put('', graveyard, 'last');
    expect(await channel.drain(graveyard)).toEqual(['last']);
  });
});

describe('B13: routing', () => {
  it('B13: with its original keys unless x-dead-letter-routing-key says otherwise', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout');
    const plain = await dig(channel);
    const keyed = await dig(channel, { 'x-dead-letter-routing-key': 'other.key' });
    await channel.bind(plain.queue, exchange);
    await channel.bind(keyed.queue, exchange);
    await channel.put(exchange, 'some.key', 'x');
    for (const { queue } of [plain, keyed]) channel.reject((await channel.mustGet(queue)).tag);
    const first = await await1(channel, plain.graveyard);
    expect(first.args).toMatchObject({ exchange: plain.exchange, routingKey: 'some.key' });
    expect(deathsOf(first)).toMatchObject([{ exchange, 'routing-keys': ['some.key'] }]);
    const second = await await1(channel, keyed.graveyard);
    expect(second.args).toMatchObject({ exchange: keyed.exchange, routingKey: 'other.key' });
    expect(deathsOf(second)).toMatchObject([{ exchange, 'routing-keys': ['some.key'] }]);
  });

  it('B13: CC keys are followed and told; BCC keys are not told', async () => {
    const channel = await broker.channel();
    const { queue, exchange } = await dig(channel);
    const byCopy = await channel.queue(broker.fresh('q'));
    await channel.bind(byCopy, exchange, 'copy');
    await rejectOne(channel, queue, 'x', { headers: { CC: ['copy'], BCC: ['blind'] } });
    const dead = await await1(channel, byCopy);
    expect(dead.headers.CC).toEqual(['copy']);
    expect(dead.headers.BCC).toBeUndefined();
    expect(deathsOf(dead)).toMatchObject([{ 'routing-keys': [queue, 'copy'] }]);
  });

  it('B13: x-dead-letter-routing-key drops CC too', async () => {
    const channel = await broker.channel();
    const { queue, exchange, graveyard } = await dig(channel, { 'x-dead-letter-routing-key': 'new' });
    const byCopy = await channel.queue(broker.fresh('q'));
    await channel.bind(byCopy, exchange, 'copy');
    await rejectOne(channel, queue, 'x', { headers: { CC: ['copy'] } });
    const dead = await await1(channel, graveyard);
    expect(dead.headers.CC).toBeUndefined();
    expect(deathsOf(dead)).toMatchObject([{ 'routing-keys': [queue, 'copy'] }]);
    expect(await channel.ready(byCopy)).toBe(0);
  });

  it('B13: a missing dead letter exchange drops, and may appear later', async () => {
    const channel = await broker.channel();
    const exchange = broker.fresh('later');
    const queue = await channel.queue(broker.fresh('q'), { 'x-dead-letter-exchange': exchange });
    await rejectOne(channel, queue, 'dropped');
    await channel.exchange(exchange, 'fanout');
    const graveyard = await channel.queue(broker.fresh('graveyard'));
    await channel.bind(graveyard, exchange);
    await rejectOne(channel, queue, 'kept');
    expect((await await1(channel, graveyard)).text).toBe('kept');
  });

  it('B13: nack multiple dead-letters all, in order', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(channel);
    const bodies = ['1', '2', '3', '4', '5'];
    for (const body of bodies) await channel.put('', queue, body);
    for (let i = 0; i < 5; i++) await channel.mustGet(queue);
    channel.nack(0, { multiple: true });
    await eventually(async () => expect(await channel.ready(graveyard)).toBe(5));
    expect(await channel.drain(graveyard)).toEqual(bodies);
  });

  it('B13: an expired message does not expire again where it is buried', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await dig(channel);
    const canary = await channel.queue(broker.fresh('q'), { 'x-message-ttl': 100 });
    await channel.put('', queue, 'x', { expiration: '20' });
    await eventually(async () => expect(await channel.ready(graveyard)).toBe(1));
    await channel.put('', canary, 'x');
    await eventually(async () => expect(await channel.ready(canary)).toBe(0));
    expect(await channel.drain(graveyard)).toEqual(['x']);
  });
});

describe('B13: dying again', () => {
  it('B13: a retry loop counts per queue and reason, newest first; the first death stays told', async () => {
    const channel = await broker.channel();
    const [work, wait] = [broker.fresh('work'), broker.fresh('wait')];
    await channel.queue(work, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': wait });
    await channel.queue(wait, {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': work,
      'x-message-ttl': 20,
    });
    await channel.put('', work, 'again and again');
    await channel.consume(work);
    const seen: unknown[] = [];
    for (let round = 0; round < 3; round++) {
      const delivery = await channel.delivery();
      if (round > 0) {
        seen.push(deathsOf(delivery));
        expect(delivery.headers).toMatchObject({
          'x-first-death-queue': work,
          'x-first-death-reason': 'rejected',
          'x-first-death-exchange': '',
        });
      }
      channel.reject(delivery.tag);
    }
    const entries = (count: bigint): unknown[] => [
      { queue: wait, reason: 'expired', count, exchange: '', 'routing-keys': [wait] },
      { queue: work, reason: 'rejected', count, exchange: '', 'routing-keys': [work] },
    ];
    expect(seen).toEqual([entries(1n), entries(2n)]);
  });

  it('B13: the time stays that of the first death', async () => {
    const channel = await broker.channel();
    const [work, wait] = [broker.fresh('work'), broker.fresh('wait')];
    await channel.queue(work, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': wait });
    await channel.queue(wait, {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': work,
      'x-message-ttl': 100,
    });
    await channel.put('', work, 'x');
    await channel.consume(work);
    channel.reject((await channel.delivery()).tag);
    const timeOf = (message: Incoming): number => {
      const deaths = message.headers['x-death'] as Record<string, unknown>[];
      return Number(deaths.find(({ queue }) => queue === work)?.time);
    };
    let delivery = await channel.delivery();
    const first = timeOf(delivery);
    // times are whole seconds: a later death shows only in the next one
    while (Date.now() < first + 1000) {
      channel.reject(delivery.tag);
      delivery = await channel.delivery();
    }
    channel.reject(delivery.tag);
    expect(timeOf(await channel.delivery())).toBe(first);
  });

  it('B13: two reasons in one queue are two entries', async () => {
    const channel = await broker.channel();
    const [work, wait] = [broker.fresh('work'), broker.fresh('wait')];
    await channel.queue(work, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': wait });
    await channel.queue(wait, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': work });
    await rejectOne(channel, work, 'x');
    const second = await eventually(() => channel.mustGet(wait));
    channel.reject(second.tag);
    await eventually(async () => expect(await channel.ready(work)).toBe(1));
    const third = await channel.mustGet(work);
    channel.reject(third.tag);
    const fourth = await await1(channel, wait);
    expect(deathsOf(fourth)).toMatchObject([
      { queue: work, reason: 'rejected', count: 2n },
      { queue: wait, reason: 'rejected', count: 1n },
    ]);
  });

  it('B13: a cycle without any rejection is dropped', async () => {
    const channel = await broker.channel();
    const [one, two] = [broker.fresh('q'), broker.fresh('q')];
    await channel.queue(one, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': two, 'x-message-ttl': 20 });
    await channel.queue(two, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': one, 'x-message-ttl': 20 });
    await channel.put('', one, 'round and round');
    const alone = broker.fresh('q');
    await channel.queue(alone, { 'x-dead-letter-exchange': '', 'x-message-ttl': 20 });
    await channel.put('', alone, 'back to itself');
    // a message that is still on its way is in one of the queues most of the time: empty ten times in a row means gone
    let emptyInARow = 0;
    await eventually(async () => {
      const ready = (await channel.ready(one)) + (await channel.ready(two)) + (await channel.ready(alone));
      emptyInARow = ready === 0 ? emptyInARow + 1 : 0;
      expect(emptyInARow).toBeGreaterThan(10);
    });
  });

  it('B13: a queue that dead-letters to itself keeps what is rejected', async () => {
    const channel = await broker.channel();
    const queue = broker.fresh('q');
    await channel.queue(queue, { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': queue });
    await channel.put('', queue, 'x');
    for (let round = 0n; round < 3n; round++) {
      const got = await eventually(() => channel.mustGet(queue));
      if (round > 0n) expect(deathsOf(got)).toMatchObject([{ queue, reason: 'rejected', count: round }]);
      channel.reject(got.tag);
    }
  });

  onlyWarren('x-last-death-* came with RabbitMQ 3.13')('B13: the last death is told as well', async () => {
    const channel = await broker.channel();
    const graveyard = await channel.queue(broker.fresh('graveyard'));
    const wait = await channel.queue(broker.fresh('wait'), {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': graveyard,
      'x-message-ttl': 20,
    });
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout');
    await channel.bind(wait, exchange);
    const work = await channel.queue(broker.fresh('work'), { 'x-dead-letter-exchange': exchange });
    await rejectOne(channel, work, 'x');
    expect((await await1(channel, graveyard)).headers).toMatchObject({
      'x-first-death-queue': work,
      'x-first-death-reason': 'rejected',
      'x-first-death-exchange': '',
      'x-last-death-queue': wait,
      'x-last-death-reason': 'expired',
      'x-last-death-exchange': exchange,
    });
  });
});
