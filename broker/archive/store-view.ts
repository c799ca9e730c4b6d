/**
 * A store as seen by a broker that only looks at it: it finds every definition and no message, and what it defines is
 * written down here, not there. What came with the definitions is kept for whoever made the view: what each holder
 * held, and the changes, to be applied or forgotten.
 */
import { InvariantError } from '../assert.ts';
import {
  DEFINITION_KINDS,
  type Definition,
  type DefinitionKind,
  type DefinitionValue,
  type Holder,
  type RestoredHolder,
  type Store,
  type SyncWaiter,
} from '../store.ts';

export class StoreView implements Store {
  readonly durable = true;
  residentBytes = 0;
  pagingCount = 0;
  readonly #store: Store;
  readonly #found: ReadonlyMap<DefinitionKind, readonly Definition[]>;
  readonly #restored = new Map<number, RestoredHolder>();
  /** In the order of their making. `undefined` as a value: it is no more. */
  readonly #changes = new Map<string, Definition>();

  /** A view of a store that nobody has asked anything yet. */
  constructor(store: Store) {
    this.#store = store;
    this.#found = new Map(DEFINITION_KINDS.map((kind) => [kind, store.definitions(kind)]));
  }

  get batch(): number {
    return this.#store.batch;
  }

  get residentBytesMax(): number {
    return this.#store.residentBytesMax;
  }

  /** What the holder `id` of an earlier process held; undefined when no definition has named it. */
  heldBy(id: number): RestoredHolder | undefined {
    return this.#restored.get(id);
  }

  /** The definitions of a kind as they would be with the changes. */
  *current(kind: DefinitionKind): Generator<Definition> {
    for (const definition of this.definitions(kind)) {
      if (!this.#changes.has(nameOf(kind, definition.key))) yield definition;
    }
    for (const change of this.#changes.values()) if (change.kind === kind && change.value !== undefined) yield change;
  }

  /** Tells the store of every change; with nothing told to it before in this turn, all of them are stored or none. */
  apply(): void {
    for (const { kind, key, value } of this.#changes.values()) {
      if (value === undefined) this.#store.undefine(kind, key);
      else this.#store.define(kind, key, value);
    }
  }

  definitions(kind: DefinitionKind): readonly Definition[] {
    return this.#found.get(kind) ?? [];
  }

  define(kind: DefinitionKind, key: readonly string[], value: DefinitionValue): void {
    this.#change({ kind, key, value });
  }

  undefine(kind: DefinitionKind, key: readonly string[]): void {
    this.#change({ kind, key, value: undefined });
  }

  #change(change: Definition): void {
    const name = nameOf(change.kind, change.key);
    // What is made anew has a new place in the order of making.
    this.#changes.delete(name);
    this.#changes.set(name, change);
  }

  holder(): Holder {
    return this.#store.holder();
  }

  restore(id: number): RestoredHolder {
    const restored = this.#store.restore(id);
    this.#restored.set(id, restored);
    return { ...restored, pages: [], held: [] };
  }

  restored(): void {
    this.#store.restored();
  }

  admit(): void {
    neverAsked();
  }

  settle(): void {
    neverAsked();
  }

  amend(): void {
    neverAsked();
  }

  delivered(): void {
    neverAsked();
  }

  newPage(): never {
    neverAsked();
  }

  page(): never {
    neverAsked();
  }

  load(): never {
    neverAsked();
  }

  settlePage(): void {
    neverAsked();
  }

  whenSynced(waiter: SyncWaiter): void {
    queueMicrotask(() => waiter.onSynced());
  }

  synced(): Promise<void> {
    return Promise.resolve();
  }

  definitionsSynced(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function nameOf(kind: DefinitionKind, key: readonly string[]): string {
  return JSON.stringify([kind, ...key]);
}

/** The broker that looks has no connections and no messages. */
function neverAsked(): never {
  throw new InvariantError('a view of a store has no messages');
}
