import { describe, expect, it } from 'vitest';
import { DEFINITION_DEPTH_MAX, DefinitionLog, definitionKey } from '../../broker/definition-log.ts';
import type { FieldTable, FieldValue } from '../../broker/fields.ts';
import { memoryStore } from '../../broker/memory-store.ts';
import type { Definition, DefinitionKind, Store } from '../../broker/store.ts';

/** A store that tells what it is told. */
function listening(): { readonly store: Store; readonly told: Definition[] } {
  const told: Definition[] = [];
  return {
    told,
    store: { ...memoryStore(), define: (kind, key, value) => void told.push({ kind, key, value }) },
  };
}

function queue(args: FieldTable) {
  return { vhost: '/', queue: 'q', durable: true, autoDelete: false, arguments: args, holder: 1 };
}

function nested(depth: number): FieldValue {
  let value: FieldValue = 1;
  for (let count = 0; count < depth; count += 1) value = [value];
  return value;
}

describe('what is written down', () => {
  it('stays as it was when its giver changes it afterwards', () => {
    const { store, told } = listening();
    const inner = { list: [1, 2] };
    const args: Record<string, FieldValue> = { 'x-max-length': 1, inner };
    new DefinitionLog(store).define('queue', queue(args));
    args['x-max-length'] = -1;
    inner.list.push(3);
    expect(told[0]?.value).toEqual(queue({ 'x-max-length': 1, inner: { list: [1, 2] } }));
  });

  it('holds nothing that no definition can hold', () => {
    const { store, told } = listening();
    const value = { left: () => {}, list: [1, undefined, Symbol('none')] };
    new DefinitionLog(store).define('global-parameter', { name: 'p', value });
    expect(told[0]?.value).toEqual({ name: 'p', value: { left: undefined, list: [1, null, null] } });
  });

  it('is not nested without end', () => {
    const log = new DefinitionLog(listening().store);
    const most = DEFINITION_DEPTH_MAX - 1;
    log.define('queue', queue({ nested: nested(most) }));
    expect(() => log.define('queue', queue({ nested: nested(most + 1) }))).toThrow(
      expect.objectContaining({ kind: 'precondition-failed' }),
    );
    const endless: unknown[] = [];
    endless.push(endless);
    expect(() => log.define('global-parameter', { name: 'p', value: endless })).toThrow(/nested 128 deep/);
  });
});

describe('keys', () => {
  const binding = { vhost: '/', source: 's', destination: 'd', destinationKind: 'queue', bindingKey: 'k' } as const;

  it('tell bindings apart by all that makes them different', () => {
    const different = [
      binding,
      { ...binding, vhost: 'v' },
      { ...binding, source: 'S' },
      { ...binding, destination: 'D' },
      { ...binding, destinationKind: 'exchange' as const },
      { ...binding, bindingKey: 'K' },
      { ...binding, arguments: { a: 1 } },
      { ...binding, arguments: { a: '1' } },
    ];
    const keys = different.map((names) => JSON.stringify(definitionKey('binding', names)));
    expect(new Set(keys).size).toBe(different.length);
  });

  it('are the same for a binding without arguments and with none', () => {
    expect(definitionKey('binding', { ...binding, arguments: {} })).toEqual(definitionKey('binding', binding));
  });
});

describe('replaying', () => {
  it('hands over each kind in an order in which what it needs is there, and writes nothing down again', () => {
    const { store, told } = listening();
    const kept: { readonly [kind in DefinitionKind]?: readonly Definition[] } = {
      binding: [{ kind: 'binding', key: ['/', 'amq.topic', 'id'], value: 'b' }],
      vhost: [
        { kind: 'vhost', key: ['/'], value: 'v1' },
        { kind: 'vhost', key: ['v'], value: 'v2' },
      ],
      policy: [{ kind: 'policy', key: ['/', 'p'], value: 'p' }],
    };
    const log = new DefinitionLog({ ...store, definitions: (kind) => kept[kind] ?? [] });
    const seen: unknown[] = [];
    const restore = (value: unknown): void => {
      seen.push(value);
      log.define('vhost', { name: String(value) });
    };
    const restorers = {
      vhost: restore,
      user: restore,
      permission: restore,
      'topic-permission': restore,
      policy: restore,
      'operator-policy': restore,
      parameter: restore,
      'global-parameter': restore,
      exchange: restore,
      queue: restore,
      binding: restore,
    };
    log.replay(restorers);
    expect(seen).toEqual(['p', 'v1', 'v2', 'b']);
    expect(told).toEqual([]);
    log.define('vhost', { name: 'later' });
    expect(told).toHaveLength(1);
  });
});
