/** Exchanges of type x-delayed-message: B16. RabbitMQ has them by a plugin that a stock broker lacks. */
import { describe, expect } from 'vitest';
import { typed } from '../support/amqp-wire.ts';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel, type RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();
const it = onlyWarren('needs the delayed message exchange plugin');

/** A delayed exchange and a queue bound to it. */
async function delayed(channel: RawChannel, type = 'direct', key = 'k'): Promise<{ exchange: string; queue: string }> {
  const exchange = await channel.exchange(broker.fresh('x'), 'x-delayed-message', { 'x-delayed-type': type });
  const queue = await channel.queue(broker.fresh('q'));
  await channel.bind(queue, exchange, key);
  return { exchange, queue };
}

describe('B16: delayed message exchange', () => {
  it('B16: a message waits x-delay milliseconds, and is delivered with x-delay negated', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    const startedAt = performance.now();
    await channel.put(exchange, 'k', 'later', { headers: { 'x-delay': 100, mine: 'x' } });
    expect(await channel.ready(queue)).toBe(0);
    await channel.consume(queue);
    const delivery = await channel.delivery();
    expect(performance.now() - startedAt).toBeGreaterThan(80);
    expect(delivery.headers).toEqual({ 'x-delay': -100, mine: 'x' });
    expect(delivery.args).toMatchObject({ exchange, routingKey: 'k' });
  });

  it('B16: without x-delay, or with 0 or less, at once and unchanged', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    for (const headers of [undefined, {}, { 'x-delay': 0 }, { 'x-delay': -50 }]) {
      await channel.put(exchange, 'k', 'now', headers === undefined ? {} : { headers });
      expect((await channel.mustGet(queue)).properties.headers).toEqual(headers);
    }
  });

  it('B16: the delay may be of any integer type, or a numeric string', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    const seen: string[] = [];
    const values = [50, 50n, typed('s', 50), typed('b', 50), typed('u', 50), '50'];
    for (const [index, value] of values.entries()) {
      await channel.put(exchange, 'k', String(index), { headers: { 'x-delay': value } });
    }
    expect(await channel.ready(queue)).toBe(0);
    await channel.consume(queue, { noAck: true });
    for (let i = 0; i < values.length; i++) {
      const delivery = await channel.delivery();
      expect(Number(delivery.headers['x-delay'])).toBe(-50);
      seen.push(delivery.text);
    }
    expect(seen.toSorted()).toEqual(['0', '1', '2', '3', '4', '5']);
  });

  it('B16: messages come in the order of their time', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel, 'fanout');
    for (const delay of [150, 50, 100])
      await channel.put(exchange, '', String(delay), { headers: { 'x-delay': delay } });
    await channel.consume(queue, { noAck: true });
    expect(await channel.deliveries(3)).toEqual(['50', '100', '150']);
  });

  it('B16: x-deliver-at gives the time itself, in milliseconds since 1970', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    const due = Date.now() + 80;
    await channel.put(exchange, 'k', 'at its time', { headers: { 'x-deliver-at': BigInt(due) } });
    await channel.put(exchange, 'k', 'long ago', { headers: { 'x-deliver-at': 1000 } });
    await channel.consume(queue, { noAck: true });
    expect(await channel.deliveries(2)).toEqual(['long ago', 'at its time']);
    expect(Date.now()).toBeGreaterThanOrEqual(due);
  });

  it('B16: it routes as its x-delayed-type does, with the bindings of that moment', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel, 'topic', 'a.*');
    await channel.put(exchange, 'a.b', 'bound', { headers: { 'x-delay': 60 } });
    await channel.put(exchange, 'b.b', 'bound in time', { headers: { 'x-delay': 60 } });
    await channel.put(exchange, 'c', 'never bound', { headers: { 'x-delay': 60 } });
    await channel.bind(queue, exchange, 'b.#');
    await channel.consume(queue, { noAck: true });
    expect(await channel.deliveries(2)).toEqual(['bound', 'bound in time']);
  });

  it('B16: x-delayed-type is required, and must be a type: 406', async () => {
    for (const args of [{}, { 'x-delayed-type': 'sideways' }, { 'x-delayed-type': 5 }]) {
      const channel = await broker.channel();
      const refusal = await channel.refused('exchange.declare', {
        exchange: broker.fresh('x'),
        type: 'x-delayed-message',
        arguments: args,
      });
      expect(refusal).toMatchObject({ scope: 'channel', code: 406, method: 'exchange.declare' });
      expect(refusal.text).toContain('x-delayed-type');
    }
  });

  it('B16: another x-delayed-type is 406 inequivalent arg', async () => {
    const channel = await broker.channel();
    const { exchange } = await delayed(channel);
    const again = { exchange, type: 'x-delayed-message', arguments: { 'x-delayed-type': 'fanout' } };
    expect(await channel.refused('exchange.declare', again)).toEqual(
      closesChannel(
        406,
        `PRECONDITION_FAILED - inequivalent arg 'x-delayed-type' for exchange '${exchange}' ${broker.here}: ` +
          "received 'fanout' but current is 'direct'",
        'exchange.declare',
      ),
    );
  });

  it('B16: the confirm does not wait for the delay', async () => {
    const channel = await broker.channel();
    const { exchange } = await delayed(channel);
    expect(await channel.put(exchange, 'k', 'x', { headers: { 'x-delay': 60_000 } })).toBe(true);
  });

  it('B16: what nobody wants when its time has come goes to the alternate exchange', async () => {
    const channel = await broker.channel();
    const alternate = await channel.exchange(broker.fresh('x'), 'fanout');
    const rest = await channel.queue(broker.fresh('q'));
    await channel.bind(rest, alternate);
    const exchange = await channel.exchange(broker.fresh('x'), 'x-delayed-message', {
      'x-delayed-type': 'direct',
      'alternate-exchange': alternate,
    });
    await channel.put(exchange, 'nobody', 'unwanted', { headers: { 'x-delay': 30 } });
    await eventually(async () => expect(await channel.drain(rest)).toEqual(['unwanted']));
  });

  it('B16: a delivered message that is published again unchanged is not delayed again', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    await channel.put(exchange, 'k', 'x', { headers: { 'x-delay': 30 } });
    await channel.consume(queue, { noAck: true });
    const { headers } = await channel.delivery();
    await channel.put(exchange, 'k', 'again', { headers });
    expect((await channel.delivery()).headers).toEqual({ 'x-delay': -30 });
  });

  it('B16: a delay of months is no overflow', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    await channel.put(exchange, 'k', 'in 58 days', { headers: { 'x-delay': 5_000_000_000n } });
    await channel.put(exchange, 'k', 'in 29 days', { headers: { 'x-delay': 2_500_000_000n } });
    await channel.put(exchange, 'k', 'soon', { headers: { 'x-delay': 20 } });
    await channel.consume(queue);
    expect((await channel.delivery()).text).toBe('soon');
    expect(await channel.arrived(queue)).toEqual([]);
  });

  it('B16: waiting messages can be listed and cancelled', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    const { administration } = broker.embedded;
    await channel.put(exchange, 'k', 'stays', { headers: { 'x-delay': 150 } });
    await channel.put(exchange, 'k', 'goes', { headers: { 'x-delay': 100 } });
    const mine = (await administration.delayedMessages(broker.vhost)).filter((view) => view.exchange === exchange);
    expect(mine).toMatchObject([
      { exchange, routingKey: 'k', bodyBytes: 4 },
      { exchange, routingKey: 'k', bodyBytes: 5 },
    ]);
    const [first] = mine;
    expect(await administration.cancelDelayedMessage(broker.vhost, first?.id ?? '')).toBe(true);
    expect(await administration.cancelDelayedMessage(broker.vhost, first?.id ?? '')).toBe(false);
    await channel.consume(queue, { noAck: true });
    expect((await channel.delivery()).text).toBe('stays');
    expect(channel.pending).toEqual([]);
  });

  it('B16: deleting the exchange drops what waits', async () => {
    const channel = await broker.channel();
    const { exchange, queue } = await delayed(channel);
    const canary = await delayed(channel);
    await channel.put(exchange, 'k', 'dropped', { headers: { 'x-delay': 50 } });
    await channel.put(canary.exchange, 'k', 'kept', { headers: { 'x-delay': 80 } });
    await channel.call('exchange.delete', { exchange });
    await eventually(async () => expect(await channel.ready(canary.queue)).toBe(1));
    expect(await channel.ready(queue)).toBe(0);
  });
});
