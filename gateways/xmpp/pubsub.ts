/**
 * Exchanges as the nodes of a publish-subscribe service [XEP-0060], at the domain itself:
 *
 * ```
 * node logs               the exchange logs, with the key ''
 * node logs/app.#         the same with a key: to publish with, or to bind with
 * create, delete          a fanout exchange        publish      a message, its body the XML of the item
 * subscribe, unsubscribe  a binding of one's inbox subscriptions one's bindings
 * ```
 *
 * What a subscriber gets are the messages that any follower gets.
 */
import { createMessage } from '../../broker/message.ts';
import type { BindingSpec } from '../../broker/port.ts';
import { contactAddress } from './addresses.ts';
import { type Element, element } from './element.ts';
import { bareText, formatJid, type Jid, parseJid } from './jid.ts';
import { PUBSUB, PUBSUB_ERRORS } from './namespaces.ts';
import { presenceElement } from './presence.ts';
import { resultReply, StanzaError } from './stanza-error.ts';
import type { VerbContext } from './verbs.ts';

/** What disco says that the service can do. */
export const PUBSUB_FEATURES = ['publish', 'subscribe', 'create-nodes', 'delete-nodes', 'retrieve-subscriptions'].map(
  (feature) => `${PUBSUB}#${feature}`,
);

interface Node {
  readonly node: string;
  readonly exchange: string;
  readonly key: string;
}

function readNode(request: Element): Node {
  const { node = '' } = request.attributes;
  if (node === '') throw new StanzaError('bad-request', 'no node', element('nodeid-required', PUBSUB_ERRORS));
  const slash = node.indexOf('/');
  return slash < 0
    ? { node, exchange: node, key: '' }
    : { node, exchange: node.slice(0, slash), key: node.slice(slash + 1) };
}

function nodeOf({ source, bindingKey }: BindingSpec): string {
  return bindingKey === '' ? source : `${source}/${bindingKey}`;
}

/** The answer to a `<pubsub/>`. Rejects with StanzaError and BrokerError. */
export async function servePubsub(iq: Element, pubsub: Element, from: Jid, context: VerbContext): Promise<Element> {
  const [request] = pubsub.elements;
  if (request === undefined) throw new StanzaError('bad-request');
  const serve = iq.attributes.type === 'get' ? undefined : VERBS[request.name];
  if (serve !== undefined) return serve(iq, request, from, context);
  if (iq.attributes.type === 'get' && request.name === 'subscriptions') return subscriptions(iq, from, context);
  throw new StanzaError('feature-not-implemented', `no ${request.name} here`);
}

type Serve = (iq: Element, request: Element, from: Jid, context: VerbContext) => Promise<Element>;

const VERBS: { readonly [name: string]: Serve } = { create, delete: remove, publish, subscribe, unsubscribe };

async function create(iq: Element, request: Element, from: Jid, { inboxes, directory }: VerbContext): Promise<Element> {
  const { exchange, node } = readNode(request);
  if (directory.has(exchange)) throw new StanzaError('conflict', `exchange '${exchange}' exists`);
  await inboxes
    .get(directory, bareText(from))
    .act((channel) => channel.declareExchange({ exchange, type: 'fanout', durable: true }));
  return resultReply(iq, element('pubsub', PUBSUB, {}, element('create', PUBSUB, { node })));
}

async function remove(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange } = requireNode(request, context);
  await context.inboxes.get(context.directory, bareText(from)).act((channel) => channel.deleteExchange(exchange));
  return resultReply(iq);
}

async function publish(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange, key, node } = requireNode(request, context);
  const items = request.elements.filter((child) => child.is('item', PUBSUB));
  const [item] = items;
  const [payload] = item?.elements ?? [];
  if (item === undefined || payload === undefined || items.length > 1) {
    throw new StanzaError('bad-request', 'one item with one payload', element('invalid-payload', PUBSUB_ERRORS));
  }
  const id = item.attributes.id ?? `${iq.attributes.id}`;
  await context.inboxes.get(context.directory, bareText(from)).publish((userId) =>
    createMessage({
      exchange,
      routingKey: key,
      body: payload.toString(),
      properties: {
        contentType: 'application/xml',
        deliveryMode: 2,
        timestamp: Math.floor(Date.now() / 1000),
        messageId: id,
        userId,
        headers: { 'xmpp-from': formatJid(from) },
      },
    }),
  );
  return resultReply(
    iq,
    element('pubsub', PUBSUB, {}, element('publish', PUBSUB, { node }, element('item', PUBSUB, { id }))),
  );
}

async function subscribe(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange, key, node } = requireNode(request, context);
  const user = subscriberOf(request, from);
  const { directory, domain, inboxes, router } = context;
  const contact = contactAddress(directory, domain, exchange, key);
  await inboxes.get(directory, user).follow(exchange, key, contact);
  // So that the exchange learns when the subscriber is there; his server tells it only then.
  void router.route(presenceElement('probe', contact, user));
  return subscribed(iq, node, user);
}

function subscribed(iq: Element, node: string, jid: string): Element {
  const subscription = element('subscription', PUBSUB, { node, jid, subscription: 'subscribed' });
  return resultReply(iq, element('pubsub', PUBSUB, {}, subscription));
}

async function unsubscribe(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange, key } = readNode(request);
  const user = subscriberOf(request, from);
  if (!(await context.inboxes.get(context.directory, user).unfollow(exchange, key))) {
    throw new StanzaError('unexpected-request', 'not subscribed', element('not-subscribed', PUBSUB_ERRORS));
  }
  return resultReply(iq);
}

async function subscriptions(iq: Element, from: Jid, { directory }: VerbContext): Promise<Element> {
  const jid = bareText(from);
  const all = directory
    .bindingsTo(jid)
    .map((binding) => element('subscription', PUBSUB, { node: nodeOf(binding), jid, subscription: 'subscribed' }));
  return resultReply(iq, element('pubsub', PUBSUB, {}, element('subscriptions', PUBSUB, {}, ...all)));
}

function requireNode(request: Element, { directory }: VerbContext): Node {
  const node = readNode(request);
  if (directory.has(node.exchange)) return node;
  throw new StanzaError('item-not-found', `no exchange '${node.exchange}' in vhost '${directory.vhost}'`);
}

/** Nobody subscribes somebody else. */
function subscriberOf(request: Element, from: Jid): string {
  const user = bareText(parseJid(request.attributes.jid ?? ''));
  if (user === bareText(from)) return user;
  throw new StanzaError('bad-request', 'that is somebody else', element('invalid-jid', PUBSUB_ERRORS));
}
