import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
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

const closed = { name: 'BrokerError', kind: 'connection-forced' };

/** Every verb of a channel but close, pause and resume, with arguments that would do on an open one. */
const VERBS: readonly [string, (channel: Channel) => unknown][] = [
  ['declareExchange', (channel) => channel.declareExchange({ exchange: 'x', type: 'direct' })],
  ['deleteExchange', (channel) => channel.deleteExchange('x')],
  ['declareQueue', (channel) => channel.declareQueue({ queue: 'q' })],
  ['deleteQueue', (channel) => channel.deleteQueue('q')],
  ['purgeQueue', (channel) => channel.purgeQueue('q')],
  ['bind', (channel) => channel.bind(BINDING)],
  ['unbind', (channel) => channel.unbind(BINDING)],
  ['consume', (channel) => channel.consume({ queue: 'q' }, new Inbox())],
  ['cancel', (channel) => channel.cancel('tag')],
  ['get', (channel) => channel.get('q')],
  ['recover', (channel) => channel.recover()],
  ['confirmSelect', (channel) => channel.confirmSelect()],
  ['txSelect', (channel) => channel.txSelect()],
  ['txCommit', (channel) => channel.txCommit()],
  ['txRollback', (channel) => channel.txRollback()],
  ['publish', (channel) => send(channel, 'q', 'again')],
  ['ack', (channel) => channel.ack(1)],
  ['ack multiple', (channel) => channel.ack(0, true)],
  ['reject', (channel) => channel.reject(1)],
  ['reject multiple', (channel) => channel.reject(0, { multiple: true, requeue: true })],
  ['prefetch', (channel) => channel.prefetch(1)],
];
const BINDING = { source: 'amq.direct', destination: 'q', destinationKind: 'queue', bindingKey: 'k' } as const;

describe('a closed channel', () => {
  it.each(VERBS)('throws at %s, also when its connection closed it', async (_verb, call) => {
    // What a channel has found out about an exchange does not outlive it.
    send(channel, 'q', 'before');
    channel.close();
    await expect((async () => call(channel))()).rejects.toMatchObject(closed);
    const connection = await core.broker.connect();
    const other = connection.openChannel();
    send(other, 'q', 'before');
    await connection.close();
    await expect((async () => call(other))()).rejects.toMatchObject(closed);
    expect(await core.drainBodies('q')).toEqual(['before', 'before']);
  });

  it('may be closed, paused and resumed without effect', async () => {
    await core.consume(channel, 'q');
    channel.close();
    channel.close();
    channel.pause();
    channel.resume();
    send(core.channel(), 'q', 'stays');
    expect(await core.queue('q')).toMatchObject({ messagesReady: 1, messagesUnacked: 0, consumers: [] });
  });

  it('its number is free again', () => {
    const { number } = channel;
    expect(() => core.connection.openChannel({}, number)).toThrow(expect.objectContaining({ kind: 'not-allowed' }));
    channel.close();
    expect(core.connection.openChannel({}, number).number).toBe(number);
  });
});

describe('a channel that closes', () => {
  it('gives everything back to its old place, marked as redelivered, also what was fetched by get', async () => {
    for (const body of ['1', '2', '3', '4', '5']) send(channel, 'q', body);
    await channel.get('q');
    channel.prefetch(2);
    const inbox = await core.consume(channel, 'q');
    expect(inbox.bodies).toEqual(['2', '3']);
    channel.close();
    const other = core.channel();
    const again = await core.consume(other, 'q', { noAck: true });
    expect(again.delivered.map(({ body, redelivered }) => [body, redelivered])).toEqual([
      ['1', true],
      ['2', true],
      ['3', true],
      ['4', false],
      ['5', false],
    ]);
    expect(inbox.cancelled).toEqual([]);
  });

  it('gives it to consumers of other channels at once, not to its own', async () => {
    const other = core.channel();
    channel.prefetch(3);
    other.prefetch(1);
    const own = await core.consume(channel, 'q');
    const theirs = await core.consume(other, 'q');
    for (const body of ['1', '2', '3', '4']) send(channel, 'q', body);
    expect([own.bodies, theirs.bodies]).toEqual([['1', '3', '4'], ['2']]);
    other.prefetch(0);
    const unlimited = await core.consume(other, 'q');
    channel.close();
    expect(unlimited.bodies).toEqual(['1', '3', '4']);
    expect(own.bodies).toEqual(['1', '3', '4']);
  });

  it('with an open transaction: publishes are dropped, settled deliveries go back', async () => {
    for (const body of ['1', '2', '3']) send(channel, 'q', body);
    await channel.txSelect();
    const tags = [];
    for (let count = 0; count < 3; count++) tags.push((await channel.get('q'))?.deliveryTag ?? 0);
    channel.ack(tags[1] ?? 0);
    channel.reject(tags[0] ?? 0);
    send(channel, 'q', 'never');
    channel.close();
    expect(await core.queue('q')).toMatchObject({ messagesReady: 3, messagesUnacked: 0 });
    expect(await core.drainBodies('q')).toEqual(['1', '2', '3']);
  });

  it('a connection closes its channels and deletes its exclusive queues', async () => {
    const connection = await core.broker.connect();
    const [one, two] = [connection.openChannel(), connection.openChannel()];
    await one.declareQueue({ queue: 'mine', exclusive: true });
    send(one, 'q', 'held');
    await two.get('q');
    await connection.close();
    await connection.close();
    expect(await core.queue('mine')).toBeUndefined();
    expect(await core.queue('q')).toMatchObject({ messagesReady: 1, messagesUnacked: 0 });
    expect(() => connection.openChannel()).toThrow(expect.objectContaining(closed));
  });

  it('delivery tags and messages of one channel mean nothing to another', async () => {
    send(channel, 'q', 'mine');
    const got = await channel.get('q');
    const other = core.channel();
    expect(() => other.ack(got?.deliveryTag ?? 0)).toThrow(
      expect.objectContaining({ kind: 'precondition-failed', message: 'unknown delivery tag 1' }),
    );
    channel.ack(1);
    for (const settle of [
      () => channel.ack(1),
      () => channel.ack(1, true),
      () => channel.reject(1),
      () => channel.ack(0),
    ]) {
      expect(settle).toThrow(
        expect.objectContaining({ message: expect.stringMatching(/^unknown delivery tag [01]$/) }),
      );
    }
    // All there are may be none.
    channel.ack(0, true);
    channel.publish(createMessage({ routingKey: 'q' }));
  });
});
