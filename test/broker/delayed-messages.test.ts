import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FieldTable, FieldValue } from '../../broker/fields.ts';
import { createMessage } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, header, publish, startCore, text } from '../support/core.ts';
import { runs } from '../support/runs.ts';

const DAY = 24 * 3600 * 1000;

let core: Core;
let channel: Channel;
let told: string[];
beforeEach(async () => {
  core = await startCore();
  told = [];
  channel = core.channel({
    onReturn: (message) => void told.push(`returned ${text(message)}`),
    onConfirm: (sequence, _multiple, accepted) => void told.push(`${accepted ? 'ack' : 'nack'} ${sequence}`),
  });
  await declare('later');
  await channel.declareQueue({ queue: 'q' });
  await bind('later', 'q', 'k.#');
});
afterEach(() => core.broker.close());

function declare(exchange: string, args: FieldTable = {}): Promise<void> {
  const all = { 'x-delayed-type': 'topic', ...args };
  return channel.declareExchange({ exchange, type: 'x-delayed-message', arguments: all });
}

const bind = (source: string, destination: string, bindingKey = '') =>
  channel.bind({ source, destination, destinationKind: 'queue', bindingKey });

const delay = (body: string, headers: FieldTable, exchange = 'later', routingKey = 'k.1') =>
  publish(channel, exchange, routingKey, body, { headers });

const ready = async (): Promise<number | undefined> => (await core.queue('q'))?.messagesReady;

describe('a delayed message', () => {
  it.each<[string, FieldValue, FieldValue]>([
    ['number', 1000, -1000],
    ['64-bit integer', 1000n, -1000n],
    ['decimal digits', '1000', -1000],
  ])('comes when its delay, a %s, is over; the header tells so by its sign', async (_type, value, negated) => {
    delay('1', { 'x-delay': value, own: 'kept' });
    core.clock.advance(999);
    expect([await ready(), (await core.exchange('later'))?.delayedMessages]).toEqual([0, 1]);
    core.clock.advance(1);
    const [message] = await core.drain('q');
    expect(message?.properties.headers).toEqual({ 'x-delay': negated, own: 'kept' });
    expect((await core.exchange('later'))?.delayedMessages).toBe(0);
  });

  it('may say when instead of how long', async () => {
    delay('1', { 'x-deliver-at': BigInt(core.clock.now() + 500) });
    core.clock.advance(499);
    expect(await ready()).toBe(0);
    core.clock.advance(1);
    expect(await ready()).toBe(1);
  });

  it.each<[string, FieldTable]>([
    ['no header', {}],
    ['0', { 'x-delay': 0 }],
    ['a negative one', { 'x-delay': -5 }],
    ['words', { 'x-delay': 'soon' }],
    ['no digits', { 'x-delay': '' }],
    ['a table', { 'x-delay': {} }],
    ['no number', { 'x-delay': Number.NaN }],
    ['for ever', { 'x-delay': Number.POSITIVE_INFINITY }],
    ['a time that has passed', { 'x-deliver-at': 1000 }],
  ])('with %s for a delay comes at once, as it is', async (_what, headers) => {
    delay('1', headers);
    const [message] = await core.drain('q');
    expect(message?.properties.headers).toEqual(headers);
  });

  it('is routed when its time has come, by what is bound then', async () => {
    delay('1', { 'x-delay': 1000 });
    await channel.declareQueue({ queue: 'new' });
    await bind('later', 'new', '#');
    await channel.deleteQueue('q');
    core.clock.advance(1000);
    expect(await core.drainBodies('new')).toEqual(['1']);
  });

  it('is confirmed as soon as it is held, and never returned', async () => {
    await channel.confirmSelect();
    channel.publish(
      createMessage({
        exchange: 'later',
        routingKey: 'nobody',
        body: '1',
        properties: { headers: { 'x-delay': 10 } },
      }),
      true,
    );
    expect(told).toEqual(['ack 1']);
    core.clock.advance(10);
    expect(told).toEqual(['ack 1']);
    expect((await core.exchange('later'))?.unroutableMessages).toBe(1);
  });

  it('goes to the alternate if nobody wants it then', async () => {
    await declare('other', { 'alternate-exchange': 'amq.fanout' });
    await bind('amq.fanout', 'q');
    delay('1', { 'x-delay': 10 }, 'other', 'nobody');
    core.clock.advance(10);
    expect(await core.drainBodies('q')).toEqual(['1']);
  });

  it('keeps CC and BCC until then', async () => {
    await channel.declareQueue({ queue: 'copy' });
    await bind('later', 'copy', 'c');
    delay('1', { 'x-delay': 10, BCC: ['c'] });
    core.clock.advance(10);
    const [[message], [copy]] = [await core.drain('q'), await core.drain('copy')];
    expect([header(message, 'BCC'), header(copy, 'BCC')]).toEqual([undefined, undefined]);
  });

  it('with a bad CC is refused at once, not when its time has come', async () => {
    expect(() => delay('1', { 'x-delay': 10, CC: 'text' })).toThrow(
      expect.objectContaining({ kind: 'precondition-failed' }),
    );
    expect((await core.exchange('later'))?.delayedMessages).toBe(0);
  });

  it('lives its time in a queue from when it comes there', async () => {
    publish(channel, 'later', 'k', '1', { headers: { 'x-delay': 1000 }, expiration: '100' });
    core.clock.advance(1099);
    expect(await ready()).toBe(1);
    core.clock.advance(1);
    expect(await ready()).toBe(0);
  });

  it('that is dead there is not delayed again by the next delayed exchange', async () => {
    await channel.declareQueue({
      queue: 'brief',
      arguments: { 'x-dead-letter-exchange': 'later', 'x-dead-letter-routing-key': 'k', 'x-message-ttl': 0 },
    });
    await bind('later', 'brief', 'b');
    delay('1', { 'x-delay': 1000 }, 'later', 'b');
    core.clock.advance(1000);
    expect(await core.drainBodies('q')).toEqual(['1']);
  });

  it('that is dead may be delayed on its way', async () => {
    await channel.declareQueue({
      queue: 'work',
      arguments: { 'x-dead-letter-exchange': 'later', 'x-dead-letter-routing-key': 'k' },
    });
    publish(channel, '', 'work', '1', { headers: { 'x-delay': 1000 } });
    channel.reject((await channel.get('work'))?.deliveryTag ?? 0);
    core.clock.advance(999);
    expect(await ready()).toBe(0);
    core.clock.advance(1);
    expect(await ready()).toBe(1);
  });

  it.each([31, 50, 365, 36_500])('comes after %d days, not earlier', async (days) => {
    delay('1', { 'x-delay': BigInt(days * DAY) });
    core.clock.advance(days * DAY - 1);
    expect(await ready()).toBe(0);
    core.clock.advance(1);
    expect(header((await core.drain('q'))[0], 'x-delay')).toBe(BigInt(-days * DAY));
  });

  it.each<[FieldValue, FieldValue]>([
    [1e300, -1e300],
    [2n ** 63n - 1n, 1n - 2n ** 63n],
    ['999999999999999', -999_999_999_999_999n],
    [2 ** 31, -(2 ** 31)],
    [2 ** 31 + 1, BigInt(-(2 ** 31) - 1)],
    [Number.MAX_SAFE_INTEGER, BigInt(Number.MIN_SAFE_INTEGER)],
  ])('a delay of %s is waited for in peace, and told in a type that holds it', async (value, negated) => {
    delay('1', { 'x-delay': value });
    core.clock.advance(2 ** 31 - 1);
    expect((await core.exchange('later'))?.delayedMessages).toBe(1);
    core.clock.advance(1e301);
    expect(header((await core.drain('q'))[0], 'x-delay')).toBe(negated);
  });

  it('of two with one time, the one that came first comes first', async () => {
    const bodies = Array.from({ length: 100 }, (_, number) => String(number));
    for (const body of bodies) delay(body, { 'x-delay': 10 });
    core.clock.advance(10);
    expect(await core.drainBodies('q')).toEqual(bodies);
  });

  it('is gone with its exchange; one that is declared anew has nothing to do with it', async () => {
    delay('1', { 'x-delay': 10 });
    await declare('other');
    delay('2', { 'x-delay': 10 }, 'other');
    await channel.deleteExchange('later');
    const left = await core.broker.administration.delayedMessages('/');
    expect(left.map(({ exchange }) => exchange)).toEqual(['other']);
    await declare('later');
    await bind('later', 'q', '#');
    core.clock.advance(10);
    expect(await ready()).toBe(0);
  });

  it('means nothing to other exchanges', async () => {
    await bind('amq.direct', 'q', 'k');
    delay('1', { 'x-delay': 1000 }, 'amq.direct', 'k');
    expect(header((await core.drain('q'))[0], 'x-delay')).toBe(1000);
  });
});

describe('the list of delayed messages', () => {
  it('names them by what comes next, and they can be cancelled', async () => {
    const nowMs = core.clock.now();
    const { administration } = core.broker;
    await declare('too');
    delay('long', { 'x-delay': 2000 });
    delay('s', { 'x-delay': 1000 }, 'too', 'k.2');
    const list = await administration.delayedMessages('/');
    expect(list.map(({ id, ...rest }) => rest)).toEqual([
      { exchange: 'too', routingKey: 'k.2', dueMs: nowMs + 1000, bodyBytes: 1 },
      { exchange: 'later', routingKey: 'k.1', dueMs: nowMs + 2000, bodyBytes: 4 },
    ]);
    const [first, second] = list.map(({ id }) => id);
    expect(await administration.cancelDelayedMessage('/', second ?? '')).toBe(true);
    expect(await administration.cancelDelayedMessage('/', second ?? '')).toBe(false);
    expect(await administration.cancelDelayedMessage('/', 'unknown')).toBe(false);
    core.clock.advance(5000);
    expect(await administration.cancelDelayedMessage('/', first ?? '')).toBe(false);
    expect(await administration.delayedMessages('/')).toEqual([]);
    expect(await ready()).toBe(0);
  });
});

describe('delayed messages', () => {
  it('come in the order of their time, those of one time in the order of their publishing', async () => {
    const step = fc.oneof(
      fc.record({ delay: fc.nat(40) }),
      fc.record({ advance: fc.nat(20) }),
      fc.record({ cancel: fc.nat() }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await channel.purgeQueue('q');
        let waiting: { body: string; dueMs: number }[] = [];
        const wanted: string[] = [];
        let number = 0;
        const advance = (ms: number): void => {
          const endMs = core.clock.now() + ms;
          const due = waiting.filter(({ dueMs }) => dueMs <= endMs).toSorted((a, b) => a.dueMs - b.dueMs);
          wanted.push(...due.map(({ body }) => body));
          waiting = waiting.filter(({ dueMs }) => dueMs > endMs);
          core.clock.advance(ms);
        };
        for (const one of steps) {
          if ('delay' in one) {
            const body = String(++number);
            delay(body, { 'x-delay': one.delay });
            if (one.delay === 0) wanted.push(body);
            else waiting.push({ body, dueMs: core.clock.now() + one.delay });
          } else if ('advance' in one) advance(one.advance);
          else {
            const list = await core.broker.administration.delayedMessages('/');
            const inOrder = waiting.toSorted((a, b) => a.dueMs - b.dueMs);
            expect(list.map(({ dueMs }) => dueMs)).toEqual(inOrder.map(({ dueMs }) => dueMs));
            const index = one.cancel % Math.max(1, list.length);
            waiting = waiting.filter((each) => each !== inOrder[index]);
            await core.broker.administration.cancelDelayedMessage('/', list[index]?.id ?? '');
          }
        }
        advance(1000);
        expect(await core.drainBodies('q')).toEqual(wanted);
      }),
      runs(100),
    );
  });
});
