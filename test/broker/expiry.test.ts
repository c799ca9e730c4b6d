import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FieldTable } from '../../broker/fields.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, header, send, startCore } from '../support/core.ts';

const DAY = 24 * 3600 * 1000;

let core: Core;
let channel: Channel;
beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
  await channel.declareQueue({ queue: 'dead' });
});
afterEach(() => core.broker.close());

/** A queue whose dead messages go to the queue `dead`. */
function declare(args: FieldTable = {}): Promise<unknown> {
  const dead = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' };
  return channel.declareQueue({ queue: 'q', arguments: { ...dead, ...args } });
}

const ready = async (): Promise<number | undefined> => (await core.queue('q'))?.messagesReady;

describe('message expiry', () => {
  it('a message lives its time, and then is dead', async () => {
    await declare();
    send(channel, 'q', '1', { expiration: '1000' });
    core.clock.advance(999);
    expect(await ready()).toBe(1);
    core.clock.advance(1);
    expect(await ready()).toBe(0);
    const [message] = await core.drain('dead');
    expect(header(message, 'x-first-death-reason')).toBe('expired');
    expect(message?.properties.expiration).toBeUndefined();
  });

  it('the shorter of what the message and the queue say', async () => {
    await declare({ 'x-message-ttl': 500 });
    for (const expiration of ['200', '900', undefined]) {
      send(channel, 'q', String(expiration), expiration === undefined ? {} : { expiration });
    }
    core.clock.advance(200);
    expect(await core.drainBodies('dead')).toEqual(['200']);
    core.clock.advance(300);
    expect(await core.drainBodies('dead')).toEqual(['900', 'undefined']);
  });

  it('leaves from the middle and the end, not only from the head', async () => {
    await declare();
    for (const [body, expiration] of [
      ['1', undefined],
      ['2', '10'],
      ['3', '1000'],
      ['4', '5'],
    ] as const) {
      send(channel, 'q', body, expiration === undefined ? {} : { expiration });
    }
    core.clock.advance(10);
    expect(await core.drainBodies('dead')).toEqual(['4', '2']);
    expect(await core.drainBodies('q')).toEqual(['1', '3']);
  });

  it('0 means now or never', async () => {
    await declare({ 'x-message-ttl': 0 });
    send(channel, 'q', 'never');
    expect(await ready()).toBe(0);
    const inbox = await core.consume(channel, 'q');
    send(channel, 'q', 'now');
    expect(inbox.bodies).toEqual(['now']);
    expect(await core.drainBodies('dead')).toEqual(['never']);
  });

  it('does not happen to what somebody holds, but when that comes back', async () => {
    await declare({ 'x-message-ttl': 100 });
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    const inbox = await core.consume(channel, 'q');
    core.clock.advance(1000);
    expect(await core.queue('q')).toMatchObject({ messagesUnacked: 3 });
    channel.ack(1);
    channel.reject(0, { multiple: true, requeue: true });
    expect(inbox.bodies).toEqual(['1', '2', '3']);
    expect(await core.drainBodies('dead')).toEqual(['2', '3']);
  });

  it('the time counts from the publish, whatever happens in between', async () => {
    await declare({ 'x-message-ttl': 100 });
    send(channel, 'q', '1');
    core.clock.advance(60);
    await channel.get('q');
    core.clock.advance(20);
    channel.reject(1, { requeue: true });
    core.clock.advance(19);
    expect(await ready()).toBe(1);
    core.clock.advance(1);
    expect(await ready()).toBe(0);
  });

  it('a message that is past its time is not delivered, even when the timer is late', async () => {
    await declare();
    send(channel, 'q', '1', { expiration: '50' });
    send(channel, 'q', '2');
    send(channel, 'q', '3', { expiration: '60' });
    core.clock.lag(100);
    const inbox = await core.consume(channel, 'q');
    expect(inbox.bodies).toEqual(['2']);
    expect(await core.drainBodies('dead')).toEqual(['1', '3']);
    core.clock.advance(0);
    expect(await core.queue('q')).toMatchObject({ messagesReady: 0, messagesUnacked: 1 });
  });

  it('a multitude that is past its time before the next message is not in the way of others for long', async () => {
    await declare();
    for (let number = 0; number < 5000; number++) send(channel, 'q', '', { expiration: '50' });
    send(channel, 'q', 'alive');
    core.clock.lag(100);
    const got = channel.get('q', { noAck: true });
    let [turns, done] = [0, false];
    void got.then(() => {
      done = true;
    });
    for (; !done && turns < 100; turns++) {
      core.clock.turn();
      for (let reaction = 0; reaction < 5; reaction++) await Promise.resolve();
    }
    expect(turns).toBeGreaterThan(1);
    expect((await got)?.message.bodyBytes).toBe(5);
    expect((await core.queue('q'))?.messagesReady).toBe(0);
  });

  it('nor does it keep what is behind it from a consumer for long', async () => {
    await declare();
    for (let number = 0; number < 5000; number++) send(channel, 'q', '', { expiration: '50' });
    send(channel, 'q', 'alive');
    core.clock.lag(100);
    expect((await core.consume(channel, 'q')).bodies).toEqual(['alive']);
  });

  it('in a queue of priorities', async () => {
    await declare({ 'x-max-priority': 3, 'x-message-ttl': 100 });
    send(channel, 'q', 'low', { priority: 1 });
    core.clock.advance(50);
    send(channel, 'q', 'high', { priority: 3 });
    core.clock.advance(50);
    expect(await core.drainBodies('dead')).toEqual(['low']);
    expect(await core.drainBodies('q')).toEqual(['high']);
  });

  it('after more than 30 days, and after 100 years', async () => {
    await declare();
    send(channel, 'q', 'month', { expiration: String(31 * DAY) });
    send(channel, 'q', 'century', { expiration: String(36_500 * DAY) });
    core.clock.advance(31 * DAY - 1);
    expect(await ready()).toBe(2);
    core.clock.advance(1);
    expect(await core.drainBodies('dead')).toEqual(['month']);
    core.clock.advance((36_500 - 31) * DAY);
    expect(await core.drainBodies('dead')).toEqual(['century']);
  });

  it('20,000 at once, from a queue of twice as many', async () => {
    await declare();
    const count = 20_000;
    for (let number = 0; number < count; number++) {
      send(channel, 'q', '', { expiration: '10' });
      send(channel, 'q', '');
    }
    core.clock.advance(10);
    expect(await core.queue('q')).toMatchObject({ messagesReady: count, messageBytesReady: 0 });
    expect((await core.queue('dead'))?.messagesReady).toBe(count);
  });
});
