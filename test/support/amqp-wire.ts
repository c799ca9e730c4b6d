/**
 * AMQP 0-9-1 values, methods and properties as octets: the tests' own reading of the specification. It shares nothing
 * with the broker's codec, so that each checks the other.
 */
import { METHODS, PROPERTY_NAMES, PROPERTY_TYPES } from './amqp-methods.ts';

/** A field with the type octet it shall have (or had) on the wire, where the plain value would not tell. */
export class Typed {
  readonly tag: string;
  readonly value: unknown;

  constructor(tag: string, value: unknown) {
    this.tag = tag;
    this.value = value;
  }
}

/** Shorthand: `typed('l', 5n)` is a signed 64-bit 5. */
export const typed = (tag: string, value: unknown): Typed => new Typed(tag, value);

/** Plain value on this side of a table: string, boolean, number, bigint, null, Date, Buffer, array, object, `Typed`. */
export type Table = { readonly [name: string]: unknown };

/** What a decoded method carries, by the names of the specification in camelCase. */
export type Arguments = { readonly [name: string]: unknown };

/** Grows as it is written to. */
export class Writer {
  readonly #parts: Buffer[] = [];

  raw(octets: Uint8Array): this {
    this.#parts.push(Buffer.from(octets));
    return this;
  }

  number(octets: 1 | 2 | 4 | 8, value: number | bigint): this {
    const buffer = Buffer.alloc(octets);
    if (octets === 8) buffer.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)));
    else buffer.writeUIntBE(Number(BigInt.asUintN(octets * 8, BigInt(value))), 0, octets);
    return this.raw(buffer);
  }

  shortString(value: string | Uint8Array): this {
    const octets = Buffer.from(value as string);
    return this.number(1, octets.length).raw(octets);
  }

  longString(value: string | Uint8Array): this {
    const octets = Buffer.from(value as string);
    return this.number(4, octets.length).raw(octets);
  }

  table(table: Table): this {
    const inner = new Writer();
    for (const [name, value] of Object.entries(table)) inner.shortString(name).field(value);
    return this.longString(inner.octets());
  }

  /** Type octet and value. */
  field(value: unknown): this {
    const { tag, value: plain } = value instanceof Typed ? value : typed(naturalTag(value), value);
    this.raw(Buffer.from(tag, 'latin1'));
    switch (tag) {
      case 't':
        return this.number(1, plain ? 1 : 0);
      case 'b':
      case 'B':
        return this.number(1, plain as number);
      case 's':
      case 'u':
        return this.number(2, plain as number);
      case 'I':
      case 'i':
        return this.number(4, plain as number);
      case 'l':
      case 'L':
        return this.number(8, plain as number);
      case 'T':
        return this.number(8, plain instanceof Date ? Math.floor(plain.getTime() / 1000) : (plain as number));
      case 'f': {
        const buffer = Buffer.alloc(4);
        buffer.writeFloatBE(plain as number);
        return this.raw(buffer);
      }
      case 'd': {
        const buffer = Buffer.alloc(8);
        buffer.writeDoubleBE(plain as number);
        return this.raw(buffer);
      }
      case 'D': {
        const { scale, unscaled } = plain as { scale: number; unscaled: number };
        return this.number(1, scale).number(4, unscaled);
      }
      case 'S':
      case 'x':
        return this.longString(plain as string);
      case 'V':
        return this;
      case 'F':
        return this.table(plain as Table);
      case 'A': {
        const inner = new Writer();
        for (const item of plain as unknown[]) inner.field(item);
        return this.longString(inner.octets());
      }
      default:
        throw new Error(`the test client cannot write fields of type '${tag}'`);
    }
  }

  octets(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

function naturalTag(value: unknown): string {
  if (value === null) return 'V';
  if (typeof value === 'boolean') return 't';
  if (typeof value === 'string') return 'S';
  if (typeof value === 'bigint') return 'l';
  if (typeof value === 'number') return !Number.isInteger(value) ? 'd' : value === (value | 0) ? 'I' : 'l';
  if (value instanceof Date) return 'T';
  if (value instanceof Uint8Array) return 'x';
  return Array.isArray(value) ? 'A' : 'F';
}

/** Reads front to back; throws RangeError past the end. */
export class Reader {
  readonly #buffer: Buffer;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  get left(): number {
    return this.#buffer.length - this.#at;
  }

  raw(count: number): Buffer {
    if (count > this.left) throw new RangeError(`${count} octets wanted, ${this.left} left`);
    this.#at += count;
    return this.#buffer.subarray(this.#at - count, this.#at);
  }

  number(octets: 1 | 2 | 4): number {
    return this.raw(octets).readUIntBE(0, octets);
  }

  shortString(): string {
    return this.raw(this.number(1)).toString('utf8');
  }

  longString(): Buffer {
    return this.raw(this.number(4));
  }

  table(): Record<string, unknown> {
    const inner = new Reader(this.longString());
    const table: Record<string, unknown> = Object.create(null);
    while (inner.left > 0) table[inner.shortString()] = inner.field();
    return table;
  }

  /** 32-bit and narrower integers as number, 64-bit ones as bigint, timestamps as Date, byte arrays as Buffer. */
  field(): unknown {
    const tag = String.fromCharCode(this.number(1));
    switch (tag) {
      case 't':
        return this.number(1) !== 0;
      case 'b':
        return this.raw(1).readInt8();
      case 'B':
        return this.number(1);
      case 's':
        return this.raw(2).readInt16BE();
      case 'u':
        return this.number(2);
      case 'I':
        return this.raw(4).readInt32BE();
      case 'i':
        return this.number(4);
      case 'l':
        return this.raw(8).readBigInt64BE();
      case 'L':
        return this.raw(8).readBigUInt64BE();
      case 'T':
        return new Date(Number(this.raw(8).readBigUInt64BE()) * 1000);
      case 'f':
        return this.raw(4).readFloatBE();
      case 'd':
        return this.raw(8).readDoubleBE();
      case 'D':
        return { scale: this.number(1), unscaled: this.raw(4).readInt32BE() };
      case 'S':
        return this.longString().toString('utf8');
      case 'x':
        return this.longString();
      case 'V':
        return null;
      case 'F':
        return this.table();
      case 'A': {
        const inner = new Reader(this.longString());
        const items: unknown[] = [];
        while (inner.left > 0) items.push(inner.field());
        return items;
      }
      default:
        throw new Error(`field of unknown type '${tag}'`);
    }
  }
}

/** Payload of a method frame; arguments that are not given are 0, '', false or an empty table. */
export function encodeMethod(name: string, args: Arguments = {}): Buffer {
  const method = METHODS.find((candidate) => candidate.name === name);
  if (method === undefined) throw new Error(`unknown method ${name}`);
  for (const given of Object.keys(args)) {
    if (!method.fields.some((field) => field.name === given)) throw new Error(`${name} has no argument ${given}`);
  }
  const writer = new Writer().number(2, method.classId).number(2, method.methodId);
  let bits: boolean[] = [];
  const flushBits = (): void => {
    if (bits.length > 0)
      writer.number(
        1,
        bits.reduce((octet, bit, index) => octet | (bit ? 1 << index : 0), 0),
      );
    bits = [];
  };
  for (const { name: key, type } of method.fields) {
    const value = args[key];
    if (type === 'bit') {
      bits.push(Boolean(value));
      continue;
    }
    flushBits();
    if (type === 'table') writer.table((value ?? {}) as Table);
    else if (type === 'shortstr') writer.shortString((value ?? '') as string);
    else if (type === 'longstr') writer.longString((value ?? '') as string);
    else writer.number(INTEGER_OCTETS[type], (value ?? 0) as number);
  }
  flushBits();
  return writer.octets();
}

const INTEGER_OCTETS = { octet: 1, short: 2, long: 4, longlong: 8 } as const;

export interface DecodedMethod {
  readonly classId: number;
  readonly methodId: number;
  /** e.g. `queue.declare-ok` */
  readonly name: string;
  readonly hasContent: boolean;
  readonly args: Record<string, unknown>;
}

/** Decodes the payload of a method frame and insists that it ends where its arguments end. */
export function decodeMethod(payload: Buffer): DecodedMethod {
  const reader = new Reader(payload);
  const classId = reader.number(2);
  const methodId = reader.number(2);
  const method = METHODS.find((candidate) => candidate.classId === classId && candidate.methodId === methodId);
  if (method === undefined) throw new Error(`the broker sent an unknown method ${classId}/${methodId}`);
  const args: Record<string, unknown> = {};
  let bits = 0;
  let bitsUsed = 8;
  for (const { name, type } of method.fields) {
    if (type === 'bit') {
      if (bitsUsed === 8) {
        bits = reader.number(1);
        bitsUsed = 0;
      }
      args[name] = (bits & (1 << bitsUsed)) !== 0;
      bitsUsed += 1;
      continue;
    }
    bitsUsed = 8;
    if (type === 'table') args[name] = reader.table();
    else if (type === 'shortstr') args[name] = reader.shortString();
    else if (type === 'longstr') args[name] = reader.longString().toString('utf8');
    else if (type === 'longlong') args[name] = Number(reader.raw(8).readBigUInt64BE());
    else args[name] = reader.number(INTEGER_OCTETS[type]);
  }
  if (reader.left > 0) throw new Error(`${method.name}: ${reader.left} octets too many`);
  return { classId, methodId, name: method.name, hasContent: method.hasContent, args };
}

/** Properties of basic content, by the names of the specification in camelCase. */
export interface Properties {
  contentType?: string;
  contentEncoding?: string;
  headers?: Table;
  deliveryMode?: number;
  priority?: number;
  correlationId?: string;
  replyTo?: string;
  expiration?: string;
  messageId?: string;
  /** seconds since 1970 */
  timestamp?: number;
  type?: string;
  userId?: string;
  appId?: string;
  clusterId?: string;
}

/** The property block: flags and values. */
export function encodeProperties(properties: Properties): Buffer {
  const writer = new Writer();
  let flags = 0;
  PROPERTY_NAMES.forEach((name, index) => {
    const value = properties[name];
    if (value === undefined) return;
    flags |= 1 << (15 - index);
    const type = PROPERTY_TYPES[index];
    if (type === 'table') writer.table(value as Table);
    else if (type === 'octet') writer.number(1, value as number);
    else if (type === 'longlong') writer.number(8, value as number);
    else writer.shortString(value as string);
  });
  return new Writer().number(2, flags).raw(writer.octets()).octets();
}

/** Reads a property block and insists that nothing follows it. */
export function decodeProperties(block: Buffer): Properties {
  const reader = new Reader(block);
  const flags = reader.number(2);
  const properties: Record<string, unknown> = {};
  PROPERTY_NAMES.forEach((name, index) => {
    if ((flags & (1 << (15 - index))) === 0) return;
    const type = PROPERTY_TYPES[index];
    if (type === 'table') properties[name] = reader.table();
    else if (type === 'octet') properties[name] = reader.number(1);
    else if (type === 'longlong') properties[name] = Number(reader.raw(8).readBigUInt64BE());
    else properties[name] = reader.shortString();
  });
  if (reader.left > 0) throw new Error(`${reader.left} octets after the properties`);
  return properties as Properties;
}
