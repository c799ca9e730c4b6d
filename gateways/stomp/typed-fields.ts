/**
 * Field values as JSON that keeps their types, and as the text that a STOMP peer is shown:
 *
 * ```
 * null, boolean, string, number, array    as JSON has them
 * {"d":"NaN"}  a double that JSON lacks      {"l":"12"}    64-bit integer     {"x":"b2s="}     octets, in base64
 * {"T":123}    timestamp in seconds          {"D":[2,314]} decimal            {"F":{...}}      table
 * ```
 */
import { Decimal, type FieldTable, type FieldValue, isFieldTable } from '../../broker/fields.ts';
import { decodeStrictly } from './octets.ts';

/** JSON, parsed. */
export type Json = null | boolean | string | number | readonly Json[] | { readonly [key: string]: Json };

/** `value` as JSON that `fromJson` reads back into the same value. */
export function toJson(value: FieldValue): Json {
  switch (typeof value) {
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : { d: Object.is(value, -0) ? '-0' : String(value) };
    case 'bigint':
      return { l: String(value) };
    case 'object':
      return value === null ? null : objectToJson(value);
    default:
      return value;
  }
}

function objectToJson(value: Exclude<FieldValue, null | string | number | bigint | boolean>): Json {
  if (value instanceof Uint8Array) return { x: Buffer.from(value).toString('base64') };
  if (value instanceof Date) return { T: Math.floor(value.getTime() / 1000) };
  if (value instanceof Decimal) return { D: [value.scale, value.unscaled] };
  if (Array.isArray(value)) return value.map(toJson);
  return isFieldTable(value) ? { F: tableToJson(value) } : null;
}

/** Every field of a table through `toJson`. */
export function tableToJson(table: FieldTable): { readonly [key: string]: Json } {
  const result: Record<string, Json> = Object.create(null);
  for (const [name, value] of Object.entries(table)) if (value !== undefined) result[name] = toJson(value);
  return result;
}

/** The value that `toJson` wrote. */
export function fromJson(json: Json): FieldValue {
  if (typeof json !== 'object' || json === null) return json;
  if (Array.isArray(json)) return json.map(fromJson);
  const [tag, inner] = Object.entries(json)[0] ?? [];
  switch (tag) {
    case 'd':
      return Number(inner);
    case 'l':
      return BigInt(String(inner));
    case 'x':
      return new Uint8Array(Buffer.from(String(inner), 'base64'));
    case 'T':
      return new Date(Number(inner) * 1000);
    case 'D': {
      const [scale, unscaled] = inner as readonly [number, number];
      return new Decimal(scale, unscaled);
    }
    default:
      return tableFromJson((inner ?? {}) as { readonly [key: string]: Json });
  }
}

/** Every field of a table through `fromJson`; without prototype, as tables are. */
export function tableFromJson(json: { readonly [key: string]: Json }): FieldTable {
  const table: Record<string, FieldValue> = Object.create(null);
  for (const [name, value] of Object.entries(json)) table[name] = fromJson(value);
  return table;
}

/**
 * What a STOMP peer is shown of a value: text as it is, numbers and booleans in words, timestamps in seconds, octets as
 * text if they are UTF-8 and else in base64, arrays and tables as plain JSON.
 */
export function fieldAsText(value: FieldValue): string {
  if (value === null) return '';
  if (typeof value !== 'object') return String(value);
  if (value instanceof Decimal) return String(value);
  if (value instanceof Date) return String(Math.floor(value.getTime() / 1000));
  if (value instanceof Uint8Array) return decodeStrictly(value) ?? Buffer.from(value).toString('base64');
  return JSON.stringify(plain(value));
}

/** A nested value as people expect it in JSON. */
function plain(value: FieldValue): Json {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value);
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (value instanceof Date) return Math.floor(value.getTime() / 1000);
  if (Array.isArray(value)) return value.map(plain);
  if (isFieldTable(value)) {
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, plain(inner)]));
  }
  return fieldAsText(value);
}
