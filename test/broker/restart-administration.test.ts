/** What the administrator has made is there again after a restart: users, virtual hosts, permissions, policies, … */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Policy } from '../../broker/administration/administration.ts';
import { createBroker } from '../../broker/broker.ts';
import type { Credentials } from '../../broker/port.ts';
import { Restartable, temporaryFolder } from '../support/restartable.ts';

const HERE = { vhost: '/', user: 'guest' };

function login(username: string, password: string): Credentials {
  return { username, password, loopback: true };
}

describe('a new data folder', () => {
  it('has the default user and virtual host, which come back as they are and not as the options say', async () => {
    const restartable = await Restartable.start({ defaultUser: 'ada', defaultPassword: 'one', defaultVhost: 'home' });
    expect(await restartable.administration.vhosts()).toEqual([{ name: 'home', description: 'Default virtual host' }]);
    await restartable.administration.putUser({ name: 'ada', password: 'two', tags: ['administrator'] });

    await restartable.restart({ defaultUser: 'bob', defaultPassword: 'three', defaultVhost: 'work' });
    const { broker, administration } = restartable;
    expect((await administration.users()).map(({ name }) => name)).toEqual(['ada']);
    expect((await administration.vhosts()).map(({ name }) => name)).toEqual(['home']);
    expect(await broker.authenticate(login('ada', 'two'))).toMatchObject({ username: 'ada', tags: ['administrator'] });
    await expect(broker.authenticate(login('ada', 'one'))).rejects.toMatchObject({ kind: 'access-refused' });
  });

  it('has both or neither, whenever the process dies', async () => {
    // Hashing the password takes its time; nothing may be written before it.
    const dataDir = join(await temporaryFolder(), 'data');
    await expect(createBroker({ dataDir, defaultUser: '' })).rejects.toMatchObject({ kind: 'precondition-failed' });
    const broker = await createBroker({ dataDir });
    expect(await broker.administration.permissions()).toMatchObject([HERE]);
    await broker.close();
  });
});

it.each([
  ['', 'dataDir is empty: give the path of a folder, or leave it out'],
  [5, 'dataDir is a number, not a text: give the path of a folder'],
  [null, 'dataDir is null, not a text'],
  ['a\0b', 'dataDir has a null character in it'],
])('a data folder %j is no path', async (dataDir, text) => {
  const opening = createBroker({ dataDir: dataDir as string });
  await expect(opening).rejects.toThrow(TypeError);
  await expect(opening).rejects.toThrow(text);
});

describe('the default user', () => {
  it('does not come back when he has been deleted', async () => {
    const restartable = await Restartable.start();
    await restartable.administration.putUser({ name: 'ada', password: 'secret', tags: ['administrator'] });
    await restartable.administration.deleteUser('guest');
    await restartable.restart();
    expect((await restartable.administration.users()).map(({ name }) => name)).toEqual(['ada']);
    expect(await restartable.administration.permissions()).toEqual([]);
  });

  it('comes back with the default virtual host when nobody and nothing is left', async () => {
    const restartable = await Restartable.start();
    await restartable.administration.deleteUser('guest');
    await restartable.administration.deleteVhost('/');
    await restartable.restart();
    expect(await restartable.administration.permissions()).toMatchObject([HERE]);
  });
});

describe('users', () => {
  it('come back with hashes, keys, tags and limits, in the order of their making', async () => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    const algorithms = ['sha256', 'sha512', 'md5'] as const;
    for (const algorithm of algorithms) {
      const hashingAlgorithm = `rabbit_password_hashing_${algorithm}` as const;
      await administration.putUser({ name: `user of ${algorithm}`, password: `pass ${algorithm}`, hashingAlgorithm });
    }
    await administration.putUser({
      name: 'limited',
      passwordHash: 'kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR',
      tags: ['monitoring', 'a tag'],
      limits: { maxConnections: 2, maxChannels: 0 },
    });
    await administration.putUser({ name: 'nobody' });
    await administration.setUserLimits('guest', { maxChannels: 7 });
    const before = await administration.users();
    expect(before.map(({ name }) => name).slice(-2)).toEqual(['limited', 'nobody']);
    expect(before[1]).toMatchObject({ scram: expect.anything(), digest: expect.anything() });

    await restartable.restart();
    expect(await restartable.administration.users()).toEqual(before);
    for (const algorithm of algorithms) {
      await restartable.broker.authenticate(login(`user of ${algorithm}`, `pass ${algorithm}`));
    }
    const guest = await restartable.broker.authenticate(login('guest', 'guest'));
    const connection = await restartable.broker.connect(guest);
    for (let number = 1; number <= 7; number += 1) connection.openChannel();
    expect(() => connection.openChannel()).toThrow(/user limit of \(7\)/);
  });

  it('keep the keys that a login has made', async () => {
    const restartable = await Restartable.start();
    const [guest] = await restartable.administration.users();
    await restartable.administration.putUser({ ...guest, name: 'guest', passwordHash: guest?.passwordHash ?? '' });
    expect((await restartable.administration.users())[0]?.scram).toBeUndefined();
    await restartable.broker.authenticate(login('guest', 'guest'));
    const keys = await restartable.broker.scramKeys('guest', 'SHA-256');

    await restartable.restart();
    expect(await restartable.broker.scramKeys('guest', 'SHA-256')).toEqual(keys);
  });

  it('who have been deleted are gone with their permissions', async () => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    await administration.putUser({ name: 'ada', password: 'secret' });
    await administration.setPermission({ vhost: '/', user: 'ada', configure: '', write: '', read: '' });
    await administration.setTopicPermission({ vhost: '/', user: 'ada', exchange: '', write: 'a', read: 'b' });
    await administration.deleteUser('ada');
    await administration.putUser({ name: 'ada', password: 'other' });

    await restartable.restart();
    expect((await restartable.administration.users()).map(({ name }) => name)).toEqual(['guest', 'ada']);
    expect(await restartable.administration.permissions()).toMatchObject([HERE]);
    expect(await restartable.administration.topicPermissions()).toEqual([]);
    await restartable.broker.authenticate(login('ada', 'other'));
  });
});

describe('virtual hosts', () => {
  it('come back with what is said of them, in the order of their making', async () => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    await administration.putVhost({ name: 'z', description: 'last', tags: ['t1', 't2'], defaultQueueType: 'quorum' });
    await administration.putVhost({ name: 'a' });
    await administration.setVhostLimits('a', { maxQueues: 1, maxConnections: 3 });
    // A change does not move it.
    await administration.putVhost({ name: '/', description: 'root' });
    const before = await administration.vhosts();

    await restartable.restart();
    expect(await restartable.administration.vhosts()).toEqual(before);
    expect(before.map(({ name }) => name)).toEqual(['/', 'z', 'a']);
    const channel = await restartable.channel('z');
    await channel.declareQueue({ queue: 'q', durable: true });
    expect((await restartable.broker.snapshot('z')).queues).toMatchObject([{ type: 'quorum' }]);
    const limited = await restartable.broker.connect(undefined, 'a');
    await limited.openChannel().declareQueue({ queue: 'q' });
    await expect(limited.openChannel().declareQueue({ queue: 'r' })).rejects.toMatchObject({
      message: expect.stringContaining('queue limit'),
    });
  });

  it('that have been deleted are gone with everything in them', async () => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    const fill = async (): Promise<void> => {
      await administration.putVhost({ name: 'v' });
      await administration.setPermission({ ...HERE, vhost: 'v', configure: '', write: '', read: '' });
      await administration.setTopicPermission({ ...HERE, vhost: 'v', exchange: 'amq.topic', write: '', read: '' });
      await administration.setPolicy(policy({ vhost: 'v' }));
      await administration.setOperatorPolicy(policy({ vhost: 'v' }));
      await administration.importDefinitions(
        { parameters: [{ component: 'shovel', name: 's', value: {} }] },
        { vhost: 'v' },
      );
      const channel = await restartable.channel('v');
      await channel.declareExchange({ exchange: 'e', type: 'fanout', durable: true });
      await channel.declareQueue({ queue: 'q', durable: true });
      await channel.bind({ source: 'e', destination: 'q', destinationKind: 'queue', bindingKey: 'k' });
      await channel.bind({ source: 'e', destination: 'amq.topic', destinationKind: 'exchange', bindingKey: '' });
      await channel.bind({
        source: 'amq.topic',
        destination: 'amq.fanout',
        destinationKind: 'exchange',
        bindingKey: '',
      });
    };
    await fill();
    await administration.deleteVhost('v');
    await restartable.restart();
    expect((await restartable.administration.vhosts()).map(({ name }) => name)).toEqual(['/']);

    await restartable.administration.putVhost({ name: 'v' });
    await restartable.restart();
    const { administration: after, broker } = restartable;
    const { exchanges, ...rest } = await broker.snapshot('v');
    expect(rest).toEqual({ vhost: 'v', queues: [], bindings: [] });
    expect(exchanges.filter(({ name }) => name === 'e')).toEqual([]);
    expect(await after.permissions()).toMatchObject([HERE]);
    expect(await after.topicPermissions()).toEqual([]);
    expect([...(await after.policies()), ...(await after.operatorPolicies())]).toEqual([]);
    expect((await after.exportDefinitions()).parameters).toEqual([]);
  });
});

describe('permissions', () => {
  it('come back and hold', async () => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    await administration.putUser({ name: 'ada', password: 'secret' });
    await administration.setPermission({ vhost: '/', user: 'ada', configure: '^ada-', write: '.*', read: '' });
    await administration.setTopicPermission({
      vhost: '/',
      user: 'ada',
      exchange: 'amq.topic',
      write: '^{username}\\.',
      read: '.*',
    });
    await administration.setTopicPermission({ vhost: '/', user: 'ada', exchange: '', write: 'x', read: 'y' });
    await administration.setTopicPermission({ vhost: '/', user: 'guest', exchange: '', write: 'x', read: 'y' });
    await administration.clearTopicPermission('/', 'ada', '');
    await administration.clearPermission('/', 'guest');
    const before = [await administration.permissions(), await administration.topicPermissions()];

    await restartable.restart();
    const { administration: after, broker } = restartable;
    expect([await after.permissions(), await after.topicPermissions()]).toEqual(before);
    const channel = (await broker.connect(await broker.authenticate(login('ada', 'secret')))).openChannel();
    await channel.declareQueue({ queue: 'ada-q' });
    await expect(channel.declareQueue({ queue: 'other' })).rejects.toMatchObject({ kind: 'access-refused' });
    await expect(broker.connect(await broker.authenticate(login('guest', 'guest')))).rejects.toMatchObject({
      kind: 'not-allowed',
    });
  });
});

function policy(change: Partial<Policy> = {}): Policy {
  return {
    vhost: '/',
    name: 'p',
    pattern: '^q',
    applyTo: 'queues',
    priority: 0,
    definition: { 'max-length': 10 },
    ...change,
  };
}

describe('policies', () => {
  it('come back and hold for the queues and exchanges that come back', async () => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    const channel = await restartable.channel();
    await channel.declareQueue({ queue: 'q', durable: true });
    await channel.declareExchange({ exchange: 'e', type: 'direct', durable: true });
    await administration.setPolicy(policy({ name: 'low' }));
    await administration.setPolicy(
      policy({ name: 'high', priority: 2, definition: { 'max-length': 3n, expires: 9e8 } }),
    );
    await administration.setPolicy(policy({ name: 'gone', priority: 9 }));
    await administration.clearPolicy('/', 'gone');
    await administration.setOperatorPolicy(policy({ name: 'op', definition: { 'max-length': 2 } }));
    await administration.setOperatorPolicy(policy({ name: 'gone', priority: 9 }));
    await administration.clearOperatorPolicy('/', 'gone');
    const alternate = { 'alternate-exchange': 'amq.fanout' };
    await administration.setPolicy(
      policy({ name: 'alt', pattern: '^e$', applyTo: 'exchanges', definition: alternate }),
    );
    const before = [await administration.policies(), await administration.operatorPolicies()];

    await restartable.restart();
    expect([await restartable.administration.policies(), await restartable.administration.operatorPolicies()]).toEqual(
      before,
    );
    const { queues, exchanges } = await restartable.broker.snapshot('/');
    expect(queues).toMatchObject([
      { policy: 'high', operatorPolicy: 'op', effectivePolicyDefinition: { 'max-length': 2, expires: 9e8 } },
    ]);
    expect(exchanges.find(({ name }) => name === 'e')).toMatchObject({ policy: 'alt' });
  });
});

describe('parameters', () => {
  it('come back with any value that JSON can say', async () => {
    const restartable = await Restartable.start();
    const value = JSON.parse(
      '{"$bigint":"1","$":{"$$":[null,true,-0,1e300,"\\ud83d\\ude00 \\u0000"]},"__proto__":{"a":1},"":[[],{}]}',
    );
    await restartable.administration.importDefinitions({
      parameters: [
        { vhost: '/', component: 'shovel', name: 'mine', value },
        { vhost: '/', component: 'federation-upstream', name: 'mine', value: 'text' },
      ],
      global_parameters: [
        { name: 'internal_cluster_id', value: 'warren-1' },
        { name: 'none', value: null },
      ],
    });
    const before = await restartable.administration.exportDefinitions();

    await restartable.restart();
    expect(JSON.stringify(await restartable.administration.exportDefinitions())).toBe(JSON.stringify(before));
    expect(JSON.stringify(before.parameters)).toContain(JSON.stringify(value));
  });

  it('stay away when they have been cleared', async () => {
    const restartable = await Restartable.start();
    await restartable.administration.importDefinitions({
      global_parameters: [
        { name: 'one', value: 1 },
        { name: 'two', value: 2 },
      ],
    });
    await restartable.administration.clearGlobalParameter('one');
    await restartable.administration.clearGlobalParameter('never there');

    await restartable.restart();
    const { global_parameters: left } = await restartable.administration.exportDefinitions();
    expect(left).toEqual([{ name: 'two', value: 2 }]);
  });
});

describe('definitions that have been imported', () => {
  it('come back as if made one by one', async () => {
    const restartable = await Restartable.start();
    const queues = Array.from({ length: 300 }, (_, index) => ({
      vhost: 'imported',
      name: `q${index}`,
      durable: true,
      auto_delete: false,
      arguments: { 'x-max-length': index },
    }));
    await restartable.administration.importDefinitions({
      users: [{ name: 'ada', password_hash: 'kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR', tags: 'management' }],
      vhosts: [{ name: 'imported' }],
      permissions: [{ user: 'ada', vhost: 'imported', configure: '.*', write: '.*', read: '.*' }],
      policies: [{ vhost: 'imported', name: 'p', pattern: '^q1$', definition: { 'message-ttl': 5000 } }],
      exchanges: [{ vhost: 'imported', name: 'e', type: 'topic', durable: true, auto_delete: false, arguments: {} }],
      queues,
      bindings: queues.map(({ vhost, name }) => ({
        vhost,
        source: 'e',
        destination: name,
        destination_type: 'queue',
        routing_key: `${name}.#`,
        arguments: {},
      })),
    });
    const crashed = await restartable.afterCrash();
    const before = await restartable.administration.exportDefinitions();
    expect(await crashed.administration.exportDefinitions()).toEqual(before);

    await restartable.restart();
    expect(await restartable.administration.exportDefinitions()).toEqual(before);
    expect(before.queues).toHaveLength(300);
  });
});

describe('a verb of the administrator', () => {
  const verbs: { readonly [name: string]: (administration: Restartable['administration']) => Promise<void> } = {
    putUser: (administration) => administration.putUser({ name: 'new', password: 'x' }),
    deleteUser: (administration) => administration.deleteUser('old'),
    setUserLimits: (administration) => administration.setUserLimits('old', { maxChannels: 1 }),
    putVhost: (administration) => administration.putVhost({ name: 'new' }),
    deleteVhost: (administration) => administration.deleteVhost('old'),
    setVhostLimits: (administration) => administration.setVhostLimits('old', { maxQueues: 1 }),
    setPermission: (administration) =>
      administration.setPermission({ vhost: 'old', user: 'guest', configure: '', write: '', read: '' }),
    clearPermission: (administration) => administration.clearPermission('old', 'old'),
    setTopicPermission: (administration) =>
      administration.setTopicPermission({ vhost: 'old', user: 'guest', exchange: '', write: '', read: '' }),
    clearTopicPermission: (administration) => administration.clearTopicPermission('old', 'old'),
    setPolicy: (administration) => administration.setPolicy(policy()),
    clearPolicy: (administration) => administration.clearPolicy('old', 'p'),
    setOperatorPolicy: (administration) => administration.setOperatorPolicy(policy()),
    clearOperatorPolicy: (administration) => administration.clearOperatorPolicy('old', 'p'),
    importDefinitions: (administration) => administration.importDefinitions({ vhosts: [{ name: 'imported' }] }),
  };

  it.each(Object.keys(verbs))('%s resolves when its change is on disk', async (name) => {
    const restartable = await Restartable.start();
    const { administration } = restartable;
    const old = { vhost: 'old', user: 'old' };
    await administration.putVhost({ name: 'old' });
    await administration.putUser({ name: 'old' });
    await administration.setPermission({ ...old, configure: '', write: '', read: '' });
    await administration.setTopicPermission({ ...old, exchange: '', write: '', read: '' });
    await administration.setPolicy(policy({ vhost: 'old' }));
    await administration.setOperatorPolicy(policy({ vhost: 'old' }));
    const before = await administration.exportDefinitions();

    await verbs[name]?.(administration);
    const crashed = await restartable.afterCrash();
    const after = await administration.exportDefinitions();
    expect(after).not.toEqual(before);
    expect(await crashed.administration.exportDefinitions()).toEqual(after);
  });
});

describe('without a data folder', () => {
  it('nothing is kept', async () => {
    const broker = await createBroker();
    await broker.administration.putVhost({ name: 'v' });
    await broker.close();
    expect((await (await createBroker()).administration.vhosts()).map(({ name }) => name)).toEqual(['/']);
  });
});
