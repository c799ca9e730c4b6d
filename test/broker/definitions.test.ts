import { describe, expect, it } from 'vitest';
import type { Definitions } from '../../broker/administration/administration.ts';
import { createBroker } from '../../broker/broker.ts';
import type { Broker } from '../../broker/port.ts';

/** As RabbitMQ 3.10.8 exported it (`rabbitmqctl export_definitions`), shortened; pairs in place of objects are its own. */
const FROM_RABBITMQ: Definitions = {
  rabbit_version: '3.10.8',
  rabbitmq_version: '3.10.8',
  users: [
    {
      name: 'adm-u',
      password_hash: 'f76FLsmTk4xJ5rqT6pNkieNbxQIFTPiaX1apkCXyBflKvRIr',
      hashing_algorithm: 'rabbit_password_hashing_sha256',
      tags: ['management', 'monitoring'],
      limits: { 'max-channels': 7, 'max-connections': 5 },
    },
  ],
  vhosts: [
    {
      name: 'adm',
      limits: [
        ['max-connections', 5],
        ['max-queues', 70],
      ],
      metadata: { default_queue_type: 'quorum', description: 'Adm', tags: ['a', 'b'] },
    },
    { name: 'adm2', limits: [], metadata: { description: '', tags: '' } },
  ],
  permissions: [{ user: 'adm-u', vhost: 'adm', configure: '^x', write: '', read: '.*' }],
  topic_permissions: [{ user: 'adm-u', vhost: 'adm', exchange: 'amq.topic', write: '^{username}\\.', read: '.*' }],
  global_parameters: [{ name: 'gp', value: [['a', 1]] }],
  parameters: [
    { vhost: 'adm', component: 'vhost-limits', name: 'limits', value: { 'max-connections': 5, 'max-queues': 70 } },
    { vhost: 'adm', component: 'shovel', name: 's', value: { 'src-queue': 'work' } },
    {
      vhost: 'adm',
      component: 'operator_policy',
      name: 'op1',
      value: { 'apply-to': 'queues', definition: [['max-length', 5]], pattern: '^w', priority: 0 },
    },
  ],
  policies: [
    {
      vhost: 'adm',
      name: 'p1',
      pattern: '^w',
      'apply-to': 'queues',
      priority: 3,
      definition: { 'dead-letter-exchange': 'dlx', 'max-length': 10 },
    },
  ],
  exchanges: [
    { vhost: 'adm', name: 'unrouted', type: 'fanout', durable: false, auto_delete: false, arguments: {} },
    {
      vhost: 'adm',
      name: 'events',
      type: 'topic',
      durable: true,
      auto_delete: false,
      arguments: { 'alternate-exchange': 'unrouted' },
    },
  ],
  queues: [
    {
      vhost: 'adm',
      name: 'work',
      type: 'classic',
      durable: true,
      auto_delete: false,
      arguments: {
        'x-dead-letter-exchange': '',
        'x-max-priority': 5,
        'x-message-ttl': 5_000_000_000,
        'x-queue-type': 'classic',
      },
    },
    { vhost: 'adm', name: 'amq.gen-4VvTleaOeZVcW1xiBnNrRQ', durable: false, auto_delete: true, arguments: {} },
    { vhost: 'adm', name: 'x1', type: 'classic', durable: false, auto_delete: false, arguments: {} },
  ],
  bindings: [
    binding('amq.headers', 'queue', 'work', '', { a: 1, 'x-match': 'any' }),
    binding('events', 'queue', 'amq.gen-4VvTleaOeZVcW1xiBnNrRQ', '#'),
    binding('events', 'queue', 'excl', '#'),
    binding('events', 'exchange', 'unrouted', 'all'),
    binding('events', 'exchange', 'hid', 'hid'),
    binding('events', 'queue', 'work', 'order.*', { f: 1.5, n: 1, note: 'x', t: { a: [1, 'b'] } }),
  ],
};

function binding(source: string, kind: string, destination: string, key: string, args: object = {}): object {
  return { vhost: 'adm', source, destination, destination_type: kind, routing_key: key, arguments: args };
}

async function brokerWith(definitions: Definitions): Promise<Broker> {
  const broker = await createBroker();
  await broker.administration.importDefinitions(definitions);
  return broker;
}

/** What a client would get: the document through JSON. */
async function exported(broker: Broker, vhost?: string): Promise<Record<string, unknown[]>> {
  return JSON.parse(JSON.stringify(await broker.administration.exportDefinitions(vhost)));
}

function named(entries: unknown[] | undefined, name: string): unknown {
  return entries?.find((entry) => (entry as { name: string }).name === name);
}

describe('[B24] import of what RabbitMQ exported', () => {
  it('brings users who can log in, with tags, limits and permissions', async () => {
    const broker = await brokerWith(FROM_RABBITMQ);
    const principal = await broker.authenticate({ username: 'adm-u', password: 'secret', loopback: false });
    expect(principal.tags).toEqual(['management', 'monitoring']);
    const { administration } = broker;
    expect(await administration.users()).toContainEqual(
      expect.objectContaining({ name: 'adm-u', limits: { maxChannels: 7, maxConnections: 5 } }),
    );
    expect(await administration.permissions()).toContainEqual({
      user: 'adm-u',
      vhost: 'adm',
      configure: '^x',
      write: '',
      read: '.*',
    });
    expect(await administration.topicPermissions()).toEqual(FROM_RABBITMQ.topic_permissions);
  });

  it('brings virtual hosts with their limits, and policies of both kinds', async () => {
    const { administration } = await brokerWith(FROM_RABBITMQ);
    expect(await administration.vhosts()).toContainEqual({
      name: 'adm',
      description: 'Adm',
      tags: ['a', 'b'],
      defaultQueueType: 'quorum',
      limits: { maxConnections: 5, maxQueues: 70 },
    });
    expect(await administration.vhosts()).toContainEqual({ name: 'adm2', description: '', tags: [] });
    expect(await administration.policies()).toMatchObject([{ name: 'p1', applyTo: 'queues', priority: 3 }]);
    expect(await administration.operatorPolicies()).toMatchObject([{ name: 'op1', definition: { 'max-length': 5 } }]);
  });

  it('declares exchanges, queues and bindings, under the policies that came along', async () => {
    const broker = await brokerWith(FROM_RABBITMQ);
    const { exchanges, queues, bindings } = await broker.snapshot('adm');
    expect(exchanges.find(({ name }) => name === 'events')).toMatchObject({
      type: 'topic',
      durable: true,
      arguments: { 'alternate-exchange': 'unrouted' },
    });
    expect(queues.map(({ name }) => name).sort()).toEqual(['work', 'x1']);
    expect(queues.find(({ name }) => name === 'work')).toMatchObject({
      durable: true,
      autoDelete: false,
      arguments: { 'x-message-ttl': 5_000_000_000n, 'x-max-priority': 5 },
      policy: 'p1',
      operatorPolicy: 'op1',
      effectivePolicyDefinition: { 'dead-letter-exchange': 'dlx', 'max-length': 5 },
    });
    const shown = bindings.map(({ source, destination, bindingKey }) => `${source} ${bindingKey} ${destination}`);
    expect(shown.sort()).toEqual(['amq.headers  work', 'events all unrouted', 'events order.* work']);
  });

  it('tells what is passed over', async () => {
    const { administration } = await createBroker();
    const skipped: string[] = [];
    await administration.importDefinitions(FROM_RABBITMQ, { onSkipped: (what) => skipped.push(what) });
    const gen = 'amq.gen-4VvTleaOeZVcW1xiBnNrRQ';
    expect(skipped).toEqual([
      `queue '${gen}' in vhost 'adm': its name is the broker's`,
      `binding of queue '${gen}' to exchange 'events' with '#' in vhost 'adm': there is no queue '${gen}'`,
      "binding of queue 'excl' to exchange 'events' with '#' in vhost 'adm': there is no queue 'excl'",
      "binding of exchange 'hid' to exchange 'events' with 'hid' in vhost 'adm': there is no exchange 'hid'",
    ]);
  });

  it('goes through twice as once', async () => {
    const broker = await brokerWith(FROM_RABBITMQ);
    const before = await exported(broker);
    await broker.administration.importDefinitions(FROM_RABBITMQ);
    expect(await exported(broker)).toEqual(before);
  });

  it('leaves a queue that exists as it is', async () => {
    const broker = await createBroker();
    const channel = (await broker.connect()).openChannel();
    await channel.declareQueue({ queue: 'q', durable: false });
    await broker.administration.importDefinitions({ queues: [{ vhost: '/', name: 'q', durable: true }] });
    expect((await broker.snapshot('/')).queues).toMatchObject([{ name: 'q', durable: false }]);
  });

  it('keeps of users and virtual hosts what the document does not mention', async () => {
    const { administration } = await brokerWith(FROM_RABBITMQ);
    await administration.importDefinitions({
      users: [{ name: 'adm-u', password: 'other', tags: 'administrator' }],
      vhosts: [{ name: 'adm' }],
    });
    expect((await administration.users()).find(({ name }) => name === 'adm-u')).toMatchObject({
      tags: ['administrator'],
      limits: { maxChannels: 7, maxConnections: 5 },
    });
    expect((await administration.vhosts()).find(({ name }) => name === 'adm')).toMatchObject({
      description: 'Adm',
      limits: { maxQueues: 70 },
    });
  });

  it('changes limits and policies of what is open', async () => {
    const broker = await createBroker();
    const channel = (await broker.connect()).openChannel();
    await channel.declareQueue({ queue: 'q' });
    const policies = [{ vhost: '/', name: 'p', pattern: '', definition: { 'max-length': 1 } }];
    await broker.administration.importDefinitions({ policies });
    expect((await broker.snapshot('/')).queues).toMatchObject([{ policy: 'p' }]);
  });
});

describe('users in definitions', () => {
  const login = async (user: object, version?: string): Promise<void> => {
    const head = version === undefined ? {} : { rabbit_version: version };
    const broker = await brokerWith({ ...head, users: [{ name: 'u', tags: '', ...user }] });
    await broker.authenticate({ username: 'u', password: 'secret', loopback: false });
  };
  const MD5_OF_SECRET = 'AAAAAIMhwxNXSSnSIKcgKYN8EIU=';

  it.each([
    ['a plain password', { password: 'secret' }, undefined],
    ['MD5, said', { password_hash: MD5_OF_SECRET, hashing_algorithm: 'rabbit_password_hashing_md5' }, '3.10.8'],
    ['MD5, unsaid before 3.6', { password_hash: MD5_OF_SECRET }, '3.5.7'],
    ['SHA-256, unsaid', { password_hash: 'f76FLsmTk4xJ5rqT6pNkieNbxQIFTPiaX1apkCXyBflKvRIr' }, undefined],
  ])('log in with %s', async (_, user, version) => {
    await expect(login(user, version)).resolves.toBeUndefined();
  });

  it('without a password do not', async () => {
    await expect(login({})).rejects.toMatchObject({ kind: 'access-refused' });
  });
});

describe('a document that does not fit changes nothing', () => {
  const valid: Definitions = FROM_RABBITMQ;
  it.each([
    [{ queues: {} }, 'definitions: queues should be an array'],
    [{ queues: ['q'] }, 'definitions: queues[0] should be an object'],
    [{ queues: [{ vhost: '/', name: 'q', durable: 'yes' }] }, 'definitions: queues[0].durable should be a boolean'],
    [{ queues: [{ vhost: '/', durable: true }] }, 'definitions: queues[0].name should be a string'],
    [{ queues: [{ vhost: '/', name: 'q', arguments: 5 }] }, 'definitions: queues[0].arguments should be an object'],
    [
      { queues: [{ name: 'q' }] },
      'definitions: queues[0] names no virtual host: definitions of one virtual host are imported into one that is named',
    ],
    [
      { queues: [{ vhost: '/', name: 'q', arguments: { 'x-max-length': -1 } }] },
      "invalid arg 'x-max-length' for queue 'q' in vhost '/': {value_negative,-1}",
    ],
    [{ exchanges: [{ vhost: '/', name: 'x', type: 'odd' }] }, "exchange 'x' in vhost '/': unknown exchange type 'odd'"],
    [
      { queues: [{ vhost: 'nowhere', name: 'q' }] },
      "definitions: no vhost 'nowhere', neither here nor in the document",
    ],
    [
      { permissions: [{ vhost: '/', user: 'nobody', configure: '', write: '', read: '' }] },
      "definitions: no user 'nobody', neither here nor in the document",
    ],
    [
      { permissions: [{ vhost: '/', user: 'guest', configure: '', write: '(', read: '' }] },
      "regular expression '(' is invalid: missing ) (at 1)",
    ],
    [
      { policies: [{ vhost: '/', name: 'p', pattern: '', definition: { odd: 1 } }] },
      'Validation failed\n\nodd are not recognised policy settings\n',
    ],
    [
      { parameters: [{ vhost: '/', component: 'vhost-limits', name: 'limits', value: { 'max-queues': 'x' } }] },
      'vhost limit maxQueues should be an integer, actually was NaN',
    ],
    [
      { bindings: [{ ...binding('amq.topic', 'thing', 'q', ''), vhost: '/' }] },
      "definitions: bindings[0].destination_type should be 'queue' or 'exchange'",
    ],
    [{ users: [{ name: 'u', password_hash: '?' }] }, "user 'u': the password hash is no base64 of salt and hash"],
    [
      { users: [{ name: 'u', password_hash: '', hashing_algorithm: 'rot13' }] },
      'definitions: users[0].hashing_algorithm should be a known hashing algorithm',
    ],
    [{ vhosts: [{ name: 'v', default_queue_type: 'odd' }] }, "vhost 'v': 'odd' is not a valid queue type"],
  ])('%j', async (bad, message) => {
    const broker = await createBroker();
    const before = await exported(broker);
    const document: Record<string, unknown> = { ...valid };
    for (const [section, entries] of Object.entries(bad)) {
      const good = valid[section] as unknown[];
      document[section] = Array.isArray(entries) ? [...entries, ...good] : entries;
    }
    await expect(broker.administration.importDefinitions(document)).rejects.toMatchObject({
      kind: 'precondition-failed',
      message,
    });
    expect(await exported(broker)).toEqual(before);
  });

  it('nor one with more queues than the virtual host may have', async () => {
    const broker = await createBroker();
    await (await broker.connect()).openChannel().declareQueue({ queue: 'a' });
    await broker.administration.setVhostLimits('/', { maxQueues: 2 });
    const queues = ['a', 'b', 'c'].map((name) => ({ vhost: '/', name }));
    await expect(broker.administration.importDefinitions({ queues })).rejects.toMatchObject({
      message: expect.stringMatching(
        /^Adding 2 queue\(s\) to virtual host "\/" would exceed the limit of 2 queue\(s\)/,
      ),
    });
    expect((await broker.snapshot('/')).queues).toHaveLength(1);
  });

  it('nor one that is nested without end', async () => {
    let nested: unknown = 1;
    for (let depth = 0; depth < 5000; depth += 1) nested = [nested];
    const { administration } = await createBroker();
    await expect(
      administration.importDefinitions({ queues: [{ vhost: '/', name: 'q', arguments: { nested } }] }),
    ).rejects.toMatchObject({ message: 'definitions: queues[0].arguments is nested more than 100 deep' });
    await expect(
      administration.importDefinitions({ global_parameters: [{ name: 'p', value: { nested } }] }),
    ).rejects.toMatchObject({ message: 'definitions: global_parameters[0].value is nested more than 100 deep' });
  });
});

describe('unknown keys', () => {
  it('are ignored, and so are sections that are absent', async () => {
    const broker = await brokerWith({
      odd: 1,
      queues: [{ vhost: '/', name: 'q', odd: { x: 1 } }],
      users: [{ name: 'u', password: 'p', odd: true }],
    });
    expect((await broker.snapshot('/')).queues).toMatchObject([{ name: 'q', durable: true, autoDelete: false }]);
  });
});

describe('export', () => {
  it('is what was imported, in the shape of RabbitMQ', async () => {
    const document = await exported(await brokerWith(FROM_RABBITMQ));
    const { users, vhosts, permissions, topic_permissions, policies, exchanges, queues } = FROM_RABBITMQ;
    expect(named(document.users, 'adm-u')).toEqual((users as unknown[])[0]);
    expect(named(document.vhosts, 'adm')).toMatchObject({ metadata: (vhosts as { metadata: object }[])[0]?.metadata });
    expect(document.permissions).toContainEqual((permissions as unknown[])[0]);
    expect(document.topic_permissions).toEqual(topic_permissions);
    expect(document.policies).toEqual(policies);
    expect(document.exchanges).toEqual(
      expect.arrayContaining((exchanges as object[]).map((exchange) => ({ ...exchange, internal: false }))),
    );
    expect(named(document.queues, 'work')).toEqual((queues as unknown[])[0]);
    expect(document.global_parameters).toEqual(FROM_RABBITMQ.global_parameters);
    expect(document.parameters).toEqual(
      expect.arrayContaining([
        { vhost: 'adm', component: 'vhost-limits', name: 'limits', value: { 'max-connections': 5, 'max-queues': 70 } },
        { vhost: 'adm', component: 'shovel', name: 's', value: { 'src-queue': 'work' } },
        {
          vhost: 'adm',
          component: 'operator_policy',
          name: 'op1',
          value: { 'apply-to': 'queues', definition: { 'max-length': 5 }, pattern: '^w', priority: 0 },
        },
      ]),
    );
  });

  it('makes another broker the same', async () => {
    const document = await exported(await brokerWith(FROM_RABBITMQ));
    expect(await exported(await brokerWith(document))).toEqual(document);
  });

  it('leaves out what could not be declared again', async () => {
    const broker = await createBroker();
    const channel = (await broker.connect()).openChannel();
    await channel.declareExchange({ exchange: 'hidden', type: 'direct', internal: true });
    await channel.declareExchange({ exchange: 'open', type: 'direct' });
    await channel.declareQueue({ queue: 'mine', exclusive: true });
    const { queue: generated } = await channel.declareQueue({ queue: '' });
    const bind = (source: string, destinationKind: 'queue' | 'exchange', destination: string): Promise<void> =>
      channel.bind({ source, destination, destinationKind, bindingKey: 'k' });
    await bind('open', 'queue', 'mine');
    await bind('open', 'queue', generated);
    await bind('open', 'exchange', 'hidden');
    await bind('amq.topic', 'exchange', 'open');
    const document = await exported(broker);
    expect(document.queues).toEqual([]);
    expect(document.exchanges).toMatchObject([{ name: 'open' }]);
    expect(document.bindings).toMatchObject([{ source: 'amq.topic', destination: 'open' }]);
    await broker.close();
  });

  it('of one virtual host names none, and goes into any', async () => {
    const document = await exported(await brokerWith(FROM_RABBITMQ), 'adm');
    expect(document).toMatchObject({ rabbitmq_definition_format: 'single_virtual_host', original_vhost_name: 'adm' });
    expect(document).not.toHaveProperty('users');
    expect(JSON.stringify(document)).not.toContain('"vhost":');
    const broker = await createBroker();
    await broker.administration.putVhost({ name: 'copy' });
    await broker.administration.importDefinitions(document, { vhost: 'copy' });
    expect((await broker.snapshot('copy')).queues.map(({ name }) => name)).toEqual(['work', 'x1']);
    expect((await broker.administration.policies())[0]).toMatchObject({ vhost: 'copy', name: 'p1' });
    const copy = await exported(broker, 'copy');
    expect(copy.bindings).toEqual(document.bindings);
    expect(copy.parameters).toEqual(document.parameters);
  });

  it('of, and import into, a virtual host that is not there are refused', async () => {
    const { administration } = await createBroker();
    const notFound = { kind: 'not-found', message: "no vhost 'nowhere'" };
    await expect(administration.exportDefinitions('nowhere')).rejects.toMatchObject(notFound);
    await expect(administration.importDefinitions({}, { vhost: 'nowhere' })).rejects.toMatchObject(notFound);
  });

  it('writes every kind of argument as JSON can', async () => {
    const broker = await createBroker();
    const channel = (await broker.connect()).openChannel();
    const args = {
      'x-max-length': 5n,
      note: { at: new Date(1_700_000_000_000), octets: new Uint8Array([104, 105]), none: null },
    };
    await channel.declareQueue({ queue: 'q', arguments: args });
    const document = await exported(broker);
    expect(named(document.queues, 'q')).toMatchObject({
      arguments: { 'x-max-length': 5, note: { at: 1_700_000_000, octets: 'hi', none: null } },
    });
  });
});

describe('deleting a virtual host', () => {
  it('closes its connections and forgets everything in it', async () => {
    const broker = await brokerWith(FROM_RABBITMQ);
    const errors: Error[] = [];
    await broker.connect(undefined, 'adm', { onClose: (error) => errors.push(error) });
    await broker.administration.deleteVhost('adm');
    expect(errors).toMatchObject([{ kind: 'connection-forced', message: "vhost 'adm' is deleted" }]);
    expect(JSON.stringify(await exported(broker))).not.toContain('"adm"');
    await expect(broker.administration.deleteVhost('adm')).rejects.toMatchObject({ kind: 'not-found' });
  });
});
