import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import { PREDECLARED_EXCHANGES } from '../../broker/predeclared-exchanges.ts';
import { VERSION } from '../../broker/version.ts';
import { type Core, send, startCore } from '../support/core.ts';

describe('a broker', () => {
  it('has from the start what its options say: a virtual host, a user who may do everything there', async () => {
    const broker = await createBroker({
      name: 'mine@here',
      defaultVhost: 'home',
      defaultUser: 'owner',
      defaultPassword: 'secret',
    });
    expect(broker.name).toBe('mine@here');
    expect((await broker.connect()).vhost).toBe('home');
    const principal = await broker.authenticate({ username: 'owner', password: 'secret', loopback: false });
    expect(principal.tags).toEqual(['administrator']);
    const channel = (await broker.connect(principal, 'home')).openChannel();
    await channel.declareQueue({ queue: 'q' });
    send(channel, 'q', '1');
    expect((await channel.get('q'))?.messageCount).toBe(0);
    await expect(broker.authenticate({ username: 'guest', password: 'guest', loopback: true })).rejects.toMatchObject({
      kind: 'access-refused',
    });
    await broker.close();
  });

  it('without options is ready for guest, from this machine', async () => {
    const broker = await createBroker();
    const guest = { username: 'guest', password: 'guest' };
    await broker.connect(await broker.authenticate({ ...guest, loopback: true }), '/');
    await expect(broker.authenticate({ ...guest, loopback: false })).rejects.toMatchObject({ kind: 'access-refused' });
    expect((await broker.snapshot('/')).exchanges.map(({ name }) => name)).toEqual(
      PREDECLARED_EXCHANGES.map(({ name }) => name),
    );
    await broker.close();
  });
});

describe('the version', () => {
  it('is that of the package', async () => {
    const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(VERSION).toBe(version);
  });
});

describe('a connection', () => {
  let core: Core;
  beforeEach(async () => {
    core = await startCore();
  });
  afterEach(() => core.broker.close());

  it('enters a virtual host that is there, with a permission in it', async () => {
    const { administration } = core.broker;
    await administration.putUser({ name: 'alice', password: 'pass' });
    const alice = await core.broker.authenticate({ username: 'alice', password: 'pass', loopback: true });
    await expect(core.broker.connect(alice, 'nowhere')).rejects.toMatchObject({
      kind: 'not-allowed',
      message: 'vhost nowhere not found',
    });
    await expect(core.broker.connect(alice, '/')).rejects.toMatchObject({
      kind: 'not-allowed',
      message: "access to vhost '/' refused for user 'alice'",
    });
    await administration.setPermission({ vhost: '/', user: 'alice', configure: '', write: '', read: '' });
    const connection = await core.broker.connect(alice, '/', {}, { protocol: 'STOMP 1.2', name: 'her peer' });
    expect(await administration.connections()).toContainEqual({
      protocol: 'STOMP 1.2',
      name: 'her peer',
      username: 'alice',
      vhost: '/',
    });
    await connection.close();
    expect(await administration.connections()).toHaveLength(1);
  });

  it('may be renewed for the same user only', async () => {
    const { administration } = core.broker;
    const principals = [];
    for (const name of ['alice', 'bob']) {
      await administration.putUser({ name, password: 'pass' });
      await administration.setPermission({ vhost: '/', user: name, configure: '.*', write: '.*', read: '.*' });
      principals.push(await core.broker.authenticate({ username: name, password: 'pass', loopback: true }));
    }
    const [alice, bob] = principals;
    const connection = await core.broker.connect(alice, '/');
    const channel = connection.openChannel();
    expect(() => connection.renew(bob ?? connection.principal)).toThrow(
      expect.objectContaining({ kind: 'not-allowed' }),
    );
    await administration.putUser({ name: 'alice', password: 'new', tags: ['impersonator'] });
    const renewed = await core.broker.authenticate({ username: 'alice', password: 'new', loopback: true });
    await channel.declareQueue({ queue: 'q' });
    expect(() => send(channel, 'q', '', { userId: 'bob' })).toThrow(
      expect.objectContaining({ kind: 'precondition-failed' }),
    );
    connection.renew(renewed);
    expect(connection.principal).toBe(renewed);
    send(channel, 'q', 'as bob', { userId: 'bob' });
    expect(await core.drainBodies('q')).toEqual(['as bob']);
  });

  it('numbers its channels itself, around those that were given a number', () => {
    const { connection } = core;
    expect(connection.openChannel({}, 2).number).toBe(2);
    expect([connection.openChannel().number, connection.openChannel().number]).toEqual([1, 3]);
  });
});

describe('a snapshot', () => {
  it('shows everything there is, as it is', async () => {
    const core = await startCore();
    const { administration } = core.broker;
    const policy = { vhost: '/', priority: 0 } as const;
    await administration.setPolicy({
      ...policy,
      name: 'p',
      pattern: '^q',
      applyTo: 'queues',
      definition: { 'max-length': 9 },
    });
    await administration.setOperatorPolicy({
      ...policy,
      name: 'o',
      pattern: '^q',
      applyTo: 'queues',
      definition: { 'max-length': 5, 'message-ttl': 60_000 },
    });
    const channel = core.channel();
    await channel.declareExchange({ exchange: 'x', type: 'topic', internal: true, durable: true });
    await channel.declareQueue({ queue: 'q', durable: true, arguments: { 'x-max-priority': 3 } });
    const binding = { source: 'x', destination: 'q', destinationKind: 'queue', bindingKey: 'k.#' } as const;
    await channel.bind({ ...binding, arguments: { a: 1 } });
    channel.prefetch(1);
    const inbox = await core.consume(channel, 'q', { consumerTag: 't', arguments: { 'x-priority': 2 } });
    for (const body of ['first', 'second']) send(channel, 'q', body);
    const { vhost, exchanges, queues, bindings } = await core.broker.snapshot('/');
    expect(vhost).toBe('/');
    expect(exchanges.find(({ name }) => name === 'x')).toEqual({
      name: 'x',
      type: 'topic',
      durable: true,
      autoDelete: false,
      internal: true,
      arguments: {},
      delayedMessages: 0,
      unroutableMessages: 0,
    });
    expect(queues).toEqual([
      {
        name: 'q',
        type: 'classic',
        durable: true,
        exclusive: false,
        autoDelete: false,
        arguments: { 'x-max-priority': 3 },
        policy: 'p',
        operatorPolicy: 'o',
        effectivePolicyDefinition: { 'max-length': 5, 'message-ttl': 60_000 },
        messagesReady: 1,
        messagesUnacked: 1,
        messagesDelayed: 0,
        messageBytesReady: 6,
        consumers: [
          {
            consumerTag: inbox.tag,
            channelNumber: channel.number,
            connection: core.connection.peer.name,
            noAck: false,
            exclusive: false,
            priority: 2,
            prefetch: 1,
            unacked: 1,
            active: true,
            activityStatus: 'up',
            arguments: { 'x-priority': 2 },
          },
        ],
      },
    ]);
    expect(bindings).toEqual([{ ...binding, arguments: { a: 1 } }]);
    await expect(core.broker.snapshot('nowhere')).rejects.toMatchObject({ kind: 'not-found' });
    await core.broker.close();
  });
});
