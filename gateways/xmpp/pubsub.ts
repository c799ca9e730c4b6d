/**
 * Exchanges as the nodes of a publish-subscribe service [XEP-0060], at the domain itself:
 *
 * ```
 * node logs               the exchange logs, with the key ''
 * node logs/app.#         the same with a key: to publish with, or to bind with
 * create, delete          a fanout exchange          publish          a message, its body the XML of the item
 * subscribe, unsubscribe  a binding of one's inbox   subscriptions    those that were made so
 *                                                    affiliations     owner, of what one may configure
 * ```
 *
 * A name may have a slash itself: the longest that is an exchange is meant. What subscribers are told is in
 * node-events.ts. Nothing is kept at a node: what waits, waits in the subscribers' inboxes.
 */
import { createMessage, type Message } from '../../broker/message.ts';
import { type BindingSpec, BrokerError } from '../../broker/port.ts';
import { FROM_HEADER, messageOf, type PublishAddress } from './content.ts';
import { type Element, element } from './element.ts';
import { bareText, formatJid, type Jid, parseJid } from './jid.ts';
import { AMQP, CLIENT, DATA_FORM, PUBSUB, PUBSUB_ERRORS, PUBSUB_OWNER } from './namespaces.ts';
import { presenceElement } from './presence.ts';
import { resultReply, StanzaError } from './stanza-error.ts';
import { addressOf, nodeOf } from './subscriptions.ts';
import type { VerbContext } from './verbs.ts';

/** What disco says that the service can do. */
export const PUBSUB_FEATURES = [
  'access-whitelist',
  'create-nodes',
  'delete-nodes',
  'item-ids',
  'meta-data',
  'publish',
  'retrieve-affiliations',
  'retrieve-subscriptions',
  'subscribe',
  'subscription-notifications',
].map((feature) => `${PUBSUB}#${feature}`);

type Serve = (iq: Element, request: Element, from: Jid, context: VerbContext) => Promise<Element>;

/** By type and namespace of the question, what is asked. */
const VERBS: { readonly [asked: string]: Serve } = {
  [`set ${PUBSUB} create`]: create,
  [`set ${PUBSUB_OWNER} delete`]: remove,
  [`set ${PUBSUB} publish`]: publish,
  [`set ${PUBSUB} subscribe`]: subscribe,
  [`set ${PUBSUB} unsubscribe`]: unsubscribe,
  [`get ${PUBSUB} subscriptions`]: subscriptions,
  [`get ${PUBSUB} affiliations`]: affiliations,
};

/** The features of XEP-0060 that are not here, by what asks for them. */
const UNSUPPORTED: { readonly [asked: string]: string } = {
  [`${PUBSUB} items`]: 'retrieve-items',
  [`${PUBSUB} retract`]: 'delete-items',
  [`${PUBSUB} options`]: 'subscription-options',
  [`${PUBSUB} default`]: 'retrieve-default-sub',
  [`${PUBSUB_OWNER} configure`]: 'config-node',
  [`${PUBSUB_OWNER} default`]: 'retrieve-default',
  [`${PUBSUB_OWNER} purge`]: 'purge-nodes',
  [`${PUBSUB_OWNER} subscriptions`]: 'manage-subscriptions',
  [`${PUBSUB_OWNER} affiliations`]: 'modify-affiliations',
};

/** The answer to a `<pubsub/>`. Rejects with StanzaError and BrokerError. */
export async function servePubsub(iq: Element, pubsub: Element, from: Jid, context: VerbContext): Promise<Element> {
  const [request] = pubsub.elements;
  if (request === undefined) throw new StanzaError('bad-request', 'nothing asked');
  const asked = `${pubsub.xmlns} ${request.name}`;
  const serve = VERBS[`${iq.attributes.type} ${asked}`];
  if (serve !== undefined) return serve(iq, request, from, context);
  throw unsupported(UNSUPPORTED[asked], `no ${request.name} here`);
}

function unsupported(feature: string | undefined, message: string): StanzaError {
  const detail = feature === undefined ? undefined : element('unsupported', PUBSUB_ERRORS, { feature });
  return new StanzaError('feature-not-implemented', message, detail);
}

function refusal(condition: 'bad-request' | 'not-acceptable' | 'not-allowed', name: string, message: string) {
  return new StanzaError(condition, message, element(name, PUBSUB_ERRORS));
}

// ---- nodes

interface Node {
  readonly node: string;
  readonly exchange: string;
  readonly key: string;
}

/** The node of a request. Throws StanzaError, also when there is no such exchange. */
function readNode(request: Element, { directory }: VerbContext): Node {
  const { node = '' } = request.attributes;
  if (node === '') throw refusal('bad-request', 'nodeid-required', 'no node');
  const found = findNode(node, (name) => directory.has(name));
  if (found !== undefined) return found;
  throw new StanzaError('item-not-found', `no exchange for the node '${node}' in vhost '${directory.vhost}'`);
}

/** What a node means; undefined when there is no such exchange. */
export function findNode(node: string, has: (exchange: string) => boolean): Node | undefined {
  if (has(node)) return { node, exchange: node, key: '' };
  for (let at = node.lastIndexOf('/'); at > 0; at = node.lastIndexOf('/', at - 1)) {
    const [exchange, key] = [node.slice(0, at), node.slice(at + 1)];
    if (has(exchange)) return { node: key === '' ? exchange : node, exchange, key };
  }
  return undefined;
}

async function create(iq: Element, request: Element, from: Jid, { inboxes, directory }: VerbContext): Promise<Element> {
  const { node: exchange } = request.attributes;
  if (exchange === undefined || exchange === '') throw refusal('not-acceptable', 'nodeid-required', 'no node');
  const form = iq.child('pubsub', PUBSUB)?.child('configure')?.child('x', DATA_FORM);
  if (form?.elements.some((field) => field.attributes.var !== 'FORM_TYPE')) {
    throw unsupported('create-and-configure', 'a node is a fanout exchange, as it is');
  }
  if (directory.has(exchange)) throw new StanzaError('conflict', `exchange '${exchange}' exists`);
  await inboxes
    .get(directory, bareText(from))
    .act((channel) => channel.declareExchange({ exchange, type: 'fanout', durable: true }));
  return resultReply(iq, element('pubsub', PUBSUB, {}, element('create', PUBSUB, { node: exchange })));
}

async function remove(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange, key } = readNode(request, context);
  if (key !== '') throw new StanzaError('not-allowed', `the node of the exchange itself is '${exchange}'`);
  await context.inboxes.get(context.directory, bareText(from)).act((channel) => channel.deleteExchange(exchange));
  return resultReply(iq);
}

// ---- items

async function publish(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange, key, node } = readNode(request, context);
  const items = request.elements.filter((child) => child.is('item', PUBSUB));
  const [item] = items;
  if (item === undefined) throw refusal('bad-request', 'item-required', 'no item');
  if (items.length > 1) throw refusal('not-allowed', 'max-items-exceeded', 'one item at a time');
  const [payload] = item.elements;
  if (payload === undefined) throw refusal('bad-request', 'payload-required', 'an item without payload');
  if (item.elements.length > 1) throw refusal('bad-request', 'invalid-payload', 'an item has one payload');
  await context.admit(iq, from);
  const id = item.attributes.id ?? `${iq.attributes.id}`;
  await context.inboxes
    .get(context.directory, bareText(from))
    .publish((userId) => messageOfItem(payload, id, from, { exchange, routingKey: key, userId, nowMs: Date.now() }));
  return resultReply(
    iq,
    element('pubsub', PUBSUB, {}, element('publish', PUBSUB, { node }, element('item', PUBSUB, { id }))),
  );
}

/** `<amqp>` says all of a message; any other payload is its body. Throws StanzaError. */
function messageOfItem(payload: Element, id: string, from: Jid, address: PublishAddress): Message {
  if (payload.is('amqp', AMQP)) {
    const message = messageOf(element('message', CLIENT, { id }, payload), address);
    if (message === undefined) throw refusal('bad-request', 'invalid-payload', 'an <amqp> without body');
    return message;
  }
  const { exchange, routingKey, userId, nowMs } = address;
  return createMessage({
    exchange,
    routingKey,
    body: payload.toString(),
    properties: {
      contentType: 'application/xml',
      deliveryMode: 2,
      timestamp: Math.floor(nowMs / 1000),
      messageId: id,
      userId,
      headers: { [FROM_HEADER]: formatJid(from) },
    },
  });
}

// ---- subscriptions

async function subscribe(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange, key: bindingKey, node } = readNode(request, context);
  const user = subscriberOf(request, from);
  const { directory, domain: address, inboxes, router } = context;
  await inboxes.get(directory, user).follow({ exchange, bindingKey, address, node });
  if (inboxes.asksForPresence(user)) {
    // What waits for him is delivered while he is there; so he is asked, unless his server tells already.
    void router.route(presenceElement('subscribe', address, user));
    void router.route(presenceElement('probe', address, user));
  }
  const subscription = subscriptionElement(user, node);
  return resultReply(iq, element('pubsub', PUBSUB, {}, subscription));
}

function subscriptionElement(jid: string, node: string): Element {
  return element('subscription', PUBSUB, { node, jid, subscription: 'subscribed' });
}

async function unsubscribe(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { exchange, key: bindingKey, node } = readNode(request, context);
  const user = subscriberOf(request, from);
  if (!(await context.inboxes.get(context.directory, user).unfollow({ exchange, bindingKey, node }))) {
    throw new StanzaError('unexpected-request', 'not subscribed', element('not-subscribed', PUBSUB_ERRORS));
  }
  return resultReply(iq);
}

/** His own, of one node or of all. */
async function subscriptions(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { node: wanted } = request.attributes;
  const only = wanted === undefined ? undefined : readNode(request, context).node;
  const jid = bareText(from);
  const nodes = subscribedNodes(context.directory.bindingsTo(jid), context.domain);
  const chosen = nodes.filter((node) => only === undefined || node === only);
  const list = chosen.map((node) => subscriptionElement(jid, node));
  return resultReply(iq, element('pubsub', PUBSUB, {}, element('subscriptions', PUBSUB, { node: wanted }, ...list)));
}

function subscribedNodes(bindings: readonly BindingSpec[], domain: string): string[] {
  return bindings.filter((one) => addressOf(one)?.domain === domain).flatMap((one) => nodeOf(one) ?? []);
}

/** Nobody subscribes somebody else. Resources share what their owner has. */
function subscriberOf(request: Element, from: Jid): string {
  const { jid } = request.attributes;
  if (jid === undefined) throw refusal('bad-request', 'jid-required', 'whom?');
  const user = bareText(parseJid(jid));
  if (user === bareText(from)) return user;
  throw refusal('bad-request', 'invalid-jid', 'that is somebody else');
}

/** Whoever may configure an exchange is an owner of its node; declaring it again as it is tells. */
async function affiliations(iq: Element, request: Element, from: Jid, context: VerbContext): Promise<Element> {
  const { broker, directory, inboxes } = context;
  const { node: wanted } = request.attributes;
  const only = wanted === undefined ? undefined : readNode(request, context).exchange;
  const { exchanges } = await broker.snapshot(directory.vhost);
  const owned: string[] = [];
  await inboxes.get(directory, bareText(from)).act(async (channel) => {
    for (const { name, ...declaration } of exchanges) {
      // Not one that has gone meanwhile: it would be there again.
      if (!directory.has(name) || (only !== undefined && name !== only)) continue;
      try {
        await channel.declareExchange({ exchange: name, ...declaration });
        owned.push(name);
      } catch (error) {
        if (!(error instanceof BrokerError) || error.kind !== 'access-refused') throw error;
      }
    }
  });
  const list = owned.map((node) => element('affiliation', PUBSUB, { node, affiliation: 'owner' }));
  return resultReply(iq, element('pubsub', PUBSUB, {}, element('affiliations', PUBSUB, { node: wanted }, ...list)));
}
