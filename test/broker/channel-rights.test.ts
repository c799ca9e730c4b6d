import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import type { Channel, Principal } from '../../broker/port.ts';
import { type Core, Inbox, publish, startCore } from '../support/core.ts';

type Right = 'configure' | 'write' | 'read';

interface Need {
  readonly right: Right;
  readonly kind: 'queue' | 'exchange';
  readonly name: string;
}

const need = (right: Right, kind: Need['kind'], name: string): Need => ({ right, kind, name });

let core: Core;
let alice: Principal;
beforeEach(async () => {
  core = await startCore();
  const channel = core.channel();
  for (const exchange of ['x', 'y', 'ae', 'dlx']) await channel.declareExchange({ exchange, type: 'direct' });
  await channel.declareExchange({ exchange: 't', type: 'topic' });
  await channel.declareQueue({ queue: 'q' });
  await core.broker.administration.putUser({ name: 'alice', password: 'pass' });
  await grant([]);
  alice = await core.broker.authenticate({ username: 'alice', password: 'pass', loopback: true });
});
afterEach(() => core.broker.close());

/** Gives alice these rights and no others. */
async function grant(needs: readonly Need[]): Promise<void> {
  const pattern = (right: Right): string => {
    const names = needs.filter((one) => one.right === right).map(({ name }) => name || 'amq\\.default');
    return names.length === 0 ? '' : `^(${names.join('|')})$`;
  };
  await core.broker.administration.setPermission({
    vhost: '/',
    user: 'alice',
    configure: pattern('configure'),
    write: pattern('write'),
    read: pattern('read'),
  });
}

const aliceChannel = async (): Promise<Channel> => (await core.broker.connect(alice)).openChannel();

const toQueue = { source: 'x', destination: 'q', destinationKind: 'queue', bindingKey: 'k' } as const;
const toExchange = { source: 'x', destination: 'y', destinationKind: 'exchange', bindingKey: 'k' } as const;

/** What each verb needs. [RabbitMQ: access control] */
const TABLE: readonly [string, readonly Need[], (channel: Channel) => unknown][] = [
  [
    'exchange.declare',
    [need('configure', 'exchange', 'new')],
    (c) => c.declareExchange({ exchange: 'new', type: 'direct' }),
  ],
  [
    'exchange.declare with an alternate',
    [need('configure', 'exchange', 'new'), need('read', 'exchange', 'new'), need('write', 'exchange', 'ae')],
    (c) => c.declareExchange({ exchange: 'new', type: 'direct', arguments: { 'alternate-exchange': 'ae' } }),
  ],
  ['exchange.delete', [need('configure', 'exchange', 'y')], (c) => c.deleteExchange('y')],
  ['queue.declare', [need('configure', 'queue', 'new')], (c) => c.declareQueue({ queue: 'new' })],
  [
    'queue.declare without a name',
    [need('configure', 'queue', 'amq\\.gen-.{22}')],
    (c) => c.declareQueue({ queue: '' }),
  ],
  [
    'queue.declare with a dead-letter exchange',
    [need('configure', 'queue', 'new'), need('read', 'queue', 'new'), need('write', 'exchange', 'dlx')],
    (c) => c.declareQueue({ queue: 'new', arguments: { 'x-dead-letter-exchange': 'dlx' } }),
  ],
  ['queue.delete', [need('configure', 'queue', 'q')], (c) => c.deleteQueue('q')],
  ['queue.purge', [need('read', 'queue', 'q')], (c) => c.purgeQueue('q')],
  ['queue.bind', [need('write', 'queue', 'q'), need('read', 'exchange', 'x')], (c) => c.bind(toQueue)],
  ['queue.unbind', [need('write', 'queue', 'q'), need('read', 'exchange', 'x')], (c) => c.unbind(toQueue)],
  ['exchange.bind', [need('write', 'exchange', 'y'), need('read', 'exchange', 'x')], (c) => c.bind(toExchange)],
  ['exchange.unbind', [need('write', 'exchange', 'y'), need('read', 'exchange', 'x')], (c) => c.unbind(toExchange)],
  ['basic.publish', [need('write', 'exchange', 'x')], async (c) => publish(c, 'x', 'k')],
  ['basic.publish to the default exchange', [need('write', 'exchange', '')], async (c) => publish(c, '', 'q')],
  ['basic.get', [need('read', 'queue', 'q')], (c) => c.get('q')],
  ['basic.consume', [need('read', 'queue', 'q')], (c) => c.consume({ queue: 'q' }, new Inbox())],
];

describe('[B18] the rights that a verb needs', () => {
  it.each(TABLE)('%s: with exactly these it is done', async (_verb, needs, call) => {
    await grant(needs);
    await call(await aliceChannel());
  });

  it.each(TABLE)('%s: without one of them it is refused, and that one is named', async (_verb, needs, call) => {
    const channel = await aliceChannel();
    for (const missing of needs) {
      await grant(needs.filter((one) => one !== missing));
      const { right, kind, name } = missing;
      const shown = name.includes('gen-') ? 'amq\\.gen-[\\w-]{22}' : name || 'amq\\.default';
      await expect((async () => call(channel))()).rejects.toMatchObject({
        kind: 'access-refused',
        message: expect.stringMatching(`^${right} access to ${kind} '${shown}' in vhost '/' refused for user 'alice'$`),
      });
    }
  });

  it.each<Right>(['configure', 'write', 'read'])('to see that something is there, %s will do', async (right) => {
    const channel = await aliceChannel();
    const look = [
      () => channel.declareQueue({ queue: 'q', passive: true }),
      () => channel.declareExchange({ exchange: 'x', type: '', passive: true }),
    ];
    for (const call of look) await expect(call()).rejects.toMatchObject({ kind: 'access-refused' });
    await grant([need(right, 'queue', 'q'), need(right, 'exchange', 'x')]);
    for (const call of look) await call();
  });

  it('are asked before anything is looked up: who has none does not learn what is there', async () => {
    const channel = await aliceChannel();
    for (const call of [
      () => channel.get('missing'),
      () => channel.deleteQueue('missing'),
      () => channel.deleteExchange('missing'),
      async () => publish(channel, 'missing', 'k'),
    ]) {
      await expect(call()).rejects.toMatchObject({ kind: 'access-refused' });
    }
  });

  it('a right withdrawn is withdrawn from open channels, for what they have done before too', async () => {
    await grant([need('write', 'exchange', 'x')]);
    const channel = await aliceChannel();
    publish(channel, 'x', 'k');
    await grant([]);
    expect(() => publish(channel, 'x', 'k')).toThrow(expect.objectContaining({ kind: 'access-refused' }));
    await grant([need('write', 'exchange', 'x')]);
    publish(channel, 'x', 'k');
  });

  it.each(TABLE)('%s: the program itself needs none', async (_verb, _needs, call) => {
    await call(core.channel());
  });
});

describe('[B18] topic rights', () => {
  const refused = (right: string, topic: string) => ({
    kind: 'access-refused',
    message: `${right} access to topic '${topic}' in exchange 't' in vhost '/' refused for user 'alice'`,
  });

  beforeEach(async () => {
    await grant([need('write', 'exchange', 't'), need('read', 'exchange', 't'), need('write', 'queue', 'q')]);
  });

  it('on the routing key of every publish, and on the binding key; from now on, in open channels', async () => {
    const channel = await aliceChannel();
    publish(channel, 't', 'any.key');
    await core.broker.administration.setTopicPermission({
      vhost: '/',
      user: 'alice',
      exchange: 't',
      write: '^{username}\\.',
      read: '^public\\.',
    });
    publish(channel, 't', 'alice.key');
    expect(() => publish(channel, 't', 'bob.key')).toThrow(expect.objectContaining(refused('write', 'bob.key')));
    publish(channel, 't', 'alice.other');
    const binding = { source: 't', destination: 'q', destinationKind: 'queue' } as const;
    await channel.bind({ ...binding, bindingKey: 'public.#' });
    for (const call of [
      () => channel.bind({ ...binding, bindingKey: 'secret.#' }),
      () => channel.unbind({ ...binding, bindingKey: 'secret.#' }),
    ]) {
      await expect(call()).rejects.toMatchObject(refused('read', 'secret.#'));
    }
    await core.broker.administration.clearTopicPermission('/', 'alice');
    publish(channel, 't', 'bob.key');
  });

  it('are not asked of exchanges of other types', async () => {
    await grant([need('write', 'exchange', 'x')]);
    const permission = { vhost: '/', user: 'alice', exchange: '', write: '^nothing$', read: '^nothing$' };
    await core.broker.administration.setTopicPermission(permission);
    const channel = await aliceChannel();
    channel.publish(createMessage({ exchange: 'x', routingKey: 'k' }));
    await grant([need('write', 'exchange', 't')]);
    expect(() => publish(channel, 't', 'k')).toThrow(expect.objectContaining(refused('write', 'k')));
  });
});
