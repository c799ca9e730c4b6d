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
    const bindings = this.#byKey.get(binding.bindingKey);
    const index = bindings?.indexOf(binding) ?? -1;
    if (index < 0) return;
    bindings?.splice(index, 1);
    if (bindings?.length === 0) this.#byKey.delete(binding.bindingKey);
  }

  match(routingKey: string, _headers: FieldTable, found: B[]): void {
    const bindings = this.#byKey.get(routingKey);
    if (bindings) for (const binding of bindings) found.push(binding);
  }
}
