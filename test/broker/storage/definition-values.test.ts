import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Decimal, type FieldValue, fieldsEqual, isFieldTable } from '../../../broker/fields.ts';
import {
  decodeDefinitionValue,
  encodeDefinitionValue,
  VALUE_DEPTH_MAX,
} from '../../../broker/storage/record/definition-values.ts';
import { StoreError } from '../../../broker/storage/store-error.ts';
import { runs } from '../../support/runs.ts';

/** Names that a careless codec takes for something else. */
const name = fc.oneof(
  fc.string({ maxLength: 3, unit: 'binary' }),
  fc.constantFrom('__proto__', 'constructor', 'toString', '$', '$$', '$bigint', '$$bytes', '$date', '0', ''),
);

/** Any value. What holds NaN, as a number or a date, equals nothing. */
function value(withNaN: boolean): fc.Arbitrary<FieldValue> {
  return fc.letrec<{ value: FieldValue }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.constant(null),
      fc.boolean(),
      fc.integer(),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.double({ noNaN: !withNaN }),
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom('\ud800', '\udc00', '\ufeff', '\u2028', 'a') }),
      fc.uint8Array({ maxLength: 9 }),
      fc.date({ noInvalidDate: !withNaN }),
      fc.tuple(fc.nat(255), fc.integer()).map(([scale, unscaled]) => new Decimal(scale, unscaled)),
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(name, tie('value'), { maxKeys: 4 }),
    ),
  })).value;
}

/** Same type and same value, all the way down; and no table with a prototype in `back`. */
function expectSame(back: unknown, original: FieldValue): void {
  if (typeof original !== 'object' || original === null) {
    expect(Object.is(back, original), `${String(back)} is ${String(original)}`).toBe(true);
  } else if (isFieldTable(original)) {
    expect(Object.getPrototypeOf(back)).toBe(null);
    const table = back as Record<string, unknown>;
    expect(Object.keys(table)).toEqual(Object.keys(original));
    for (const key of Object.keys(original)) expectSame(table[key], original[key] ?? null);
  } else if (Array.isArray(original)) {
    expect(Array.isArray(back) && back.length).toBe(original.length);
    original.forEach((item, index) => {
      expectSame((back as unknown[])[index], item);
    });
  } else {
    expect(back?.constructor).toBe(original.constructor);
    expect(back).toEqual(original);
  }
}

function text(octets: Uint8Array): string {
  return new TextDecoder().decode(octets);
}

function octets(json: string): Uint8Array {
  return new TextEncoder().encode(json);
}

function nested(depth: number): unknown {
  let inner: unknown = 'x';
  for (let level = 0; level < depth; level++) inner = level % 2 === 0 ? [inner] : { a: inner };
  return inner;
}

describe('values of definitions', () => {
  it('come back as they were, in value and in type', () => {
    fc.assert(
      fc.property(value(true), (original) =>
        expectSame(decodeDefinitionValue(encodeDefinitionValue(original)), original),
      ),
      runs(700),
    );
  });

  it('come back equal to what they were', () => {
    fc.assert(
      fc.property(value(false), (original) => {
        const back = decodeDefinitionValue(encodeDefinitionValue(original)) as FieldValue;
        expect(fieldsEqual(back, original)).toBe(true);
      }),
      runs(300),
    );
  });

  it.each([
    [
      'plain values are plain JSON',
      { durable: true, arguments: { n: [1, 'a', null] } },
      '{"durable":true,"arguments":{"n":[1,"a",null]}}',
    ],
    ['64-bit integers', 2n ** 63n - 1n, '{"$bigint":"9223372036854775807"}'],
    ['times', new Date(1_700_000_000_000), '{"$date":1700000000000}'],
    ['octets', Uint8Array.of(0, 1, 255), '{"$bytes":"AAH/"}'],
    ['decimals', new Decimal(2, 12345), '{"$decimal":[2,12345]}'],
    ['minus zero', -0, '{"$number":"-0"}'],
    ['a table that looks like a tag', { $bigint: '1' }, '{"$$bigint":"1"}'],
    ['a property that is undefined', { a: 1, b: undefined }, '{"a":1}'],
  ])('%s', (_what, original, json) => {
    expect(text(encodeDefinitionValue(original))).toBe(json);
    expect(decodeDefinitionValue(octets(json))).toEqual(
      // The table comes back without prototype, and without what was undefined.
      decodeDefinitionValue(encodeDefinitionValue(original)),
    );
  });

  it('come back as plain octets that are nobody else’s, also from a Buffer', () => {
    const back = decodeDefinitionValue(encodeDefinitionValue(Buffer.from('abc')));
    expect(back).toEqual(Uint8Array.of(97, 98, 99));
    expect(back).not.toBeInstanceOf(Buffer);
    expect((back as Uint8Array).buffer.byteLength).toBe(3);
  });

  it.each([
    ['a function', () => 1],
    ['undefined', undefined],
    ['undefined in an array', [undefined]],
    ['a symbol', { a: Symbol('a') }],
    ['an object of a class', { a: new Map() }],
  ])('cannot be %s', (_what, refused) => {
    expect(() => encodeDefinitionValue(refused)).toThrow(TypeError);
  });

  it(`may be nested ${VALUE_DEPTH_MAX} deep and no deeper`, () => {
    const deepest = nested(VALUE_DEPTH_MAX);
    expect(text(encodeDefinitionValue(decodeDefinitionValue(encodeDefinitionValue(deepest))))).toBe(
      text(encodeDefinitionValue(deepest)),
    );
    expect(() => encodeDefinitionValue(nested(VALUE_DEPTH_MAX + 1))).toThrow(TypeError);
    const brackets = VALUE_DEPTH_MAX + 1;
    expect(() => decodeDefinitionValue(octets('['.repeat(brackets) + ']'.repeat(brackets)))).not.toThrow();
    expect(() => decodeDefinitionValue(octets('['.repeat(brackets + 1) + ']'.repeat(brackets + 1)))).toThrow(
      StoreError,
    );
    expect(() => decodeDefinitionValue(octets('['.repeat(1e6) + ']'.repeat(1e6)))).toThrow(StoreError);
  });

  it.each([
    ['nothing', ''],
    ['no JSON', '{"a":'],
    ['two values', '1 2'],
    ['an unknown tag', '{"$thing":1}'],
    ['a tag with company', '{"$bigint":"1","a":2}'],
    ['an integer that is none', '{"$bigint":"1.5"}'],
    ['an integer that is a number', '{"$bigint":1}'],
    ['a time that is none', '{"$date":"now"}'],
    ['octets that are not base64', '{"$bytes":"A*"}'],
    ['a decimal in part', '{"$decimal":[1]}'],
    ['a decimal of strings', '{"$decimal":["1","2"]}'],
    ['a number that JSON can say', '{"$number":"1"}'],
  ])('are not made of %s', (_what, json) => {
    expect(() => decodeDefinitionValue(octets(json))).toThrow(StoreError);
  });

  it('are not made of octets that are no UTF-8, nor of octets of chance', () => {
    expect(() => decodeDefinitionValue(Uint8Array.of(0x22, 0xff, 0x22))).toThrow(StoreError);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (garbage) => {
        try {
          decodeDefinitionValue(garbage);
        } catch (error) {
          expect(error).toBeInstanceOf(StoreError);
        }
      }),
      runs(500),
    );
  });
});
