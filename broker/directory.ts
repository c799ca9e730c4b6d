/** Things of one kind by their keys, in the order of their making. Every change is written to the log of definitions. */
import { type DefinitionLog, type DefinitionNames, type DefinitionValues, definitionKey } from './definition-log.ts';
import type { DefinitionKind } from './store.ts';

/** `Entry` is a definition with what has been made of it, e.g. a compiled pattern. */
export class Directory<Kind extends DefinitionKind, Entry> {
  readonly #log: DefinitionLog;
  readonly #kind: Kind;
  readonly #definitionOf: (entry: Entry) => DefinitionValues[Kind] & DefinitionNames[Kind];
  readonly #entries = new Map<string, Entry>();

  constructor(
    log: DefinitionLog,
    kind: Kind,
    definitionOf: (entry: Entry) => DefinitionValues[Kind] & DefinitionNames[Kind],
  ) {
    this.#log = log;
    this.#kind = kind;
    this.#definitionOf = definitionOf;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** `key` as `definitionKey` answers it. */
  get(...key: readonly string[]): Entry | undefined {
    return this.#entries.get(idOf(key));
  }

  has(...key: readonly string[]): boolean {
    return this.#entries.has(idOf(key));
  }

  /** Replaces the one with the same key, in its place. */
  set(entry: Entry): void {
    const definition = this.#definitionOf(entry);
    this.#entries.set(idOf(definitionKey(this.#kind, definition)), entry);
    this.#log.define(this.#kind, definition);
  }

  /** How many there were. */
  deleteWhere(chosen: (entry: Entry) => boolean): number {
    const doomed = [...this.#entries].filter(([, entry]) => chosen(entry));
    for (const [id, entry] of doomed) this.#delete(id, entry);
    return doomed.length;
  }

  /** False when there is none. */
  delete(...key: readonly string[]): boolean {
    const id = idOf(key);
    const entry = this.#entries.get(id);
    if (entry !== undefined) this.#delete(id, entry);
    return entry !== undefined;
  }

  #delete(id: string, entry: Entry): void {
    this.#entries.delete(id);
    this.#log.undefine(this.#kind, this.#definitionOf(entry));
  }

  list(): readonly Entry[] {
    return [...this.#entries.values()];
  }
}

/** Names may contain anything but U+0000. */
function idOf(key: readonly string[]): string {
  return key.join('\u0000');
}
