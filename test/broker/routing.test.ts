import assert from 'node:assert/strict';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FieldTable } from '../../broker/fields.ts';
import { createMessage } from '../../broker/message.ts';
import type { BindingSpec, Channel } from '../../broker/port.ts';
import { type Core, publish, startCore } from '../support/core.ts';
import { headersMatch, topicMatches } from '../support/naive-matchers.ts';
import { runs } from '../support/runs.ts';

const TYPES: { readonly [exchange: string]: string } = { d: 'direct', f: 'fanout', t: 'topic', h: 'headers' };
const EXCHANGES = Object.keys(TYPES);
const QUEUES = ['q1', 'q2', 'a'];
const HEADERS: readonly FieldTable[] = [{}, { k: 1 }, { k: 2, l: 'y' }, { k: 3 }];

/** Where a message must go, from what the broker shows of itself, in the plainest way. */
async function naiveRoute(core: Core, start: string, keys: readonly string[], headers: FieldTable): Promise<string[]> {
  const { exchanges, queues, bindings } = await core.broker.snapshot('/');
  const policies = await core.broker.administration.policies();
  const found = new Set<string>();
  const visited = new Set<string>();
  const wants = (binding: BindingSpec, type: string | undefined): boolean => {
    const { bindingKey, arguments: args = {} } = binding;
    if (type === 'headers') return headersMatch(args, headers);
    if (type === 'topic') return keys.some((key) => topicMatches(bindingKey, key));
    return type === 'fanout' || keys.includes(bindingKey);
  };
  const visit = (name: string): void => {
    const exchange = exchanges.find((one) => one.name === name);
    if (exchange === undefined || visited.has(name)) return;
    visited.add(name);
    if (name === '') {
      for (const queue of queues) if (keys.includes(queue.name)) found.add(queue.name);
      return;
    }
    const matched = bindings.filter((one) => one.source === name && wants(one, exchange.type));
    for (const { destination, destinationKind } of matched) {
      if (destinationKind === 'queue') found.add(destination);
      else visit(destination);
    }
    const policy = policies.find((one) => one.name === exchange.policy);
    const alternate = exchange.arguments['alternate-exchange'] ?? policy?.definition['alternate-exchange'];
    if (matched.length === 0 && typeof alternate === 'string') visit(alternate);
  };
  visit(start);
  return [...found].sort();
}

/** A virtual host that is changed all the time, and probed with messages in between. */
class Maze {
  readonly #core: Core;
  readonly #channel: Channel;
  #returned = 0;

  constructor(core: Core) {
    this.#core = core;
    this.#channel = core.channel({
      onReturn: () => {
        this.#returned++;
      },
    });
  }

  async declareExchange(exchange: string, alternate: string | undefined): Promise<void> {
    await this.#channel.deleteExchange(exchange);
    const args = alternate === undefined ? {} : { 'alternate-exchange': alternate };
    await this.#channel.declareExchange({ exchange, type: TYPES[exchange] ?? '', arguments: args });
  }

  deleteExchange(exchange: string): Promise<void> {
    return this.#channel.deleteExchange(exchange);
  }

  async redeclareQueue(queue: string): Promise<void> {
    await this.#channel.deleteQueue(queue);
    await this.#channel.declareQueue({ queue });
  }

  deleteQueue(queue: string): Promise<number> {
    return this.#channel.deleteQueue(queue);
  }

  /** Does nothing when one of the ends is not there. */
  async bind(source: string, destination: string, bindingKey: string, args: FieldTable): Promise<void> {
    const { exchanges, queues } = await this.#core.broker.snapshot('/');
    const destinationKind = QUEUES.includes(destination) ? 'queue' : 'exchange';
    const ends = destinationKind === 'queue' ? queues : exchanges;
    if (!exchanges.some(({ name }) => name === source) || !ends.some(({ name }) => name === destination)) return;
    await this.#channel.bind({ source, destination, destinationKind, bindingKey, arguments: args });
  }

  async unbind(index: number): Promise<void> {
    const { bindings } = await this.#core.broker.snapshot('/');
    const binding = bindings[index % Math.max(1, bindings.length)];
    if (binding !== undefined) await this.#channel.unbind(binding);
  }

  async policy(pattern: string, alternate: string | undefined): Promise<void> {
    const { administration } = this.#core.broker;
    if (alternate !== undefined) {
      const definition = { 'alternate-exchange': alternate };
      await administration.setPolicy({ vhost: '/', name: 'p', pattern, applyTo: 'exchanges', priority: 0, definition });
    } else if ((await administration.policies()).length > 0) await administration.clearPolicy('/', 'p');
  }

  /** One message after the other with every kind of headers: what was found for one must not be taken for the next. */
  async probeAll(exchange: string, routingKey: string, copies: readonly string[]): Promise<void> {
    for (const headers of HEADERS) await this.#probe(exchange, routingKey, copies, headers);
  }

  /** A message to each exchange, the same after every change: what was found before it must not be taken for now. */
  async probeEach(): Promise<void> {
    for (const exchange of ['', ...EXCHANGES]) await this.#probe(exchange, 'a', [], {});
  }

  async #probe(exchange: string, routingKey: string, copies: readonly string[], headers: FieldTable): Promise<void> {
    const { exchanges } = await this.#core.broker.snapshot('/');
    if (!exchanges.some(({ name }) => name === exchange)) return;
    const wanted = await naiveRoute(this.#core, exchange, [routingKey, ...copies], headers);
    const all = copies.length > 0 ? { ...headers, CC: copies } : headers;
    this.#returned = 0;
    this.#channel.publish(createMessage({ exchange, routingKey, properties: { headers: all } }), true);
    const reached = [];
    for (const { name, messagesReady } of (await this.#core.broker.snapshot('/')).queues) {
      assert.ok(messagesReady <= 1, `${name} has it ${messagesReady} times`);
      if (messagesReady === 0) continue;
      reached.push(name);
      await this.#channel.purgeQueue(name);
    }
    assert.deepEqual(reached.sort(), wanted);
    assert.equal(this.#returned, wanted.length === 0 ? 1 : 0);
  }
}

describe('routes', () => {
  const key = fc.constantFrom('', 'a', 'b', 'a.b');
  const bindingKey = fc.constantFrom('', 'a', 'b', 'a.b', '#', '*', 'a.#', '*.b');
  const args = fc.constantFrom<FieldTable>({}, { k: 1 }, { 'x-match': 'any', k: 2, l: 'y' });
  const exchange = fc.constantFrom(...EXCHANGES);
  const queue = fc.constantFrom(...QUEUES);
  const alternate = fc.option(fc.constantFrom('', ...EXCHANGES, 'missing'), { nil: undefined });
  const step = <T extends unknown[]>(name: string, args: fc.Arbitrary<T>, run: (maze: Maze, ...args: T) => unknown) =>
    args.map((values) => {
      const named = async (maze: Maze): Promise<void> => void (await run(maze, ...values));
      return Object.assign(named, { [fc.toStringMethod]: () => `${name}(${fc.stringify(values)})` });
    });
  const copies = fc.array(key, { maxLength: 2 });
  const binding = fc.tuple(exchange, fc.oneof(queue, exchange), bindingKey, args);
  const steps = fc.array(
    fc.oneof(
      {
        weight: 2,
        arbitrary: step('declareExchange', fc.tuple(exchange, alternate), (maze, ...args) =>
          maze.declareExchange(...args),
        ),
      },
      { weight: 1, arbitrary: step('deleteExchange', fc.tuple(exchange), (maze, name) => maze.deleteExchange(name)) },
      { weight: 1, arbitrary: step('redeclareQueue', fc.tuple(queue), (maze, name) => maze.redeclareQueue(name)) },
      { weight: 1, arbitrary: step('deleteQueue', fc.tuple(queue), (maze, name) => maze.deleteQueue(name)) },
      { weight: 8, arbitrary: step('bind', binding, (maze, ...args) => maze.bind(...args)) },
      { weight: 3, arbitrary: step('unbind', fc.tuple(fc.nat()), (maze, index) => maze.unbind(index)) },
      { weight: 2, arbitrary: step('policy', fc.tuple(exchange, alternate), (maze, ...args) => maze.policy(...args)) },
      {
        weight: 4,
        arbitrary: step('probeAll', fc.tuple(fc.oneof(exchange, fc.constant('')), key, copies), (maze, ...args) =>
          maze.probeAll(...args),
        ),
      },
    ),
    { maxLength: 40, size: 'max' },
  );

  it('goes where the bindings lead, each queue once, whatever was known before the last change', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (steps) => {
        const core = await startCore();
        const maze = new Maze(core);
        for (const name of QUEUES) await maze.redeclareQueue(name);
        for (const name of EXCHANGES) await maze.declareExchange(name, undefined);
        for (const one of steps) {
          await one(maze);
          await maze.probeEach();
        }
        await core.broker.close();
      }),
      runs(120),
    );
  });
});

describe('routing', () => {
  let core: Core;
  let channel: Channel;
  beforeEach(async () => {
    core = await startCore();
    channel = core.channel();
  });
  afterEach(() => core.broker.close());

  const bind = (
    source: string,
    destination: string,
    bindingKey = '',
    destinationKind: 'queue' | 'exchange' = 'queue',
  ) => channel.bind({ source, destination, destinationKind, bindingKey });

  it('what depends on more than the key is found anew each time, also at the end of a chain', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'fanout' });
    await channel.declareExchange({ exchange: 'h', type: 'headers' });
    await bind('x', 'h', '', 'exchange');
    await channel.declareQueue({ queue: 'q' });
    const binding = { source: 'h', destination: 'q', destinationKind: 'queue', bindingKey: '' } as const;
    await channel.bind({ ...binding, arguments: { colour: 'red' } });
    for (const exchange of ['h', 'x']) {
      for (const colour of ['red', 'blue', 'red']) publish(channel, exchange, 'k', colour, { headers: { colour } });
      expect(await core.drainBodies('q')).toEqual(['red', 'red']);
    }
  });

  it('an alternate that is gone leads nowhere, though it had no bindings of its own', async () => {
    const to = (alternate: string): FieldTable => ({ 'alternate-exchange': alternate });
    await channel.declareExchange({ exchange: 'x', type: 'direct', arguments: to('middle') });
    await channel.declareExchange({ exchange: 'middle', type: 'direct', arguments: to('amq.fanout') });
    await channel.declareQueue({ queue: 'q' });
    await bind('amq.fanout', 'q');
    publish(channel, 'x', 'k', '1');
    await channel.deleteExchange('middle');
    publish(channel, 'x', 'k', '2');
    expect(await core.drainBodies('q')).toEqual(['1']);
  });

  it('a queue that comes and goes unbound is found by the default exchange as an alternate', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'direct', arguments: { 'alternate-exchange': '' } });
    publish(channel, 'x', 'q', 'too early');
    await channel.declareQueue({ queue: 'q' });
    publish(channel, 'x', 'q', '1');
    expect(await core.drainBodies('q')).toEqual(['1']);
    await channel.deleteQueue('q');
    await channel.declareQueue({ queue: 'q' });
    publish(channel, 'x', 'q', '2');
    expect(await core.drainBodies('q')).toEqual(['2']);
  });

  it('a ring of exchanges delivers once, and a message that nobody wants comes to an end', async () => {
    for (const exchange of ['x', 'y', 'z']) await channel.declareExchange({ exchange, type: 'fanout' });
    await bind('x', 'y', '', 'exchange');
    await bind('y', 'z', '', 'exchange');
    await bind('z', 'x', '', 'exchange');
    await bind('x', 'x', '', 'exchange');
    publish(channel, 'x', '', 'lost');
    await channel.declareQueue({ queue: 'q' });
    for (const exchange of ['x', 'y', 'z']) await bind(exchange, 'q');
    publish(channel, 'y', '', 'found');
    expect(await core.drainBodies('q')).toEqual(['found']);
  });

  it('a ring of alternates comes to an end', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'direct', arguments: { 'alternate-exchange': 'y' } });
    await channel.declareExchange({ exchange: 'y', type: 'direct', arguments: { 'alternate-exchange': 'x' } });
    publish(channel, 'x', 'k');
    expect((await core.exchange('x'))?.unroutableMessages).toBe(1);
    await channel.declareQueue({ queue: 'q' });
    await bind('y', 'q', 'k');
    publish(channel, 'x', 'k', 'by way of y');
    expect(await core.drainBodies('q')).toEqual(['by way of y']);
  });

  it('a chain of 5,000 exchanges is followed to its end', async () => {
    const length = 5000;
    for (let index = 0; index < length; index++) {
      await channel.declareExchange({ exchange: `x${index}`, type: 'fanout' });
      if (index > 0) await bind(`x${index - 1}`, `x${index}`, '', 'exchange');
    }
    await channel.declareQueue({ queue: 'q' });
    await bind(`x${length - 1}`, 'q');
    publish(channel, 'x0', '', 'far');
    expect(await core.drainBodies('q')).toEqual(['far']);
  });

  it('a chain of 5,000 auto-delete exchanges goes when its end is unbound', async () => {
    const length = 5000;
    await channel.declareQueue({ queue: 'q' });
    for (let index = 0; index < length; index++) {
      await channel.declareExchange({ exchange: `x${index}`, type: 'fanout', autoDelete: true });
      if (index > 0) await bind(`x${index - 1}`, `x${index}`, '', 'exchange');
    }
    await bind(`x${length - 1}`, 'q');
    await channel.deleteQueue('q');
    const { exchanges, bindings } = await core.broker.snapshot('/');
    expect(exchanges.filter(({ name }) => name.startsWith('x'))).toEqual([]);
    expect(bindings).toEqual([]);
  });

  it('more keys than an exchange remembers are routed all the same', async () => {
    await channel.declareExchange({ exchange: 't', type: 'topic' });
    await channel.declareQueue({ queue: 'q' });
    await bind('t', 'q', 'k.#');
    const count = 20_000;
    for (let index = 0; index < count; index++) publish(channel, 't', `k.${index}`);
    for (let index = 0; index < count; index++) publish(channel, 't', `other.${index}`);
    expect((await core.queue('q'))?.messagesReady).toBe(count);
    expect((await core.exchange('t'))?.unroutableMessages).toBe(count);
  });

  it('CC and BCC are further routing keys; who gets a copy does not learn of BCC', async () => {
    for (const queue of ['a', 'b', 'c']) await channel.declareQueue({ queue });
    channel.publish(createMessage({ routingKey: 'a', properties: { headers: { CC: ['b', 'a'], BCC: ['c'], h: 1 } } }));
    for (const queue of ['a', 'b', 'c']) {
      const messages = await core.drain(queue);
      expect(messages.map(({ properties }) => properties.headers)).toEqual([{ CC: ['b', 'a'], h: 1 }]);
    }
  });

  it('the alternate takes a message over only if none of its keys is wanted', async () => {
    await channel.declareExchange({ exchange: 'alternate', type: 'fanout' });
    await channel.declareExchange({ exchange: 'x', type: 'direct', arguments: { 'alternate-exchange': 'alternate' } });
    for (const queue of ['q', 'rest']) await channel.declareQueue({ queue });
    await bind('x', 'q', 'wanted');
    await bind('alternate', 'rest');
    publish(channel, 'x', 'unwanted', 'one', { headers: { CC: ['wanted'] } });
    publish(channel, 'x', 'unwanted', 'two', { headers: { CC: ['unwanted too'] } });
    expect(await core.drainBodies('q')).toEqual(['one']);
    expect(await core.drainBodies('rest')).toEqual(['two']);
  });

  it.each([
    ['CC', 'text'],
    ['BCC', 1],
    ['CC', { a: 'b' }],
  ])('refuses a %s that is %j, before anything is done', async (name, value) => {
    await channel.declareQueue({ queue: 'q' });
    expect(() => publish(channel, '', 'q', '', { headers: { [name]: value } })).toThrow(
      expect.objectContaining({ kind: 'precondition-failed', message: expect.stringContaining(name) }),
    );
    expect(await core.drainBodies('q')).toEqual([]);
  });
});
