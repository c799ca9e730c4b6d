/**
 * Headers: the binding's arguments are headers to be found in the message. [AMQP 3.1.3.4]
 *
 * `x-match` says how many: `all` (default), `any`; both leave out headers whose name begins with `x-`, which
 * `all-with-x` and `any-with-x` take in. An argument without value (void) asks only for presence.
 */
import { type FieldTable, type FieldValue, fieldsEqual, fieldText, fieldTypeName } from '../fields.ts';
import { BrokerError } from '../port.ts';
import type { Bound, Matcher } from './matcher.ts';

const MODES = new Set(['all', 'any', 'all-with-x', 'any-with-x']);

interface Condition {
  readonly any: boolean;
  readonly wanted: readonly (readonly [string, FieldValue])[];
}

export class HeadersMatcher<B extends Bound> implements Matcher<B> {
  readonly usesHeaders = true;
  readonly #conditions = new Map<B, Condition>();

  add(binding: B): void {
    const mode = binding.arguments['x-match'] ?? 'all';
    if (typeof mode !== 'string') {
      const found = `${fieldTypeName(mode)} (value ${fieldText(mode)})`;
      throw new BrokerError('precondition-failed', `Invalid x-match field type ${found}; expected longstr`);
    }
    if (!MODES.has(mode)) {
      throw new BrokerError(
        'precondition-failed',
        `Invalid x-match field value <<"${mode}">>; expected all, any, all-with-x, or any-with-x`,
      );
    }
    const withX = mode.endsWith('-with-x');
    const wanted = Object.entries(binding.arguments).filter(
      ([name]) => name !== 'x-match' && (withX || !name.startsWith('x-')),
    );
    this.#conditions.set(binding, { any: mode.startsWith('any'), wanted });
  }

  remove(binding: B): void {
    this.#conditions.delete(binding);
  }

  match(_routingKey: string, headers: FieldTable, found: B[]): void {
    for (const [binding, condition] of this.#conditions) if (holds(condition, headers)) found.push(binding);
  }
}

function holds({ any, wanted }: Condition, headers: FieldTable): boolean {
  for (const [name, value] of wanted) {
    const present = Object.hasOwn(headers, name) && (value === null || fieldsEqual(value, headers[name]));
    if (present === any) return any;
  }
  return !any;
}
