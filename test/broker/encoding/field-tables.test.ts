import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeField,
  decodeTable,
  encodeField,
  encodeTable,
  scanHeaders,
  scanTable,
  TABLE_DEPTH_MAX,
} from '../../../broker/encoding/field-tables.ts';
import { OctetReader, OctetWriter } from '../../../broker/encoding/octets.ts';
import { ProtocolError } from '../../../broker/encoding/protocol-error.ts';
import { Decimal, type FieldTable, type FieldValue, fieldsEqual } from '../../../broker/fields.ts';
import { Trait } from '../../../broker/message.ts';
import { typed, Writer } from '../../support/amqp-wire.ts';
import { runs } from '../../support/runs.ts';

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const decode = (octets: Uint8Array): FieldTable => decodeTable(new OctetReader(octets, 0, octets.length, 502));

function encode(table: FieldTable): Uint8Array {
  const writer = new OctetWriter();
  encodeTable(writer, table);
  return writer.octets;
}

describe('every type of field, as octets', () => {
  it.each<[string, FieldValue, string]>([
    ['true', true, '74 01'],
    ['false', false, '74 00'],
    ['0', 0, '49 00000000'],
    ['-1', -1, '49 ffffffff'],
    ['the largest 32-bit integer', 0x7fffffff, '49 7fffffff'],
    ['the smallest 32-bit integer', -0x80000000, '49 80000000'],
    ['a fraction', 1.5, '64 3ff8000000000000'],
    ['an integer beyond 32 bits as a number', 2 ** 31, '64 41e0000000000000'],
    ['minus zero', -0, '64 8000000000000000'],
    ['not a number', Number.NaN, '64 7ff8000000000000'],
    ['a bigint', 5n, '6c 0000000000000005'],
    ['a negative bigint', -2n, '6c fffffffffffffffe'],
    ['a string', 'aé', '53 00000003 61c3a9'],
    ['octets', Uint8Array.of(1, 0xff), '78 00000002 01ff'],
    ['a time', new Date(1_000_000_000_000), '54 000000003b9aca00'],
    ['a decimal', new Decimal(2, -314), '44 02 fffffec6'],
    ['nothing', null, '56'],
    ['an array', [1, 'x'], '41 0000000b 4900000001 530000000178'],
    ['a table', { a: true }, '46 00000004 0161 7401'],
  ])('%s', (_name, value, octets) => {
    const writer = new OctetWriter();
    encodeField(writer, value);
    expect(hex(writer.octets)).toBe(octets.replaceAll(' ', ''));
    const field = bytes(octets);
    const decoded = decodeField(new OctetReader(field, 0, field.length, 502));
    expect(Number.isNaN(value) ? Number.isNaN(decoded) : fieldsEqual(decoded, value)).toBe(true);
  });

  it.each<[string, string, FieldValue]>([
    ['b: signed 8', '62 ff', -1],
    ['B: unsigned 8', '42 ff', 255],
    ['s: signed 16', '73 8000', -0x8000],
    ['U: signed 16, as the specification has it', '55 ffff', -1],
    ['u: unsigned 16', '75 ffff', 65535],
    ['i: unsigned 32', '69 0000000a', 10],
    ['i beyond the signed range stays an integer', '69 ffffffff', 4294967295n],
    ['L: signed 64, as RabbitMQ reads it', '4c ffffffffffffffff', -1n],
    ['f: float', '66 3fc00000', 1.5],
    ['t: any octet but 0 is true', '74 07', true],
    ['T beyond what a Date can tell is its last moment', '54 ffffffffffffffff', new Date(8.64e15)],
    ['S that is not UTF-8', '53 00000002 41ff', 'A\ufffd'],
  ])('read only: %s', (_name, octets, value) => {
    const field = bytes(octets);
    expect(decodeField(new OctetReader(field, 0, field.length, 502))).toEqual(value);
    const table = Buffer.concat([bytes('0000 0000 0178'), field]);
    table.writeUInt32BE(table.length - 4);
    expect(scanTable(table, 0, table.length)).toBe(table.length);
    expect(decode(table)).toEqual({ x: value });
  });

  it('cuts, wraps or drops what does not fit rather than throw', () => {
    const long = 'é'.repeat(200);
    const decoded = decode(
      encode({ [long]: 1, big: 2n ** 70n, small: -(2n ** 70n), early: new Date(-5), wrong: new Date(Number.NaN) }),
    );
    expect(decoded['é'.repeat(127)]).toBe(1);
    expect(decoded.big).toBe(2n ** 63n - 1n);
    expect(decoded.small).toBe(-(2n ** 63n));
    expect(decoded.early).toEqual(new Date(0));
    expect(decoded.wrong).toEqual(new Date(0));
  });

  it('a field may be called __proto__', () => {
    const decoded = decode(new Writer().table({ ['__proto__']: 'mine' }).octets());
    expect(Object.keys(decoded)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(decoded)).toBeNull();
  });
});

describe('malformed tables', () => {
  it.each([
    ['a size without its octets', '00 00 00'],
    ['a size larger than what follows', '00000005 0161'],
    ['a name that is cut off', '00000002 0561'],
    ['a name without a value', '00000002 0161'],
    ['an unknown type', '00000003 0161 51'],
    ['a value that is cut off', '00000005 0161 49 0000'],
    ['a string longer than the table', '00000008 0161 53 00000009 61'],
    ['a string whose length is cut off', '00000005 0161 53 0000'],
    ['a table longer than the one around it', '00000007 0161 46 00000001'],
    ['an array longer than the table around it', '00000007 0161 41 00000001'],
    ['octets of the next item in an array', '00000009 0161 41 00000002 4900'],
  ])('%s', (_name, octets) => {
    const table = bytes(octets);
    for (const read of [() => scanTable(table, 0, table.length), () => scanHeaders(table, 0, table.length)]) {
      expect(read).toThrow(ProtocolError);
    }
    expect(() => decode(table)).toThrow(ProtocolError);
  });

  it('tables nested to the limit pass, one deeper is refused', () => {
    const nested = (depth: number): FieldTable => (depth === 1 ? {} : { t: nested(depth - 1) });
    const octets = (depth: number): Buffer => new Writer().table(nested(depth)).octets();
    expect(scanTable(octets(TABLE_DEPTH_MAX), 0, octets(TABLE_DEPTH_MAX).length)).toBeGreaterThan(0);
    expect(decode(octets(TABLE_DEPTH_MAX))).toBeDefined();
    const deeper = octets(TABLE_DEPTH_MAX + 1);
    expect(() => scanTable(deeper, 0, deeper.length)).toThrow(/nested deeper/);
    expect(() => decode(deeper)).toThrow(/nested deeper/);
  });

  it('a thousand arrays in each other are refused, not followed', () => {
    let octets: Buffer = Buffer.alloc(0);
    for (let depth = 0; depth < 1000; depth += 1)
      octets = new Writer().raw(Buffer.from('A')).longString(octets).octets();
    const table = new Writer().longString(new Writer().shortString('a').raw(octets).octets()).octets();
    expect(() => scanTable(table, 0, table.length)).toThrow(/nested deeper/);
  });
});

describe('the traits that headers bring', () => {
  it.each<[string, FieldTable, number]>([
    ['none', {}, Trait.headers],
    ['others', { a: 1, 'x-dela': 1, cc: 1 }, Trait.headers],
    ['CC', { a: 1, CC: ['x'] }, Trait.headers | Trait.copies],
    ['BCC', { BCC: ['x'] }, Trait.headers | Trait.copies],
    ['x-delay', { 'x-delay': 5 }, Trait.headers | Trait.delay],
    ['x-deliver-at', { 'x-deliver-at': 5n }, Trait.headers | Trait.delay],
    ['not in a nested table', { a: { CC: ['x'], 'x-delay': 1 } }, Trait.headers],
  ])('%s', (_name, table, traits) => {
    const octets = encode(table);
    expect(scanHeaders(octets, 0, octets.length)).toBe(traits);
  });
});

const name = fc.string({ maxLength: 20, unit: 'grapheme' });
const { table } = fc.letrec<{ table: FieldTable; value: FieldValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.double(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.string({ unit: 'grapheme' }),
    fc.uint8Array({ maxLength: 20 }),
    fc.integer({ min: 0, max: 2 ** 33 }).map((seconds) => new Date(seconds * 1000)),
    fc.tuple(fc.nat(255), fc.integer()).map(([scale, unscaled]) => new Decimal(scale, unscaled)),
    fc.array(tie('value'), { maxLength: 5 }),
    tie('table'),
  ),
  table: fc.dictionary(name, tie('value'), { maxKeys: 6, noNullPrototype: false }),
}));

describe('any table', () => {
  it('comes back from its octets, and the scan finds nothing wrong with them', () => {
    fc.assert(
      fc.property(table, (original) => {
        const octets = encode(original);
        expect(scanTable(octets, 0, octets.length)).toBe(octets.length);
        expect(decode(octets)).toEqual(Object.assign(Object.create(null), original));
      }),
      runs(100),
    );
  });

  it('mutated, either passes the scan and decodes, or throws a ProtocolError in both', () => {
    fc.assert(
      fc.property(table, fc.nat(), fc.nat(255), (original, position, octet) => {
        const octets = Uint8Array.from(encode(original));
        octets[position % octets.length] = octet;
        let passed = false;
        try {
          passed = scanTable(octets, 0, octets.length) === octets.length;
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
        if (passed) decode(octets);
      }),
      runs(100),
    );
  });

  it('of garbage, nothing but a ProtocolError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => {
        for (const read of [() => scanTable(octets, 0, octets.length), () => decode(octets)]) {
          try {
            read();
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolError);
            expect((error as ProtocolError).offset).toBeGreaterThanOrEqual(0);
          }
        }
      }),
      runs(100),
    );
  });

  it("is written by the tests' own codec and read by ours alike", () => {
    const octets = new Writer()
      .table({ byte: typed('b', -5), long: typed('l', 7n), list: [typed('u', 9), typed('f', 0.5)], empty: {} })
      .octets();
    expect(decode(octets)).toEqual({ byte: -5, long: 7n, list: [9, 0.5], empty: {} });
  });
});
