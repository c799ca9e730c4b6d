import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Deadlines, type Timed } from '../../broker/deadlines.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { runs } from '../support/runs.ts';

interface Item extends Timed {
  readonly id: number;
}

/** Deadlines, and beside them an array that knows what must come of them. */
class Compared {
  readonly clock = new ManualClock(0);
  readonly fired: number[] = [];
  readonly waiting: Item[] = [];
  #lastId = 0;
  readonly deadlines = new Deadlines<Item>(this.clock, (item) => {
    this.fired.push(item.id);
    this.waiting.splice(this.waiting.indexOf(item), 1);
    this.onDue?.(item);
  });
  onDue: ((item: Item) => void) | undefined;

  add(inMs: number): Item {
    const id = ++this.#lastId;
    const item: Item = { id, position: id, dueMs: 0, heapIndex: -1 };
    this.deadlines.add(item, this.clock.now() + inMs);
    this.waiting.push(item);
    return item;
  }

  delete(index: number): void {
    const [item] = this.waiting.length > 0 ? this.waiting.splice(index % this.waiting.length, 1) : [];
    if (item === undefined) return;
    expect(this.deadlines.delete(item)).toBe(true);
    expect(this.deadlines.delete(item)).toBe(false);
  }

  /** Lets time pass; what must have been due, in order. */
  advance(ms: number): number[] {
    const endMs = this.clock.now() + ms;
    const due = this.waiting.filter(({ dueMs }) => dueMs <= endMs);
    due.sort((a, b) => a.dueMs - b.dueMs || a.id - b.id);
    const wanted = due.map(({ id }) => id);
    this.clock.advance(ms);
    return wanted;
  }
}

describe('Deadlines', () => {
  it('is a list sorted by time and then by position, of which the due ones leave', () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ add: fc.nat(50) }) },
      { weight: 2, arbitrary: fc.record({ remove: fc.nat() }) },
      { weight: 3, arbitrary: fc.record({ advance: fc.nat(30) }) },
      { weight: 1, arbitrary: fc.record({ clear: fc.constant(true) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const compared = new Compared();
        for (const one of steps) {
          if ('add' in one) compared.add(one.add);
          else if ('remove' in one) compared.delete(one.remove);
          else if ('clear' in one) {
            compared.deadlines.clear();
            compared.waiting.length = 0;
            expect(compared.clock.timerCount).toBe(0);
          } else {
            compared.fired.length = 0;
            const wanted = compared.advance(one.advance);
            expect(compared.fired).toEqual(wanted);
          }
          expect(compared.deadlines.size).toBe(compared.waiting.length);
          expect(new Set(compared.deadlines)).toEqual(new Set(compared.waiting));
          expect(compared.clock.timerCount).toBeLessThanOrEqual(1);
        }
      }),
      runs(100),
    );
  });

  it('what is due at one time leaves in the order in which it came', () => {
    const compared = new Compared();
    const ids = Array.from({ length: 100 }, () => compared.add(5).id);
    compared.clock.advance(5);
    expect(compared.fired).toEqual(ids);
  });

  it('keeps its order when one leaves from another branch than the last to come', () => {
    const compared = new Compared();
    const inMs = [1, 10, 2, 11, 12, 3, 4, 20, 21, 22, 23, 5, 6, 7, 8];
    for (const one of inMs) compared.add(one);
    compared.delete(inMs.indexOf(11));
    const wanted = compared.advance(30);
    expect(compared.fired).toEqual(wanted);
    expect(wanted).toHaveLength(inMs.length - 1);
  });

  it('nothing is due early, and everything on time', () => {
    const compared = new Compared();
    compared.add(10);
    compared.clock.advance(9);
    expect(compared.fired).toEqual([]);
    compared.clock.advance(1);
    expect(compared.fired).toEqual([1]);
  });

  it('a new earliest one is not kept waiting for the old one', () => {
    const compared = new Compared();
    compared.add(1000);
    compared.add(10);
    compared.clock.advance(10);
    expect(compared.fired).toEqual([2]);
    compared.clock.advance(990);
    expect(compared.fired).toEqual([2, 1]);
  });

  it('what is due may add, also at once, and delete', () => {
    const compared = new Compared();
    const second = compared.add(20);
    compared.add(10);
    compared.onDue = ({ id }) => {
      if (id !== 2) return;
      compared.delete(compared.waiting.indexOf(second));
      compared.add(0);
      compared.add(5);
    };
    compared.clock.advance(15);
    expect(compared.fired).toEqual([2, 3, 4]);
    expect(compared.deadlines.size).toBe(0);
  });

  it('what is due may clear everything and begin anew', () => {
    const compared = new Compared();
    compared.add(10);
    compared.add(10);
    compared.onDue = ({ id }) => {
      if (id !== 1) return;
      compared.deadlines.clear();
      compared.waiting.length = 0;
      compared.add(7);
    };
    compared.clock.advance(17);
    expect(compared.fired).toEqual([1, 3]);
  });

  it('more than one turn can bear are due in several, one after another', () => {
    const compared = new Compared();
    const count = 10_000;
    for (let index = 0; index < count; index++) compared.add(5);
    const turns: number[] = [];
    compared.clock.schedule(5, () => turns.push(compared.fired.length));
    compared.clock.advance(5);
    expect(compared.fired.length).toBe(count);
    expect(turns[0]).toBeLessThan(count);
  });

  it('times far beyond what one timer of Node can hold', () => {
    const compared = new Compared();
    const year = 365 * 24 * 3600 * 1000;
    compared.add(100 * year);
    compared.clock.advance(100 * year - 1);
    expect(compared.fired).toEqual([]);
    compared.clock.advance(1);
    expect(compared.fired).toEqual([1]);
  });
});
