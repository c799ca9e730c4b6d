import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  Decimal,
  EMPTY_TABLE,
  type FieldTable,
  type FieldValue,
  fieldsEqual,
  fieldText,
  fieldTypeName,
  isFieldTable,
  tablesEqual,
} from '../../broker/fields.ts';
import { runs } from '../support/runs.ts';

/** Any value without NaN, which equals nothing. */
const { value } = fc.letrec<{ value: FieldValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.double({ noNaN: true }),
    fc.string(),
    fc.uint8Array({ maxLength: 4 }),
    fc.date({ noInvalidDate: true }),
    fc.tuple(fc.nat(255), fc.integer()).map(([scale, unscaled]) => new Decimal(scale, unscaled)),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.string({ maxLength: 3 }), tie('value'), { maxKeys: 3 }),
  ),
}));

/** The same value made anew, its tables in the other order, its small integers in the other width. */
function twin(original: FieldValue): FieldValue {
  if (typeof original === 'number') return Number.isSafeInteger(original) ? BigInt(original) : original;
  if (typeof original === 'bigint') return Number.isSafeInteger(Number(original)) ? Number(original) : original;
  if (original instanceof Uint8Array) return original.slice();
  if (original instanceof Date) return new Date(original);
  if (original instanceof Decimal) return new Decimal(original.scale, original.unscaled);
  if (Array.isArray(original)) return original.map(twin);
  if (!isFieldTable(original)) return original;
  const names = Object.keys(original).reverse();
  return Object.fromEntries(names.map((name) => [name, twin(original[name] ?? null)]));
}

describe('fields', () => {
  it('are equal to their like, whatever their order and the width of their integers', () => {
    fc.assert(
      fc.property(value, (one) => {
        expect(fieldsEqual(one, one)).toBe(true);
        expect(fieldsEqual(one, twin(one))).toBe(true);
        expect(fieldsEqual(twin(one), one)).toBe(true);
        expect(fieldsEqual([one], [one, one])).toBe(false);
        expect(fieldsEqual({ a: one }, { a: one, b: one })).toBe(false);
        expect(fieldsEqual({ a: one }, { b: one })).toBe(false);
      }),
      runs(300),
    );
  });

  it('of different kinds are different, also those that are written alike', () => {
    const kinds: FieldValue[] = [
      null,
      false,
      0.5,
      1,
      '',
      '1',
      new Uint8Array(),
      new Date(1000),
      new Decimal(0, 1),
      [],
      {},
    ];
    for (const one of kinds) {
      expect(fieldsEqual(one, undefined)).toBe(false);
      for (const other of kinds) expect(fieldsEqual(one, other)).toBe(one === other);
    }
    expect(fieldsEqual(undefined, undefined)).toBe(true);
    expect(fieldsEqual(2n ** 62n, 2n ** 62n + 1n)).toBe(false);
    expect(fieldsEqual(new Uint8Array([1]), new Uint8Array([2]))).toBe(false);
    expect(fieldsEqual(new Decimal(1, 10), new Decimal(0, 1))).toBe(false);
    expect(tablesEqual(EMPTY_TABLE, {})).toBe(true);
  });

  it.each<[FieldValue, string, string]>([
    [null, 'void', 'undefined'],
    [true, 'bool', 'true'],
    [5, 'signedint', '5'],
    [5n, 'long', '5'],
    [1.5, 'double', '1.5'],
    ['text', 'longstr', 'text'],
    [new Uint8Array([1]), 'binary', '{"0":1}'],
    [new Date(0), 'timestamp', '"1970-01-01T00:00:00.000Z"'],
    [new Decimal(2, 314), 'decimal', '3.14'],
    [[1, 2n], 'array', '[1,2]'],
    [{ a: 1n }, 'table', '{"a":1}'],
  ])('%s is named %s and printed %s', (one, name, printed) => {
    expect([fieldTypeName(one), fieldText(one)]).toEqual([name, printed]);
    expect(isFieldTable(one)).toBe(name === 'table');
  });

  it.each([
    [0, 0, '0'],
    [0, -7, '-7'],
    [2, 5, '0.05'],
    [2, -314, '-3.14'],
    [3, 2 ** 31 - 1, '2147483.647'],
    [10, -(2 ** 31), '-0.2147483648'],
    [255, 12, `0.${'0'.repeat(253)}12`],
  ])('a decimal of scale %i and digits %i is printed %s', (scale, unscaled, printed) => {
    expect(String(new Decimal(scale, unscaled))).toBe(printed);
  });

  it('every value that a peer can send is printed, and with its number', () => {
    fc.assert(
      fc.property(value, (one) => {
        expect(typeof fieldText(one)).toBe('string');
        if (one instanceof Decimal) expect(Number(fieldText(one))).toBeCloseTo(one.unscaled / 10 ** one.scale, 12);
      }),
      runs(300),
    );
  });

  it('a table without prototype is a table', () => {
    const table: FieldTable = Object.assign(Object.create(null), { ['__proto__']: 1 });
    expect(isFieldTable(table)).toBe(true);
    expect(tablesEqual(table, Object.assign(Object.create(null), { ['__proto__']: 1n }))).toBe(true);
    expect(tablesEqual(table, Object.assign(Object.create(null), { constructor: 1 }))).toBe(false);
  });
});
