import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SlotTable } from '../../../broker/storage/log/slot-table.ts';
import { RecordBuffer } from '../../../broker/storage/record/record-buffer.ts';
import { RecordCursor } from '../../../broker/storage/record/record-cursor.ts';

/** What `out` holds, in one piece. */
function octetsOf(out: RecordBuffer): Buffer {
  return Buffer.concat(out.parts().map(({ octets, offset, length }) => octets.subarray(offset, offset + length)));
}

const operations = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('add' as const), bytes: fc.nat({ max: 100_000 }) }),
    fc.record({ do: fc.constant('gap' as const), count: fc.nat({ max: 70 }) }),
    fc.record({ do: fc.constant('settle' as const), slot: fc.nat({ max: 600 }) }),
    fc.record({ do: fc.constant('run' as const), slot: fc.nat({ max: 600 }), count: fc.nat({ max: 200 }) }),
    fc.record({ do: fc.constant('cut' as const), slot: fc.nat({ max: 600 }) }),
  ),
  { maxLength: 200, size: 'max' },
);

describe('the slots of a segment', () => {
  test('are what a plain list of them would say, and come back from a checkpoint', () => {
    fc.assert(
      fc.property(operations, (steps) => {
        const table = new SlotTable();
        let naive: boolean[] = [];
        const settle = (slot: number): void => {
          expect(table.settle(slot)).toBe(naive[slot] === true);
          if (slot < naive.length) naive[slot] = false;
        };
        for (const step of steps) {
          if (step.do === 'add') {
            table.add(step.bytes);
            naive.push(true);
          } else if (step.do === 'gap') {
            table.addSettled(table.count + step.count);
            naive.push(...Array<boolean>(step.count).fill(false));
          } else if (step.do === 'cut') {
            const count = Math.min(step.slot, naive.length);
            table.cut(count);
            naive = naive.slice(0, count);
          } else if (step.do === 'settle') settle(step.slot);
          else for (let index = 0; index < step.count; index++) settle(step.slot + index);
        }
        expect(table.count).toBe(naive.length);
        expect(table.live).toBe(naive.filter(Boolean).length);
        expect(table.nextLive(0)).toBe(naive.indexOf(true));
        expect(table.liveBetween(3, 40)).toBe(naive.slice(3, 40).filter(Boolean).length);
        expect(naive.map((_, slot) => table.isLive(slot))).toEqual(naive);
        if (table.live === 0) expect(table.liveBytes).toBeCloseTo(0, 5);

        const out = new RecordBuffer();
        table.encodeSettled(out, new RecordBuffer());
        const octets = octetsOf(out);
        expect(octets.length).toBeLessThanOrEqual((naive.length >> 3) + 10);
        const copy = new SlotTable();
        copy.addUnknown(table.count);
        const cursor = new RecordCursor(octets, 0, octets.length);
        copy.decodeSettled(cursor);
        expect(cursor.isAtEnd).toBe(true);
        expect(naive.map((_, slot) => copy.isLive(slot))).toEqual(naive);
        expect(copy.live).toBe(table.live);
      }),
      { numRuns: 200 },
    );
  });

  test('know about how large their messages are: within a sixteenth', () => {
    for (const bytes of [8, 9, 15, 16, 100, 1000, 65_535, 1_000_000, 512 * 1024 * 1024]) {
      const table = new SlotTable();
      table.add(bytes);
      expect(Math.abs(table.liveBytes - bytes)).toBeLessThanOrEqual(bytes / 16 + 1);
      table.settle(0);
      expect(table.liveBytes).toBe(0);
    }
  });

  test('garbage is refused', () => {
    const table = new SlotTable();
    table.addUnknown(10);
    for (const octets of [[7], [0, 1, 8, 3], [1, 1, 255], [1, 200], [0, 1]]) {
      expect(() => table.decodeSettled(new RecordCursor(Buffer.from(octets), 0, octets.length))).toThrow();
    }
  });
});
