/** Broken invariants are defects of Warren, never of a peer: they stop the process rather than corrupt a queue. */

/** Something is so that cannot be. Nobody catches it for good. */
export class InvariantError extends Error {
  constructor(message: string) {
    super(`broken invariant: ${message}`);
    this.name = 'InvariantError';
  }
}

/** Throws when `condition` does not hold. `message` says which invariant is broken. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** For the default branch of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new InvariantError(`unexpected ${String(value)}`);
}

/**
 * For what a callback of a program or a door has thrown: a defect of its own, which must not harm whoever happened to
 * call it. It is thrown again outside, where the process learns of it.
 */
export function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Calls a callback in the middle of something that must be finished, whatever the callback throws. */
export function callOut(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    rethrowLater(error);
  }
}
