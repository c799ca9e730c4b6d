/**
 * What somebody has subscribed to, as the bindings of his inbox say it in their arguments, of which the matchers take no
 * notice:
 *
 * ```
 * x-jid                    a contact: the address that was added
 * x-jid, x-pubsub-node     a node [XEP-0060] of the service with that address
 * neither                  made by another door: as good as a contact
 * ```
 */
import type { FieldTable } from '../../broker/fields.ts';
import type { BindingSpec } from '../../broker/port.ts';
import { type Jid, tryParseJid } from './jid.ts';

const ADDRESS_ARGUMENT = 'x-jid';
const NODE_ARGUMENT = 'x-pubsub-node';

/** Subscriptions that one inbox may have. */
export const SUBSCRIPTIONS_MAX = 5000;
/** Nodes for which one message comes to the same person, of those that it belongs to; else he could have it multiplied. */
export const NODES_OF_MESSAGE_MAX = 16;

/** One subscription of somebody. */
export interface Subscription {
  readonly exchange: string;
  readonly bindingKey: string;
  /** That of the contact, or of the service. */
  readonly address: string;
  /** Absent for a contact. */
  readonly node?: string;
}

/** The arguments of the binding that is this subscription. */
export function argumentsOf({ address, node }: Subscription): FieldTable {
  return { [ADDRESS_ARGUMENT]: address, ...(node !== undefined && { [NODE_ARGUMENT]: node }) };
}

/** To what address its owner subscribed; undefined when it does not say, or says what is none. */
export function addressOf({ arguments: args }: BindingSpec): Jid | undefined {
  return tryParseJid(String(args?.[ADDRESS_ARGUMENT] ?? ''));
}

/** The node to which its owner subscribed; undefined for a contact. */
export function nodeOf({ arguments: args }: BindingSpec): string | undefined {
  const node = args?.[NODE_ARGUMENT];
  return typeof node === 'string' ? node : undefined;
}

/** Do the two say the same, but for the address? */
export function isSame(
  binding: BindingSpec,
  { exchange, bindingKey, node }: Omit<Subscription, 'address' | 'node'> & { readonly node?: string | undefined },
): boolean {
  return binding.source === exchange && binding.bindingKey === bindingKey && nodeOf(binding) === node;
}

/** For whom a delivery is. */
export interface Audience {
  /** Nodes to which it belongs, `NODES_OF_MESSAGE_MAX` at most. */
  readonly nodes: readonly string[];
  /** It is for a contact, too, or for nobody in particular. */
  readonly isChat: boolean;
}

/**
 * By which of somebody's `bindings` a message of `exchange` has come to him. A delivery does not say; where it cannot be
 * told, as for one that came by an exchange in between, by each that may have been.
 */
export function audienceOf(
  bindings: readonly BindingSpec[],
  typeOf: (exchange: string) => string | undefined,
  exchange: string,
  routingKey: string,
): Audience {
  if (!bindings.some((one) => nodeOf(one) !== undefined)) return { nodes: [], isChat: true };
  const direct = bindings.filter(({ source }) => source === exchange);
  const candidates = direct.length > 0 ? direct : bindings;
  const fitting = candidates.filter(({ source, bindingKey }) => routes(typeOf(source), bindingKey, routingKey));
  const chosen = fitting.length > 0 ? fitting : candidates;
  const nodes = new Set(chosen.flatMap((one) => nodeOf(one) ?? []));
  return { nodes: [...nodes].slice(0, NODES_OF_MESSAGE_MAX), isChat: chosen.some((one) => nodeOf(one) === undefined) };
}

/** Would an exchange of that type route this key to that binding, which has no arguments to match with? */
function routes(type: string | undefined, bindingKey: string, routingKey: string): boolean {
  if (type === 'fanout' || type === 'headers') return true;
  return bindingKey === routingKey || (type !== 'direct' && fits(bindingKey, routingKey));
}

/** Would a topic exchange route this key to that binding? Only to choose among a reader's own subscriptions. */
export function fits(bindingKey: string, routingKey: string): boolean {
  const words = routingKey.split('.');
  let reached = new Set([0]);
  for (const pattern of bindingKey.split('.')) {
    const next = new Set<number>();
    for (const at of reached) {
      if (pattern === '#') for (let to = at; to <= words.length; to += 1) next.add(to);
      else if (at < words.length && (pattern === '*' || pattern === words[at])) next.add(at + 1);
    }
    reached = next;
  }
  return reached.has(words.length);
}
