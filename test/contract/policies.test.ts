/** Policies and operator policies: B23. */
import { describe, expect } from 'vitest';
import type { Policy } from '../../broker/administration/administration.ts';
import type { FieldTable } from '../../broker/fields.ts';
import { itAdministered as it, onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import type { RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();

type PolicyOptions = Partial<Pick<Policy, 'applyTo' | 'priority'>>;

const policyFor = (name: string, definition: FieldTable, options: PolicyOptions): Policy => ({
  vhost: broker.vhost,
  name: `policy of ${name}`,
  pattern: `^${name}$`,
  applyTo: 'queues',
  priority: 0,
  definition,
  ...options,
});

/** Sets a policy on just that name. */
async function setPolicy(name: string, definition: FieldTable, options: PolicyOptions = {}): Promise<void> {
  await broker.administration.setPolicy(policyFor(name, definition, options));
}

async function setOperatorPolicy(name: string, definition: FieldTable): Promise<void> {
  await broker.administration.setOperatorPolicy(policyFor(name, definition, {}));
}

/** Publishes `count` messages and answers how many of them the queue keeps. */
async function keeps(channel: RawChannel, queue: string, count: number): Promise<number> {
  await channel.call('queue.purge', { queue });
  for (let i = 0; i < count; i++) await channel.put('', queue, String(i));
  return channel.ready(queue);
}

describe('B23: policies', () => {
  it('B23: apply to queues declared before and after, and end with being cleared', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await setPolicy(queue, { 'max-length': 2 });
    await eventually(async () => expect(await keeps(channel, queue, 4)).toBe(2));
    await channel.call('queue.delete', { queue });
    await channel.queue(queue);
    expect(await keeps(channel, queue, 4)).toBe(2);
    await broker.administration.clearPolicy(broker.vhost, `policy of ${queue}`);
    await eventually(async () => expect(await keeps(channel, queue, 4)).toBe(4));
  });

  it('B23: of those that match, only the one with the highest priority applies', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await setPolicy(queue, { 'max-length': 3 }, { priority: 5 });
    const low = { ...policyFor(queue, { 'max-length': 1, 'max-length-bytes': 1 }, {}), name: `another of ${queue}` };
    await broker.administration.setPolicy(low);
    await eventually(async () => expect(await keeps(channel, queue, 5)).toBe(3));
    await broker.administration.clearPolicy(broker.vhost, `policy of ${queue}`);
    await eventually(async () => expect(await keeps(channel, queue, 5)).toBe(1));
  });

  it('B23: the lower of argument and policy counts', async () => {
    const channel = await broker.channel();
    const [low, high] = [broker.fresh('q'), broker.fresh('q')];
    await channel.queue(low, { 'x-max-length': 2 });
    await channel.queue(high, { 'x-max-length': 5 });
    for (const queue of [low, high]) await setPolicy(queue, { 'max-length': 3 });
    await eventually(async () => expect(await keeps(channel, high, 6)).toBe(3));
    expect(await keeps(channel, low, 6)).toBe(2);
  });

  it('B23: message-ttl, dead-letter-exchange and dead-letter-routing-key', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const graveyard = await channel.queue(broker.fresh('graveyard'));
    await setPolicy(queue, {
      'message-ttl': 30,
      'dead-letter-exchange': '',
      'dead-letter-routing-key': graveyard,
    });
    await eventually(async () => {
      await channel.put('', queue, 'x');
      await eventually(async () => expect(await channel.ready(queue)).toBe(0), { timeoutMs: 500 });
      const dead = await channel.mustGet(graveyard, true);
      expect(dead.headers['x-first-death-reason']).toBe('expired');
    });
  });

  it('B23: overflow', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await setPolicy(queue, { 'max-length': 1, overflow: 'reject-publish' });
    await eventually(async () => expect(await keeps(channel, queue, 2)).toBe(1));
    expect(await channel.put('', queue, 'no room')).toBe(false);
    expect(await channel.drain(queue)).toEqual(['0']);
  });

  it('B23: expires', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await setPolicy(queue, { expires: 100 });
    await eventually(
      async () => {
        const probe = await broker.channel();
        expect(await probe.refused('queue.declare', { queue, passive: true })).toMatchObject({ code: 404 });
      },
      { everyMs: 150 },
    );
  });

  it('B23: alternate-exchange; an argument wins over it', async () => {
    const channel = await broker.channel();
    const [byPolicy, byArgument] = [broker.fresh('x'), broker.fresh('x')];
    const rests = [];
    for (const exchange of [byPolicy, byArgument]) {
      await channel.exchange(exchange, 'fanout');
      const rest = await channel.queue(broker.fresh('rest'));
      await channel.bind(rest, exchange);
      rests.push(rest);
    }
    const [first = '', second = ''] = rests;
    const plain = await channel.exchange(broker.fresh('x'), 'direct');
    const argued = await channel.exchange(broker.fresh('x'), 'direct', { 'alternate-exchange': byArgument });
    for (const exchange of [plain, argued]) {
      await setPolicy(exchange, { 'alternate-exchange': byPolicy }, { applyTo: 'exchanges' });
    }
    await eventually(async () => {
      await channel.put(plain, 'nobody', 'caught');
      expect(await channel.ready(first)).toBeGreaterThan(0);
    });
    await channel.drain(first);
    await channel.put(argued, 'nobody', 'caught');
    expect(await channel.drain(first)).toEqual([]);
    expect(await channel.drain(second)).toEqual(['caught']);
  });

  it('B23: apply-to tells queues and exchanges apart', async () => {
    const channel = await broker.channel();
    const name = broker.fresh('both');
    await channel.queue(name);
    const canary = await channel.queue(broker.fresh('q'));
    await setPolicy(name, { 'alternate-exchange': 'amq.fanout' }, { applyTo: 'exchanges' });
    await setPolicy(canary, { 'max-length': 1 }, { applyTo: 'all' });
    await eventually(async () => expect(await keeps(channel, canary, 3)).toBe(1));
    expect(await keeps(channel, name, 3)).toBe(3);
  });

  it('B23: a value that cannot be is refused', async () => {
    for (const definition of [
      { 'max-length': -1 },
      { 'message-ttl': 'soon' },
      { overflow: 'sideways' },
      { nonsense: 1 },
    ]) {
      await expect(setPolicy('never', definition as FieldTable)).rejects.toThrow();
    }
  });
});

describe('B23: operator policies', () => {
  it('B23: the lower number counts, with or without a user policy', async () => {
    const channel = await broker.channel();
    const [alone, both, lower] = [broker.fresh('q'), broker.fresh('q'), broker.fresh('q')];
    for (const queue of [alone, both, lower]) {
      await channel.queue(queue);
      await setOperatorPolicy(queue, { 'max-length': 3 });
    }
    await setPolicy(both, { 'max-length': 5 });
    await setPolicy(lower, { 'max-length': 2 });
    await eventually(async () => expect(await keeps(channel, lower, 6)).toBe(2));
    await eventually(async () => expect(await keeps(channel, both, 6)).toBe(3));
    await eventually(async () => expect(await keeps(channel, alone, 6)).toBe(3));
  });

  it('B23: keys of only one of them both apply', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await setPolicy(queue, { 'max-length': 3 });
    await setOperatorPolicy(queue, { 'max-length-bytes': 2 });
    await eventually(async () => expect(await keeps(channel, queue, 6)).toBe(2));
    await broker.administration.clearOperatorPolicy(broker.vhost, `policy of ${queue}`);
    await eventually(async () => expect(await keeps(channel, queue, 6)).toBe(3));
  });

  onlyWarren('RabbitMQ 3 knows no overflow in operator policies')(
    'B23: the overflow of the operator wins',
    async () => {
      const channel = await broker.channel();
      const queue = await channel.queue(broker.fresh('q'));
      await setPolicy(queue, { 'max-length': 1, overflow: 'drop-head' });
      await setOperatorPolicy(queue, { overflow: 'reject-publish' });
      await channel.put('', queue, 'first');
      expect(await channel.put('', queue, 'second')).toBe(false);
      expect(await channel.drain(queue)).toEqual(['first']);
    },
  );

  onlyWarren('asks the broker in this process')('B23: both are shown, and what they come to', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 9 });
    await setPolicy(queue, { 'max-length': 5, 'message-ttl': 60_000 });
    await setOperatorPolicy(queue, { 'max-length': 3, expires: 60_000 });
    const { queues } = await broker.embedded.snapshot(broker.vhost);
    expect(queues.find(({ name }) => name === queue)).toMatchObject({
      policy: `policy of ${queue}`,
      operatorPolicy: `policy of ${queue}`,
      effectivePolicyDefinition: { 'max-length': 3, 'message-ttl': 60_000, expires: 60_000 },
    });
  });
});
