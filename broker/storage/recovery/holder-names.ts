/** Names of what held messages, by the number that the log knows it by, for whoever reads of damage. */
import { DEFINITION_KINDS, type DefinitionKind } from '../../store.ts';
import type { DefinitionChange } from '../log/definition-table.ts';
import { decodeDefinitionValue } from '../record/definition-values.ts';

/** Names that a text lists. */
export const NAMES_SHOWN_MAX = 5;

export class HolderNames {
  readonly #sources: Iterable<DefinitionChange>[] = [];
  readonly #known = new Map<number, string>();

  /**
   * Learns from definitions of queues and exchanges; what is known already stays. They are looked through when the first
   * name is asked for, which mostly never happens.
   */
  learn(definitions: Iterable<DefinitionChange>): void {
    this.#sources.push(definitions);
  }

  get #names(): ReadonlyMap<number, string> {
    for (const definitions of this.#sources.splice(0)) {
      for (const change of definitions) {
        if ((change.kind !== 'queue' && change.kind !== 'exchange') || change.octets === undefined) continue;
        const id = holderIn(change.octets);
        if (id !== undefined && !this.#known.has(id)) this.#known.set(id, definitionText(change));
      }
    }
    return this.#known;
  }

  /**
   * How many of `total` things belong to which holder, most first, e.g. `2 of queue "a" in virtual host "/"`; `counts`
   * says it by number, and of what it leaves out it cannot be told.
   */
  tally(counts: ReadonlyMap<number, number>, total: number): string {
    const names = this.#names;
    const known = [...counts].filter(([id]) => names.has(id)).sort(([, a], [, b]) => b - a);
    const told = known.reduce((sum, [, count]) => sum + count, 0);
    const parts = known.map(([id, count]) => `${count} of ${names.get(id)}`);
    if (parts.length === 0) return 'of which queues cannot be told';
    const shown = listed(parts);
    return told < total ? `${shown}; of which queues the other ${total - told} were cannot be told` : shown;
  }
}

/** The first few of `parts`, and how many more there are. */
export function listed(parts: readonly string[]): string {
  const more = parts.length - NAMES_SHOWN_MAX;
  return more > 0 ? `${parts.slice(0, NAMES_SHOWN_MAX).join(', ')} and ${more} more` : parts.join(', ');
}

/** A definition by its kind and names, e.g. `queue "a" in virtual host "/"`. */
export function definitionText({ kind, key }: Pick<DefinitionChange, 'kind' | 'key'>): string {
  const [first = '', ...rest] = key;
  const global: readonly DefinitionKind[] = ['vhost', 'user', 'global-parameter'];
  const what = kind.replace('vhost', 'virtual host');
  if (rest.length === 0 || global.some((each) => each === kind)) return `${what} ${JSON.stringify(first)}`;
  return `${what} ${rest.map((name) => JSON.stringify(name)).join(' ')} in virtual host ${JSON.stringify(first)}`;
}

/** A definition that may have been made out in damaged octets: whether it can be one. */
export function isDefinition({ kind }: DefinitionChange): boolean {
  return DEFINITION_KINDS.some((each) => each === kind);
}

function holderIn(octets: Uint8Array): number | undefined {
  try {
    const value = decodeDefinitionValue(octets);
    const holder = typeof value === 'object' && value !== null && 'holder' in value ? value.holder : undefined;
    return typeof holder === 'number' ? holder : undefined;
  } catch {
    // What was made out in damaged octets need not make sense.
    return undefined;
  }
}
