import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Segment } from '../../../broker/storage/log/segment.ts';
import { StoredHolder } from '../../../broker/storage/log/stored-holder.ts';
import { PageBuilder } from '../../../broker/storage/pages/page-builder.ts';

/** Messages in the order of the log; positions unique, mostly rising. */
const log = fc.uniqueArray(fc.integer({ min: 1, max: 2 ** 40 }), { maxLength: 300, size: 'max' }).chain((positions) =>
  fc.record({
    positions: fc.boolean().map((sorted) => (sorted ? positions.toSorted((a, b) => a - b) : positions)),
    sizes: fc.array(fc.integer({ min: 0, max: 400_000 }), { minLength: 1, maxLength: 20 }),
    expiries: fc.array(fc.option(fc.integer({ min: 1, max: 2 ** 45 }), { nil: Number.POSITIVE_INFINITY }), {
      minLength: 1,
      maxLength: 20,
    }),
    perSegment: fc.integer({ min: 1, max: 50 }),
  }),
);

describe('pages of what recovery finds', () => {
  test('hold every message once, in the order of positions, with what they say of it', () => {
    fc.assert(
      fc.property(log, ({ positions, sizes, expiries, perSegment }) => {
        const segments = new Map<number, Segment>();
        const builder = new PageBuilder();
        const messages = positions.map((position, index) => {
          const id = 3 + Math.floor(index / perSegment);
          const segment = segments.get(id) ?? new Segment(id, 1n);
          segments.set(id, segment);
          const bytes = sizes[index % sizes.length] ?? 0;
          const expiresAtMs = expiries[index % expiries.length] ?? 0;
          const slot = (index % perSegment) * 2;
          builder.add(segment, slot, position, bytes, expiresAtMs);
          return { id, slot, position, bytes, expiresAtMs };
        });
        const holder = new StoredHolder(1);
        const pages = builder.pages(holder, 4, segments);
        let rest = messages.toSorted((a, b) => a.position - b.position);
        for (const page of pages) {
          const mine = rest.slice(0, page.count);
          rest = rest.slice(page.count);
          expect(page.holder).toBe(holder);
          expect(page.priority).toBe(4);
          expect(page.firstPosition).toBe(mine[0]?.position);
          expect(page.lastPosition).toBe(mine.at(-1)?.position);
          expect(page.bodyBytes).toBe(mine.reduce((sum, { bytes }) => sum + bytes, 0));
          expect(page.expiresAtMs).toBe(Math.min(...mine.map(({ expiresAtMs }) => expiresAtMs)));
          const slots: string[] = [];
          page.eachSlot(({ segment, firstSlot }, slot) => slots.push(`${segment?.id}/${firstSlot + slot}`));
          expect(slots).toEqual(mine.map(({ id, slot }) => `${id}/${slot}`));
        }
        expect(rest).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });
});
