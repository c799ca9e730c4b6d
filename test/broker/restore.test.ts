import { describe, expect, it } from 'vitest';
import { createBrokerOn } from '../../broker/broker.ts';
import { RestoreError } from '../../broker/definition-log.ts';
import { memoryStore } from '../../broker/memory-store.ts';
import type { Definition, DefinitionKind, Store } from '../../broker/store.ts';
import { ManualClock } from '../support/manual-clock.ts';

const VHOST: Definition = { kind: 'vhost', key: ['/'], value: { name: '/' } };

/** A store in which an earlier process has left these definitions, and what it is told besides. */
function storeWith(...left: readonly Definition[]): { readonly store: Store; readonly told: string[] } {
  const told: string[] = [];
  const store = {
    ...memoryStore(),
    definitions: (kind: DefinitionKind) => left.filter((definition) => definition.kind === kind),
    define: () => void told.push('define'),
    undefine: () => void told.push('undefine'),
    restored: () => void told.push('restored'),
  };
  return { store, told };
}

function queue(name: string, args: object, vhost = '/'): Definition {
  const value = { vhost, queue: name, durable: true, autoDelete: false, arguments: args, holder: 1 };
  return { kind: 'queue', key: [vhost, name], value };
}

const LEFT_BY_A_STRANGER: readonly (readonly [string, Definition])[] = [
  ["queue 'q' in vhost '/'", queue('q', { 'x-max-length': -1 })],
  ["queue 'q' in vhost 'gone'", queue('q', {}, 'gone')],
  [
    "exchange 'e' in vhost '/'",
    {
      kind: 'exchange',
      key: ['/', 'e'],
      value: { vhost: '/', exchange: 'e', type: 'x-recent-history', durable: true },
    },
  ],
  [
    "binding 'amq.topic' 'id' in vhost '/'",
    {
      kind: 'binding',
      key: ['/', 'amq.topic', 'id'],
      value: { vhost: '/', source: 'amq.topic', destination: 'gone', destinationKind: 'queue', bindingKey: 'k' },
    },
  ],
  [
    "policy 'p' in vhost '/'",
    {
      kind: 'policy',
      key: ['/', 'p'],
      value: { vhost: '/', name: 'p', pattern: '', applyTo: 'all', priority: 0, definition: { 'max-age-of-all': 1 } },
    },
  ],
  [
    "operator policy 'p' in vhost '/'",
    { kind: 'operator-policy', key: ['/', 'p'], value: { vhost: '/', name: 'p', pattern: '(', applyTo: 'all' } },
  ],
  [
    "permission 'ada' in vhost '/'",
    {
      kind: 'permission',
      key: ['/', 'ada'],
      value: { vhost: '/', user: 'ada', configure: '(', write: '', read: '' },
    },
  ],
  ["topic permission 'ada' '' in vhost '/'", { kind: 'topic-permission', key: ['/', 'ada', ''], value: {} }],
  ["user 'ada'", { kind: 'user', key: ['ada'], value: null }],
  ["vhost 'v'", { kind: 'vhost', key: ['v'], value: undefined }],
  ["parameter 'c' 'n' in vhost '/'", { kind: 'parameter', key: ['/', 'c', 'n'], value: undefined }],
  ["global parameter 'n'", { kind: 'global-parameter', key: ['n'], value: undefined }],
];

describe('a definition that cannot be restored', () => {
  it.each(LEFT_BY_A_STRANGER)('is named: the %s', async (name, definition) => {
    const { store, told } = storeWith(VHOST, definition);
    const failure = await createBrokerOn(store, {}).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RestoreError);
    expect(failure).toMatchObject({
      message: expect.stringContaining(`cannot restore the ${name} from the data folder: `),
    });
    // Neither it nor the messages of the others have been let go of.
    expect(told).toEqual([]);
  });
});

describe('a restore that fails', () => {
  it('leaves nothing behind that would fall due', async () => {
    const clock = new ManualClock();
    const { store, told } = storeWith(VHOST, queue('short', { 'x-expires': 10 }), queue('bad', { 'x-expires': 0 }));
    await expect(createBrokerOn(store, { clock })).rejects.toBeInstanceOf(RestoreError);
    expect(clock.timerCount).toBe(0);
    expect(told).toEqual([]);
  });
});

describe('what has been restored', () => {
  it('is not written down again, nor are the defaults made', async () => {
    const { store, told } = storeWith(VHOST, queue('q', { 'x-max-length': 1 }));
    const broker = await createBrokerOn(store, {});
    expect(told).toEqual(['restored']);
    expect(await broker.administration.users()).toEqual([]);
    expect((await broker.snapshot('/')).queues).toMatchObject([{ name: 'q' }]);
  });
});
