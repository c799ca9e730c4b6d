/** Declaring again what exists: it must be the same, or the declaration is refused with what differs. [AMQP 1.6.2.1, 1.7.2.1] */
import { type FieldTable, type FieldValue, fieldsEqual, fieldText, fieldTypeName } from './fields.ts';
import { BrokerError } from './port.ts';

/** The thing declared, as error texts name it: `queue 'q' in vhost '/'`. */
export type ResourceName = string;

/** Throws precondition-failed when a property of the declaration differs from that of what exists. */
export function requireSame(
  resource: ResourceName,
  property: string,
  received: string | boolean,
  current: string | boolean,
): void {
  if (received === current) return;
  throw new BrokerError(
    'precondition-failed',
    `inequivalent arg '${property}' for ${resource}: received '${received}' but current is '${current}'`,
  );
}

/** Throws precondition-failed when one of the arguments `names` differs. */
export function requireSameArguments(
  resource: ResourceName,
  names: readonly string[],
  received: FieldTable,
  current: FieldTable,
): void {
  for (const name of names) {
    const [is, was] = [received[name], current[name]];
    if (fieldsEqual(is, was)) continue;
    const both = is !== undefined && was !== undefined;
    const difference = both
      ? `received '${fieldText(is)}' but current is '${fieldText(was)}'`
      : `received ${shown(is)} but current is ${shown(was)}`;
    throw new BrokerError('precondition-failed', `inequivalent arg '${name}' for ${resource}: ${difference}`);
  }
}

function shown(value: FieldValue | undefined): string {
  return value === undefined ? 'none' : `the value '${fieldText(value)}' of type '${fieldTypeName(value)}'`;
}
