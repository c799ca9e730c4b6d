import { describe, expect, it } from 'vitest';
import type { Policy } from '../../broker/administration/administration.ts';
import { Policies } from '../../broker/administration/policies.ts';
import { createBroker } from '../../broker/broker.ts';
import type { FieldTable } from '../../broker/fields.ts';

function policy(change: Partial<Policy> & { readonly definition: FieldTable }): Policy {
  return { vhost: '/', name: 'p', pattern: '^q', applyTo: 'all', priority: 0, ...change };
}

function policiesWith(user: readonly Policy[], operator: readonly Policy[] = []): Policies {
  const policies = new Policies();
  for (const each of user) policies.set('user', each);
  for (const each of operator) policies.set('operator', each);
  return policies;
}

function refusal(change: Partial<Policy>, kind: 'user' | 'operator' = 'user'): string {
  try {
    new Policies().set(kind, policy({ definition: { 'max-length': 1 }, ...change }));
  } catch (error) {
    expect(error).toMatchObject({ kind: 'precondition-failed' });
    return (error as Error).message;
  }
  return 'accepted';
}

describe('which policy applies', () => {
  it('is the one with the highest priority of those that match; only one', () => {
    const policies = policiesWith([
      policy({ name: 'low', priority: 1, definition: { 'max-length': 1, expires: 9 } }),
      policy({ name: 'high', priority: 2, definition: { 'max-length': 2 } }),
      policy({ name: 'higher', pattern: '^other', priority: 3, definition: { 'max-length': 3 } }),
    ]);
    expect(policies.effective('/', 'queue', 'q1')).toEqual({ policy: 'high', definition: { 'max-length': 2 } });
    expect(policies.effective('/', 'queue', 'x')).toEqual({ definition: {} });
  });

  it('is, among equals, the one whose name comes first', () => {
    const definition = { 'max-length': 1 };
    const names = ['c', 'a', 'b'];
    const policies = policiesWith(names.map((name) => policy({ name, definition })));
    expect(policies.effective('/', 'queue', 'q').policy).toBe('a');
  });

  it.each([
    ['all', ['classic', 'quorum', 'stream', 'exchange']],
    ['queues', ['classic', 'quorum', 'stream']],
    ['classic_queues', ['classic']],
    ['quorum_queues', ['quorum']],
    ['streams', ['stream']],
    ['exchanges', ['exchange']],
  ] as const)('depends on its scope: %s', (applyTo, expected) => {
    const policies = policiesWith([policy({ applyTo, definition: { 'alternate-exchange': 'ae' } })]);
    const queues = ['classic', 'quorum', 'stream'].filter(
      (type) => policies.effective('/', 'queue', 'q', type).policy !== undefined,
    );
    const exchanges = policies.effective('/', 'exchange', 'q').policy === undefined ? [] : ['exchange'];
    expect([...queues, ...exchanges]).toEqual(expected);
  });

  it('is none of another virtual host, and none that is cleared', () => {
    const policies = policiesWith([policy({ definition: { 'max-length': 1 } })]);
    expect(policies.effective('other', 'queue', 'q').policy).toBeUndefined();
    policies.clear('user', '/', 'p');
    expect(policies.effective('/', 'queue', 'q').policy).toBeUndefined();
    expect(() => policies.clear('user', '/', 'p')).toThrow(expect.objectContaining({ kind: 'not-found' }));
  });

  it('passes over queues for which its settings are not meant', () => {
    const policies = policiesWith([
      policy({ name: 'stream', priority: 9, definition: { 'max-age': '1D', 'max-length-bytes': 1 } }),
      policy({ name: 'any', definition: { 'max-length-bytes': 2 } }),
    ]);
    expect(policies.effective('/', 'queue', 'q', 'classic').policy).toBe('any');
    expect(policies.effective('/', 'queue', 'q', 'stream').policy).toBe('stream');
  });

  it('may match everything by an empty pattern', () => {
    expect(
      policiesWith([policy({ pattern: '', definition: { expires: 1 } })]).effective('/', 'queue', 'x').policy,
    ).toBe('p');
  });
});

describe('[B23] a policy and an operator policy', () => {
  it.each([
    ['message-ttl', 5, 7, 5],
    ['message-ttl', 7, 5, 5],
    ['max-length', 7, 5n, 5n],
    ['max-length-bytes', 5, 7, 5],
    ['expires', 7, 5, 5],
    ['delivery-limit', 5, 7, 5],
    ['delivery-limit', -1, 7, 7],
    ['delivery-limit', 5, -1, 5],
    ['overflow', 'drop-head', 'reject-publish', 'reject-publish'],
    ['queue-version', 1, 2, 2],
    ['target-group-size', 3, 5, 5],
    ['delayed-retry-min', 3, 5, 5],
    ['delayed-retry-max', 3, 5, 3],
  ])('%s: %s and %s make %s', (name, user, operator, expected) => {
    const policies = policiesWith(
      [policy({ definition: { [name]: user } })],
      [policy({ name: 'op', definition: { [name]: operator } })],
    );
    expect(policies.effective('/', 'queue', 'q')).toEqual({
      policy: 'p',
      operatorPolicy: 'op',
      definition: { [name]: expected },
    });
  });

  it('keep what only one of them says', () => {
    const policies = policiesWith(
      [policy({ definition: { 'dead-letter-exchange': 'dlx', 'max-length': 9 } })],
      [policy({ name: 'op', definition: { 'max-length': 5, expires: 60_000 } })],
    );
    expect(policies.effective('/', 'queue', 'q').definition).toEqual({
      'dead-letter-exchange': 'dlx',
      'max-length': 5,
      expires: 60_000,
    });
  });

  it('apply each without the other', () => {
    const policies = policiesWith([], [policy({ name: 'op', definition: { 'max-length': 5 } })]);
    expect(policies.effective('/', 'queue', 'q')).toEqual({ operatorPolicy: 'op', definition: { 'max-length': 5 } });
  });
});

describe('what a policy may hold', () => {
  it.each([
    [{ 'message-ttl': -10 }, '-10 is not a valid message TTL'],
    [{ 'message-ttl': 'x' }, '"x" is not a valid message TTL'],
    [{ 'message-ttl': 1.5 }, 'a double is not a valid message TTL'],
    [{ expires: 0 }, '0 is not a valid queue expiry'],
    [{ 'max-length': true }, 'true is not a valid maximum length'],
    [{ 'max-length-bytes': {} }, 'a table is not a valid maximum length in bytes'],
    [{ overflow: 'x' }, '"x" is not a valid overflow value'],
    [{ 'dead-letter-exchange': 1 }, '1 is not a valid dead letter exchange name'],
    [{ 'alternate-exchange': null }, 'a void is not a valid alternate exchange name'],
    [{ 'max-age': '7' }, '"7" is not a valid max age'],
    [{ 'queue-mode': 'eager' }, '"eager" is not a valid queue-mode value'],
    [{ 'delayed-retry-type': 'all' }, 'delayed-retry-min is required when delayed-retry-type is all'],
    [
      { 'delayed-retry-min': 9, 'delayed-retry-max': 5 },
      'delayed-retry-max (5) must not be smaller than delayed-retry-min (9)',
    ],
    [{ foo: 1, expires: 1, bar: 2 }, 'foo, bar are not recognised policy settings'],
    [{ 'max-priority': 5 }, 'max-priority are not recognised policy settings'],
    [{ 'single-active-consumer': true }, 'single-active-consumer are not recognised policy settings'],
    [{}, 'no policy provided'],
  ])('not %j', (definition, reason) => {
    expect(refusal({ definition })).toBe(`Validation failed\n\n${reason}\n`);
  });

  it('of an operator: only what limits', () => {
    expect(refusal({ definition: { 'dead-letter-exchange': 'x' } }, 'operator')).toBe(
      'Validation failed\n\ndead-letter-exchange are not recognised operator policy settings\n',
    );
    expect(refusal({ definition: { 'max-length': 5 } }, 'operator')).toBe('accepted');
  });

  it.each([
    [{ pattern: '(' }, 'pattern should be regular expression but is invalid: missing ) (at 1)'],
    [{ priority: Number.NaN }, 'priority should be a number, actually was NaN'],
    [{ name: '' }, 'name of a policy must not be empty'],
    [
      { applyTo: 'foo' as Policy['applyTo'] },
      "apply-to 'foo' unrecognised; should be one of: 'queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges', 'all'",
    ],
  ])('nor is it %j', (change, reason) => {
    expect(refusal(change)).toBe(`Validation failed\n\n${reason}\n`);
  });

  it('is also what means nothing on one machine', () => {
    const definition = {
      'ha-mode': 'exactly',
      'ha-params': 2,
      'ha-sync-mode': 'automatic',
      'ha-promote-on-shutdown': 'always',
      'queue-master-locator': 'min-masters',
      'queue-leader-locator': 'balanced',
      'queue-version': 2,
    };
    expect(refusal({ definition })).toBe('accepted');
  });
});

describe('administration of policies', () => {
  it('applies a policy to what is there, and takes it off again', async () => {
    const broker = await createBroker();
    const { administration } = broker;
    const channel = (await broker.connect()).openChannel();
    await channel.declareQueue({ queue: 'q' });
    await channel.declareExchange({ exchange: 'q', type: 'fanout' });
    const shown = async (): Promise<unknown> => {
      const { queues, exchanges } = await broker.snapshot('/');
      const queue = queues.find(({ name }) => name === 'q');
      const exchange = exchanges.find(({ name }) => name === 'q');
      return [queue?.policy, queue?.operatorPolicy, queue?.effectivePolicyDefinition, exchange?.policy];
    };
    await administration.setPolicy(policy({ definition: { 'max-length': 9 } }));
    await administration.setOperatorPolicy(policy({ name: 'op', applyTo: 'queues', definition: { 'max-length': 5 } }));
    expect(await shown()).toEqual(['p', 'op', { 'max-length': 5 }, 'p']);
    await administration.clearOperatorPolicy('/', 'op');
    await administration.clearPolicy('/', 'p');
    expect(await shown()).toEqual([undefined, undefined, {}, undefined]);
    await broker.close();
  });

  it('asks for a virtual host that exists, and drops the policies of one that is deleted', async () => {
    const { administration } = await createBroker();
    const inOther = policy({ vhost: 'other', definition: { expires: 1 } });
    await expect(administration.setPolicy(inOther)).rejects.toMatchObject({ kind: 'not-found' });
    await administration.putVhost({ name: 'other' });
    await administration.setPolicy(inOther);
    await administration.deleteVhost('other');
    expect(await administration.policies()).toEqual([]);
  });
});
