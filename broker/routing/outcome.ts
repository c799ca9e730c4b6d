/**
 * What became of a publish, from the least to the most: nobody wanted it; it was handed over at once everywhere, and no
 * queue holds it; every queue took it; every queue took it and at least one has given it to the store, which has not
 * synced it yet; at least one queue refused it.
 */
export const Outcome = { unroutable: 0, passed: 1, accepted: 2, stored: 3, refused: 4 } as const;
