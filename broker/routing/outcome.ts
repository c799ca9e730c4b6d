/**
 * What became of a publish, from the least to the most: nobody wanted it; every queue took it; every queue took it and
 * at least one has given it to the store, which has not synced it yet; at least one queue refused it.
 */
export const Outcome = { unroutable: 0, accepted: 1, stored: 2, refused: 3 } as const;
