import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Channel } from '../../broker/port.ts';
import { type Core, send, startCore } from '../support/core.ts';

const HOUR = 3_600_000;

describe('the consumer timeout', () => {
  let core: Core;
  let channel: Channel;
  beforeEach(async () => {
    core = await startCore({ consumerTimeoutMs: HOUR });
    channel = core.channel();
    await channel.declareQueue({ queue: 'q' });
  });
  afterEach(() => core.broker.close());

  it('ends a consumer that does not settle, and gives back what it holds', async () => {
    const inbox = await core.consume(channel, 'q');
    for (const body of ['1', '2']) send(channel, 'q', body);
    channel.ack(1);
    core.clock.advance(HOUR - 1);
    expect(inbox.cancelled).toEqual([]);
    core.clock.advance(1);
    expect(inbox.cancelled).toEqual([
      {
        reason: 'timeout',
        explanation:
          `delivery acknowledgement on channel ${channel.number} timed out. Timeout value used: ${HOUR} ms. ` +
          'This timeout value can be configured, see consumers doc guide to learn more',
      },
    ]);
    expect(await core.queue('q')).toMatchObject({ messagesReady: 1, messagesUnacked: 0, consumers: [] });
    expect(() => channel.ack(2)).toThrow(expect.objectContaining({ message: 'unknown delivery tag 2' }));
    send(channel, 'q', 'the channel is open');
    expect(await core.drainBodies('q')).toEqual(['2', 'the channel is open']);
  });

  it('gives it to others', async () => {
    await core.consume(channel, 'q');
    send(channel, 'q', '1');
    const other = await core.consume(core.channel(), 'q');
    core.clock.advance(HOUR);
    expect(other.delivered.map(({ body, redelivered }) => [body, redelivered])).toEqual([['1', true]]);
  });

  it('of a consumer, of its queue, of the broker: the nearest says', async () => {
    await channel.declareQueue({ queue: 'own', arguments: { 'x-consumer-timeout': 60_000 } });
    await channel.declareQueue({ queue: 'never', arguments: { 'x-consumer-timeout': 0 } });
    const inboxes = {
      byBroker: await core.consume(channel, 'q'),
      byQueue: await core.consume(core.channel(), 'own'),
      byConsumer: await core.consume(core.channel(), 'own', { arguments: { 'x-consumer-timeout': 1000n } }),
      never: await core.consume(core.channel(), 'never'),
    };
    for (const queue of ['q', 'own', 'own', 'never']) send(channel, queue, queue);
    const ended = (): string[] =>
      Object.entries(inboxes).flatMap(([name, { cancelled }]) => (cancelled.length > 0 ? [name] : []));
    core.clock.advance(999);
    expect(ended()).toEqual([]);
    core.clock.advance(1);
    expect(ended()).toEqual(['byConsumer']);
    core.clock.advance(59_000);
    expect(ended()).toEqual(['byQueue', 'byConsumer']);
    core.clock.advance(HOUR - 60_000);
    expect(ended()).toEqual(['byBroker', 'byQueue', 'byConsumer']);
    core.clock.advance(1000 * HOUR);
    expect(ended()).toEqual(['byBroker', 'byQueue', 'byConsumer']);
  });

  it('a shorter one is not kept waiting for a longer one on the same channel', async () => {
    channel.prefetch(1);
    await core.consume(channel, 'q');
    send(channel, 'q', 'long');
    const short = await core.consume(channel, 'q', { arguments: { 'x-consumer-timeout': 1000 } });
    send(channel, 'q', 'short');
    expect(short.bodies).toEqual(['short']);
    core.clock.advance(1000);
    expect(short.cancelled).toHaveLength(1);
  });

  it('counts from the delivery, again after each', async () => {
    channel.prefetch(1);
    const inbox = await core.consume(channel, 'q');
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    for (let tag = 1; tag <= 2; tag++) {
      core.clock.advance(HOUR - 1);
      channel.ack(tag);
    }
    core.clock.advance(HOUR - 1);
    expect(inbox.cancelled).toEqual([]);
    core.clock.advance(1);
    expect(inbox.cancelled).toHaveLength(1);
    expect(await core.drainBodies('q')).toEqual(['3']);
  });

  it('of a later delivery is kept in mind while an earlier one is looked at', async () => {
    const inbox = await core.consume(channel, 'q');
    send(channel, 'q', '1');
    core.clock.advance(1000);
    send(channel, 'q', '2');
    channel.ack(1);
    core.clock.advance(HOUR - 1);
    expect(inbox.cancelled).toEqual([]);
    core.clock.advance(1);
    expect(inbox.cancelled).toHaveLength(1);
  });

  it('leaves alone what was fetched by get, and consumers that do not ack', async () => {
    send(channel, 'q', '1');
    await channel.get('q');
    const inbox = await core.consume(core.channel(), 'q', { noAck: true });
    send(channel, 'q', '2');
    core.clock.advance(10 * HOUR);
    expect(inbox.cancelled).toEqual([]);
    channel.ack(1);
  });

  it('a cancelled consumer that still holds something loses it too, and is told nothing', async () => {
    const inbox = await core.consume(channel, 'q');
    send(channel, 'q', '1');
    await channel.cancel(inbox.tag);
    core.clock.advance(HOUR);
    expect(inbox.cancelled).toEqual([]);
    expect(await core.queue('q')).toMatchObject({ messagesReady: 1, messagesUnacked: 0 });
  });

  it('leaves no timer behind when the channel closes', async () => {
    const before = core.clock.timerCount;
    await core.consume(channel, 'q');
    send(channel, 'q', '1');
    expect(core.clock.timerCount).toBe(before + 1);
    channel.close();
    expect(core.clock.timerCount).toBe(before);
  });
});
