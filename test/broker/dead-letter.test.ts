import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Decimal, type FieldTable, type FieldValue, isFieldTable } from '../../broker/fields.ts';
import { createMessage, type Message, type MessageProperties } from '../../broker/message.ts';
import type { DeathReason } from '../../broker/observer.ts';
import type { Channel } from '../../broker/port.ts';
import { deadMessage, isAutomaticCycle } from '../../broker/routing/dead-letter.ts';
import { type Core, header, send, startCore, text } from '../support/core.ts';
import { runs } from '../support/runs.ts';

const AT = 1_700_000_000_999;

/** A message that dies in `queue`. */
function die(message: Message, queue: string, reason: DeathReason, nowMs = AT, routingKey?: string): Message {
  return deadMessage(message, { queue, reason, nowMs, exchange: 'dlx', routingKey });
}

function published(properties: MessageProperties = {}): Message {
  return createMessage({ exchange: 'x', routingKey: 'k', body: 'body', properties });
}

function deathsOf(message: Message): readonly FieldTable[] {
  const deaths = header(message, 'x-death');
  return Array.isArray(deaths) ? deaths : [];
}

describe('the record of deaths', () => {
  it('a first death', () => {
    const dead = die(published({ contentType: 'text/plain', headers: { h: 1 } }), 'q', 'rejected');
    expect([dead.exchange, dead.routingKey, text(dead)]).toEqual(['dlx', 'k', 'body']);
    expect(dead.properties).toEqual({
      contentType: 'text/plain',
      headers: {
        h: 1,
        'x-death': [
          {
            count: 1n,
            reason: 'rejected',
            queue: 'q',
            time: new Date(1_700_000_000_000),
            exchange: 'x',
            'routing-keys': ['k'],
          },
        ],
        'x-first-death-exchange': 'x',
        'x-first-death-queue': 'q',
        'x-first-death-reason': 'rejected',
        'x-last-death-exchange': 'x',
        'x-last-death-queue': 'q',
        'x-last-death-reason': 'rejected',
      },
    });
  });

  it('the same death again counts up, comes first, and keeps the time and place of the first', () => {
    const once = die(published(), 'q1', 'rejected');
    const twice = die(once, 'q2', 'expired', AT + 5000);
    const thrice = die(twice, 'q1', 'rejected', AT + 9000);
    expect(deathsOf(thrice).map(({ queue, reason, count }) => [queue, reason, count])).toEqual([
      ['q1', 'rejected', 2n],
      ['q2', 'expired', 1n],
    ]);
    expect(deathsOf(thrice).map(({ exchange, time }) => [exchange, time])).toEqual([
      ['x', new Date(1_700_000_000_000)],
      ['dlx', new Date(1_700_000_005_000)],
    ]);
    expect(header(thrice, 'x-first-death-queue')).toBe('q1');
    expect(header(thrice, 'x-last-death-queue')).toBe('q1');
    expect(header(thrice, 'x-last-death-exchange')).toBe('dlx');
    expect(header(twice, 'x-last-death-reason')).toBe('expired');
  });

  it('another reason in the same queue is another death', () => {
    const twice = die(die(published(), 'q', 'rejected'), 'q', 'maxlen');
    expect(deathsOf(twice).map(({ reason, count }) => [reason, count])).toEqual([
      ['maxlen', 1n],
      ['rejected', 1n],
    ]);
    expect(header(twice, 'x-first-death-reason')).toBe('rejected');
  });

  it('the expiration goes, and is remembered from then on', () => {
    const once = die(published({ expiration: '250' }), 'q', 'expired');
    expect(once.properties.expiration).toBeUndefined();
    expect(deathsOf(once)[0]?.['original-expiration']).toBe('250');
    const twice = die(once, 'q', 'expired');
    expect(deathsOf(twice)[0]).toMatchObject({ count: 2n, 'original-expiration': '250' });
    expect('original-expiration' in (deathsOf(die(published(), 'q', 'expired'))[0] ?? {})).toBe(false);
  });

  it('the CC addresses count among its routing keys, and are dropped with a dead-letter routing key only', () => {
    const message = published({ headers: { CC: ['c1', 'c2'] } });
    const kept = die(message, 'q', 'rejected');
    expect(deathsOf(kept)[0]?.['routing-keys']).toEqual(['k', 'c1', 'c2']);
    expect(header(kept, 'CC')).toEqual(['c1', 'c2']);
    const dropped = die(message, 'q', 'rejected', AT, 'other');
    expect(deathsOf(dropped)[0]?.['routing-keys']).toEqual(['k', 'c1', 'c2']);
    expect(header(dropped, 'CC')).toBeUndefined();
    expect(dropped.routingKey).toBe('other');
  });

  const odd = fc.oneof(
    fc.constantFrom<FieldValue>(null, true, 'abc', '', 1.5, -1, -3n, 2n ** 63n - 1n, 1e300, new Date(0)),
    fc.constantFrom<FieldValue>(new Decimal(2, 314), new Uint8Array([1]), [], Object.create(null) as FieldTable),
    fc.constantFrom<FieldValue>('q', 'rejected', 1n, 7, ['k']),
  );
  const mostly = (usual: string) => fc.oneof({ weight: 4, arbitrary: fc.constant<FieldValue>(usual) }, odd);
  const entry = fc.record(
    {
      queue: mostly('q'),
      reason: mostly('rejected'),
      count: odd,
      exchange: odd,
      time: odd,
      'routing-keys': odd,
      'original-expiration': odd,
    },
    { requiredKeys: [] },
  );

  it('whatever somebody wrote into it before, a death is recorded', () => {
    const written = fc.oneof(odd, fc.array(fc.oneof({ weight: 3, arbitrary: entry }, odd), { maxLength: 4 }));
    fc.assert(
      fc.property(written, fc.constantFrom('q', 'r'), (deaths, queue) => {
        const dead = die(published({ headers: { 'x-death': deaths as FieldValue } }), queue, 'rejected');
        const [first, ...rest] = deathsOf(dead);
        expect(first).toMatchObject({ queue, reason: 'rejected' });
        expect(first?.count).toBeGreaterThan(0);
        expect(Number(first?.count)).toBeLessThan(2 ** 63 + 1);
        expect(rest.every((one) => isFieldTable(one))).toBe(true);
        expect(typeof isAutomaticCycle(dead, queue)).toBe('boolean');
      }),
      runs(500),
    );
  });

  it('a cycle is automatic when nobody rejected the message since it was in the queue before', () => {
    const reason = fc.constantFrom('rejected', 'expired', 'maxlen', 'delivery_limit');
    const deaths = fc.array(fc.record({ queue: fc.constantFrom('a', 'b', 'c'), reason }), { maxLength: 6 });
    fc.assert(
      fc.property(deaths, (deaths) => {
        // Newest first: what happened since it was last in `a` is what comes before that, and that itself.
        let automatic = false;
        for (const { queue, reason } of deaths) {
          if (reason === 'rejected') break;
          if (queue === 'a') {
            automatic = true;
            break;
          }
        }
        expect(isAutomaticCycle(published({ headers: { 'x-death': deaths } }), 'a')).toBe(automatic);
      }),
      runs(500),
    );
  });
});

describe('dead-lettering', () => {
  let core: Core;
  let channel: Channel;
  beforeEach(async () => {
    core = await startCore();
    channel = core.channel();
  });
  afterEach(() => core.broker.close());

  /** A queue whose dead messages go to the queue `target`. */
  async function queueTo(queue: string, target: string, args: FieldTable = {}): Promise<void> {
    const to = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': target };
    await channel.declareQueue({ queue, arguments: { ...to, ...args } });
  }

  it('an automatic cycle ends where it began', async () => {
    await queueTo('a', 'b', { 'x-message-ttl': 10 });
    await queueTo('b', 'a', { 'x-message-ttl': 10 });
    send(channel, 'a', 'round');
    core.clock.advance(10);
    expect((await core.queue('b'))?.messagesReady).toBe(1);
    core.clock.advance(1000);
    expect([(await core.queue('a'))?.messagesReady, (await core.queue('b'))?.messagesReady]).toEqual([0, 0]);
  });

  it('a cycle in which somebody rejects goes on: that is how one retries', async () => {
    await queueTo('work', 'wait');
    await queueTo('wait', 'work', { 'x-message-ttl': 10 });
    send(channel, 'work', 'task');
    for (let round = 1; round <= 5; round++) {
      const got = await channel.get('work');
      expect(got === undefined ? 0 : deathsOf(got.message).length).toBe(round === 1 ? 0 : 2);
      channel.reject(got?.deliveryTag ?? 0);
      core.clock.advance(10);
    }
    const [message] = await core.drain('work');
    expect(message === undefined ? [] : deathsOf(message).map(({ queue, count }) => [queue, count])).toEqual([
      ['wait', 5n],
      ['work', 5n],
    ]);
  });

  it('a queue that dead-letters to itself', async () => {
    await queueTo('self', 'self', { 'x-message-ttl': 10 });
    send(channel, 'self', 'expires');
    core.clock.advance(100);
    expect(await core.drainBodies('self')).toEqual([]);
    send(channel, 'self', 'rejected');
    channel.reject((await channel.get('self'))?.deliveryTag ?? 0);
    expect(await core.drainBodies('self')).toEqual(['rejected']);
  });

  it('an exchange that is not there drops what is dead; one that comes later gets what dies then', async () => {
    await channel.declareQueue({ queue: 'q', arguments: { 'x-dead-letter-exchange': 'later', 'x-message-ttl': 10 } });
    send(channel, 'q', 'one');
    core.clock.advance(10);
    await channel.declareExchange({ exchange: 'later', type: 'fanout' });
    await channel.declareQueue({ queue: 'dead' });
    await channel.bind({ source: 'later', destination: 'dead', destinationKind: 'queue', bindingKey: '' });
    send(channel, 'q', 'two');
    core.clock.advance(10);
    expect(await core.drainBodies('dead')).toEqual(['two']);
  });

  it('a message keeps its routing keys, CC among them, unless the queue gives it another', async () => {
    await channel.declareExchange({ exchange: 'dlx', type: 'direct' });
    await channel.declareQueue({ queue: 'k1', arguments: { 'x-dead-letter-exchange': 'dlx' } });
    for (const bindingKey of ['k1', 'c1']) {
      await channel.declareQueue({ queue: `dead ${bindingKey}` });
      await channel.bind({ source: 'dlx', destination: `dead ${bindingKey}`, destinationKind: 'queue', bindingKey });
    }
    send(channel, 'k1', 'copied', { headers: { CC: ['c1'], BCC: ['b1'] } });
    channel.reject((await channel.get('k1'))?.deliveryTag ?? 0);
    for (const queue of ['dead k1', 'dead c1']) {
      const [message] = await core.drain(queue);
      expect([header(message, 'CC'), header(message, 'BCC')]).toEqual([['c1'], undefined]);
    }
  });

  it('what expires together is dead in the order of the queue', async () => {
    await channel.declareQueue({ queue: 'dead' });
    await queueTo('q', 'dead', { 'x-message-ttl': 10 });
    const bodies = Array.from({ length: 200 }, (_, number) => String(number));
    for (const body of bodies) send(channel, 'q', body);
    core.clock.advance(10);
    expect(await core.drainBodies('dead')).toEqual(bodies);
  });

  it.each([
    ['time to live 0', { 'x-message-ttl': 0 }],
    ['maximum length 0', { 'x-max-length': 0 }],
    ['maximum length 0 that refuses', { 'x-max-length': 0, 'x-overflow': 'reject-publish-dlx' }],
  ])('a message is handed on through 2,000 queues with %s', async (_name, args) => {
    const count = 2000;
    for (let index = 0; index < count; index++) await queueTo(`q${index}`, `q${index + 1}`, args);
    await channel.declareQueue({ queue: `q${count}` });
    send(channel, 'q0', 'long');
    expect(await core.drain(`q${count}`)).toEqual([]); // others have their turn in between
    core.clock.turn();
    const [message] = await core.drain(`q${count}`);
    expect(message === undefined ? 0 : deathsOf(message).length).toBe(count);
  });
});
