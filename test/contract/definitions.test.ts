/** Definitions in RabbitMQ's JSON: B24. */
import { createHash, randomBytes } from 'node:crypto';
import { describe, expect } from 'vitest';
import { itAdministered as it, onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';

const broker = useBroker();

/** RabbitMQ's hash: base64 of a salt of four octets and the digest of salt and password. */
function passwordHash(password: string, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  const salt = randomBytes(4);
  const digest = createHash(algorithm).update(salt).update(password).digest();
  return Buffer.concat([salt, digest]).toString('base64');
}

const vhost = `imported-${process.pid}`;
const user = `imported-${process.pid}`;
const definitions = {
  rabbit_version: '3.10.8',
  rabbitmq_version: '3.10.8',
  product_name: 'RabbitMQ',
  users: [
    {
      name: user,
      password_hash: passwordHash('secret'),
      hashing_algorithm: 'rabbit_password_hashing_sha256',
      tags: ['monitoring'],
      limits: {},
    },
    {
      name: `${user}-512`,
      password_hash: passwordHash('longer', 'sha512'),
      hashing_algorithm: 'rabbit_password_hashing_sha512',
      tags: [],
      limits: {},
    },
  ],
  vhosts: [{ name: vhost }],
  permissions: [
    { user, vhost, configure: '.*', write: '.*', read: '.*' },
    { user: `${user}-512`, vhost, configure: '.*', write: '.*', read: '.*' },
    { user: 'guest', vhost, configure: '.*', write: '.*', read: '.*' },
  ],
  topic_permissions: [{ user, vhost, exchange: 'amq.topic', write: '^mine\\.', read: '.*' }],
  parameters: [],
  global_parameters: [],
  policies: [
    { vhost, name: 'short', pattern: '^limited$', 'apply-to': 'queues', definition: { 'max-length': 2 }, priority: 1 },
  ],
  exchanges: [
    { name: 'orders', vhost, type: 'topic', durable: true, auto_delete: false, internal: false, arguments: {} },
    {
      name: 'caught',
      vhost,
      type: 'direct',
      durable: true,
      auto_delete: false,
      internal: false,
      arguments: { 'alternate-exchange': 'orders' },
    },
  ],
  queues: [
    { name: 'inbox', vhost, durable: true, auto_delete: false, arguments: { 'x-max-priority': 5 } },
    { name: 'limited', vhost, durable: true, auto_delete: false, arguments: {} },
  ],
  bindings: [
    {
      source: 'orders',
      vhost,
      destination: 'inbox',
      destination_type: 'queue',
      routing_key: 'order.#',
      arguments: {},
    },
    {
      source: 'caught',
      vhost,
      destination: 'orders',
      destination_type: 'exchange',
      routing_key: 'order.big',
      arguments: {},
    },
  ],
};

describe('B24: definitions', () => {
  it('B24: are imported, twice too, and then hold', async () => {
    const { administration } = broker;
    try {
      await administration.importDefinitions(definitions);
      await administration.importDefinitions(definitions);
      // rabbitmqctl does not wait for the import to be done, and RabbitMQ 3 answers a refused login after 3 seconds
      const channel = await eventually(() => broker.channel({ username: user, password: 'secret', vhost }), {
        timeoutMs: 10_000,
        everyMs: 200,
      });
      await channel.call('queue.declare', { queue: 'inbox', durable: true, arguments: { 'x-max-priority': 5 } });
      await channel.call('exchange.declare', { exchange: 'orders', type: 'topic', durable: true });
      await channel.put('caught', 'order.big', 'through both');
      await channel.put('caught', 'order.alternate', 'through the alternate');
      expect(await channel.drain('inbox')).toEqual(['through both', 'through the alternate']);
      for (let i = 0; i < 4; i++) await channel.put('', 'limited', String(i));
      await eventually(async () => expect(await channel.ready('limited')).toBe(2));
      channel.publish('amq.topic', 'not.mine', 'refused');
      expect(await channel.closed()).toMatchObject({ scope: 'channel', code: 403 });
      await broker.connect({ username: `${user}-512`, password: 'longer', vhost });
    } finally {
      await administration.deleteVhost(vhost);
      for (const name of [user, `${user}-512`]) await administration.deleteUser(name);
    }
  });

  onlyWarren('RabbitMQ refuses keys of later versions, as the case may be')(
    'B24: unknown keys are ignored, and both keys of the version will do',
    async () => {
      const { administration } = broker;
      await administration.importDefinitions({
        rabbitmq_version: '4.9.9',
        rabbitmq_definition_format: 'cluster',
        original_vhost_name: '/',
        novelties: [{ something: true }],
        queues: [
          { name: 'later', vhost: '/', durable: true, auto_delete: false, arguments: {}, type: 'classic', mood: 1 },
        ],
      });
      await administration.importDefinitions({ rabbit_version: '3.6.0' });
      expect(await (await broker.channel()).ready('later')).toBe(0);
    },
  );

  onlyWarren('asks the broker in this process')(
    'B24: what is exported can be imported, and leaves out what is reserved, internal or exclusive',
    async () => {
      const { administration } = broker.embedded;
      const channel = await broker.channel();
      const [kept, left] = [broker.fresh('q'), broker.fresh('q')];
      await channel.queue(kept, { 'x-message-ttl': 60_000 }, { durable: true });
      await channel.queue(left, {}, { exclusive: true });
      const generated = await channel.queue('', {}, { exclusive: true });
      const exchange = await channel.exchange(broker.fresh('x'), 'topic', {}, { durable: true });
      const internal = await channel.exchange(broker.fresh('x'), 'topic', {}, { durable: true, internal: true });
      await channel.bind(kept, exchange, 'a.*', { note: 'kept' });
      const exported = (await administration.exportDefinitions()) as {
        queues: { name: string }[];
        exchanges: { name: string }[];
        bindings: object[];
      };
      const names = [...exported.queues, ...exported.exchanges].map(({ name }) => name);
      expect(names).toContain(kept);
      expect(names).toContain(exchange);
      for (const name of [left, generated, internal, 'amq.topic', '']) expect(names).not.toContain(name);
      await channel.call('queue.delete', { queue: kept });
      await channel.call('exchange.delete', { exchange });
      await administration.importDefinitions(JSON.parse(JSON.stringify(exported)));
      await channel.queue(kept, { 'x-message-ttl': 60_000 }, { durable: true });
      await channel.put(exchange, 'a.b', 'bound again');
      expect(await channel.drain(kept)).toEqual(['bound again']);
    },
  );
});
