/** Durable exchanges, queues and bindings are there again after a restart, whatever they are called and carry; nothing else is. */
import { describe, expect, it } from 'vitest';
import { Decimal, type FieldTable } from '../../broker/fields.ts';
import { createMessage } from '../../broker/message.ts';
import type { BindingSpec, Channel } from '../../broker/port.ts';
import { PREDECLARED_EXCHANGES } from '../../broker/predeclared-exchanges.ts';
import { eventually } from '../support/eventually.ts';
import { durable, Restartable } from '../support/restartable.ts';

/** Every type of field value, and names that JavaScript and JSON have other uses for. */
const ARGUMENTS: FieldTable = {
  'x-none': null,
  'x-yes': true,
  'x-no': false,
  'x-int': -2147483648,
  'x-double': 0.1,
  'x-tiny': 5e-324,
  'x-minus-zero': -0,
  'x-not-a-number': Number.NaN,
  'x-infinite': Number.NEGATIVE_INFINITY,
  'x-long': -(2n ** 63n),
  'x-small-long': 1n,
  'x-text': 'ä \u0000 😀 "\\',
  'x-empty': '',
  'x-octets': Uint8Array.of(0, 127, 128, 255),
  'x-no-octets': new Uint8Array(),
  'x-date': new Date(1_700_000_000_000),
  'x-decimal': new Decimal(2, -12345),
  'x-array': [1, 2n, [null, ['deep']], { a: new Date(0) }],
  'x-no-array': [],
  'x-table': { $bigint: '1', nested: { octets: Uint8Array.of(1), $: new Decimal(0, 1) }, '': {} },
  ['__proto__']: 'a name like any other',
  constructor: 'too',
};

function queueBinding(source: string, destination: string, bindingKey = '', args: FieldTable = {}): BindingSpec {
  return { source, destination, destinationKind: 'queue', bindingKey, arguments: args };
}

function exchangeBinding(source: string, destination: string, bindingKey = ''): BindingSpec {
  return { source, destination, destinationKind: 'exchange', bindingKey };
}

/** What is durable in the virtual host now, checked to be the same after a restart and, before that, after a crash. */
async function survivors(restartable: Restartable, vhost = '/') {
  const before = durable(await restartable.broker.snapshot(vhost));
  // Whatever has gone by itself is on disk when something that came later is.
  await restartable.administration.setUserLimits('guest', {});
  const crashed = await restartable.afterCrash();
  expect(durable(await crashed.snapshot(vhost))).toEqual(before);
  await restartable.restart();
  const after = await restartable.broker.snapshot(vhost);
  expect(durable(after)).toEqual(before);
  return after;
}

function names(things: readonly { readonly name: string }[]): string[] {
  return things.map(({ name }) => name).filter((name) => name !== '' && !name.startsWith('amq.'));
}

describe('exchanges', () => {
  it('come back when they are durable, in the order of their making', async () => {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    for (const type of ['topic', 'direct', 'headers', 'fanout']) {
      await channel.declareExchange({ exchange: `${type}-kept`, type, durable: true, arguments: ARGUMENTS });
      await channel.declareExchange({ exchange: `${type}-gone`, type, durable: false });
    }
    const delayed = { 'x-delayed-type': 'topic' };
    await channel.declareExchange({ exchange: 'd', type: 'x-delayed-message', durable: true, arguments: delayed });
    await channel.declareExchange({ exchange: 'i', type: 'fanout', durable: true, internal: true, autoDelete: true });
    const alternate = { 'alternate-exchange': 'i' };
    await channel.declareExchange({ exchange: 'a', type: 'direct', durable: true, arguments: alternate });

    const { exchanges } = await survivors(restartable);
    expect(names(exchanges)).toEqual(['topic-kept', 'direct-kept', 'headers-kept', 'fanout-kept', 'd', 'i', 'a']);
    expect(exchanges).toContainEqual(expect.objectContaining({ name: 'i', internal: true, autoDelete: true }));
    expect(exchanges).toHaveLength(PREDECLARED_EXCHANGES.length + 7);
  });

  it('are the same to those who declare them again', async () => {
    const restartable = await Restartable.start();
    const alternate = { 'alternate-exchange': 'other' };
    const declaration = { exchange: 'e', type: 'topic', durable: true, arguments: alternate };
    await (await restartable.channel()).declareExchange(declaration);
    await restartable.restart();
    const channel = await restartable.channel();
    await channel.declareExchange(declaration);
    const other = { ...declaration, arguments: { 'alternate-exchange': 'another' } };
    await expect(channel.declareExchange(other)).rejects.toMatchObject({ kind: 'precondition-failed' });
  });
});

describe('queues', () => {
  it('come back when they are durable, with all their arguments, in the order of their making', async () => {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    const settings: FieldTable = {
      'x-expires': 36_000_000n,
      'x-message-ttl': 60_000,
      'x-max-length': 2n ** 40n,
      'x-max-length-bytes': 1000,
      'x-overflow': 'reject-publish-dlx',
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'dead',
      'x-max-priority': 5,
      'x-single-active-consumer': true,
      'x-delayed-retry-min': 10,
      'x-consumer-timeout': 1000,
    };
    await channel.declareQueue({ queue: 'z', durable: true, arguments: { ...ARGUMENTS, ...settings } });
    await channel.declareQueue({ queue: 'gone', durable: false });
    await channel.declareQueue({ queue: 'exclusive', durable: true, exclusive: true });
    await channel.declareQueue({ queue: 'auto', durable: true, autoDelete: true });
    const quorum = { 'x-queue-type': 'quorum', 'x-delivery-limit': 3 };
    await channel.declareQueue({ queue: 'quorum', durable: true, arguments: quorum });
    const { queue: given } = await channel.declareQueue({ queue: '', durable: true });

    const { queues } = await survivors(restartable);
    expect(queues.map(({ name }) => name)).toEqual(['z', 'auto', 'quorum', given]);
    const args = queues[0]?.arguments ?? {};
    expect(Object.keys(args).sort()).toEqual(Object.keys({ ...ARGUMENTS, ...settings }).sort());
    expect(args['x-not-a-number']).toBeNaN();
    expect(Object.is(args['x-minus-zero'], -0)).toBe(true);
    expect(args['x-decimal']).toBeInstanceOf(Decimal);
    expect(Object.entries(args)).toContainEqual(['__proto__', 'a name like any other']);
  });

  it('are the same to those who declare them again, and obey their arguments', async () => {
    const restartable = await Restartable.start();
    const declaration = { queue: 'q', durable: true, arguments: { 'x-max-length': 1 } };
    await (await restartable.channel()).declareQueue(declaration);
    await restartable.restart();
    const channel = await restartable.channel();
    for (const body of ['first', 'second']) channel.publish(createMessage({ routingKey: 'q', body }));
    expect(await channel.declareQueue(declaration)).toMatchObject({ messageCount: 1 });
    const other = { ...declaration, arguments: { 'x-max-length': 2 } };
    await expect(channel.declareQueue(other)).rejects.toMatchObject({ kind: 'precondition-failed' });
  });

  it('do not take over a default type that their virtual host has been given since', async () => {
    const restartable = await Restartable.start();
    await (await restartable.channel()).declareQueue({ queue: 'q', durable: true });
    await restartable.administration.putVhost({ name: '/', defaultQueueType: 'quorum' });
    expect((await survivors(restartable)).queues).toMatchObject([{ type: 'classic', arguments: {} }]);
  });

  it('come back in a virtual host that may no longer have so many', async () => {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    for (const queue of ['a', 'b', 'c']) await channel.declareQueue({ queue, durable: true });
    await restartable.administration.setVhostLimits('/', { maxQueues: 1 });
    expect(names((await survivors(restartable)).queues)).toEqual(['a', 'b', 'c']);
  });
});

describe('bindings', () => {
  it('come back when both their ends do, and lead where they led', async () => {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    for (const queue of ['q1', 'q2', 'h']) await channel.declareQueue({ queue, durable: true });
    await channel.declareQueue({ queue: 'transient' });
    await channel.declareExchange({ exchange: 'e', type: 'topic', durable: true });
    await channel.declareExchange({ exchange: 'e2', type: 'fanout', durable: true, internal: true });
    await channel.declareExchange({ exchange: 'transient', type: 'fanout' });
    await channel.bind(queueBinding('e', 'q1', 'a.*'));
    await channel.bind(queueBinding('e', 'q1', '#', ARGUMENTS));
    await channel.bind(queueBinding('e', 'q1', '#', { ...ARGUMENTS, 'x-int': 2 }));
    await channel.bind(exchangeBinding('e', 'e2', 'b.#'));
    await channel.bind(exchangeBinding('e2', 'e'));
    await channel.bind(queueBinding('e2', 'q2'));
    await channel.bind(queueBinding('amq.headers', 'h', '', { 'x-match': 'any', a: 1n, b: 'x' }));
    await channel.bind(exchangeBinding('amq.direct', 'amq.fanout', 'k'));
    await channel.bind(queueBinding('e', 'transient', 'gone'));
    await channel.bind(queueBinding('transient', 'q1'));
    await channel.bind(exchangeBinding('transient', 'e'));
    await channel.bind(exchangeBinding('e', 'transient'));
    await channel.unbind(queueBinding('e', 'q1', '#', ARGUMENTS));

    const { bindings } = await survivors(restartable);
    expect(bindings).toHaveLength(7);
    const after = await restartable.channel();
    after.publish(createMessage({ exchange: 'e', routingKey: 'b.c', body: 'x' }));
    after.publish(createMessage({ exchange: 'amq.headers', routingKey: '', properties: { headers: { a: 1 } } }));
    const counts = (await restartable.broker.snapshot('/')).queues.map(({ name, messagesReady }) => [
      name,
      messagesReady,
    ]);
    expect(Object.fromEntries(counts)).toEqual({ q1: 1, q2: 1, h: 1 });
  });
});

describe('names', () => {
  const ODD = [
    ' ',
    'a/b',
    'a\u0000b',
    '"]',
    "it's",
    '\\',
    'ä',
    'a\u0308',
    '😀'.repeat(60),
    '\ud800',
    '\ud801',
    '\r\n',
    '__proto__',
    'x'.repeat(255),
    '\ufeff',
  ];

  it('may be any, of anything', async () => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    for (const name of ODD) {
      await administration.putUser({ name, password: name, tags: [name] });
      await administration.putVhost({ name, description: name });
      await administration.setPermission({ vhost: name, user: name, configure: '.*', write: '.*', read: '.*' });
      const definition = { 'dead-letter-routing-key': name };
      await administration.setPolicy({ vhost: name, name, pattern: '.*', applyTo: 'queues', priority: 1, definition });
      const channel = await restartable.channel(name);
      await Promise.all(
        ODD.flatMap((other) => [
          channel.declareExchange({ exchange: other, type: 'direct', durable: true }),
          channel.declareQueue({ queue: other, durable: true }),
        ]),
      );
      await Promise.all(
        ODD.flatMap((other) => [
          channel.bind(queueBinding(other, name, other)),
          channel.bind(queueBinding(name, other, name)),
        ]),
      );
    }
    const before = await administration.exportDefinitions();
    await restartable.restart();
    expect(await restartable.administration.exportDefinitions()).toEqual(before);
    expect(before.queues).toHaveLength(ODD.length ** 2);
    for (const name of ODD) await restartable.administration.deleteVhost(name);
    await restartable.restart();
    expect(await restartable.administration.exportDefinitions()).toMatchObject({
      queues: [],
      bindings: [],
      policies: [],
    });
  });
});

describe('what has been deleted', () => {
  async function filled(): Promise<{ restartable: Restartable; channel: Channel }> {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    await channel.declareExchange({ exchange: 'auto', type: 'fanout', durable: true, autoDelete: true });
    await channel.declareExchange({ exchange: 'e', type: 'fanout', durable: true });
    for (const queue of ['q', 'other']) await channel.declareQueue({ queue, durable: true });
    await channel.bind(queueBinding('auto', 'q'));
    await channel.bind(queueBinding('e', 'q'));
    await channel.bind(exchangeBinding('e', 'amq.fanout'));
    await channel.bind(exchangeBinding('amq.topic', 'e', '#'));
    return { restartable, channel };
  }

  it('stays away: a queue, with its bindings and the exchange that lived for one of them', async () => {
    const { restartable, channel } = await filled();
    await channel.deleteQueue('q');
    const { exchanges, queues, bindings } = await survivors(restartable);
    expect([names(exchanges), names(queues), bindings.length]).toEqual([['e'], ['other'], 2]);
    // Nothing is left of it that a new one would get.
    const after = await restartable.channel();
    await after.declareQueue({ queue: 'q', durable: true });
    await after.declareExchange({ exchange: 'auto', type: 'direct', durable: true });
    expect((await survivors(restartable)).bindings).toHaveLength(2);
  });

  it('stays away: an exchange, with its bindings both ways', async () => {
    const { restartable, channel } = await filled();
    await channel.deleteExchange('e');
    const { exchanges, bindings } = await survivors(restartable);
    expect([names(exchanges), bindings]).toEqual([['auto'], [queueBinding('auto', 'q')]]);
  });

  it('stays away: a binding, and the exchange that lived for it', async () => {
    const { restartable, channel } = await filled();
    await channel.unbind(queueBinding('auto', 'q'));
    await channel.unbind(exchangeBinding('amq.topic', 'e', '#'));
    const { exchanges, bindings } = await survivors(restartable);
    expect([names(exchanges), bindings.length]).toEqual([['e'], 2]);
  });

  it('stays away: an auto-delete queue that has lost its last consumer', async () => {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    await channel.declareQueue({ queue: 'q', durable: true, autoDelete: true });
    await channel.bind(queueBinding('amq.direct', 'q'));
    const consumerTag = await channel.consume({ queue: 'q' }, { onDeliver: () => {} });
    await channel.cancel(consumerTag);
    expect(await survivors(restartable)).toMatchObject({ queues: [], bindings: [] });
  });

  it('stays away: a queue that nobody has used for too long', async () => {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    await channel.declareQueue({ queue: 'q', durable: true, arguments: { 'x-expires': 20 } });
    await channel.declareQueue({ queue: 'kept', durable: true, arguments: { 'x-expires': 3_600_000 } });
    await eventually(async () => expect((await restartable.broker.snapshot('/')).queues).toHaveLength(1));
    expect(names((await survivors(restartable)).queues)).toEqual(['kept']);
  });

  it('may be made anew as something else, and comes back as that', async () => {
    const { restartable, channel } = await filled();
    await channel.deleteQueue('q');
    await channel.declareQueue({ queue: 'q', durable: true, arguments: { 'x-max-priority': 3 } });
    await channel.deleteExchange('e');
    await channel.declareExchange({ exchange: 'e', type: 'topic', durable: false });
    const { queues, exchanges } = await survivors(restartable);
    expect(queues).toMatchObject([{ name: 'other' }, { name: 'q', arguments: { 'x-max-priority': 3 } }]);
    expect(names(exchanges)).toEqual([]);
  });
});

describe('a queue whose time runs out while the broker is down', () => {
  it('gets its full time anew', async () => {
    const restartable = await Restartable.start();
    const channel = await restartable.channel();
    await channel.declareQueue({ queue: 'q', durable: true, arguments: { 'x-expires': 300 } });
    await restartable.restart();
    expect((await restartable.broker.snapshot('/')).queues).toHaveLength(1);
    await eventually(async () => expect((await restartable.broker.snapshot('/')).queues).toEqual([]));
    await restartable.restart();
    expect((await restartable.broker.snapshot('/')).queues).toEqual([]);
  });
});

describe('a shutdown', () => {
  it.each([false, true])(
    'deletes nothing that is durable because its users go (after draining: %s)',
    async (drained) => {
      const restartable = await Restartable.start();
      const channel = await restartable.channel();
      await channel.declareQueue({ queue: 'auto', durable: true, autoDelete: true });
      await channel.declareQueue({ queue: 'transient', autoDelete: true });
      await channel.declareQueue({ queue: 'exclusive', exclusive: true });
      await channel.declareExchange({ exchange: 'auto', type: 'fanout', durable: true, autoDelete: true });
      await channel.bind(queueBinding('auto', 'exclusive'));
      await channel.consume({ queue: 'auto' }, { onDeliver: () => {} });
      await channel.consume({ queue: 'transient' }, { onDeliver: () => {} });

      if (drained) await restartable.broker.drain();
      const { exchanges, queues, bindings } = await survivors(restartable);
      expect([names(exchanges), names(queues), bindings]).toEqual([['auto'], ['auto'], []]);
      // From now on they are what they were.
      const after = await restartable.channel();
      await after.cancel(await after.consume({ queue: 'auto' }, { onDeliver: () => {} }));
      expect((await restartable.broker.snapshot('/')).queues).toEqual([]);
    },
  );

  it('is over when the folder is free for the next', async () => {
    const restartable = await Restartable.start();
    await Promise.all([restartable.broker.close(), restartable.broker.close()]);
    await restartable.restart();
    expect(await restartable.administration.vhosts()).toHaveLength(1);
  });
});
