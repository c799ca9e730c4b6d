/**
 * What the addresses in a domain of exchanges mean, and how exchanges and keys are written as addresses:
 *
 * ```
 * broker.localhost                    the domain: the control bot
 * logs@broker.localhost               the exchange logs; key ''
 * logs@broker.localhost/app.login     the exchange logs; key app.login
 * logs+app.#@broker.localhost         the same with the key app.#, for servers that take no resource in a contact
 * logs+app.#@broker.localhost/app.x   to follow: app.#; to write to: app.x
 * queue+orders@broker.localhost       the queue orders
 * ```
 *
 * Spelling and case are in local-part.ts. An exchange named `queue` with a key is written `\71ueue+key`.
 */
import type { Directory } from './directory.ts';
import { formatJid, type Jid, JidError, tryParseJid } from './jid.ts';
import { decodeName, encode, encodeExactly, encodePlainly, splitLocal } from './local-part.ts';
import { StanzaError } from './stanza-error.ts';
import { addressOf, fits, nodeOf } from './subscriptions.ts';

export type Target =
  | { readonly kind: 'domain' }
  | { readonly kind: 'exchange'; readonly exchange: string; readonly bindingKey: string; readonly routingKey: string }
  | { readonly kind: 'queue'; readonly queue: string };

const QUEUE_PREFIX = 'queue+';

/** What an address means. Throws StanzaError: no such exchange, or several that differ by case only. */
export function targetOf(jid: Jid, directory: Directory): Target {
  const { local, domain, resource } = jid;
  if (local === '') return { kind: 'domain' };
  const queue = queueOf(jid);
  if (queue !== undefined) return { kind: 'queue', queue };
  const [name = '', key] = splitLocal(local, 2);
  const spelled = decodeName(name);
  const meant = directory.meant(spelled);
  const [exchange] = meant;
  if (exchange === undefined) {
    throw new StanzaError('item-not-found', `no exchange '${spelled.text}' in vhost '${directory.vhost}'`);
  }
  if (meant.length > 1) {
    const addresses = meant.map((one) => `${encodeExactly(one)}@${domain} (${one})`).join(', ');
    throw new StanzaError('conflict', `several exchanges have this name but for its case: ${addresses}`);
  }
  const inside = key === undefined ? undefined : decodeName(key).text;
  // A chat goes on at the full address from which the last message came: the key of that message, not of the contact.
  return { kind: 'exchange', exchange, bindingKey: inside ?? resource, routingKey: resource || (inside ?? '') };
}

/** The queue that an address means; undefined for an address of something else. */
export function queueOf({ local }: Jid): string | undefined {
  return local.startsWith(QUEUE_PREFIX) ? decodeName(local.slice(QUEUE_PREFIX.length)).text : undefined;
}

/** The exchange that an address means. Throws StanzaError, also for an address of something else. */
export function exchangeOf(jid: Jid, directory: Directory): Extract<Target, { kind: 'exchange' }> {
  const target = targetOf(jid, directory);
  if (target.kind === 'exchange') return target;
  throw new StanzaError('item-not-found', 'this is the address of no exchange');
}

/** The address of an exchange in `domain`, with a key as its resource unless the key is ''. */
export function exchangeAddress(directory: Directory, domain: string, exchange: string, key = ''): string {
  const local = directory.isAmbiguous(exchange) ? encodeExactly(exchange) : encodePlainly(exchange);
  return `${local}@${domain}${resourceOf(key)}`;
}

/** The address that says the key without a resource. */
export function contactAddress(directory: Directory, domain: string, exchange: string, key: string): string {
  if (key === '') return exchangeAddress(directory, domain, exchange);
  const plain = directory.isAmbiguous(exchange) ? encodeExactly(exchange) : encodePlainly(exchange);
  const local = plain === 'queue' ? encodeExactly(exchange) : plain;
  return `${local}+${encode(key)}@${domain}`;
}

/**
 * The address from which a contact says that it is there. COMPAT: profanity takes only a resource for online, so that a
 * contact with the key in its local part has the same key as its resource.
 */
export function presenceAddress(contact: string): string {
  const jid = tryParseJid(contact);
  const [, key] = splitLocal(jid?.local ?? '', 2);
  if (jid === undefined || key === undefined || jid.local.startsWith(QUEUE_PREFIX) || jid.resource !== '')
    return contact;
  try {
    return `${contact}${resourceOf(decodeName(key).text)}`;
  } catch (error) {
    // Whoever made the binding by another door may have written anything.
    if (error instanceof JidError) return contact;
    throw error;
  }
}

export function queueAddress(domain: string, queue: string): string {
  return `${QUEUE_PREFIX}${encode(queue)}@${domain}`;
}

/** What cannot stand in a resource is shown as U+FFFD; the key itself is in the stanza too. */
function resourceOf(key: string): string {
  return key === '' ? '' : `/${key.replace(/\p{C}/gu, '\ufffd')}`;
}

/**
 * From whom a delivery to `queue` comes: the exchange with the routing key as its resource. An owner who has subscribed
 * to addresses with the key in the local part hears from the one whose key fits, so that it is his contact who speaks.
 */
export function senderAddress(
  directory: Directory,
  domain: string,
  queue: string,
  exchange: string,
  routingKey: string,
): string {
  const bindings = directory.bindingsTo(queue).filter((one) => one.source === exchange && nodeOf(one) === undefined);
  const contacts = bindings.flatMap((binding) => {
    const jid = addressOf(binding);
    return jid === undefined ? [] : [{ jid, key: binding.bindingKey }];
  });
  const isPlain = contacts.some(({ jid }) => !jid.local.includes('+')) || contacts.length < bindings.length;
  const fitting = contacts.find(({ key }) => key === routingKey) ?? contacts.find(({ key }) => fits(key, routingKey));
  const contact = fitting ?? contacts[0];
  if (contact === undefined) return exchangeAddress(directory, domain, exchange, routingKey);
  if (isPlain && !(fitting?.jid.local.includes('+') ?? false)) {
    const plain = contacts.find(({ jid }) => !jid.local.includes('+'))?.jid ?? contact.jid;
    return plain.local.includes('+')
      ? exchangeAddress(directory, domain, exchange, routingKey)
      : `${formatJid({ ...plain, resource: '' })}${resourceOf(routingKey)}`;
  }
  return `${formatJid({ ...contact.jid, resource: '' })}${resourceOf(routingKey)}`;
}
