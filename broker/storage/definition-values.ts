/** Values of definitions as octets and back. */
import type { DefinitionValue } from '../store.ts';

/** The octets of a value: of plain data, see `DefinitionValue`. Throws TypeError for anything else. */
export function encodeDefinitionValue(value: DefinitionValue): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

/** The value of `octets`, which must be those of one value. Throws StoreError when they are not. */
export function decodeDefinitionValue(octets: Uint8Array): DefinitionValue {
  return JSON.parse(new TextDecoder().decode(octets));
}
