import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Confirms } from '../../../gateways/amqp/confirms.ts';
import { runs } from '../../support/runs.ts';

/** What a publisher knows, from acks and nacks on the wire alone. */
class Publisher {
  readonly outcomes = new Map<number, boolean>();

  settle(sequence: number, multiple: boolean, accepted: boolean, published: number): void {
    for (let each = multiple ? 1 : sequence; each <= sequence && each <= published; each += 1) {
      if (!this.outcomes.has(each)) this.outcomes.set(each, accepted);
      else if (each === sequence && !multiple) throw new Error(`${each} settled twice`);
    }
  }
}

/** A channel's use of `Confirms`, writing to a publisher. */
class Wire {
  readonly confirms = new Confirms();
  readonly publisher = new Publisher();
  frames = 0;
  readonly #published: number;

  constructor(published: number) {
    this.#published = published;
  }

  onConfirm(sequence: number, multiple: boolean, accepted: boolean): void {
    if (!accepted) {
      this.flush();
      this.confirms.refuse(sequence, multiple);
      this.#write(sequence, multiple, false);
    } else if (!this.confirms.accept(sequence, multiple)) {
      this.#write(sequence, false, true);
    }
  }

  flush(): void {
    const held = this.confirms.take();
    if (held !== 0) this.#write(Math.abs(held), held < 0, true);
  }

  #write(sequence: number, multiple: boolean, accepted: boolean): void {
    this.frames += 1;
    this.publisher.settle(sequence, multiple, accepted, this.#published);
  }
}

describe('confirms on their way out', () => {
  it('a run becomes one ack with multiple', () => {
    const wire = new Wire(100);
    for (let sequence = 1; sequence <= 100; sequence += 1) wire.onConfirm(sequence, false, true);
    expect(wire.frames).toBe(0);
    wire.flush();
    expect(wire.frames).toBe(1);
    expect(wire.publisher.outcomes.size).toBe(100);
    expect(wire.confirms.take()).toBe(0);
  });

  it('one alone is an ack without multiple', () => {
    const confirms = new Confirms();
    expect(confirms.accept(1, false)).toBe(true);
    expect(confirms.take()).toBe(1);
    expect(confirms.accept(2, false)).toBe(true);
    expect(confirms.take()).toBe(2);
    expect(confirms.take()).toBe(0);
  });

  it('one that comes early goes out by itself, and later runs may pass over it', () => {
    const confirms = new Confirms();
    expect(confirms.accept(2, false)).toBe(false);
    expect(confirms.accept(1, false)).toBe(true);
    expect(confirms.accept(3, false)).toBe(true);
    expect(confirms.take()).toBe(-3);
  });

  it('never confirms what is not confirmed: 1 is missing', () => {
    const confirms = new Confirms();
    for (const sequence of [2, 3, 4]) expect(confirms.accept(sequence, false)).toBe(false);
    expect(confirms.take()).toBe(0);
  });

  it('a nack follows what is held, and does not break the run', () => {
    const wire = new Wire(5);
    for (const sequence of [1, 2]) wire.onConfirm(sequence, false, true);
    wire.onConfirm(3, false, false);
    for (const sequence of [4, 5]) wire.onConfirm(sequence, false, true);
    wire.flush();
    expect(wire.frames).toBe(3);
    expect([...wire.publisher.outcomes.values()]).toEqual([true, true, false, true, true]);
  });

  it('the broker may say multiple itself', () => {
    const wire = new Wire(6);
    wire.onConfirm(2, false, true);
    wire.onConfirm(4, true, true);
    wire.onConfirm(6, true, false);
    wire.flush();
    expect([...wire.publisher.outcomes].sort(([a], [b]) => a - b).map(([, accepted]) => accepted)).toEqual([
      true,
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it('in any order, with flushes anywhere, the publisher learns every outcome once', () => {
    const settlements = fc.integer({ min: 1, max: 40 }).chain((published) =>
      fc.tuple(
        fc.constant(published),
        fc.shuffledSubarray(
          Array.from({ length: published }, (_, index) => index + 1),
          { minLength: published },
        ),
        fc.array(fc.boolean(), { minLength: published, maxLength: published }),
        fc.array(fc.boolean(), { minLength: published, maxLength: published }),
      ),
    );
    fc.assert(
      fc.property(settlements, ([published, order, accepted, flushed]) => {
        const wire = new Wire(published);
        const settled = new Map<number, boolean>();
        order.forEach((sequence, index) => {
          settled.set(sequence, accepted[index] as boolean);
          wire.onConfirm(sequence, false, accepted[index] as boolean);
          if (flushed[index]) wire.flush();
          for (const known of wire.publisher.outcomes.keys())
            if (!settled.has(known)) throw new Error(`${known} too early`);
        });
        wire.flush();
        expect(wire.publisher.outcomes).toEqual(settled);
      }),
      runs(100),
    );
  });
});
