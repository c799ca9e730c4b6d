import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FieldTable } from '../../broker/fields.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, header, send, startCore, text } from '../support/core.ts';

let core: Core;
let channel: Channel;
beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
  await channel.declareQueue({ queue: 'dead' });
});
afterEach(() => core.broker.close());

/** A queue whose dead messages go to the queue `dead`. */
function declare(args: FieldTable, durable = false): Promise<unknown> {
  const dead = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' };
  return channel.declareQueue({ queue: 'q', durable, arguments: { ...dead, ...args } });
}

/** Fetches the next message; its tag, and how often it came back as its header says. */
async function fetch(): Promise<{ tag: number; body: string; count: unknown; redelivered: boolean } | undefined> {
  const got = await channel.get('q');
  if (got === undefined) return undefined;
  const { message, deliveryTag, redelivered } = got;
  return { tag: deliveryTag, body: text(message), count: header(message, 'x-delivery-count'), redelivered };
}

/** Fetches the next message and gives it back; as fetched. */
async function giveBack(returned = false) {
  const fetched = await fetch();
  if (fetched !== undefined) channel.reject(fetched.tag, { requeue: true, returned });
  return fetched;
}

describe('the delivery limit', () => {
  it('counts what comes back, and ends it', async () => {
    await declare({ 'x-delivery-limit': 2 });
    send(channel, 'q', '1', { headers: { own: 'kept' } });
    expect(await giveBack()).toMatchObject({ count: undefined, redelivered: false });
    expect(await giveBack()).toMatchObject({ count: 1n, redelivered: true });
    expect(await giveBack()).toMatchObject({ count: 2n, redelivered: true });
    expect(await fetch()).toBeUndefined();
    const [message] = await core.drain('dead');
    expect(header(message, 'x-first-death-reason')).toBe('delivery_limit');
    // What it is told on the way to a consumer is no part of the message.
    expect([header(message, 'own'), header(message, 'x-delivery-count')]).toEqual(['kept', undefined]);
  });

  it('0 lets nothing come back', async () => {
    await declare({ 'x-delivery-limit': 0 });
    send(channel, 'q', '1');
    await giveBack();
    expect(await core.drainBodies('dead')).toEqual(['1']);
  });

  it('counts a closed channel and recover like a reject', async () => {
    await declare({ 'x-delivery-limit': 2 });
    send(channel, 'q', '1');
    const other = core.channel();
    await other.get('q');
    other.close();
    await fetch();
    await channel.recover();
    expect(await giveBack()).toMatchObject({ count: 2n });
    expect(await core.drainBodies('dead')).toEqual(['1']);
  });

  it('is not there by default, nor is the count; a quorum queue counts without a limit', async () => {
    await declare({});
    send(channel, 'q', '1');
    for (let round = 0; round < 30; round++) await giveBack();
    expect(await fetch()).toMatchObject({ count: undefined, redelivered: true });
    await channel.deleteQueue('q');
    await declare({ 'x-queue-type': 'quorum' }, true);
    send(channel, 'q', '1');
    for (let round = 0; round < 30; round++) await giveBack();
    expect(await fetch()).toMatchObject({ count: 30n });
  });

  it('by a policy; a negative one is none, and of two the lower counts', async () => {
    const policy = { vhost: '/', name: 'p', pattern: '^q$', applyTo: 'queues', priority: 0 } as const;
    const set = (limit: number) =>
      core.broker.administration.setPolicy({ ...policy, definition: { 'delivery-limit': limit } });
    await declare({});
    await set(-1);
    send(channel, 'q', 'unlimited');
    for (let round = 0; round < 5; round++) await giveBack();
    expect(await giveBack()).toMatchObject({ body: 'unlimited', redelivered: true });
    await set(1);
    await giveBack();
    expect(await core.drainBodies('dead')).toEqual(['unlimited']);
    await channel.deleteQueue('q');
    await declare({ 'x-delivery-limit': 0 });
    await set(-1);
    send(channel, 'q', 'limited');
    await giveBack();
    expect(await core.drainBodies('dead')).toEqual(['limited']);
  });
});

describe('delayed retry', () => {
  /** How long the next message waits after it was given back, in milliseconds; undefined when it does not come back. */
  async function wait(returned = false): Promise<number | undefined> {
    await giveBack(returned);
    for (let ms = 0; ms <= 2000; ms += 10) {
      const view = await core.queue('q');
      if (view?.messagesReady === 1) return ms;
      expect(view?.messagesDelayed).toBe(1);
      core.clock.advance(10);
    }
    return undefined;
  }

  async function waits(count: number): Promise<(number | undefined)[]> {
    send(channel, 'q', '1');
    const result = [];
    for (let round = 0; round < count; round++) result.push(await wait());
    return result;
  }

  it('linear: longer by the minimum each time, up to the maximum', async () => {
    await declare({ 'x-delayed-retry-min': 100, 'x-delayed-retry-max': 250 });
    expect(await waits(5)).toEqual([100, 200, 250, 250, 250]);
  });

  it('with a multiplier: longer by that factor each time, up to the maximum', async () => {
    const args = { 'x-delayed-retry-min': 10, 'x-delayed-retry-multiplier': 3, 'x-delayed-retry-max': 500 };
    await declare(args);
    expect(await waits(6)).toEqual([10, 30, 90, 270, 500, 500]);
  });

  it.each([
    ['all', 100, 200],
    ['failed', 100, 0],
    ['returned', 0, 200],
    ['disabled', 0, 0],
  ])('type %s: failed waits %d ms, returned after that %d ms', async (type, failed, returned) => {
    await declare({ 'x-delayed-retry-type': type, 'x-delayed-retry-min': 100 });
    send(channel, 'q', '1');
    expect([await wait(false), await wait(true)]).toEqual([failed, returned]);
  });

  it('a type without a minimum does nothing', async () => {
    await declare({ 'x-delayed-retry-type': 'all' });
    expect(await waits(2)).toEqual([0, 0]);
  });

  it('what waits is passed by others, counts as neither ready nor unacked, and returns to its old place', async () => {
    await declare({ 'x-delayed-retry-min': 100 });
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    await giveBack();
    expect(await core.queue('q')).toMatchObject({ messagesReady: 2, messagesUnacked: 0, messagesDelayed: 1 });
    expect(await fetch()).toMatchObject({ body: '2' });
    expect(await channel.purgeQueue('q')).toBe(1);
    core.clock.advance(100);
    channel.reject(2);
    expect(await core.queue('q')).toMatchObject({ messagesReady: 1, messagesUnacked: 0, messagesDelayed: 0 });
    send(channel, 'q', '4');
    expect(await core.drainBodies('q')).toEqual(['1', '4']);
  });

  it('comes to a consumer that waits for it', async () => {
    await declare({ 'x-delayed-retry-min': 100 });
    const inbox = await core.consume(channel, 'q', {}, ({ tag, redelivered }) => {
      if (!redelivered) channel.reject(tag, { requeue: true });
    });
    send(channel, 'q', '1');
    expect(inbox.takeBodies()).toEqual(['1']);
    core.clock.advance(99);
    expect(inbox.takeBodies()).toEqual([]);
    core.clock.advance(1);
    expect(inbox.takeBodies()).toEqual(['1']);
  });

  it('a multitude that comes back together keeps its order', async () => {
    await declare({ 'x-delayed-retry-min': 100 });
    const bodies = Array.from({ length: 50 }, (_, number) => String(number));
    for (const body of bodies) send(channel, 'q', body);
    const inbox = await core.consume(channel, 'q');
    channel.reject(0, { multiple: true, requeue: true });
    inbox.takeBodies();
    core.clock.advance(100);
    expect(inbox.takeBodies()).toEqual(bodies);
  });

  it('what expires while it waits is not delivered again', async () => {
    await declare({ 'x-delayed-retry-min': 100, 'x-message-ttl': 50 });
    send(channel, 'q', '1');
    await giveBack();
    core.clock.advance(200);
    expect(await core.queue('q')).toMatchObject({ messagesReady: 0, messagesDelayed: 0 });
    expect(await core.drainBodies('dead')).toEqual(['1']);
  });

  it('goes before the delivery limit, which ends it', async () => {
    await declare({ 'x-delayed-retry-min': 100, 'x-delivery-limit': 1 });
    send(channel, 'q', '1');
    expect(await wait()).toBe(100);
    await giveBack();
    expect(await core.drainBodies('dead')).toEqual(['1']);
  });

  it('by a policy', async () => {
    await declare({});
    await core.broker.administration.setPolicy({
      vhost: '/',
      name: 'p',
      pattern: '^q$',
      applyTo: 'queues',
      priority: 0,
      definition: { 'delayed-retry-min': 100, 'delayed-retry-type': 'failed' },
    });
    send(channel, 'q', '1');
    expect([await wait(false), await wait(true)]).toEqual([100, 0]);
  });
});
