import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PriorityList } from '../../broker/queue/priority-list.ts';
import { Place, type QueuedMessage } from '../../broker/queue/queued-message.ts';
import { ReadyList } from '../../broker/queue/ready-list.ts';
import { bareQueue, queuedAt } from '../support/bare-queue.ts';
import { runs } from '../support/runs.ts';

const queue = bareQueue();

/** The same list as an array that is sorted anew after every change: higher priorities first, then by position. */
class NaiveList {
  items: QueuedMessage[] = [];

  put(item: QueuedMessage): void {
    this.items.push(item);
    this.items.sort((a, b) => b.priority - a.priority || a.position - b.position);
  }
}

type Step =
  | { readonly push: number }
  | { readonly shift: number }
  | { readonly putBack: number }
  | { readonly remove: number }
  | { readonly clear: boolean };

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ push: fc.nat(5) }) },
    { weight: 5, arbitrary: fc.record({ shift: fc.integer({ min: 1, max: 20 }) }) },
    { weight: 4, arbitrary: fc.record({ putBack: fc.nat() }) },
    { weight: 4, arbitrary: fc.record({ remove: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ clear: fc.boolean() }) },
  ),
  { maxLength: 120, size: 'max' },
);

/** Runs the steps on the list and on a naive one, and compares them after each. */
function compare(
  list: (ReadyList | PriorityList) & Pick<PriorityList, 'push'>,
  steps: readonly Step[],
  maxPriority: number,
): void {
  const naive = new NaiveList();
  /** Taken out and not yet put back or done with. */
  const out: QueuedMessage[] = [];
  let lastPosition = 0;
  for (const step of steps) {
    if ('push' in step) {
      const item = queuedAt(queue, ++lastPosition, Math.min(step.push, maxPriority));
      list.push(item, false);
      naive.put(item);
    } else if ('shift' in step) {
      for (let count = 0; count < step.shift; count++) {
        const wanted = naive.items.shift();
        expect(list.shift()).toBe(wanted);
        if (wanted === undefined) break;
        wanted.place = Place.unacked;
        out.push(wanted);
      }
    } else if ('putBack' in step) {
      const [item] = out.length > 0 ? out.splice(step.putBack % out.length, 1) : [];
      if (item !== undefined) {
        item.place = Place.ready;
        list.putBack(item);
        naive.put(item);
      }
    } else if ('remove' in step) {
      const [item] = naive.items.length > 0 ? naive.items.splice(step.remove % naive.items.length, 1) : [];
      if (item !== undefined) list.remove(item);
    } else if (step.clear) {
      expect(list.clear()).toEqual(naive.items);
      naive.items = [];
    }
    expect(list.size).toBe(naive.items.length);
  }
}

describe('ReadyList', () => {
  it('is a sorted list, whatever comes, goes, comes back and leaves from the middle', () => {
    fc.assert(
      fc.property(steps, (steps) => compare(new ReadyList(), steps, 0)),
      runs(100),
    );
  });

  it('a backlog of many blocks leaves in order, and what comes back goes before what has not been out', () => {
    const list = new ReadyList();
    const count = 5000;
    for (let position = 1; position <= count; position++) list.push(queuedAt(queue, position));
    const taken = Array.from({ length: 3000 }, () => list.shift() as QueuedMessage);
    expect(taken.map(({ position }) => position)).toEqual(Array.from({ length: 3000 }, (_, index) => index + 1));
    for (const item of taken.toReversed()) list.putBack(item);
    expect(list.clear().map(({ position }) => position)).toEqual(
      Array.from({ length: count }, (_, index) => index + 1),
    );
    expect(list.size).toBe(0);
    list.push(queuedAt(queue, count + 1));
    expect(list.shift()?.position).toBe(count + 1);
  });

  it('returning in any order, between what has stayed', () => {
    const list = new ReadyList();
    for (let position = 1; position <= 100; position++) list.push(queuedAt(queue, position));
    const taken = Array.from({ length: 100 }, () => list.shift() as QueuedMessage);
    const shuffled = taken.toSorted((a, b) => ((a.position * 37) % 101) - ((b.position * 37) % 101));
    for (const item of shuffled) list.putBack(item);
    expect(list.clear()).toEqual(taken);
  });
});

describe('PriorityList', () => {
  it('is a list sorted by priority and then by position', () => {
    fc.assert(
      fc.property(steps, fc.constantFrom(1, 3, 5), (steps, maxPriority) => {
        compare(new PriorityList(maxPriority, () => new ReadyList()), steps, maxPriority);
      }),
      runs(100),
    );
  });
});
