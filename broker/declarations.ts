/** What can be wrong in a declaration itself, whatever exists. All functions throw precondition-failed. */

import { EMPTY_TABLE, fieldTypeName } from './fields.ts';
import { HeadersMatcher } from './matchers/headers.ts';
import { type BindingSpec, BrokerError, type ExchangeDeclaration, type QueueDeclaration } from './port.ts';
import { checkQueueArguments, queueTypeOf } from './queue/queue-settings.ts';
import { checkExchangeType } from './routing/exchange.ts';

/** The type and its arguments. */
export function checkExchange(declaration: ExchangeDeclaration, vhost: string): void {
  const args = declaration.arguments ?? EMPTY_TABLE;
  checkExchangeType(declaration.type, args);
  const alternate = args['alternate-exchange'];
  if (alternate === undefined || typeof alternate === 'string') return;
  throw new BrokerError(
    'precondition-failed',
    `invalid type '${fieldTypeName(alternate)}' for arg 'alternate-exchange' in exchange '${declaration.exchange}' in vhost '${vhost}'`,
  );
}

/** The arguments, and the properties that a quorum queue cannot have. */
export function checkQueue(declaration: QueueDeclaration, vhost: string): void {
  const { queue, durable, exclusive, autoDelete, arguments: args = EMPTY_TABLE } = declaration;
  checkQueueArguments(queue, vhost, args);
  if (queueTypeOf(args) !== 'quorum') return;
  const property = !durable ? 'non-durable' : exclusive ? 'exclusive-owner' : autoDelete ? 'auto-delete' : undefined;
  if (property === undefined) return;
  throw new BrokerError(
    'precondition-failed',
    `invalid property '${property}' for queue '${queue}' in vhost '${vhost}'`,
  );
}

/** The arguments of a binding, as far as the type of its source asks anything of them. */
export function checkBinding(binding: BindingSpec, sourceType: string): void {
  if (sourceType !== 'headers') return;
  new HeadersMatcher().add({ bindingKey: binding.bindingKey, arguments: binding.arguments ?? EMPTY_TABLE });
}
