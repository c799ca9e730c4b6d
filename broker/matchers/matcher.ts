/** What an exchange type is: a way to find, for a message, the bindings that want it. */
import type { FieldTable } from '../fields.ts';

/** The part of a binding that matchers look at. */
export interface Bound {
  readonly bindingKey: string;
  readonly arguments: FieldTable;
}

/**
 * An index of bindings. `add` gets each binding once, `remove` only what was added. `match` appends each wanting
 * binding exactly once, in no promised order.
 */
export interface Matcher<B extends Bound> {
  /** True when `match` needs the message's headers; otherwise the routing key alone decides and answers may be kept. */
  readonly usesHeaders: boolean;
  /** Throws BrokerError precondition-failed for a binding that makes no sense for this type. */
  add(binding: B): void;
  remove(binding: B): void;
  match(routingKey: string, headers: FieldTable, found: B[]): void;
}
