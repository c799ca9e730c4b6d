/** Whatever is done to a broker, and whenever it is restarted: what outlives the process is the same before and after. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Policy } from '../../broker/administration/administration.ts';
import type { FieldTable } from '../../broker/fields.ts';
import { type BindingSpec, type Broker, BrokerError, type Channel } from '../../broker/port.ts';
import { durable, Restartable } from '../support/restartable.ts';
import { runs } from '../support/runs.ts';

/** One broker through several lives, with a channel in each of its virtual hosts. */
class Lives {
  readonly restartable: Restartable;
  readonly #channels = new Map<string, Promise<Channel>>();

  constructor(restartable: Restartable) {
    this.restartable = restartable;
  }

  get administration(): Broker['administration'] {
    return this.restartable.administration;
  }

  channel(vhost: string): Promise<Channel> {
    const channel = this.#channels.get(vhost) ?? this.restartable.channel(vhost);
    this.#channels.set(vhost, channel);
    // Where there is no such virtual host now, there may be one later.
    channel.catch(() => this.#channels.delete(vhost));
    return channel;
  }

  async deleteVhost(name: string): Promise<void> {
    await this.administration.deleteVhost(name);
    this.#channels.delete(name);
  }

  async restart(): Promise<void> {
    const before = await stateOf(this.restartable.broker);
    this.#channels.clear();
    await this.restartable.restart();
    expect(await stateOf(this.restartable.broker)).toEqual(before);
  }
}

async function stateOf(broker: Broker) {
  const { administration } = broker;
  const vhosts = await administration.vhosts();
  const { parameters, global_parameters: globalParameters } = await administration.exportDefinitions();
  return {
    vhosts,
    parameters,
    globalParameters,
    users: await administration.users(),
    permissions: await administration.permissions(),
    topicPermissions: await administration.topicPermissions(),
    policies: await administration.policies(),
    operatorPolicies: await administration.operatorPolicies(),
    contents: await Promise.all(vhosts.map(async ({ name }) => durable(await broker.snapshot(name)))),
  };
}

type Step = (lives: Lives) => Promise<void>;

/** A step with a name, so that a counterexample can be read. What the broker refuses is part of the game. */
function step<T extends unknown[]>(
  name: string,
  args: fc.Arbitrary<T>,
  run: (lives: Lives, ...args: T) => Promise<unknown>,
) {
  return args.map((values): Step => {
    const named = async (lives: Lives): Promise<void> => {
      try {
        await run(lives, ...values);
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
      }
    };
    return Object.assign(named, { [fc.toStringMethod]: () => `${name}(${fc.stringify(values)})` });
  });
}

const yes = fc.boolean();
const name = fc.constantFrom('a', 'b', 'a/b');
const vhost = fc.constantFrom('/', '/', '/', 'v', 'a/b');
const source = fc.constantFrom('a', 'b', 'a/b', 'amq.topic', 'amq.headers');
const limit = fc.constantFrom(-1, 0, 3, 1000);
const pattern = fc.constantFrom('', '.*', '^a');
const table: fc.Arbitrary<FieldTable> = fc.constantFrom<FieldTable[]>(
  {},
  {},
  { 'x-max-length': 5n, note: [new Date(0), Uint8Array.of(1)] },
  { 'x-queue-type': 'quorum' },
  { 'x-delayed-type': 'topic', 'alternate-exchange': 'b' },
);
const binding = fc.tuple(vhost, source, source, yes, fc.constantFrom('', 'k', '#'), table);

function bindingOf(...[, from, to, isQueue, bindingKey, args]: [string, string, string, boolean, string, FieldTable]) {
  const spec: BindingSpec = {
    source: from,
    destination: to,
    destinationKind: isQueue ? 'queue' : 'exchange',
    bindingKey,
    arguments: args,
  };
  return spec;
}

const policy: fc.Arbitrary<Policy> = fc.record({
  vhost,
  name,
  pattern,
  applyTo: fc.constantFrom('all' as const, 'queues' as const, 'exchanges' as const),
  priority: fc.nat(2),
  definition: fc.constantFrom<FieldTable[]>({ 'max-length': 4 }, { 'message-ttl': 60_000n, overflow: 'drop-head' }),
});

const administering = [
  step('putUser', fc.tuple(name, fc.array(name, { maxLength: 2 }), limit), (lives, user, tags, maxChannels) =>
    lives.administration.putUser({ name: user, tags, limits: { maxChannels } }),
  ),
  step('deleteUser', fc.tuple(name), (lives, user) => lives.administration.deleteUser(user)),
  step('setUserLimits', fc.tuple(name, limit), (lives, user, maxConnections) =>
    lives.administration.setUserLimits(user, { maxConnections }),
  ),
  step('putVhost', fc.tuple(vhost, name, yes), (lives, to, description, isQuorum) =>
    lives.administration.putVhost({ name: to, description, ...(isQuorum && { defaultQueueType: 'quorum' }) }),
  ),
  step('deleteVhost', fc.tuple(vhost), (lives, from) => lives.deleteVhost(from)),
  step('setVhostLimits', fc.tuple(vhost, limit), (lives, to, maxQueues) =>
    lives.administration.setVhostLimits(to, { maxQueues }),
  ),
  step('setPermission', fc.tuple(vhost, name, pattern, pattern), (lives, to, user, configure, write) =>
    lives.administration.setPermission({ vhost: to, user, configure, write, read: '' }),
  ),
  step('clearPermission', fc.tuple(vhost, name), (lives, from, user) =>
    lives.administration.clearPermission(from, user),
  ),
  step('setTopicPermission', fc.tuple(vhost, name, name, pattern), (lives, to, user, exchange, write) =>
    lives.administration.setTopicPermission({ vhost: to, user, exchange, write, read: '' }),
  ),
  step('clearTopicPermission', fc.tuple(vhost, name, fc.option(name)), (lives, from, user, exchange) =>
    lives.administration.clearTopicPermission(from, user, exchange ?? undefined),
  ),
  step('setPolicy', fc.tuple(policy), (lives, set) => lives.administration.setPolicy(set)),
  step('clearPolicy', fc.tuple(vhost, name), (lives, from, which) => lives.administration.clearPolicy(from, which)),
  step('setOperatorPolicy', fc.tuple(policy), (lives, set) => lives.administration.setOperatorPolicy(set)),
  step('clearOperatorPolicy', fc.tuple(vhost, name), (lives, from, which) =>
    lives.administration.clearOperatorPolicy(from, which),
  ),
  step('importParameters', fc.tuple(vhost, name, fc.jsonValue({ maxDepth: 2 })), (lives, to, which, value) =>
    lives.administration.importDefinitions({
      parameters: [{ vhost: to, component: 'shovel', name: which, value }],
      global_parameters: [{ name: which, value }],
    }),
  ),
];

const types = fc.constantFrom('direct', 'topic', 'fanout', 'headers', 'x-delayed-message');

const declaring = [
  step('declareExchange', fc.tuple(vhost, name, types, yes, yes, table), async (lives, to, exchange, type, ...rest) => {
    const [isDurable, autoDelete, args] = rest;
    const channel = await lives.channel(to);
    await channel.declareExchange({ exchange, type, durable: isDurable, autoDelete, arguments: args });
  }),
  step('deleteExchange', fc.tuple(vhost, name, yes), async (lives, from, exchange, ifUnused) =>
    (await lives.channel(from)).deleteExchange(exchange, { ifUnused }),
  ),
  step('declareQueue', fc.tuple(vhost, name, yes, fc.nat(3), yes, table), async (lives, to, queue, ...rest) => {
    const [isDurable, among4, autoDelete, args] = rest;
    const channel = await lives.channel(to);
    await channel.declareQueue({ queue, durable: isDurable, exclusive: among4 === 0, autoDelete, arguments: args });
  }),
  step('deleteQueue', fc.tuple(vhost, name), async (lives, from, queue) =>
    (await lives.channel(from)).deleteQueue(queue),
  ),
  step('bind', binding, async (lives, ...args) => (await lives.channel(args[0])).bind(bindingOf(...args))),
  step('unbind', binding, async (lives, ...args) => (await lives.channel(args[0])).unbind(bindingOf(...args))),
  step('consume and leave', fc.tuple(vhost, name), async (lives, at, queue) => {
    const channel = await lives.channel(at);
    await channel.cancel(await channel.consume({ queue }, { onDeliver: () => {} }));
  }),
];

const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.oneof(...administering) },
    { weight: 6, arbitrary: fc.oneof(...declaring) },
    { weight: 1, arbitrary: step('restart', fc.tuple(), (lives) => lives.restart()) },
  ),
  { minLength: 10, maxLength: 80, size: 'max' },
);

describe('a broker with a data folder', () => {
  it('is after a restart what it was before, whatever has been done to it', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (chosen) => {
        const lives = new Lives(await Restartable.start({ defaultPassword: '' }));
        for (const run of chosen) await run(lives);
        await lives.restart();
        await lives.restart();
        await lives.restartable.broker.close();
      }),
      runs(15),
    );
  }, 60_000);
});
