/** Direct: binding key equal to routing key. [AMQP 3.1.3.1] */
import type { FieldTable } from '../fields.ts';
import type { Bound, Matcher } from './matcher.ts';

export class DirectMatcher<B extends Bound> implements Matcher<B> {
  readonly usesHeaders = false;
  readonly #byKey = new Map<string, B[]>();

  add(binding: B): void {
    const bindings = this.#byKey.get(binding.bindingKey);
    if (bindings) bindings.push(binding);
    else this.#byKey.set(binding.bindingKey, [binding]);
  }

  remove(binding: B): void {
    const left = this.#byKey.get(binding.bindingKey)?.filter((other) => other !== binding) ?? [];
    if (left.length > 0) this.#byKey.set(binding.bindingKey, left);
    else this.#byKey.delete(binding.bindingKey);
  }

  match(routingKey: string, _headers: FieldTable, found: B[]): void {
    const bindings = this.#byKey.get(routingKey);
    if (bindings) for (const binding of bindings) found.push(binding);
  }
}
