/**
 * Headers that say how a queue or an exchange is declared, as arguments of the model. STOMP knows text only, so each
 * argument has the type that the broker expects of it; `x-arg-NAME` gives any other argument, with its type written
 * before it:
 *
 * ```
 * i:5 integer   b:true boolean   s:text   j:{"json":1}   none of these: as its name demands, else text
 * ```
 */
import type { FieldTable, FieldValue } from '../../broker/fields.ts';
import { ReplyError } from './errors.ts';

/** The headers of a frame, unescaped. */
export type Headers = ReadonlyMap<string, string>;

const INTEGERS: ReadonlySet<string> = new Set([
  'x-expires',
  'x-max-length',
  'x-max-length-bytes',
  'x-max-priority',
  'x-message-ttl',
  'x-delivery-limit',
  'x-consumer-timeout',
  'x-stream-max-segment-size-bytes',
  'x-stream-filter-size-bytes',
]);
const BOOLEANS: ReadonlySet<string> = new Set(['x-single-active-consumer']);

/** Headers that are queue arguments by themselves. */
const QUEUE_ARGUMENTS: readonly string[] = [
  'x-dead-letter-exchange',
  'x-dead-letter-routing-key',
  'x-expires',
  'x-max-length',
  'x-max-length-bytes',
  'x-max-age',
  'x-max-priority',
  'x-message-ttl',
  'x-overflow',
  'x-queue-type',
  'x-single-active-consumer',
  'x-delivery-limit',
  'x-stream-max-segment-size-bytes',
  'x-stream-filter-size-bytes',
];

/** What begins the name of a header that is an argument under the rest of its name. */
export const ARGUMENT_PREFIX = 'x-arg-';

/** The queue arguments among the headers of SEND or SUBSCRIBE; undefined when there is none. Throws ReplyError. */
export function queueArguments(headers: Headers): FieldTable | undefined {
  const args: Record<string, FieldValue> = Object.create(null);
  let any = false;
  for (const name of QUEUE_ARGUMENTS) {
    const text = headers.get(name);
    if (text === undefined) continue;
    args[name] = argumentValue(name, text);
    any = true;
  }
  for (const [name, value] of Object.entries(prefixedArguments(headers, ARGUMENT_PREFIX))) {
    args[name] = value;
    any = true;
  }
  return any ? args : undefined;
}

/** The headers whose names begin with `prefix`, as arguments under the rest of their names. Throws ReplyError. */
export function prefixedArguments(headers: Headers, prefix: string): FieldTable {
  const args: Record<string, FieldValue> = Object.create(null);
  for (const [header, text] of headers) {
    if (!header.startsWith(prefix) || header.length === prefix.length) continue;
    const name = header.slice(prefix.length);
    args[name] = typedValue(name, text);
  }
  return args;
}

function typedValue(name: string, text: string): FieldValue {
  const value = text.slice(2);
  switch (text.slice(0, 2)) {
    case 'i:':
      return wholeNumber(name, value);
    case 'b:':
      return truth(name, value);
    case 's:':
      return value;
    case 'j:':
      return json(name, value);
    default:
      return argumentValue(name, text);
  }
}

/** A bare value, in the type that the argument of that name has. */
function argumentValue(name: string, text: string): FieldValue {
  if (INTEGERS.has(name)) return wholeNumber(name, text);
  return BOOLEANS.has(name) ? truth(name, text) : text;
}

/** A header that is a whole number. Throws ReplyError. */
export function wholeNumber(name: string, text: string): number {
  const value = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value)) return value;
  throw invalidHeader(name, text, 'a whole number');
}

/** A header that is `true` or `false`. Throws ReplyError. */
export function truth(name: string, text: string): boolean {
  if (isTrue(text)) return true;
  // COMPAT: Python writes its own.
  if (text === 'false' || text === 'False') return false;
  throw invalidHeader(name, text, 'true or false');
}

/** Whether a header that may hold other things as well says `true`. */
export function isTrue(text: string | undefined): boolean {
  return text === 'true' || text === 'True';
}

/** The header `name` as `truth`; `otherwise` when it is absent. */
export function flag(headers: Headers, name: string, otherwise: boolean): boolean {
  const text = headers.get(name);
  return text === undefined ? otherwise : truth(name, text);
}

function json(name: string, text: string): FieldValue {
  try {
    return JSON.parse(text, (_key, value: unknown) =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.assign(Object.create(null), value)
        : value,
    );
  } catch {
    throw invalidHeader(name, text, 'JSON');
  }
}

/** The refusal of a header whose value cannot be. */
export function invalidHeader(name: string, text: string, wanted: string): ReplyError {
  return new ReplyError('Invalid header', `'${name}' must be ${wanted}, not '${text}'`);
}
