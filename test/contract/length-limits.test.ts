/** Queues of limited length: drop-head, reject-publish, reject-publish-dlx. Only ready messages count. */
import { describe, expect, it } from 'vitest';
import type { Table } from '../support/amqp-wire.ts';
import { useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import type { RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();

/** Publishes these bodies in turn; answers which were acked. */
async function putAll(channel: RawChannel, queue: string, ...bodies: string[]): Promise<boolean[]> {
  const acked = [];
  for (const body of bodies) acked.push(await channel.put('', queue, body));
  return acked;
}

async function withGraveyard(channel: RawChannel, args: Table): Promise<{ queue: string; graveyard: string }> {
  const graveyard = await channel.queue(broker.fresh('graveyard'));
  const deadLetter = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': graveyard };
  return { queue: await channel.queue(broker.fresh('q'), { ...deadLetter, ...args }), graveyard };
}

describe('drop-head', () => {
  it.each([{}, { 'x-overflow': 'drop-head' }])('drops the oldest and acks the newest: %j', async (args) => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 2, ...args });
    expect(await putAll(channel, queue, 'a', 'b', 'c', 'd')).toEqual([true, true, true, true]);
    expect(await channel.drain(queue)).toEqual(['c', 'd']);
  });

  it('counts the octets of bodies with x-max-length-bytes', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length-bytes': 10 });
    await putAll(channel, queue, '12345', '12345', '678', '');
    expect(await channel.drain(queue)).toEqual(['12345', '678', '']);
    await putAll(channel, queue, 'eleven octs', 'fits');
    expect(await channel.drain(queue)).toEqual(['fits']);
  });

  it('keeps to both limits', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 3, 'x-max-length-bytes': 10 });
    await putAll(channel, queue, '1', '2', '3', '4');
    expect(await channel.ready(queue)).toBe(3);
    await putAll(channel, queue, '123456789');
    expect(await channel.drain(queue)).toEqual(['4', '123456789']);
  });

  it('a limit of 0 keeps nothing, but delivers to who is there', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 0 });
    await putAll(channel, queue, 'a');
    expect(await channel.ready(queue)).toBe(0);
    await channel.consume(queue);
    await putAll(channel, queue, 'b');
    expect(await channel.deliveries(1)).toEqual(['b']);
  });

  it('does not count unacked messages', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 2 });
    await putAll(channel, queue, 'a', 'b');
    const held = [await channel.mustGet(queue), await channel.mustGet(queue)];
    await putAll(channel, queue, 'c', 'd');
    expect(await channel.ready(queue)).toBe(2);
    channel.ack(held[0]?.tag ?? 0);
    expect(await channel.drain(queue)).toEqual(['c', 'd']);
  });

  it('holds for what is requeued too: the head goes', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 1 });
    await putAll(channel, queue, 'a');
    const held = await channel.mustGet(queue);
    await putAll(channel, queue, 'b');
    channel.reject(held.tag, true);
    expect(await channel.arrived(queue)).toEqual([]);
    await eventually(async () => expect(await channel.drain(queue)).toEqual(['b']));
  });

  it('dead-letters what it drops, with the reason maxlen', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await withGraveyard(channel, { 'x-max-length': 1 });
    await putAll(channel, queue, 'a', 'b');
    await eventually(async () => expect(await channel.ready(graveyard)).toBe(1));
    const dead = await channel.mustGet(graveyard);
    expect(dead.text).toBe('a');
    expect(dead.headers['x-first-death-reason']).toBe('maxlen');
  });

  it('drops the head of a priority queue, which is its highest priority, as RabbitMQ does', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 2, 'x-max-priority': 5 });
    await channel.put('', queue, 'low', { priority: 1 });
    await channel.put('', queue, 'high', { priority: 5 });
    await channel.put('', queue, 'middle', { priority: 3 });
    expect(await channel.drain(queue)).toEqual(['middle', 'low']);
  });
});

describe('reject-publish', () => {
  it('nacks what does not fit, and takes more when there is room again', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 2, 'x-overflow': 'reject-publish' });
    expect(await putAll(channel, queue, 'a', 'b', 'c')).toEqual([true, true, false]);
    expect((await channel.mustGet(queue, true)).text).toBe('a');
    expect(await putAll(channel, queue, 'd', 'e')).toEqual([true, false]);
    expect(await channel.drain(queue)).toEqual(['b', 'd']);
  });

  it('drops silently without confirms', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    for (const body of ['a', 'b', 'c']) channel.publish('', queue, body);
    expect(await channel.drain(queue)).toEqual(['a']);
  });

  it('a mandatory message that does not fit is not returned: it was routed', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 0, 'x-overflow': 'reject-publish' });
    await channel.call('confirm.select');
    channel.publish('', queue, 'no room', {}, { mandatory: true });
    expect((await channel.next()).name).toBe('basic.nack');
  });

  it('does not dead-letter what it refuses', async () => {
    const channel = await broker.channel();
    const { queue, graveyard } = await withGraveyard(channel, { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    expect(await putAll(channel, queue, 'a', 'b')).toEqual([true, false]);
    await channel.put('', graveyard, 'last');
    expect(await channel.drain(graveyard)).toEqual(['last']);
  });

  it('counts octets too', async () => {
    const channel = await broker.channel();
    const args = { 'x-max-length-bytes': 5, 'x-overflow': 'reject-publish' };
    const queue = await channel.queue(broker.fresh('q'), args);
    expect(await putAll(channel, queue, '123', '45', '6')).toEqual([true, true, false]);
  });

  it('a waiting consumer takes it in any case', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    await channel.consume(queue);
    expect(await putAll(channel, queue, 'a', 'b', 'c')).toEqual([true, true, true]);
  });
});

describe('reject-publish-dlx', () => {
  it('nacks and dead-letters what does not fit', async () => {
    const channel = await broker.channel();
    const args = { 'x-max-length': 1, 'x-overflow': 'reject-publish-dlx' };
    const { queue, graveyard } = await withGraveyard(channel, args);
    expect(await putAll(channel, queue, 'a', 'b')).toEqual([true, false]);
    await eventually(async () => expect(await channel.ready(graveyard)).toBe(1));
    const dead = await channel.mustGet(graveyard);
    expect([dead.text, dead.headers['x-first-death-reason']]).toEqual(['b', 'maxlen']);
    expect(await channel.drain(queue)).toEqual(['a']);
  });
});
