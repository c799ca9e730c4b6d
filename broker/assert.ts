/** Broken invariants are defects of Warren, never of a peer: they stop the process rather than corrupt a queue. */

/** Throws when `condition` does not hold. `message` says which invariant is broken. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`broken invariant: ${message}`);
}

/** For the default branch of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new Error(`broken invariant: unexpected ${String(value)}`);
}
