import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ProtocolError } from '../../../broker/encoding/protocol-error.ts';
import type { FieldTable } from '../../../broker/fields.ts';
import {
  decodeArguments,
  encodeMethod,
  METHOD_NAMES,
  type MethodArguments,
  type MethodName,
  methodName,
} from '../../../gateways/amqp/methods.ts';
import { METHODS } from '../../support/amqp-methods.ts';
import { decodeMethod as readMethod, encodeMethod as writeMethod } from '../../support/amqp-wire.ts';
import { runs } from '../../support/runs.ts';

const shapeOf = (name: string) => METHODS.find((method) => method.name === name);

/** Arguments for a method of that shape, by the tests' own table. */
function argumentsOf(name: MethodName): fc.Arbitrary<Record<string, unknown>> {
  const text = fc.string({ maxLength: 60, unit: 'grapheme' });
  const values = {
    bit: fc.boolean(),
    octet: fc.nat(255),
    short: fc.nat(65535),
    long: fc.nat(0xffffffff),
    longlong: fc.nat(Number.MAX_SAFE_INTEGER),
    shortstr: text,
    longstr: text,
    table: fc.dictionary(text, fc.oneof(fc.integer(), fc.boolean(), text), { maxKeys: 3 }),
  };
  const fields = shapeOf(name)?.fields ?? [];
  return fc.record(Object.fromEntries(fields.map((field) => [field.name, values[field.type]])));
}

/** Argument names that our table has under other names than the tests' (or the other way round). */
const RENAMED: Record<string, string> = {
  capabilities: 'reserved1',
  knownHosts: 'reserved1',
  outOfBand: 'reserved1',
  channelId: 'reserved1',
  insist: 'reserved2',
};

const renamed = (args: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(args).map(([name, value]) => [RENAMED[name] ?? name, value]));

const unnamed = (name: MethodName, args: Record<string, unknown>): Record<string, unknown> => {
  const payload = Buffer.from(writeMethod(name, {}));
  const ours = Object.keys(decodeArguments(name, payload, 4, payload.length));
  return Object.fromEntries(ours.map((field) => [field, args[field] ?? args[RENAMED[field] ?? '']]));
};

const plain = (value: unknown): unknown => (value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : value);
const plainArguments = (args: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(args).map(([name, value]) => [name, plain(value)]));

describe('methods', () => {
  it('are those of the specification', () => {
    expect([...METHOD_NAMES].sort()).toEqual(METHODS.map((method) => method.name).sort());
    for (const { name, classId, methodId } of METHODS) expect(methodName(classId * 65536 + methodId)).toBe(name);
    expect(methodName(0x003c0029)).toBeUndefined();
  });

  it.each(METHOD_NAMES)('%s is written and read as the specification has it', (name) => {
    fc.assert(
      fc.property(argumentsOf(name), fc.nat(65535), (args, channel) => {
        const ours = unnamed(name, args) as unknown as MethodArguments<MethodName>;
        const frame = Buffer.from(encodeMethod(channel, name, ours));
        expect(frame.readUInt8(0)).toBe(1);
        expect(frame.readUInt16BE(1)).toBe(channel);
        expect(frame.readUInt32BE(3)).toBe(frame.length - 8);
        expect(frame.readUInt8(frame.length - 1)).toBe(0xce);
        const payload = frame.subarray(7, -1);
        expect(readMethod(payload).args).toEqual(renamed(args));
        const written = Buffer.from(writeMethod(name, args));
        expect(written.equals(payload)).toBe(true);
        expect(plainArguments(decodeArguments(name, written, 4, written.length))).toEqual(ours);
      }),
      runs(20),
    );
  });

  it('queue.declare, octet by octet', () => {
    const frame = encodeMethod(1, 'queue.declare', {
      ticket: 0,
      queue: 'q',
      passive: false,
      durable: true,
      exclusive: false,
      autoDelete: true,
      noWait: false,
      arguments: { 'x-a': 1 } as FieldTable,
    });
    const expected = '01 0001 00000016 0032000a 0000 0171 0a 00000009 03782d61 4900000001 ce';
    expect(Buffer.from(frame).toString('hex')).toBe(expected.replaceAll(' ', ''));
  });
});

describe('malformed arguments', () => {
  const declare = (): Buffer => Buffer.from(writeMethod('queue.declare', { queue: 'q', arguments: { a: 'text' } }));

  it('cut off at any octet', () => {
    const payload = declare();
    for (let end = 4; end < payload.length; end += 1) {
      expect(() => decodeArguments('queue.declare', payload, 4, end)).toThrow(ProtocolError);
    }
  });

  it('are shown as RabbitMQ shows them', () => {
    const payload = Buffer.from([0, 0, 9, 0x61, 0x62, 0x63]);
    const wanted = expect.objectContaining({ code: 501, message: 'cannot decode <<0,0,9,97,98,99>>' });
    expect(() => decodeArguments('queue.declare', payload, 0, payload.length)).toThrow(wanted);
  });

  it('followed by octets too many', () => {
    const payload = Buffer.concat([declare(), Buffer.from('zz')]);
    const read = () => decodeArguments('queue.declare', payload, 4, payload.length);
    expect(read).toThrow(expect.objectContaining({ code: 501 }));
  });

  it('names that are not UTF-8', () => {
    const payload = Buffer.from(writeMethod('queue.purge', { queue: Buffer.from([0x61, 0xff]) }));
    const wanted = expect.objectContaining({ code: 501, message: 'Malformed UTF-8 in shortstr' });
    expect(() => decodeArguments('queue.purge', payload, 4, payload.length)).toThrow(wanted);
  });

  it('a malformed table', () => {
    const payload = declare();
    payload[payload.indexOf('S', 12)] = 0x51;
    const wanted = expect.objectContaining({ code: 502, message: 'malformed table: unknown type octet 81' });
    expect(() => decodeArguments('queue.declare', payload, 4, payload.length)).toThrow(wanted);
  });

  it('of garbage, nothing but a ProtocolError', () => {
    fc.assert(
      fc.property(fc.constantFrom(...METHOD_NAMES), fc.uint8Array({ maxLength: 80 }), (name, octets) => {
        try {
          decodeArguments(name, octets, 0, octets.length);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      runs(100),
    );
  });
});
