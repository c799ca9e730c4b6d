/**
 * Values of definitions as octets and back: JSON in UTF-8, with what JSON cannot say in objects of one name that begins
 * with `$`. A name of a table that begins with `$` gets a second one, so that nothing in a table is mistaken for those.
 *
 *     {"$bigint":"-9223372036854775808"}   {"$date":1700000000000}    null for the date that is none
 *     {"$bytes":"AAH/"}                    {"$decimal":[2,12345]}     scale, unscaled
 *     {"$number":"-0"}                     also NaN, Infinity, -Infinity
 */
import { Decimal } from '../../fields.ts';
import type { DefinitionValue } from '../../store.ts';
import { StoreError } from '../store-error.ts';

/** Tables and arrays within each other. What doors take in is nested less. */
export const VALUE_DEPTH_MAX = 200;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The octets of a value. Properties of tables that are undefined are left out. Throws TypeError for what is no
 * `DefinitionValue` (a function, an object of a class), and above `VALUE_DEPTH_MAX`.
 */
export function encodeDefinitionValue(value: DefinitionValue): Uint8Array {
  return encoder.encode(JSON.stringify(tagged(value, 0)));
}

/**
 * The value of `octets`, the same in all its types; byte arrays are copies, tables have no prototype. Throws StoreError,
 * which knows no path, for octets that `encodeDefinitionValue` cannot have made.
 */
export function decodeDefinitionValue(octets: Uint8Array): DefinitionValue {
  try {
    return untagged(JSON.parse(decoder.decode(octets)), 0);
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw garbage('they are not JSON', error);
  }
}

function garbage(why: string, cause?: unknown): StoreError {
  return new StoreError('', `the octets of a definition make no sense: ${why}`, cause);
}

/** A value as JSON can say it. */
function tagged(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : { $number: Object.is(value, -0) ? '-0' : `${value}` };
    case 'bigint':
      return { $bigint: String(value) };
    case 'object':
      return value === null ? null : taggedObject(value, depth);
    default:
      throw new TypeError(`a definition cannot hold a value of type ${typeof value}`);
  }
}

function taggedObject(value: object, depth: number): unknown {
  if (value instanceof Date) return { $date: value.getTime() };
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('base64') };
  if (value instanceof Decimal) return { $decimal: [value.scale, value.unscaled] };
  if (depth >= VALUE_DEPTH_MAX) throw new TypeError(`a definition cannot be nested more than ${VALUE_DEPTH_MAX} deep`);
  if (Array.isArray(value)) return value.map((item) => tagged(item, depth + 1));
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) {
    throw new TypeError(`a definition cannot hold an object of class ${value.constructor.name}`);
  }
  const table: Record<string, unknown> = Object.create(null);
  for (const [name, item] of Object.entries(value)) {
    if (item !== undefined) table[name.startsWith('$') ? `$${name}` : name] = tagged(item, depth + 1);
  }
  return table;
}

/** Parsed JSON as the value it stands for. */
function untagged(json: unknown, depth: number): unknown {
  if (typeof json !== 'object' || json === null) return json;
  if (depth > VALUE_DEPTH_MAX) throw garbage('they are nested too deep');
  if (Array.isArray(json)) return json.map((item) => untagged(item, depth + 1));
  const table: Record<string, unknown> = Object.create(null);
  for (const [name, item] of Object.entries(json)) {
    if (!name.startsWith('$')) table[name] = untagged(item, depth + 1);
    else if (name.startsWith('$$')) table[name.slice(1)] = untagged(item, depth + 1);
    else if (Object.keys(json).length === 1) return valueOfTag(name, item);
    else throw garbage(`${name} is not alone`);
  }
  return table;
}

function valueOfTag(tag: string, said: unknown): unknown {
  switch (tag) {
    case '$bigint':
      if (typeof said === 'string' && /^-?\d+$/.test(said)) return BigInt(said);
      break;
    case '$date':
      if (said === null) return new Date(Number.NaN);
      if (typeof said === 'number') return new Date(said);
      break;
    case '$bytes':
      if (typeof said === 'string') return bytesOf(said);
      break;
    case '$decimal':
      if (Array.isArray(said) && said.length === 2 && said.every(Number.isInteger))
        return new Decimal(said[0], said[1]);
      break;
    case '$number':
      if (said === '-0' || said === 'NaN' || said === 'Infinity' || said === '-Infinity') return Number(said);
      break;
    default:
  }
  throw garbage(`${tag} does not say what it should`);
}

function bytesOf(base64: string): Uint8Array {
  const buffer = Buffer.from(base64, 'base64');
  if (buffer.toString('base64') !== base64) throw garbage('$bytes is not base64');
  return new Uint8Array(buffer);
}
