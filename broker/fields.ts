/**
 * Field values and field tables: the neutral form of message headers and of the arguments of exchanges, queues,
 * bindings and consumers. They carry what an AMQP 0-9-1 field table can say [AMQP 4.2.5.5] in plain JavaScript values,
 * so that no gateway and no program has to know the wire's type octets.
 *
 * Correspondence, kept by every codec: boolean = bit; number that is an integer in the 32-bit range = signed 32-bit;
 * other number = double; bigint = signed 64-bit; string = long string; Uint8Array = byte array; Date = timestamp
 * (whole seconds); Decimal; array; table; null = void. A 64-bit field therefore always arrives as a bigint, never as a
 * number: that keeps its type when it is written again.
 */

/** A decimal number `unscaled / 10^scale`; scale 0 to 255, unscaled in the signed 32-bit range. [AMQP 4.2.5.4] */
export class Decimal {
  readonly scale: number;
  readonly unscaled: number;

  constructor(scale: number, unscaled: number) {
    this.scale = scale;
    this.unscaled = unscaled;
  }

  /** All its digits, for instance `-3.14`: as many after the point as its scale says. Never throws. */
  toString(): string {
    const { scale } = this;
    const digits = String(Math.abs(this.unscaled)).padStart(scale + 1, '0');
    const sign = this.unscaled < 0 ? '-' : '';
    return sign + (scale === 0 ? digits : `${digits.slice(0, -scale)}.${digits.slice(-scale)}`);
  }
}

/** One value of a field table. */
export type FieldValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Date
  | Decimal
  | readonly FieldValue[]
  | FieldTable;

/** Names to values. Decoded tables have no prototype, so a field may safely be called `__proto__`. */
export interface FieldTable {
  readonly [name: string]: FieldValue;
}

/** The table without fields. */
export const EMPTY_TABLE: FieldTable = Object.freeze(Object.create(null) as FieldTable);

/** True for a nested table, false for every other kind of value. */
export function isFieldTable(value: FieldValue | undefined): value is FieldTable {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Uint8Array) &&
    !(value instanceof Date) &&
    !(value instanceof Decimal)
  );
}

/** The name by which error texts call the type of `value`, e.g. `longstr`; RabbitMQ's words, which clients compare. */
export function fieldTypeName(value: FieldValue): string {
  if (value === null) return 'void';
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'bigint':
      return 'long';
    case 'number':
      return Number.isInteger(value) ? 'signedint' : 'double';
    case 'string':
      return 'longstr';
    default:
      if (value instanceof Uint8Array) return 'binary';
      if (value instanceof Date) return 'timestamp';
      if (value instanceof Decimal) return 'decimal';
      return Array.isArray(value) ? 'array' : 'table';
  }
}

/** How error texts print `value`; nested values as JSON. */
export function fieldText(value: FieldValue): string {
  if (value === null) return 'undefined';
  if (typeof value === 'object' && !(value instanceof Decimal)) {
    return JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? Number(inner) : inner));
  }
  return String(value);
}

/** Same value; integers are compared by value whatever their width (number or bigint). Tables compare without order. */
export function fieldsEqual(a: FieldValue | undefined, b: FieldValue | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined || a === null || b === null) return false;
  if (typeof a === 'number' || typeof a === 'bigint') {
    // biome-ignore lint/suspicious/noDoubleEquals: == compares a number with a bigint by value, which is meant here
    return (typeof b === 'number' || typeof b === 'bigint') && a == b;
  }
  if (typeof a !== 'object' || typeof b !== 'object') return false;
  if (a instanceof Uint8Array) {
    return b instanceof Uint8Array && a.length === b.length && a.every((octet, index) => octet === b[index]);
  }
  if (a instanceof Date) return b instanceof Date && a.getTime() === b.getTime();
  if (a instanceof Decimal) return b instanceof Decimal && a.scale === b.scale && a.unscaled === b.unscaled;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, index) => fieldsEqual(item, b[index]));
  }
  return isFieldTable(a) && isFieldTable(b) && tablesEqual(a, b);
}

/** Same names with equal values, in any order. */
export function tablesEqual(a: FieldTable, b: FieldTable): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => name in b && fieldsEqual(a[name], b[name]));
}
