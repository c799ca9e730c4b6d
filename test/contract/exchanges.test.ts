/** Exchanges: declaring, equivalence, reserved names, deleting, auto-delete, internal; binding and unbinding. */
import { describe, expect, it } from 'vitest';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel } from '../support/raw-channel.ts';

const broker = useBroker();

describe('declaring', () => {
  it.each(['direct', 'fanout', 'topic', 'headers'])('B8: an exchange of type %s, twice the same', async (type) => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), type, {}, { durable: true });
    expect(await channel.exchange(exchange, type, {}, { durable: true })).toBe(exchange);
    expect(await channel.call('exchange.declare', { exchange, passive: true })).toEqual({});
  });

  it.each([
    ['amq.direct', 'direct'],
    ['amq.fanout', 'fanout'],
    ['amq.topic', 'topic'],
    ['amq.headers', 'headers'],
    ['amq.match', 'headers'],
  ])('B8: %s is there from the beginning, durable, of type %s', async (exchange, type) => {
    const channel = await broker.channel();
    expect(await channel.call('exchange.declare', { exchange, type, durable: true })).toEqual({});
    expect(await channel.call('exchange.declare', { exchange, passive: true })).toEqual({});
  });

  it('B8: passive declaration of a missing exchange is 404', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('exchange.declare', { exchange: 'nowhere', passive: true })).toEqual(
      closesChannel(404, `NOT_FOUND - no exchange 'nowhere' ${broker.here}`, 'exchange.declare'),
    );
  });

  onlyWarren('503 COMMAND_INVALID before RabbitMQ 4')('B8: an unknown type is 406', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('exchange.declare', { exchange: broker.fresh('x'), type: 'sideways' })).toEqual(
      closesChannel(406, "PRECONDITION_FAILED - unknown exchange type 'sideways'", 'exchange.declare'),
    );
  });

  it.each([
    ['type', 'fanout', {}, {}, "received 'fanout' but current is 'direct'"],
    ['durable', 'direct', { durable: true }, {}, "received 'true' but current is 'false'"],
    ['auto_delete', 'direct', { autoDelete: true }, {}, "received 'true' but current is 'false'"],
    ['internal', 'direct', { internal: true }, {}, "received 'true' but current is 'false'"],
    [
      'alternate-exchange',
      'direct',
      {},
      { 'alternate-exchange': 'amq.fanout' },
      "received the value 'amq.fanout' of type 'longstr' but current is none",
    ],
  ])('B8: another %s is 406 inequivalent arg', async (word, type, flags, args, difference) => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    const text = `PRECONDITION_FAILED - inequivalent arg '${word}' for exchange '${exchange}' ${broker.here}: ${difference}`;
    expect(await channel.refused('exchange.declare', { exchange, type, arguments: args, ...flags })).toEqual(
      closesChannel(406, text, 'exchange.declare'),
    );
  });

  it('B8: names that begin with amq. are reserved: 403', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('exchange.declare', { exchange: 'amq.mine', type: 'direct' })).toEqual(
      closesChannel(
        403,
        "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
        'exchange.declare',
      ),
    );
  });

  it.each([
    ['exchange.declare', { exchange: '', type: 'direct' }],
    ['exchange.declare', { exchange: '', passive: true }],
    ['exchange.delete', { exchange: '' }],
    ['queue.bind', { queue: 'some', exchange: '', routingKey: 'k' }],
    ['queue.unbind', { queue: 'some', exchange: '', routingKey: 'k' }],
    ['exchange.bind', { source: '', destination: 'amq.fanout', routingKey: 'k' }],
    ['exchange.bind', { source: 'amq.fanout', destination: '', routingKey: 'k' }],
  ])('B8: %s %j on the default exchange is 403', async (method, args) => {
    const channel = await broker.channel();
    await channel.queue('some');
    expect(await channel.refused(method, args)).toEqual(
      closesChannel(403, 'ACCESS_REFUSED - operation not permitted on the default exchange', method),
    );
  });

  it('B8: no-wait declares without an answer', async () => {
    const channel = await broker.channel();
    const exchange = broker.fresh('x');
    channel.send('exchange.declare', { exchange, type: 'fanout', noWait: true });
    expect(await channel.call('exchange.declare', { exchange, passive: true })).toEqual({});
    channel.send('exchange.delete', { exchange, noWait: true });
    expect(await channel.refused('exchange.declare', { exchange, passive: true })).toMatchObject({ code: 404 });
  });

  it('B8: carriage returns and line feeds are taken out of a name', async () => {
    const channel = await broker.channel();
    const name = broker.fresh('x');
    await channel.exchange(`\r\n${name}\n`, 'direct');
    expect(await channel.call('exchange.declare', { exchange: name, passive: true })).toEqual({});
  });
});

describe('deleting', () => {
  it.each(['amq.direct', 'amq.fanout', 'amq.topic', 'amq.headers', 'amq.match'])(
    'B8: deleting %s is 403',
    async (exchange) => {
      const channel = await broker.channel();
      expect(await channel.refused('exchange.delete', { exchange })).toEqual(
        closesChannel(
          403,
          `ACCESS_REFUSED - deletion of system exchange '${exchange}' ${broker.here} not allowed`,
          'exchange.delete',
        ),
      );
    },
  );

  it('B8: if-unused refuses while something is bound: 406 in use', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    const queue = await channel.queue(broker.fresh('q'));
    await channel.bind(queue, exchange, 'k');
    expect(await channel.refused('exchange.delete', { exchange, ifUnused: true })).toEqual(
      closesChannel(406, `PRECONDITION_FAILED - exchange '${exchange}' ${broker.here} in use`, 'exchange.delete'),
    );
    const again = await broker.channel();
    await again.call('queue.unbind', { queue, exchange, routingKey: 'k' });
    expect(await again.call('exchange.delete', { exchange, ifUnused: true })).toEqual({});
  });

  it('B8: deleting an exchange takes its bindings along, also those between exchanges', async () => {
    const channel = await broker.channel();
    const source = await channel.exchange(broker.fresh('x'), 'fanout');
    const middle = await channel.exchange(broker.fresh('x'), 'fanout');
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('exchange.bind', { source, destination: middle });
    await channel.bind(queue, middle);
    await channel.call('exchange.delete', { exchange: middle });
    await channel.exchange(middle, 'fanout');
    await channel.put(source, '', 'lost');
    await channel.put(middle, '', 'lost too');
    expect(await channel.ready(queue)).toBe(0);
  });

  it('B8: an auto-delete exchange goes with its last binding, not before it had one', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'direct', {}, { autoDelete: true });
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('exchange.declare', { exchange, passive: true });
    await channel.bind(queue, exchange, 'one');
    await channel.bind(queue, exchange, 'two');
    await channel.call('queue.unbind', { queue, exchange, routingKey: 'one' });
    await channel.call('exchange.declare', { exchange, passive: true });
    await channel.call('queue.unbind', { queue, exchange, routingKey: 'two' });
    expect(await channel.refused('exchange.declare', { exchange, passive: true })).toMatchObject({ code: 404 });
  });

  it('B8: an auto-delete exchange goes with the last queue that was bound to it, and takes another along', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel();
    const first = await channel.exchange(broker.fresh('x'), 'fanout', {}, { autoDelete: true });
    const second = await channel.exchange(broker.fresh('x'), 'fanout', {}, { autoDelete: true });
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('exchange.bind', { source: first, destination: second });
    await channel.bind(queue, second);
    await channel.call('queue.delete', { queue });
    for (const exchange of [second, first]) {
      await eventually(async () => {
        const probe = await connection.openChannel();
        expect(await probe.refused('exchange.declare', { exchange, passive: true })).toMatchObject({ code: 404 });
      });
    }
  });
});

describe('binding', () => {
  it.each([
    ['queue.bind', { queue: 'nowhere', exchange: 'amq.direct' }, "queue 'nowhere'"],
    ['queue.bind', { queue: 'some', exchange: 'nowhere' }, "exchange 'nowhere'"],
    ['exchange.bind', { source: 'nowhere', destination: 'amq.direct' }, "exchange 'nowhere'"],
    ['exchange.bind', { source: 'amq.direct', destination: 'nowhere' }, "exchange 'nowhere'"],
  ])('B8: %s %j is 404', async (method, args, what) => {
    const channel = await broker.channel();
    await channel.queue('some');
    expect(await channel.refused(method, args)).toEqual(
      closesChannel(404, `NOT_FOUND - no ${what} ${broker.here}`, method),
    );
  });

  it('B8: unbinding what is not bound, or does not exist, succeeds', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    expect(await channel.call('queue.unbind', { queue, exchange, routingKey: 'never' })).toEqual({});
    expect(await channel.call('queue.unbind', { queue: 'nowhere', exchange, routingKey: 'k' })).toEqual({});
    expect(await channel.call('queue.unbind', { queue, exchange: 'nowhere', routingKey: 'k' })).toEqual({});
    expect(await channel.call('exchange.unbind', { source: 'nowhere', destination: exchange })).toEqual({});
  });

  it('B8: the same binding twice counts once', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    await channel.bind(queue, exchange, 'k');
    await channel.bind(queue, exchange, 'k');
    await channel.put(exchange, 'k', 'once');
    expect(await channel.drain(queue)).toEqual(['once']);
    await channel.call('queue.unbind', { queue, exchange, routingKey: 'k' });
    await channel.put(exchange, 'k', 'never');
    expect(await channel.drain(queue)).toEqual([]);
  });

  it('B8: bindings with other arguments are other bindings', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    await channel.bind(queue, exchange, 'k', { note: 1 });
    await channel.bind(queue, exchange, 'k', { note: 2 });
    await channel.call('queue.unbind', { queue, exchange, routingKey: 'k', arguments: { note: 1 } });
    await channel.put(exchange, 'k', 'still bound');
    expect(await channel.drain(queue)).toEqual(['still bound']);
  });
});
