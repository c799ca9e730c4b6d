/**
 * Field tables as definitions documents write them: JSON, in which types narrow (a 64-bit integer is a number, an
 * octet string and a timestamp look like a string and a number). [RabbitMQ: definitions]
 */
import { Decimal, type FieldTable, type FieldValue, isFieldTable } from '../fields.ts';

/** A value of parsed JSON. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** Tables and arrays within each other, so that no document exhausts the stack. */
export const JSON_DEPTH_MAX = 100;

const INT32_MAX = 2 ** 31 - 1;
const INT32_MIN = -(2 ** 31);

function requireShallow(depth: number): void {
  if (depth > JSON_DEPTH_MAX) throw new RangeError(`nested more than ${JSON_DEPTH_MAX} deep`);
}

/** Throws RangeError for parsed JSON above `JSON_DEPTH_MAX`. */
export function checkDepth(value: unknown, depth = 0): void {
  requireShallow(depth);
  if (typeof value !== 'object' || value === null) return;
  for (const inner of Object.values(value)) checkDepth(inner, depth + 1);
}

/** A value of parsed JSON as a field value. Throws RangeError above `JSON_DEPTH_MAX`. */
export function fieldFromJson(value: unknown, depth = 0): FieldValue {
  requireShallow(depth);
  if (typeof value === 'number') {
    const isLong = Number.isSafeInteger(value) && (value > INT32_MAX || value < INT32_MIN);
    return isLong ? BigInt(value) : value;
  }
  if (typeof value === 'string' || typeof value === 'boolean') return value;
  if (Array.isArray(value)) return value.map((item: unknown) => fieldFromJson(item, depth + 1));
  return typeof value === 'object' && value !== null ? tableFromEntries(Object.entries(value), depth + 1) : null;
}

/** Names and values of parsed JSON as a table. Throws RangeError above `JSON_DEPTH_MAX`. */
export function tableFromEntries(entries: Iterable<readonly [string, unknown]>, depth = 0): FieldTable {
  const table: Record<string, FieldValue> = Object.create(null);
  for (const [name, value] of entries) table[name] = fieldFromJson(value, depth);
  return table;
}

/** A field value as JSON writes it. */
export function jsonFromField(value: FieldValue): Json {
  if (value === null || typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string')
    return value;
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint8Array) return new TextDecoder().decode(value);
  if (value instanceof Date) return Math.floor(value.getTime() / 1000);
  if (value instanceof Decimal) return Number(value.toString());
  return isFieldTable(value) ? jsonFromTable(value) : value.map(jsonFromField);
}

/** A table as JSON writes it. */
export function jsonFromTable(table: FieldTable): { readonly [name: string]: Json } {
  // Not by assignment, which for the name __proto__ is something else.
  return Object.fromEntries(Object.entries(table).map(([name, value]) => [name, jsonFromField(value)]));
}
