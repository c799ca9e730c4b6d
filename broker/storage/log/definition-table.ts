/**
 * The definitions as the log says they are, each as the octets in which a record has it: what is written down again at
 * the beginning of every segment is copied, not encoded again.
 */
import type { Definition, DefinitionKind, DefinitionValue } from '../../store.ts';
import { decodeDefinitionValue, encodeDefinitionValue } from '../record/definition-values.ts';

/** A definition that has been made (`octets` of its value) or ended (undefined). */
export interface DefinitionChange {
  readonly kind: string;
  readonly key: readonly string[];
  readonly octets: Uint8Array | undefined;
}

/** What a definition takes in a record besides its value, about; octets. */
const OVERHEAD_BYTES = 32;

/** The change that makes a definition. Throws TypeError for a value that is none. */
export function definitionMade(kind: DefinitionKind, key: readonly string[], value: DefinitionValue): DefinitionChange {
  return { kind, key, octets: encodeDefinitionValue(value) };
}

export class DefinitionTable {
  readonly #changes = new Map<string, DefinitionChange>();
  /** About what all of them take in a record; octets. */
  bytes = 0;

  /** How many there are. */
  get count(): number {
    return this.#changes.size;
  }

  /** Answers what was there under the name before. */
  apply(change: DefinitionChange): DefinitionChange | undefined {
    const name = nameOf(change);
    const before = this.#changes.get(name);
    if (before !== undefined) this.bytes -= bytesOf(before);
    if (change.octets === undefined) this.#changes.delete(name);
    else {
      // One that is replaced keeps its place.
      this.#changes.set(name, change);
      this.bytes += bytesOf(change);
    }
    return before;
  }

  clear(): void {
    this.#changes.clear();
    this.bytes = 0;
  }

  /** All, in the order of their making. */
  all(): Iterable<DefinitionChange> {
    return this.#changes.values();
  }

  /** Those of a kind, in the order of their making. */
  ofKind(kind: DefinitionKind): Definition[] {
    const definitions: Definition[] = [];
    for (const change of this.#changes.values()) {
      if (change.kind !== kind || change.octets === undefined) continue;
      definitions.push({ kind, key: change.key, value: decodeDefinitionValue(change.octets) });
    }
    return definitions;
  }
}

function nameOf({ kind, key }: DefinitionChange): string {
  return JSON.stringify([kind, ...key]);
}

function bytesOf({ key, octets }: DefinitionChange): number {
  let bytes = OVERHEAD_BYTES + (octets?.length ?? 0);
  for (const name of key) bytes += name.length;
  return bytes;
}
