/** Confirms may come late, out of order and many at once; each receipt is settled once, by the confirm that covers it. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PendingReceipts } from '../../../gateways/stomp/receipts.ts';
import { runs } from '../../support/runs.ts';

function pending() {
  const told: string[] = [];
  const receipts = new PendingReceipts({
    onAccepted: (receipt) => told.push(receipt),
    onRefused: (receipt) => told.push(`not ${receipt}`),
    onSettled: () => told.push('all'),
  });
  return { receipts, told };
}

it('single confirms settle in the order in which they come', () => {
  const { receipts, told } = pending();
  for (const sequence of [1, 3, 4]) receipts.expect(sequence, `r${sequence}`);
  for (const sequence of [2, 3, 1]) receipts.settle(sequence, false, true);
  receipts.settle(4, false, false);
  expect(told).toEqual(['r3', 'r1', 'not r4', 'all']);
});

it('a confirm of many settles those that nobody has settled yet', () => {
  const { receipts, told } = pending();
  for (const sequence of [1, 2, 3, 5]) receipts.expect(sequence, `r${sequence}`);
  receipts.settle(2, false, true);
  receipts.settle(4, true, true);
  expect(told).toEqual(['r2', 'r1', 'r3']);
  expect(receipts.size).toBe(1);
});

it('one that was retracted is never settled', () => {
  const { receipts, told } = pending();
  receipts.expect(1, 'kept');
  receipts.expect(2, 'retracted');
  receipts.retract();
  receipts.expect(2, 'instead');
  receipts.settle(2, true, true);
  expect(told).toEqual(['kept', 'instead', 'all']);
});

it('whatever the order, each is told once', () => {
  const confirm = fc.record({ sequence: fc.integer({ min: 1, max: 3000 }), multiple: fc.boolean() });
  fc.assert(
    fc.property(fc.array(confirm, { maxLength: 60 }), fc.integer({ min: 1, max: 3 }), (confirms, every) => {
      const { receipts, told } = pending();
      const expected = new Set<string>();
      for (let sequence = 1; sequence <= 3000; sequence += every) receipts.expect(sequence, String(sequence));
      for (const { sequence, multiple } of confirms) {
        receipts.settle(sequence, multiple, true);
        for (let one = multiple ? 1 : sequence; one <= sequence; one += 1) {
          if ((one - 1) % every === 0) expected.add(String(one));
        }
      }
      const settled = told.filter((receipt) => receipt !== 'all');
      expect(settled).toHaveLength(expected.size);
      expect(new Set(settled)).toEqual(expected);
    }),
    runs(100),
  );
});
