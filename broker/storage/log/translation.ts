/**
 * Where the messages of a segment have gone that the cleaner has moved, so that whoever still points to where they were
 * finds them. Runs of slots in rising order, each with the record it went into.
 */
import type { LogRecord } from './log-record.ts';

/** Slots that have moved into one record, in rising order, and the slots within that record. */
interface Run {
  readonly slots: Uint32Array;
  readonly record: LogRecord;
  readonly targets: Uint32Array;
}

/** A slot of a record. */
export interface Place {
  readonly record: LogRecord;
  readonly slot: number;
}

/** The last index of `values` (rising) whose value is not above `value`; -1 when there is none. */
export function lastNotAbove(values: ArrayLike<number>, value: number, count = values.length): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export class Translation {
  #runs: Run[] = [];
  #firsts: number[] = [];

  get isEmpty(): boolean {
    return this.#runs.length === 0;
  }

  /** `slots[i]` (rising, above all before) is `targets[i]` of `record` now. */
  add(slots: Uint32Array, record: LogRecord, targets: Uint32Array): void {
    this.#firsts.push(slots[0] as number);
    this.#runs.push({ slots, record, targets });
  }

  /** Where a slot has gone; undefined when it has not. */
  find(slot: number): Place | undefined {
    const run = this.#runs[lastNotAbove(this.#firsts, slot)];
    if (run === undefined) return undefined;
    const index = lastNotAbove(run.slots, slot);
    if (run.slots[index] !== slot) return undefined;
    return { record: run.record, slot: run.targets[index] as number };
  }

  /** Replaces each place by what `resolve` says of it; those of which it says undefined are forgotten. */
  renew(resolve: (place: Place) => Place | undefined): void {
    const runs = this.#runs;
    this.#runs = [];
    this.#firsts = [];
    let slots: number[] = [];
    let targets: number[] = [];
    let record: LogRecord | undefined;
    const flush = (): void => {
      if (record !== undefined && slots.length > 0)
        this.add(Uint32Array.from(slots), record, Uint32Array.from(targets));
      slots = [];
      targets = [];
    };
    for (const run of runs) {
      for (let index = 0; index < run.slots.length; index++) {
        const place = resolve({ record: run.record, slot: run.targets[index] as number });
        if (place === undefined) continue;
        if (place.record !== record) flush();
        record = place.record;
        slots.push(run.slots[index] as number);
        targets.push(place.slot);
      }
    }
    flush();
  }
}
