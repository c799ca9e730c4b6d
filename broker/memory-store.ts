/** The store of a broker that keeps nothing: everything lives and ends in the memory of the process. */
import { InvariantError } from './assert.ts';
import type { Holder, Store } from './store.ts';

/** The answers to what is asked of every store; what only a durable one is asked is a defect here. */
export function memoryStore(): Store {
  let lastHolder = 0;
  const holder = (id: number): Holder => ({ id, deliveredThrough: 0, dirty: false });
  const nothing = (): void => {};
  return {
    durable: false,
    batch: 0,
    residentBytes: 0,
    pagingCount: 0,
    residentBytesMax: Number.POSITIVE_INFINITY,
    definitions: () => [],
    define: nothing,
    undefine: nothing,
    holder: () => holder(++lastHolder),
    restore: (id) => ({ holder: holder(id), pages: [], held: [], lastPosition: 0 }),
    restored: nothing,
    admit: nothing,
    settle: nothing,
    amend: nothing,
    delivered: nothing,
    newPage: neverPaged,
    page: neverPaged,
    load: neverPaged,
    settlePage: nothing,
    whenSynced: (waiter) => queueMicrotask(() => waiter.onSynced()),
    synced: () => Promise.resolve(),
    definitionsSynced: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

function neverPaged(): never {
  throw new InvariantError('nothing is paged out of a store that keeps nothing');
}
