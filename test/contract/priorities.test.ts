/** Priorities of messages and of consumers. */
import { describe, expect, it } from 'vitest';
import { useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';

const broker = useBroker();

describe('message priorities', () => {
  it('higher first, in order among equals; none is 0, more than the maximum is the maximum', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-priority': 5 });
    for (const [body, priority] of [
      ['0a', 0],
      ['none', undefined],
      ['3a', 3],
      ['5a', 5],
      ['9 is 5', 9],
      ['3b', 3],
      ['255 is 5', 255],
      ['1', 1],
    ] as const) {
      await channel.put('', queue, body, priority === undefined ? {} : { priority });
    }
    expect(await channel.drain(queue)).toEqual(['5a', '9 is 5', '255 is 5', '3a', '3b', '1', '0a', 'none']);
  });

  it('the priority reaches the consumer as it was sent', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-priority': 5 });
    await channel.put('', queue, 'x', { priority: 200 });
    expect((await channel.mustGet(queue)).properties.priority).toBe(200);
  });

  it('a requeued message goes back among its equals', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-priority': 5 });
    for (const body of ['a', 'b']) await channel.put('', queue, body, { priority: 2 });
    const first = await channel.mustGet(queue);
    await channel.put('', queue, 'high', { priority: 4 });
    channel.reject(first.tag, true);
    await eventually(async () => expect(await channel.ready(queue)).toBe(3));
    expect(await channel.drain(queue)).toEqual(['high', 'a', 'b']);
  });

  it('without x-max-priority it does not matter', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    for (const priority of [1, 9, 5]) await channel.put('', queue, String(priority), { priority });
    expect(await channel.drain(queue)).toEqual(['1', '9', '5']);
  });

  it('x-max-priority of 255 tells all 256 apart', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-priority': 255 });
    for (const priority of [254, 0, 255, 128]) await channel.put('', queue, String(priority), { priority });
    expect(await channel.drain(queue)).toEqual(['255', '254', '128', '0']);
  });
});

describe('consumer priorities', () => {
  it('the highest gets all as long as it has room, then the next', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('basic.qos', { prefetchCount: 2 });
    await channel.consume(queue, { consumerTag: 'none' });
    await channel.consume(queue, { consumerTag: 'high', arguments: { 'x-priority': 10 } });
    await channel.consume(queue, { consumerTag: 'low', arguments: { 'x-priority': -10 } });
    for (let i = 0; i < 6; i++) await channel.put('', queue, String(i));
    const tags = (await channel.arrived(queue)).map(({ args }) => args.consumerTag);
    expect(tags).toEqual(['high', 'high', 'none', 'none', 'low', 'low']);
  });

  it('equals take turns', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const tags = ['a', 'b', 'c'];
    for (const consumerTag of tags) await channel.consume(queue, { consumerTag, noAck: true });
    for (let i = 0; i < 9; i++) await channel.put('', queue, String(i));
    const served = (await channel.arrived(queue)).map(({ args }) => args.consumerTag);
    expect(served.length).toBe(9);
    for (const round of [0, 3, 6]) expect(served.slice(round, round + 3).toSorted()).toEqual(tags);
    expect(served.slice(3)).toEqual([...served.slice(0, 3), ...served.slice(0, 3)]);
  });

  it('an x-priority that is no integer is 406', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const refusal = await channel.refused('basic.consume', { queue, arguments: { 'x-priority': 'high' } });
    expect(refusal).toMatchObject({ scope: 'channel', code: 406, method: 'basic.consume' });
    expect(refusal.text).toContain(
      `PRECONDITION_FAILED - invalid arg 'x-priority' for queue '${queue}' ${broker.here}`,
    );
  });
});
