/** Fanout: every binding. [AMQP 3.1.3.2] */
import type { FieldTable } from '../fields.ts';
import type { Bound, Matcher } from './matcher.ts';

export class FanoutMatcher<B extends Bound> implements Matcher<B> {
  readonly usesHeaders = false;
  readonly #bindings = new Set<B>();

  add(binding: B): void {
    this.#bindings.add(binding);
  }

  remove(binding: B): void {
    this.#bindings.delete(binding);
  }

  match(_routingKey: string, _headers: FieldTable, found: B[]): void {
    for (const binding of this.#bindings) found.push(binding);
  }
}
