/** Queues: declaring, naming, exclusive, auto-delete, purging, deleting. */
import { describe, expect, it } from 'vitest';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel } from '../support/raw-channel.ts';

const broker = useBroker();

describe('declaring', () => {
  it('B6: the same declaration answers the counts', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'one');
    await channel.put('', queue, 'two');
    expect(await channel.call('queue.declare', { queue })).toEqual({ queue, messageCount: 2, consumerCount: 0 });
    await channel.consume(queue);
    expect(await channel.deliveries(2)).toEqual(['one', 'two']);
    expect(await channel.call('queue.declare', { queue })).toEqual({ queue, messageCount: 0, consumerCount: 1 });
  });

  it('B6: passive answers the counts whatever the flags, and 404 when there is no such queue', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 5 });
    expect(await channel.call('queue.declare', { queue, passive: true, durable: true })).toEqual({
      queue,
      messageCount: 0,
      consumerCount: 0,
    });
    expect(await channel.refused('queue.declare', { queue: 'nowhere', passive: true })).toEqual(
      closesChannel(404, `NOT_FOUND - no queue 'nowhere' ${broker.here}`, 'queue.declare'),
    );
  });

  it('B6: no-wait declares without an answer', async () => {
    const channel = await broker.channel();
    const queue = broker.fresh('q');
    channel.send('queue.declare', { queue, noWait: true });
    expect(await channel.ready(queue)).toBe(0);
    expect(channel.pending).toEqual([]);
  });

  it('B6: an empty queue name is the last one declared on the channel', async () => {
    const channel = await broker.channel();
    await channel.queue(broker.fresh('q'));
    const queue = await channel.queue(broker.fresh('q'));
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    // [AMQP 1.7.2.3] an empty routing key goes with the empty name: then it is the queue's name too
    await channel.call('queue.bind', { queue: '', exchange, routingKey: '' });
    await channel.put(exchange, queue, 'bound by its own name');
    expect((await channel.mustGet('')).text).toBe('bound by its own name');
    await channel.consume('');
    expect(await channel.consumers(queue)).toBe(1);
    expect(await channel.call('queue.purge', { queue: '' })).toEqual({ messageCount: 0 });
    expect(await channel.call('queue.delete', { queue: '' })).toEqual({ messageCount: 0 });
    await expect(channel.ready(queue)).rejects.toThrow(`no queue '${queue}'`);
  });

  it.each([
    ['queue.bind', { exchange: 'amq.direct' }],
    ['queue.purge', {}],
    ['queue.delete', {}],
    ['basic.get', {}],
    ['basic.consume', {}],
  ])('B6: %s with an empty queue name before any declaration is 404', async (method, args) => {
    const channel = await broker.channel();
    expect(await channel.refused(method, args)).toEqual(
      closesChannel(404, 'NOT_FOUND - no previously declared queue', method),
    );
  });

  it('B6: deleting a queue takes its bindings along', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout');
    await channel.bind(queue, exchange);
    await channel.call('queue.delete', { queue });
    await channel.queue(queue);
    await channel.put(exchange, '', 'lost');
    expect(await channel.ready(queue)).toBe(0);
  });
});

describe('purging and deleting', () => {
  it('B6: purge answers how many ready messages went and spares unacked ones', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    for (const body of ['a', 'b', 'c']) await channel.put('', queue, body);
    const held = await channel.mustGet(queue);
    expect(await channel.call('queue.purge', { queue })).toEqual({ messageCount: 2 });
    channel.reject(held.tag, true);
    expect((await channel.mustGet(queue)).text).toBe('a');
  });

  it('B6: purging a missing queue is 404', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('queue.purge', { queue: 'nowhere' })).toEqual(
      closesChannel(404, `NOT_FOUND - no queue 'nowhere' ${broker.here}`, 'queue.purge'),
    );
  });

  it('B6: delete answers the count; deleting a missing queue or exchange succeeds', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'one');
    expect(await channel.call('queue.delete', { queue })).toEqual({ messageCount: 1 });
    expect(await channel.call('queue.delete', { queue })).toEqual({ messageCount: 0 });
    expect(await channel.call('exchange.delete', { exchange: 'nowhere' })).toEqual({});
  });

  it('B6: if-unused refuses while there are consumers: 406 in use', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue);
    expect(await channel.refused('queue.delete', { queue, ifUnused: true })).toEqual(
      closesChannel(406, `PRECONDITION_FAILED - queue '${queue}' ${broker.here} in use`, 'queue.delete'),
    );
  });

  it('B6: if-empty refuses while there are messages: 406 not empty', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'one');
    expect(await channel.refused('queue.delete', { queue, ifEmpty: true })).toEqual(
      closesChannel(406, `PRECONDITION_FAILED - queue '${queue}' ${broker.here} not empty`, 'queue.delete'),
    );
  });
});

describe('no-wait', () => {
  it('B6: nothing that is asked with no-wait is answered, but all of it is done', async () => {
    const channel = await broker.channel();
    const [queue, doomed] = [broker.fresh('q'), broker.fresh('q')];
    const exchange = broker.fresh('x');
    const noWait = true;
    channel.send('exchange.declare', { exchange, type: 'fanout', noWait });
    channel.send('queue.declare', { queue, noWait });
    channel.send('queue.declare', { queue: doomed, noWait });
    channel.send('queue.bind', { queue, exchange, noWait });
    channel.send('exchange.bind', { source: exchange, destination: 'amq.fanout', routingKey: 'k', noWait });
    channel.send('exchange.unbind', { source: exchange, destination: 'amq.fanout', routingKey: 'k', noWait });
    channel.send('queue.delete', { queue: doomed, noWait });
    await channel.put(exchange, '', 'bound');
    expect((await channel.mustGet(queue, true)).text).toBe('bound');
    await channel.put('', queue, 'purged');
    channel.send('queue.purge', { queue, noWait });
    expect(await channel.get(queue)).toBeUndefined();
    expect(channel.pending).toEqual([]);
    expect(await channel.refused('queue.declare', { queue: doomed, passive: true })).toMatchObject({ code: 404 });
  });
});

describe('names', () => {
  it('B7: the broker chooses names that begin with amq.gen-, a new one each time', async () => {
    const channel = await broker.channel();
    const first = await channel.queue('', {}, { exclusive: true });
    const second = await channel.queue('', {}, { exclusive: true });
    expect(first).toMatch(/^amq\.gen-[\w-]{22}$/);
    expect(second).toMatch(/^amq\.gen-[\w-]{22}$/);
    expect(second).not.toBe(first);
    expect(await channel.ready(first)).toBe(0);
    // the prefix is reserved even for the name that the broker itself has given
    expect(await channel.refused('queue.declare', { queue: first, exclusive: true })).toMatchObject({ code: 403 });
  });

  it('B7: names that begin with amq. are reserved: 403', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('queue.declare', { queue: 'amq.mine' })).toEqual(
      closesChannel(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'", 'queue.declare'),
    );
  });

  it('B7: carriage returns and line feeds are taken out of a name', async () => {
    const channel = await broker.channel();
    const name = broker.fresh('q');
    expect(await channel.queue(`\r\n${name}\n`)).toBe(name);
    expect(await channel.ready(name)).toBe(0);
  });

  it('B7: a name of 255 octets is as good as any', async () => {
    const channel = await broker.channel();
    const name = `${'é'.repeat(127)}e`;
    expect(await channel.queue(name)).toBe(name);
    expect(await channel.ready(name)).toBe(0);
  });

  onlyWarren('x-name-prefix came with RabbitMQ 4')(
    'B7: x-name-prefix begins the name that the broker chooses',
    async () => {
      const channel = await broker.channel();
      expect(await channel.queue('', { 'x-name-prefix': 'tmp.' }, { exclusive: true })).toMatch(/^tmp\.[\w-]{22}$/);
    },
  );
});

describe('exclusive and auto-delete', () => {
  const locked = (queue: string): string =>
    `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${queue}' ${broker.here}. It could be originally ` +
    'declared on another connection or the exclusive property value does not match that of the original declaration.';

  it.each([
    ['queue.declare', { exclusive: true }],
    ['queue.declare', {}],
    ['queue.declare', { passive: true }],
    ['queue.bind', { exchange: 'amq.fanout' }],
    ['queue.unbind', { exchange: 'amq.fanout' }],
    ['queue.purge', {}],
    ['queue.delete', {}],
    ['basic.consume', {}],
    ['basic.get', {}],
  ])("B7: %s %j of another connection's exclusive queue is 405", async (method, args) => {
    const owner = await broker.channel();
    const queue = await owner.queue(broker.fresh('q'), {}, { exclusive: true });
    await owner.bind(queue, 'amq.fanout');
    const other = await broker.channel();
    expect(await other.refused(method, { queue, ...args })).toEqual(closesChannel(405, locked(queue), method));
  });

  it('B7: the owner may use it from every channel, and anybody may publish to it', async () => {
    const owner = await broker.connect();
    const channel = await owner.openChannel();
    const queue = await channel.queue(broker.fresh('q'), {}, { exclusive: true });
    const other = await broker.channel();
    await other.put('', queue, 'hello');
    expect((await (await owner.openChannel()).mustGet(queue)).text).toBe('hello');
  });

  it('B7: declaring again without the exclusive flag is 405 even for the owner', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), {}, { exclusive: true });
    expect(await channel.refused('queue.declare', { queue })).toEqual(
      closesChannel(405, locked(queue), 'queue.declare'),
    );
  });

  it.each([
    [true, false],
    [false, true],
  ])('B7: an exclusive queue is never durable: durable %s, then %s is the same', async (first, second) => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), {}, { exclusive: true, durable: first });
    expect(await channel.queue(queue, {}, { exclusive: true, durable: second })).toBe(queue);
  });

  it('B7: an exclusive queue goes with its connection, durable or not', async () => {
    const owner = await broker.connect();
    const queue = await (await owner.openChannel()).queue(broker.fresh('q'), {}, { exclusive: true, durable: true });
    const other = await broker.connect();
    owner.destroy();
    await eventually(async () => {
      const channel = await other.openChannel();
      expect(await channel.refused('queue.declare', { queue, passive: true })).toMatchObject({ code: 404 });
    });
  });

  it('B7: a queue that is neither durable nor exclusive outlives its connection', async () => {
    const first = await broker.connect();
    const queue = await (await first.openChannel()).queue(broker.fresh('q'));
    await first.close();
    expect(await (await broker.channel()).ready(queue)).toBe(0);
  });

  it('B7: an auto-delete queue goes when its last consumer is cancelled', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), {}, { autoDelete: true });
    const first = await channel.consume(queue);
    const second = await channel.consume(queue);
    await channel.call('basic.cancel', { consumerTag: first });
    expect(await channel.consumers(queue)).toBe(1);
    await channel.call('basic.cancel', { consumerTag: second });
    await eventually(async () => {
      const probe = await broker.channel();
      expect(await probe.refused('queue.declare', { queue, passive: true })).toMatchObject({ code: 404 });
    });
  });

  it('B7: an auto-delete queue goes when the channel of its last consumer closes', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'), {}, { autoDelete: true });
    await channel.consume(queue);
    await channel.close();
    await eventually(async () => {
      const probe = await broker.channel();
      expect(await probe.refused('queue.declare', { queue, passive: true })).toMatchObject({ code: 404 });
    });
  });

  it('B7: an auto-delete queue that never had a consumer stays', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'), {}, { autoDelete: true });
    await channel.put('', queue, 'waiting');
    await channel.mustGet(queue, true);
    await connection.close();
    expect(await (await broker.channel()).ready(queue)).toBe(0);
  });
});
