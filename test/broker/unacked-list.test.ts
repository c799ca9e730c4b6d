import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UnackedList } from '../../broker/channel/unacked-list.ts';
import type { QueuedMessage } from '../../broker/queue/queued-message.ts';
import { bareQueue, queuedAt } from '../support/bare-queue.ts';
import { runs } from '../support/runs.ts';

const queue = bareQueue();

function delivery(tag: number): QueuedMessage {
  const queued = queuedAt(queue, tag);
  queued.markUnacked(undefined, tag);
  return queued;
}

const tagsOf = (deliveries: Iterable<QueuedMessage>): number[] => Array.from(deliveries, (one) => one.deliveryTag);

const ascending = (tags: Iterable<number>): number[] => [...tags].sort((a, b) => a - b);

describe('UnackedList', () => {
  it('is a map by tag, whatever is settled in whatever order and put back', () => {
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ add: fc.constantFrom(1, 1, 1, 2, 5, 1000) }) },
      { weight: 5, arbitrary: fc.record({ take: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ takeUnknown: fc.nat(2000) }) },
      { weight: 2, arbitrary: fc.record({ takeThrough: fc.nat() }) },
      { weight: 2, arbitrary: fc.record({ restore: fc.nat() }) },
      { weight: 1, arbitrary: fc.record({ takeAll: fc.constant(true) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
        const list = new UnackedList();
        const naive = new Map<number, QueuedMessage>();
        const out: QueuedMessage[] = [];
        let lastTag = 0;
        for (const one of steps) {
          if ('add' in one) {
            // Deliveries that need no ack use up tags too.
            lastTag += one.add;
            const queued = delivery(lastTag);
            list.add(queued);
            naive.set(lastTag, queued);
          } else if ('take' in one) {
            const tag = [...naive.keys()][one.take % Math.max(1, naive.size)];
            if (tag === undefined) continue;
            const taken = list.take(tag);
            expect(taken).toBe(naive.get(tag));
            expect(list.take(tag)).toBeUndefined();
            naive.delete(tag);
            if (taken !== undefined) out.push(taken);
          } else if ('takeUnknown' in one) {
            const tag = one.takeUnknown;
            expect(list.has(tag)).toBe(naive.has(tag));
            if (!naive.has(tag)) expect(list.take(tag)).toBeUndefined();
          } else if ('takeThrough' in one) {
            const tag = [...naive.keys()][one.takeThrough % Math.max(1, naive.size)];
            if (tag === undefined) continue;
            const wanted = ascending(naive.keys()).filter((other) => other <= tag);
            const taken = list.takeThrough(tag);
            expect(tagsOf(taken)).toEqual(wanted);
            for (const other of wanted) naive.delete(other);
            out.push(...taken);
          } else if ('restore' in one) {
            const [queued] = out.length > 0 ? out.splice(one.restore % out.length, 1) : [];
            if (queued === undefined) continue;
            list.restore(queued);
            naive.set(queued.deliveryTag, queued);
          } else {
            expect(tagsOf(list.takeAll())).toEqual(ascending(naive.keys()));
            naive.clear();
          }
          expect(list.size).toBe(naive.size);
          expect(ascending(tagsOf(list))).toEqual(ascending(naive.keys()));
        }
      }),
      runs(120),
    );
  });

  it('one delivery that is never settled does not make room for all that came after it', () => {
    const list = new UnackedList();
    list.add(delivery(1));
    for (let tag = 2; tag <= 200_000; tag++) {
      list.add(delivery(tag));
      list.take(tag);
    }
    // Looking at all of it takes a step a slot: with a slot a tag this would be 200,000 of them.
    expect(tagsOf(list)).toEqual([1]);
    expect(list.takeThrough(200_000)).toHaveLength(1);
    expect(list.size).toBe(0);
  });

  it('what is put back is taken in order with the rest', () => {
    const list = new UnackedList();
    for (const tag of [1, 2, 3, 4, 5]) list.add(delivery(tag));
    for (const tag of [4, 2]) list.restore(list.take(tag) as QueuedMessage);
    expect(tagsOf(list.takeAll())).toEqual([1, 2, 3, 4, 5]);
  });
});
