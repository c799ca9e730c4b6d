/** Who may do what: B18. A name ends in the rights that the restricted user has on it: `q-c`, `x-wr`, … */
import { afterAll, beforeAll, describe, expect } from 'vitest';
import { isWarren, itAdministered as it, onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel, closesConnection, type RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();
const administered = isWarren || process.env.AMQP_TEST_RABBITMQCTL !== undefined;
const user = 'restricted';
const RIGHTS = ['', 'c', 'w', 'r', 'cr', 'cw', 'wr', 'cwr'];

const ending = (right: string): string => `^.*-[cwr]*${right}[cwr]*$`;
const restricted = (): Promise<RawChannel> => broker.channel({ username: user, password: 'secret' });

beforeAll(async () => {
  if (!administered) return;
  const { administration, vhost } = broker;
  await administration.putUser({ name: user, password: 'secret' });
  await administration.setPermission({
    vhost,
    user,
    configure: ending('c'),
    write: `${ending('w')}|^amq\\.default$`,
    read: ending('r'),
  });
  const channel = await broker.channel();
  for (const rights of RIGHTS) {
    await channel.queue(`q-${rights}`);
    await channel.exchange(`x-${rights}`, 'topic');
  }
});

afterAll(async () => {
  if (administered) await broker.administration.deleteUser(user);
});

/** RabbitMQ 3 does not say which right was missing. */
const refusedAccess = (right: string, what: string, who = user): string =>
  `ACCESS_REFUSED - ${isWarren ? `${right} ` : ''}access to ${what} ${broker.here} refused for user '${who}'`;

type Case = [method: string, args: Record<string, unknown>, right: string, what: string];

describe('B18: rights on names', () => {
  const alternate = (exchange: string): Record<string, unknown> => ({ 'alternate-exchange': exchange });
  const deadLetter = (exchange: string): Record<string, unknown> => ({ 'x-dead-letter-exchange': exchange });

  const refusals: Case[] = [
    ['queue.declare', { queue: 'q-wr' }, 'configure', "queue 'q-wr'"],
    ['queue.declare', { queue: 'new-wr' }, 'configure', "queue 'new-wr'"],
    ['queue.declare', { queue: 'new-c', arguments: deadLetter('x-cwr') }, 'read', "queue 'new-c'"],
    ['queue.declare', { queue: 'new-cr', arguments: deadLetter('x-cr') }, 'write', "exchange 'x-cr'"],
    ['queue.delete', { queue: 'q-wr' }, 'configure', "queue 'q-wr'"],
    ['queue.delete', { queue: 'nowhere-wr' }, 'configure', "queue 'nowhere-wr'"],
    ['queue.purge', { queue: 'q-cw' }, 'read', "queue 'q-cw'"],
    ['queue.bind', { queue: 'q-cr', exchange: 'x-cwr' }, 'write', "queue 'q-cr'"],
    ['queue.bind', { queue: 'q-cwr', exchange: 'x-cw' }, 'read', "exchange 'x-cw'"],
    ['queue.unbind', { queue: 'q-cr', exchange: 'x-cwr' }, 'write', "queue 'q-cr'"],
    ['queue.unbind', { queue: 'q-cwr', exchange: 'x-cw' }, 'read', "exchange 'x-cw'"],
    ['exchange.declare', { exchange: 'x-wr', type: 'topic' }, 'configure', "exchange 'x-wr'"],
    [
      'exchange.declare',
      { exchange: 'new-c', type: 'topic', arguments: alternate('x-cwr') },
      'read',
      "exchange 'new-c'",
    ],
    [
      'exchange.declare',
      { exchange: 'new-cr', type: 'topic', arguments: alternate('x-cr') },
      'write',
      "exchange 'x-cr'",
    ],
    ['exchange.delete', { exchange: 'x-wr' }, 'configure', "exchange 'x-wr'"],
    ['exchange.bind', { destination: 'x-cr', source: 'x-cwr' }, 'write', "exchange 'x-cr'"],
    ['exchange.bind', { destination: 'x-cwr', source: 'x-cw' }, 'read', "exchange 'x-cw'"],
    ['exchange.unbind', { destination: 'x-cr', source: 'x-cwr' }, 'write', "exchange 'x-cr'"],
    ['basic.get', { queue: 'q-cw' }, 'read', "queue 'q-cw'"],
    ['basic.consume', { queue: 'q-cw' }, 'read', "queue 'q-cw'"],
  ];
  for (const [method, args, right, what] of refusals)
    it(`B18: ${method} ${JSON.stringify(args)} is 403`, async () => {
      const channel = await restricted();
      expect(await channel.refused(method, args)).toEqual(closesChannel(403, refusedAccess(right, what), method));
    });

  it('B18: publishing needs write on the exchange: 403', async () => {
    const channel = await restricted();
    channel.publish('x-cr', 'k', 'refused');
    expect(await channel.closed()).toEqual(
      closesChannel(403, refusedAccess('write', "exchange 'x-cr'"), 'basic.publish'),
    );
  });

  it('B18: with exactly the right that is needed, each goes', async () => {
    const channel = await restricted();
    await channel.call('queue.declare', { queue: 'q-c' });
    await channel.call('queue.declare', { queue: 'made-cr', arguments: deadLetter('x-w') });
    await channel.call('queue.bind', { queue: 'q-w', exchange: 'x-r' });
    await channel.call('queue.unbind', { queue: 'q-w', exchange: 'x-r' });
    await channel.call('queue.purge', { queue: 'q-r' });
    await channel.call('queue.delete', { queue: 'made-cr' });
    await channel.call('exchange.declare', { exchange: 'x-c', type: 'topic' });
    await channel.call('exchange.declare', { exchange: 'made-cr', type: 'fanout', arguments: alternate('x-w') });
    await channel.call('exchange.delete', { exchange: 'made-cr' });
    await channel.call('exchange.bind', { destination: 'x-w', source: 'x-r' });
    await channel.call('exchange.unbind', { destination: 'x-w', source: 'x-r' });
    expect(await channel.put('x-w', 'k', 'unroutable')).toBe(true);
    expect(await channel.get('q-r')).toBeUndefined();
    await channel.consume('q-r');
  });

  it('B18: a name chosen by the broker is checked like any other', async () => {
    const channel = await restricted();
    const refusal = await channel.refused('queue.declare', { queue: '', exclusive: true });
    expect(refusal).toMatchObject({ scope: 'channel', code: 403 });
    expect(refusal.text).toMatch(/access to queue 'amq\.gen-[\w-]{22}' in vhost /);
  });

  it('B18: asking whether something exists is free to who has any right on it', async () => {
    const channel = await restricted();
    for (const rights of ['c', 'w', 'r']) {
      await channel.call('queue.declare', { queue: `q-${rights}`, passive: true });
      await channel.call('exchange.declare', { exchange: `x-${rights}`, passive: true });
    }
  });

  onlyWarren('since RabbitMQ 4.3.1; before, anybody might ask')('B18: and 403 to who has none', async () => {
    for (const [method, args] of [
      ['queue.declare', { queue: 'q-', passive: true }],
      ['exchange.declare', { exchange: 'x-', passive: true }],
    ] as const) {
      const channel = await restricted();
      expect(await channel.refused(method, args)).toMatchObject({ scope: 'channel', code: 403, method });
    }
  });

  it('B18: direct reply-to needs no right on the pseudo queue', async () => {
    const channel = await restricted();
    await channel.consume('amq.rabbitmq.reply-to', { noAck: true });
  });
});

describe('B18: the default exchange', () => {
  const name = 'publisher';

  it('B18: is checked under the name amq.default', async () => {
    const { administration, vhost } = broker;
    await administration.putUser({ name, password: 'secret' });
    try {
      await administration.setPermission({ vhost, user: name, configure: '', write: '^$', read: '' });
      const channel = await broker.channel({ username: name, password: 'secret' });
      channel.publish('', 'q-cwr', 'refused');
      expect(await channel.closed()).toEqual(
        closesChannel(403, refusedAccess('write', "exchange 'amq.default'", name), 'basic.publish'),
      );
      await administration.setPermission({ vhost, user: name, configure: '', write: '^amq\\.default$', read: '' });
      const allowed = await broker.channel({ username: name, password: 'secret' });
      expect(await allowed.put('', 'q-cwr', 'allowed')).toBe(true);
    } finally {
      await administration.deleteUser(name);
    }
  });
});

describe('B18: topic permissions', () => {
  const name = 'follower';
  const channelOf = (): Promise<RawChannel> => broker.channel({ username: name, password: 'secret' });

  it('B18: hold routing keys against a pattern, at topic exchanges only', async () => {
    const { administration, vhost } = broker;
    await administration.putUser({ name, password: 'secret' });
    try {
      await administration.setPermission({ vhost, user: name, configure: '.*', write: '.*', read: '.*' });
      await administration.setTopicPermission({
        vhost,
        user: name,
        exchange: 'amq.topic',
        write: '^{username}\\.',
        read: '^public\\.',
      });
      const channel = await channelOf();
      const queue = await channel.queue(broker.fresh('q'));
      expect(await channel.put('amq.topic', `${name}.news`, 'allowed')).toBe(true);
      expect(await channel.put('amq.direct', 'another.news', 'no topic exchange')).toBe(true);
      await channel.bind(queue, 'amq.topic', 'public.#');
      await channel.bind(queue, 'amq.direct', 'private');
      const text = (right: string, key: string): string =>
        refusedAccess(right, `topic '${key}' in exchange 'amq.topic'`, name);
      expect(await channel.refused('queue.bind', { queue, exchange: 'amq.topic', routingKey: 'private.#' })).toEqual(
        closesChannel(403, text('read', 'private.#'), 'queue.bind'),
      );
      const publisher = await channelOf();
      publisher.publish('amq.topic', 'another.news', 'refused');
      expect(await publisher.closed()).toEqual(closesChannel(403, text('write', 'another.news'), 'basic.publish'));
    } finally {
      await administration.deleteUser(name);
    }
  });
});

describe('B18: changes', () => {
  const name = 'changing';

  it('B18: take effect on open channels', async () => {
    const { administration, vhost } = broker;
    const all = { vhost, user: name, configure: '.*', write: '.*', read: '.*' };
    await administration.putUser({ name, password: 'secret' });
    try {
      await administration.setPermission(all);
      const channel = await broker.channel({ username: name, password: 'secret' });
      await channel.queue(broker.fresh('q'));
      await administration.setPermission({ ...all, configure: '^$' });
      await eventually(async () => {
        const refusal = await channel.queue(broker.fresh('q')).catch((error: unknown) => error);
        expect(String(refusal)).toMatch(/403 ACCESS_REFUSED - .*access to queue/);
      });
    } finally {
      await administration.deleteUser(name);
    }
  });

  it('B18: deleting a user closes his connections: 320', async () => {
    const { administration, vhost } = broker;
    await administration.putUser({ name, password: 'secret' });
    await administration.setPermission({ vhost, user: name, configure: '.*', write: '.*', read: '.*' });
    const connection = await broker.connect({ username: name, password: 'secret' });
    await administration.deleteUser(name);
    expect(await connection.control.closed()).toEqual(
      closesConnection(320, `CONNECTION_FORCED - user '${name}' is deleted`, 'none'),
    );
  });

  it('B18: deleting a virtual host closes its connections: 320', async () => {
    const { administration } = broker;
    const vhost = `doomed-${process.pid}`;
    await administration.putVhost({ name: vhost });
    await administration.setPermission({ vhost, user: 'guest', configure: '.*', write: '.*', read: '.*' });
    const connection = await broker.connect({ vhost });
    const channel = await connection.openChannel();
    await channel.queue('q', {}, { durable: true });
    await administration.deleteVhost(vhost);
    expect(await connection.control.closed()).toEqual(
      closesConnection(320, `CONNECTION_FORCED - vhost '${vhost}' is deleted`, 'none'),
    );
  });
});
