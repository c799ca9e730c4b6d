import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Channel } from '../../broker/port.ts';
import { type Core, Inbox, send, startCore } from '../support/core.ts';

let core: Core;
let channel: Channel;
beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
  await channel.declareQueue({ queue: 'q' });
});
afterEach(() => core.broker.close());

const activity = async (queue: string): Promise<string[]> =>
  (await core.queue(queue))?.consumers.map(({ activityStatus }) => activityStatus) ?? [];

describe('a consumer', () => {
  it('gets nothing before the promise of its tag has resolved', async () => {
    send(channel, 'q', '1');
    const inbox = new Inbox();
    const consuming = channel.consume({ queue: 'q' }, inbox);
    send(channel, 'q', '2');
    expect(inbox.bodies).toEqual([]);
    expect(await consuming).toMatch(/^amq\.ctag-/);
    expect(inbox.bodies).toEqual([]);
    core.clock.turn();
    expect(inbox.bodies).toEqual(['1', '2']);
  });

  it('cancelled before it began gets nothing at all', async () => {
    send(channel, 'q', '1');
    const inbox = new Inbox();
    await channel.cancel(await channel.consume({ queue: 'q' }, inbox));
    core.clock.turn();
    expect(inbox.bodies).toEqual([]);
    expect((await core.queue('q'))?.messagesReady).toBe(1);
  });

  it('cancelled keeps what it holds, and may settle it', async () => {
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    channel.prefetch(2);
    const inbox = await core.consume(channel, 'q');
    await channel.cancel(inbox.tag);
    await channel.cancel(inbox.tag);
    await channel.cancel('never was');
    channel.ack(1);
    channel.reject(2, { requeue: true });
    expect(await core.queue('q')).toMatchObject({ messagesReady: 2, messagesUnacked: 0, consumers: [] });
    expect(inbox.cancelled).toEqual([]);
    expect(await core.drainBodies('q')).toEqual(['2', '3']);
  });

  it('has a tag of its own on its channel; other channels may have the same', async () => {
    await core.consume(channel, 'q', { consumerTag: 't' });
    await expect(channel.consume({ queue: 'q', consumerTag: 't' }, new Inbox())).rejects.toMatchObject({
      kind: 'not-allowed',
      message: "attempt to reuse consumer tag 't'",
    });
    await core.consume(core.channel(), 'q', { consumerTag: 't' });
    await channel.cancel('t');
    await core.consume(channel, 'q', { consumerTag: 't' });
    expect((await core.queue('q'))?.consumers).toHaveLength(2);
  });

  it('without acks is not held back by any prefetch, and leaves nothing unacked', async () => {
    channel.prefetch(1);
    channel.prefetch(1, true);
    const inbox = await core.consume(channel, 'q', { noAck: true });
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    expect(inbox.bodies).toEqual(['1', '2', '3']);
    expect(inbox.delivered.map(({ tag }) => tag)).toEqual([1, 2, 3]);
    expect((await core.queue('q'))?.messagesUnacked).toBe(0);
  });

  it('has the prefetch that was set when it was made; that of the channel holds for all, and at once', async () => {
    channel.prefetch(1);
    const narrow = await core.consume(channel, 'q');
    channel.prefetch(3);
    const wide = await core.consume(channel, 'q');
    for (let number = 0; number < 6; number++) send(channel, 'q', String(number));
    expect([narrow.bodies.length, wide.bodies.length]).toEqual([1, 3]);
    channel.prefetch(2, true);
    channel.ack(wide.delivered[0]?.tag ?? 0);
    channel.ack(wide.delivered[1]?.tag ?? 0);
    expect((await core.queue('q'))?.messagesUnacked).toBe(2);
    channel.ack(wide.delivered[2]?.tag ?? 0);
    expect((await core.queue('q'))?.messagesUnacked).toBe(2);
    channel.prefetch(0, true);
    expect([narrow.bodies.length, wide.bodies.length]).toEqual([1, 5]);
  });

  it('what was fetched by get does not count towards its prefetch', async () => {
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    await channel.get('q');
    await channel.get('q');
    channel.prefetch(1, true);
    expect((await core.consume(channel, 'q')).bodies).toEqual(['3']);
  });

  it('of a paused channel gets nothing until it resumes; others go on', async () => {
    const inbox = await core.consume(channel, 'q');
    channel.pause();
    send(channel, 'q', '1');
    expect(inbox.bodies).toEqual([]);
    const other = await core.consume(core.channel(), 'q');
    send(channel, 'q', '2');
    expect(other.bodies).toEqual(['1', '2']);
    channel.pause();
    channel.resume();
    channel.resume();
    send(channel, 'q', '3');
    send(channel, 'q', '4');
    expect([...inbox.bodies, ...other.bodies].sort()).toEqual(['1', '2', '3', '4']);
    expect(inbox.bodies).toHaveLength(1);
  });

  it.each([1.5, 'high', true])('cannot have the priority %j', async (priority) => {
    const consuming = channel.consume({ queue: 'q', arguments: { 'x-priority': priority } }, new Inbox());
    await expect(consuming).rejects.toMatchObject({ kind: 'precondition-failed' });
    expect((await core.queue('q'))?.consumers).toEqual([]);
  });

  it('is told when its queue is deleted, and may still settle what it holds', async () => {
    send(channel, 'q', '1');
    const inbox = await core.consume(channel, 'q');
    const other = await core.consume(core.channel(), 'q');
    await channel.deleteQueue('q');
    core.clock.turn();
    const told = [{ reason: 'queue-deleted', explanation: "queue 'q' was deleted" }];
    expect([inbox.cancelled, other.cancelled]).toEqual([told, told]);
    channel.ack(1);
    expect(() => channel.ack(1)).toThrow(expect.objectContaining({ kind: 'precondition-failed' }));
  });

  it('hears nothing more when its channel is closed, not even that its queue is deleted', async () => {
    const inbox = await core.consume(channel, 'q');
    const deleting = channel.deleteQueue('q');
    channel.close();
    await deleting;
    core.clock.turn();
    expect(inbox.cancelled).toEqual([]);
  });

  it('gets nothing more of a queue that is being deleted, though others of it free credit at that', async () => {
    for (const body of ['1', '2', '3', '4']) send(channel, 'q', body);
    channel.prefetch(1);
    const first = new Inbox();
    const onCancel = first.onCancel.bind(first);
    first.onCancel = (reason, explanation) => {
      onCancel(reason, explanation);
      channel.ack(0, true);
    };
    await channel.consume({ queue: 'q' }, first);
    const second = await core.consume(channel, 'q');
    expect(await core.channel().deleteQueue('q')).toBe(2);
    expect([first.bodies, second.bodies]).toEqual([['1'], ['2']]);
  });
});

describe('what was delivered of a queue that is deleted', () => {
  const toDead = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' };

  beforeEach(async () => {
    await channel.declareQueue({ queue: 'dead' });
  });

  it.each([{}, { 'x-message-ttl': 1000 }, { 'x-delivery-limit': 0 }, { 'x-delayed-retry-min': 10 }])(
    'is gone, however it is settled, and does not die later: %j',
    async (args) => {
      await channel.declareQueue({ queue: 'doomed', arguments: { ...toDead, ...args } });
      for (const body of ['1', '2', '3']) send(channel, 'doomed', body);
      await core.consume(channel, 'doomed');
      await channel.deleteQueue('doomed');
      await channel.declareQueue({ queue: 'doomed' });
      channel.reject(1);
      channel.reject(2, { requeue: true });
      channel.close();
      core.clock.advance(10_000);
      expect(await core.queue('doomed')).toMatchObject({ messagesReady: 0, messagesUnacked: 0 });
      expect(await core.queue('dead')).toMatchObject({ messagesReady: 0 });
    },
  );

  it.each([
    ['1', {}],
    ['2', {}],
    ['1', { 'x-delayed-retry-min': 10 }],
    ['2', { 'x-delayed-retry-min': 10 }],
  ])('is gone, also when that happens while it comes back, as %s dies: %j', async (dies, args) => {
    const all = { ...toDead, ...args, 'x-message-ttl': 1000, 'x-delivery-limit': 1 };
    await channel.declareQueue({ queue: 'doomed', arguments: all });
    for (const body of ['1', '2']) send(channel, 'doomed', body);
    const tags = [(await channel.get('doomed'))?.deliveryTag, (await channel.get('doomed'))?.deliveryTag];
    channel.reject(tags[Number(dies) - 1] ?? 0, { requeue: true });
    core.clock.advance(10);
    await channel.get('doomed');
    const dead = await core.consume(core.channel(), 'dead', { noAck: true }, () => void channel.deleteQueue('doomed'));
    // One is at its limit, and the consumer of what is dead deletes the queue; the other would go back.
    channel.reject(0, { multiple: true, requeue: true });
    core.clock.advance(10_000);
    expect(dead.bodies).toEqual([dies]);
  });
});

describe('an exclusive consumer', () => {
  const refused = { kind: 'access-refused', message: "queue 'q' in vhost '/' in exclusive use" };

  it('is the only one, until it goes', async () => {
    const first = await core.consume(channel, 'q', { exclusive: true });
    for (const exclusive of [true, false]) {
      await expect(channel.consume({ queue: 'q', exclusive }, new Inbox())).rejects.toMatchObject(refused);
    }
    await channel.cancel(first.tag);
    await core.consume(channel, 'q');
  });

  it('does not come where there is one already', async () => {
    await core.consume(channel, 'q');
    await expect(channel.consume({ queue: 'q', exclusive: true }, new Inbox())).rejects.toMatchObject(refused);
    expect((await core.queue('q'))?.consumers).toHaveLength(1);
  });
});

describe('a single active consumer', () => {
  beforeEach(async () => {
    await channel.declareQueue({ queue: 'single', arguments: { 'x-single-active-consumer': true } });
  });

  it('gets everything; the next in line follows it when it is cancelled', async () => {
    const [one, two, three] = [
      await core.consume(core.channel(), 'single', { noAck: true }),
      await core.consume(channel, 'single', { noAck: true }),
      await core.consume(channel, 'single', { noAck: true }),
    ];
    expect(await activity('single')).toEqual(['single_active', 'waiting', 'waiting']);
    send(channel, 'single', '1');
    await channel.cancel(two.tag);
    send(channel, 'single', '2');
    expect([one.bodies, two.bodies, three.bodies]).toEqual([['1', '2'], [], []]);
    core.connection.openChannel();
    await core.connection.close();
    expect(await activity('single')).toEqual([]);
  });

  it('that goes with its channel leaves what it held to the next, in order', async () => {
    const other = core.channel();
    channel.prefetch(2);
    const first = await core.consume(channel, 'single');
    const next = await core.consume(other, 'single');
    for (const body of ['1', '2', '3']) send(other, 'single', body);
    expect([first.bodies, next.bodies]).toEqual([['1', '2'], []]);
    channel.close();
    expect(next.bodies).toEqual(['1', '2', '3']);
    expect(await activity('single')).toEqual(['single_active']);
  });

  it('of higher priority that comes later waits its turn, and then comes first', async () => {
    const first = await core.consume(channel, 'single', { noAck: true });
    const low = await core.consume(channel, 'single', { noAck: true });
    const high = await core.consume(channel, 'single', { noAck: true, arguments: { 'x-priority': 5 } });
    send(channel, 'single', '1');
    await channel.cancel(first.tag);
    send(channel, 'single', '2');
    expect([first.bodies, low.bodies, high.bodies]).toEqual([['1'], [], ['2']]);
  });

  it('is none that does not know of it yet', async () => {
    const first = await core.consume(channel, 'single');
    const late = new Inbox();
    send(channel, 'single', '1');
    const consuming = channel.consume({ queue: 'single' }, late);
    channel.reject(1, { requeue: true });
    await channel.cancel(first.tag);
    channel.reject(2, { requeue: true });
    expect(late.bodies).toEqual([]);
    await consuming;
    core.clock.turn();
    expect(late.bodies).toEqual(['1']);
  });

  it('without credit keeps the others waiting', async () => {
    channel.prefetch(1);
    const first = await core.consume(channel, 'single');
    const second = await core.consume(core.channel(), 'single');
    for (const body of ['1', '2']) send(channel, 'single', body);
    expect([first.bodies, second.bodies]).toEqual([['1'], []]);
    channel.pause();
    channel.ack(1);
    expect([first.bodies, second.bodies]).toEqual([['1'], []]);
    channel.resume();
    expect([first.bodies, second.bodies]).toEqual([['1', '2'], []]);
  });
});
