/** Settling deliveries (B10), going back to one's place, basic.get (B25), recover. */
import { describe, expect, it } from 'vitest';
import { useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel, type RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();

/** A channel and a queue in which messages with the bodies 1 to `count` wait. */
async function filled(count: number): Promise<{ channel: RawChannel; queue: string }> {
  const publisher = await broker.channel();
  const queue = await publisher.queue(broker.fresh('q'));
  for (let i = 1; i <= count; i++) await publisher.put('', queue, String(i));
  return { channel: await broker.channel(), queue };
}

describe('B10: unknown delivery tags', () => {
  it.each([
    ['basic.ack', { deliveryTag: 82 }, 82],
    ['basic.nack', { deliveryTag: 82 }, 82],
    ['basic.reject', { deliveryTag: 82 }, 82],
    ['basic.ack', { deliveryTag: 82, multiple: true }, 82],
    ['basic.nack', { deliveryTag: 82, multiple: true }, 82],
    ['basic.ack', { deliveryTag: 0 }, 0],
    ['basic.reject', { deliveryTag: 0 }, 0],
  ])('B10: %s %j is 406', async (method, args, tag) => {
    const { channel, queue } = await filled(1);
    await channel.mustGet(queue);
    expect(await channel.refused(method, args)).toEqual(
      closesChannel(406, `PRECONDITION_FAILED - unknown delivery tag ${tag}`, method),
    );
  });

  it('B10: a second ack of the same tag is 406, and the others go back to the queue', async () => {
    const { channel, queue } = await filled(3);
    for (let i = 0; i < 3; i++) await channel.mustGet(queue);
    channel.ack(2);
    channel.ack(2);
    expect(await channel.closed()).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - unknown delivery tag 2', 'basic.ack'),
    );
    const probe = await broker.channel();
    await eventually(async () => expect(await probe.ready(queue)).toBe(2));
    expect(await probe.drain(queue)).toEqual(['1', '3']);
  });

  it('B10: what was taken without ack has no tag to settle', async () => {
    const { channel, queue } = await filled(1);
    const got = await channel.mustGet(queue, true);
    expect(await channel.refused('basic.ack', { deliveryTag: got.tag })).toMatchObject({ code: 406 });
  });

  it('B10: tags belong to the channel', async () => {
    const { channel, queue } = await filled(1);
    await channel.mustGet(queue);
    const other = await broker.channel();
    expect(await other.refused('basic.ack', { deliveryTag: 1 })).toMatchObject({ code: 406 });
  });
});

describe('B10: settling several', () => {
  it('B10: multiple settles all up to and including the tag', async () => {
    const { channel, queue } = await filled(5);
    await channel.consume(queue);
    await channel.deliveries(5);
    channel.ack(3, true);
    await channel.close();
    const probe = await broker.channel();
    await eventually(async () => expect(await probe.drain(queue)).toEqual(['4', '5']));
  });

  it('B10: tag 0 with multiple is all there are; none is no error', async () => {
    const { channel, queue } = await filled(3);
    channel.ack(0, true);
    channel.nack(0, { multiple: true, requeue: true });
    for (let i = 0; i < 3; i++) await channel.mustGet(queue);
    channel.ack(0, true);
    await channel.close();
    expect(await (await broker.channel()).ready(queue)).toBe(0);
  });

  it('B10: multiple spares what was settled before', async () => {
    const { channel, queue } = await filled(4);
    for (let i = 0; i < 4; i++) await channel.mustGet(queue);
    channel.reject(2, true);
    channel.ack(3, true);
    await eventually(async () => expect(await channel.ready(queue)).toBe(1));
    expect((await channel.mustGet(queue, true)).text).toBe('2');
    channel.nack(4, { requeue: true });
    await eventually(async () => expect((await channel.mustGet(queue, true)).text).toBe('4'));
  });

  it('B10: nack multiple with requeue puts all back in their order', async () => {
    const { channel, queue } = await filled(5);
    for (let i = 0; i < 4; i++) await channel.mustGet(queue);
    channel.nack(3, { multiple: true, requeue: true });
    await eventually(async () => expect(await channel.ready(queue)).toBe(4));
    expect(await channel.drain(queue)).toEqual(['1', '2', '3', '5']);
  });

  it('B10: nack and reject without requeue drop', async () => {
    const { channel, queue } = await filled(4);
    for (let i = 0; i < 4; i++) await channel.mustGet(queue);
    channel.nack(2, { multiple: true });
    channel.reject(3);
    await channel.close();
    const probe = await broker.channel();
    await eventually(async () => expect(await probe.drain(queue)).toEqual(['4']));
  });
});

describe('B25: going back', () => {
  it('B25: a requeued message returns to its old place, redelivered', async () => {
    const { channel, queue } = await filled(3);
    const first = await channel.mustGet(queue);
    expect(first.redelivered).toBe(false);
    channel.reject(first.tag, true);
    const again = await channel.mustGet(queue);
    expect([again.text, again.redelivered, again.tag]).toEqual(['1', true, 2]);
    const second = await channel.mustGet(queue);
    expect([second.text, second.redelivered]).toEqual(['2', false]);
    channel.nack(second.tag, { requeue: true });
    channel.nack(again.tag, { requeue: true });
    await eventually(async () => expect(await channel.ready(queue)).toBe(3));
    expect(await channel.drain(queue)).toEqual(['1', '2', '3']);
  });

  it('B25: in whatever order they come back', async () => {
    const { channel, queue } = await filled(6);
    const tags = new Map<string, number>();
    for (let i = 0; i < 5; i++) {
      const got = await channel.mustGet(queue);
      tags.set(got.text, got.tag);
    }
    for (const body of ['1', '4', '2', '5', '3']) {
      channel.nack(tags.get(body) ?? 0, { requeue: true });
      await channel.call('basic.qos');
    }
    await eventually(async () => expect(await channel.ready(queue)).toBe(6));
    expect(await channel.drain(queue)).toEqual(['1', '2', '3', '4', '5', '6']);
  });

  it.each(['the channel', 'the connection', 'the socket'])('B25: also when %s closes', async (what) => {
    const { queue } = await filled(5);
    const connection = await broker.connect();
    const channel = await connection.openChannel();
    await channel.call('basic.qos', { prefetchCount: 3 });
    await channel.consume(queue);
    await channel.deliveries(3);
    if (what === 'the channel') await channel.close();
    else if (what === 'the connection') await connection.close();
    else connection.destroy();
    const probe = await broker.channel();
    await eventually(async () => expect(await probe.ready(queue)).toBe(5));
    const order = [];
    for (let i = 0; i < 5; i++) order.push(await probe.mustGet(queue));
    expect(order.map(({ text, redelivered }) => [text, redelivered])).toEqual([
      ['1', true],
      ['2', true],
      ['3', true],
      ['4', false],
      ['5', false],
    ]);
  });

  it('B25: recover puts all unacked messages of the channel back', async () => {
    const { channel, queue } = await filled(3);
    for (let i = 0; i < 2; i++) await channel.mustGet(queue);
    expect(await channel.call('basic.recover', { requeue: true })).toEqual({});
    await eventually(async () => expect(await channel.ready(queue)).toBe(3));
    expect(await channel.refused('basic.ack', { deliveryTag: 1 })).toMatchObject({ code: 406 });
    const probe = await broker.channel();
    expect([(await probe.mustGet(queue)).redelivered, (await probe.mustGet(queue)).text]).toEqual([true, '2']);
  });

  it('B25: recover redelivers to a consumer of the same channel; recover-async without an answer', async () => {
    const { channel, queue } = await filled(2);
    await channel.consume(queue);
    await channel.deliveries(2);
    channel.send('basic.recover-async', { requeue: true });
    const again = [await channel.delivery(), await channel.delivery()];
    expect(again.map(({ text, redelivered, tag }) => [text, redelivered, tag])).toEqual([
      ['1', true, 3],
      ['2', true, 4],
    ]);
  });
});

describe('B25: basic.get', () => {
  it('B25: message-count is what remains; get-empty when nothing does', async () => {
    const { channel, queue } = await filled(3);
    const counts = [];
    for (let i = 0; i < 3; i++) counts.push((await channel.mustGet(queue)).args.messageCount);
    expect(counts).toEqual([2, 1, 0]);
    channel.send('basic.get', { queue });
    const empty = await channel.next();
    expect([empty.name, empty.args]).toEqual(['basic.get-empty', { clusterId: '' }]);
  });

  it('B25: getting from a missing queue is 404', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('basic.get', { queue: 'nowhere' })).toEqual(
      closesChannel(404, `NOT_FOUND - no queue 'nowhere' ${broker.here}`, 'basic.get'),
    );
  });

  it('B25: gets and deliveries share the tags of the channel', async () => {
    const { channel, queue } = await filled(2);
    expect((await channel.mustGet(queue)).tag).toBe(1);
    await channel.consume(queue);
    expect((await channel.delivery()).tag).toBe(2);
    channel.publish('', queue, 'more');
    expect((await channel.delivery()).tag).toBe(3);
  });

  it('B25: amqplib gets, and gets false', async () => {
    const { queue } = await filled(1);
    const channel = await (await broker.amqplib()).createChannel();
    const got = await channel.get(queue);
    if (got === false) throw new Error('nothing to get');
    expect(got.content.toString()).toBe('1');
    channel.ack(got);
    expect(await channel.get(queue)).toBe(false);
  });
});
