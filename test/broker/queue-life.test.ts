import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FieldTable } from '../../broker/fields.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, Inbox, send, startCore } from '../support/core.ts';

let core: Core;
let channel: Channel;
beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
});
afterEach(() => core.broker.close());

const exists = async (queue: string): Promise<boolean> => (await core.queue(queue)) !== undefined;

describe('an auto-delete queue', () => {
  beforeEach(async () => {
    await channel.declareQueue({ queue: 'auto', autoDelete: true });
  });

  it('stays until it had a consumer, and goes with the last one', async () => {
    send(channel, 'auto', '1');
    await channel.get('auto', { noAck: true });
    expect(await exists('auto')).toBe(true);
    const [first, second] = [await core.consume(channel, 'auto'), await core.consume(channel, 'auto')];
    await channel.cancel(first.tag);
    expect(await exists('auto')).toBe(true);
    await channel.cancel(second.tag);
    expect(await exists('auto')).toBe(false);
  });

  it('goes with the channel of its last consumer, and what that held with it', async () => {
    send(channel, 'auto', '1');
    await core.consume(channel, 'auto');
    channel.close();
    expect(await exists('auto')).toBe(false);
  });

  it('takes its bindings along, and they the auto-delete exchange', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'fanout', autoDelete: true });
    await channel.bind({ source: 'x', destination: 'auto', destinationKind: 'queue', bindingKey: '' });
    await channel.cancel((await core.consume(channel, 'auto')).tag);
    expect(await core.exchange('x')).toBeUndefined();
  });

  it('declared anew is another one', async () => {
    send(channel, 'auto', 'old');
    channel.prefetch(1);
    const inbox = await core.consume(channel, 'auto');
    await channel.cancel(inbox.tag);
    await channel.declareQueue({ queue: 'auto', autoDelete: true });
    channel.reject(1, { requeue: true });
    expect((await core.queue('auto'))?.messagesReady).toBe(0);
  });
});

describe('an auto-delete exchange', () => {
  it('stays until it had a binding, and goes with the last one', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'direct', autoDelete: true });
    await channel.declareQueue({ queue: 'q' });
    const bindings = ['1', '2'].map((bindingKey) => ({
      source: 'x',
      destination: 'q',
      destinationKind: 'queue' as const,
      bindingKey,
    }));
    for (const binding of bindings) await channel.bind(binding);
    for (const binding of bindings) {
      expect(await core.exchange('x')).toBeDefined();
      await channel.unbind(binding);
    }
    expect(await core.exchange('x')).toBeUndefined();
  });

  it('does not go with bindings that lead to it', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'direct', autoDelete: true });
    const binding = { source: 'amq.direct', destination: 'x', destinationKind: 'exchange', bindingKey: 'k' } as const;
    await channel.bind(binding);
    await channel.unbind(binding);
    expect(await core.exchange('x')).toBeDefined();
  });
});

describe('x-expires', () => {
  const declare = (args: FieldTable = { 'x-expires': 1000 }) =>
    channel.declareQueue({ queue: 'brief', arguments: args });

  it('deletes a queue that nobody uses, whatever is in it', async () => {
    await declare();
    send(channel, 'brief', '1');
    core.clock.advance(999);
    expect(await exists('brief')).toBe(true);
    core.clock.advance(1);
    expect(await exists('brief')).toBe(false);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['declaring it', () => declare()],
    ['asking for it', () => channel.declareQueue({ queue: 'brief', passive: true })],
    ['getting from it, though it is empty', () => channel.get('brief')],
    [
      'consuming from it for a moment',
      async () => channel.cancel(await channel.consume({ queue: 'brief' }, new Inbox())),
    ],
  ])('%s is use', async (_what, use) => {
    await declare();
    core.clock.advance(900);
    await use();
    core.clock.advance(900);
    expect(await exists('brief')).toBe(true);
    core.clock.advance(100);
    expect(await exists('brief')).toBe(false);
  });

  it('publishing to it and purging it is not', async () => {
    await declare();
    core.clock.advance(900);
    send(channel, 'brief', '1');
    await channel.purgeQueue('brief');
    core.clock.advance(100);
    expect(await exists('brief')).toBe(false);
  });

  it('waits while there is a consumer', async () => {
    await declare();
    const inbox = await core.consume(channel, 'brief');
    core.clock.advance(100_000);
    expect(await exists('brief')).toBe(true);
    await channel.cancel(inbox.tag);
    core.clock.advance(999);
    expect(await exists('brief')).toBe(true);
    core.clock.advance(1);
    expect(await exists('brief')).toBe(false);
  });

  it('comes with a policy and goes with it; the shorter time counts', async () => {
    const { administration } = core.broker;
    const policy = { vhost: '/', name: 'p', pattern: '^brief$', applyTo: 'queues', priority: 0 } as const;
    await declare({ 'x-expires': 5000 });
    await administration.setPolicy({ ...policy, definition: { expires: 1000 } });
    core.clock.advance(999);
    await administration.clearPolicy('/', 'p');
    core.clock.advance(4999);
    expect(await exists('brief')).toBe(true);
    core.clock.advance(1);
    expect(await exists('brief')).toBe(false);
  });

  it('leaves no timer behind when the queue is deleted', async () => {
    const before = core.clock.timerCount;
    await declare();
    await channel.deleteQueue('brief');
    expect(core.clock.timerCount).toBe(before);
  });
});

describe('an exclusive queue', () => {
  const locked = {
    kind: 'resource-locked',
    message: expect.stringMatching(
      /^cannot obtain exclusive access to locked queue 'mine' in vhost '\/'\. It could be/,
    ),
  };

  it('is there for its connection only, all its channels', async () => {
    const owner = await core.broker.connect();
    await owner.openChannel().declareQueue({ queue: 'mine', exclusive: true });
    const own = owner.openChannel();
    await own.consume({ queue: 'mine' }, new Inbox());
    await own.declareQueue({ queue: 'mine', exclusive: true });
    for (const call of [
      () => channel.declareQueue({ queue: 'mine', exclusive: true }),
      () => channel.declareQueue({ queue: 'mine', passive: true }),
      () => channel.consume({ queue: 'mine' }, new Inbox()),
      () => channel.get('mine'),
      () => channel.purgeQueue('mine'),
      () => channel.deleteQueue('mine'),
      () => channel.bind({ source: 'amq.direct', destination: 'mine', destinationKind: 'queue', bindingKey: 'k' }),
    ]) {
      await expect(call()).rejects.toMatchObject(locked);
    }
    // Publishing to it is everybody's right.
    send(channel, 'mine', 'hello');
    expect(await core.queue('mine')).toMatchObject({ exclusive: true, owner: owner.peer.name, messagesUnacked: 0 });
  });

  it('is gone with its connection, for whoever wants the name then', async () => {
    const owner = await core.broker.connect();
    const theirs = owner.openChannel();
    await theirs.declareQueue({ queue: 'mine', exclusive: true });
    const inbox = await core.consume(theirs, 'mine');
    await owner.close();
    expect(inbox.cancelled).toEqual([]);
    expect(await channel.declareQueue({ queue: 'mine' })).toEqual({ queue: 'mine', messageCount: 0, consumerCount: 0 });
  });
});

describe('deleting a queue', () => {
  it('on conditions, and how many messages went with it', async () => {
    await channel.declareQueue({ queue: 'q' });
    const inbox = await core.consume(channel, 'q', {}, undefined);
    await expect(channel.deleteQueue('q', { ifUnused: true })).rejects.toMatchObject({
      kind: 'precondition-failed',
      message: "queue 'q' in vhost '/' in use",
    });
    await channel.cancel(inbox.tag);
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    await expect(channel.deleteQueue('q', { ifEmpty: true })).rejects.toMatchObject({
      kind: 'precondition-failed',
      message: "queue 'q' in vhost '/' not empty",
    });
    await channel.get('q');
    expect(await channel.deleteQueue('q', { ifUnused: true })).toBe(2);
    expect(await channel.deleteQueue('q')).toBe(0);
  });

  it('with only unacked messages in it: it counts as empty', async () => {
    await channel.declareQueue({ queue: 'q' });
    send(channel, 'q', '1');
    await channel.get('q');
    expect(await channel.deleteQueue('q', { ifEmpty: true })).toBe(0);
  });

  it('nothing of it dies later: neither what was to expire nor what was to be retried', async () => {
    await channel.declareQueue({ queue: 'dead' });
    const args = {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'dead',
      'x-message-ttl': 10,
      'x-delayed-retry-min': 10,
    };
    await channel.declareQueue({ queue: 'q', arguments: args });
    const before = core.clock.timerCount;
    send(channel, 'q', 'held', { expiration: '10000' });
    channel.reject((await channel.get('q'))?.deliveryTag ?? 0, { requeue: true });
    send(channel, 'q', 'ready');
    await channel.deleteQueue('q');
    expect(core.clock.timerCount).toBeLessThanOrEqual(before);
    core.clock.advance(1000);
    expect(await core.drainBodies('dead')).toEqual([]);
  });
});
