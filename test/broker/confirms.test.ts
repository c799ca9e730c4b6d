import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, publish, send, startCore, text } from '../support/core.ts';

let core: Core;
let channel: Channel;
let told: string[];
beforeEach(async () => {
  core = await startCore();
  told = [];
  channel = core.channel({
    onReturn: (message) => void told.push(`returned ${text(message)}`),
    onConfirm: (sequence, multiple, accepted) =>
      void told.push(`${accepted ? 'ack' : 'nack'} ${sequence}${multiple ? ' and before' : ''}`),
  });
  await channel.declareQueue({ queue: 'q' });
});
afterEach(() => core.broker.close());

const mandatory = (routingKey: string, body: string, exchange = '') =>
  channel.publish(createMessage({ exchange, routingKey, body }), true);

describe('confirms and returns', () => {
  it('nothing is confirmed that was published before confirms were asked for', async () => {
    send(channel, 'q', 'before');
    expect(told).toEqual([]);
    await channel.confirmSelect();
    send(channel, 'q', 'after');
    expect(told).toEqual(['ack 1']);
  });

  it('every publish is confirmed by its number, routable or not; a return comes before its confirm', async () => {
    await channel.confirmSelect();
    send(channel, 'q', '1');
    mandatory('nobody', '2');
    send(channel, 'nobody', '3');
    mandatory('q', '4');
    expect(told).toEqual(['ack 1', 'returned 2', 'ack 2', 'ack 3', 'ack 4']);
  });

  it('a mandatory message comes back without confirms too, as it was sent', async () => {
    const message = createMessage({ routingKey: 'nobody', body: 'x', properties: { headers: { BCC: ['no one'] } } });
    const back: unknown[] = [];
    const other = core.channel({ onReturn: (returned) => void back.push(returned) });
    other.publish(message, true);
    expect(back).toEqual([message]);
  });

  it('an alternate that has a queue for it is no return', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'direct', arguments: { 'alternate-exchange': 'amq.fanout' } });
    mandatory('k', '1', 'x');
    await channel.bind({ source: 'amq.fanout', destination: 'q', destinationKind: 'queue', bindingKey: '' });
    mandatory('k', '2', 'x');
    expect(told).toEqual(['returned 1']);
    expect(await core.drainBodies('q')).toEqual(['2']);
  });

  it.each([[['full', 'q']], [['q', 'full']]])('one queue of several that refuses is a nack: %j', async (queues) => {
    await channel.declareQueue({ queue: 'full', arguments: { 'x-max-length': 1, 'x-overflow': 'reject-publish' } });
    for (const destination of queues) {
      await channel.bind({ source: 'amq.fanout', destination, destinationKind: 'queue', bindingKey: '' });
    }
    await channel.confirmSelect();
    for (const body of ['1', '2']) publish(channel, 'amq.fanout', '', body);
    mandatory('', '3', 'amq.fanout');
    expect(told).toEqual(['ack 1', 'nack 2', 'nack 3']);
    expect(await core.drainBodies('full')).toEqual(['1']);
    // The others have it all the same.
    expect(await core.drainBodies('q')).toEqual(['1', '2', '3']);
  });

  it('a publish that throws is not counted', async () => {
    await channel.confirmSelect();
    expect(() => publish(channel, 'missing', 'k')).toThrow();
    expect(() => send(channel, 'q', '', { headers: { BCC: 1 } })).toThrow();
    send(channel, 'q', 'good');
    expect(told).toEqual(['ack 1']);
  });

  it('is confirmed after it was delivered to those who wait for it', async () => {
    await channel.confirmSelect();
    await core.consume(channel, 'q', { noAck: true }, ({ body }) => void told.push(`delivered ${body}`));
    send(channel, 'q', '1');
    expect(told).toEqual(['delivered 1', 'ack 1']);
  });
});

describe('what cannot be published', () => {
  it.each([
    ['an unknown exchange', { exchange: 'x' }, 'not-found', "no exchange 'x' in vhost '/'"],
    [
      'an internal exchange',
      { exchange: 'inside' },
      'access-refused',
      "cannot publish to internal exchange 'inside' in vhost '/'",
    ],
    [
      'an expiration in words',
      { properties: { expiration: '1s' } },
      'precondition-failed',
      "invalid expiration '1s': no_integer",
    ],
    [
      'a negative expiration',
      { properties: { expiration: '-1' } },
      'precondition-failed',
      "invalid expiration '-1': {value_negative,-1}",
    ],
    [
      'an expiration beyond 100 years',
      { properties: { expiration: '3153600000001' } },
      'precondition-failed',
      "invalid expiration '3153600000001': {value_too_large,3153600000001}",
    ],
  ] as const)('%s', async (_what, message, kind, explanation) => {
    await channel.declareExchange({ exchange: 'inside', type: 'fanout', internal: true });
    expect(() => channel.publish(createMessage(message))).toThrow(
      expect.objectContaining({ kind, message: explanation }),
    );
  });

  it('a body above the limit, which is in octets', async () => {
    const small = await startCore({ bodyBytesMax: 10 });
    const channel = small.channel();
    send(channel, 'q', '1234567890');
    expect(() => send(channel, 'q', '123456789é')).toThrow(
      expect.objectContaining({
        kind: 'precondition-failed',
        message: 'message size 11 is larger than configured max size 10',
      }),
    );
    await small.broker.close();
  });

  it('an exchange that was deleted after it was published to, until it is there again', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'fanout' });
    publish(channel, 'x', 'k');
    await channel.deleteExchange('x');
    expect(() => publish(channel, 'x', 'k')).toThrow(expect.objectContaining({ kind: 'not-found' }));
    await channel.declareExchange({ exchange: 'x', type: 'direct' });
    await channel.bind({ source: 'x', destination: 'q', destinationKind: 'queue', bindingKey: 'k' });
    publish(channel, 'x', 'k', 'there');
    expect(await core.drainBodies('q')).toEqual(['there']);
  });

  it('somebody else as the user, unless one may impersonate', async () => {
    const { administration } = core.broker;
    for (const [name, tags] of [
      ['alice', []],
      ['proxy', ['impersonator']],
    ] as const) {
      await administration.putUser({ name, password: 'pass', tags });
      await administration.setPermission({ vhost: '/', user: name, configure: '.*', write: '.*', read: '.*' });
      const principal = await core.broker.authenticate({ username: name, password: 'pass', loopback: true });
      const channel = (await core.broker.connect(principal)).openChannel();
      send(channel, 'q', `${name} as ${name}`, { userId: name });
      if (name === 'proxy') send(channel, 'q', 'proxy as bob', { userId: 'bob' });
      else {
        expect(() => send(channel, 'q', 'alice as bob', { userId: 'bob' })).toThrow(
          expect.objectContaining({
            kind: 'precondition-failed',
            message: "user_id property set to 'bob' but authenticated user was 'alice'",
          }),
        );
      }
    }
    expect(await core.drainBodies('q')).toEqual(['alice as alice', 'proxy as proxy', 'proxy as bob']);
  });
});
