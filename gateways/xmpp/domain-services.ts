/** What a domain of exchanges answers when it is asked: what there is [XEP-0030], commands, publish-subscribe, the bot. */
import { exchangeAddress, exchangeOf } from './addresses.ts';
import { answerLine } from './bot.ts';
import { commandItems, commandTitle, serveCommand } from './commands.ts';
import { type Element, element } from './element.ts';
import type { DomainServices } from './exchange-domain.ts';
import { bareText, type Jid } from './jid.ts';
import { COMMANDS, DATA_FORM, PUBSUB, PUBSUB_OWNER } from './namespaces.ts';
import { findNode, PUBSUB_FEATURES, servePubsub } from './pubsub.ts';
import { infoNode, infoReply, itemsNode, itemsReply, serveInfo } from './server-info.ts';
import { StanzaError } from './stanza-error.ts';
import type { VerbContext } from './verbs.ts';

/** What the domain itself is. */
const IDENTITIES = [
  { category: 'component', type: 'generic', name: 'Warren: AMQP exchanges' },
  { category: 'component', type: 'router' },
  { category: 'component', type: 'presence' },
  { category: 'client', type: 'bot', name: 'Warren' },
  { category: 'gateway', type: 'amqp' },
  { category: 'hierarchy', type: 'branch' },
  { category: 'pubsub', type: 'service' },
];

const EXCHANGE_FEATURE = 'amqp-exchange';

export class ExchangeServices implements DomainServices {
  readonly #context: VerbContext;
  readonly #version: string;

  constructor(context: VerbContext, version: string) {
    this.#context = context;
    this.#version = version;
  }

  onChat(line: string, from: Jid): Promise<string> {
    return answerLine(line, from, this.#context);
  }

  async onIq(iq: Element, to: Jid, from: Jid): Promise<Element | undefined> {
    const reply = serveInfo(iq, this.#version);
    if (reply !== undefined) return reply;
    if (to.local !== '') return this.#onExchangeIq(iq, to, from);
    const [payload] = iq.elements;
    if (payload?.is('command', COMMANDS) && iq.attributes.type === 'set') {
      return serveCommand(iq, payload, from, this.#context);
    }
    if (payload?.is('pubsub', PUBSUB) || payload?.is('pubsub', PUBSUB_OWNER))
      return servePubsub(iq, payload, from, this.#context);
    const [info, items] = [infoNode(iq), itemsNode(iq)];
    if (info !== undefined) return this.#info(iq, info, from);
    return items === undefined ? undefined : this.#items(iq, items, from);
  }

  /** Whoever may not enter the virtual host may not look at what is in it. Rejects with BrokerError. */
  #requireEntry(from: Jid): Promise<void> {
    const { inboxes, directory } = this.#context;
    return inboxes.get(directory, bareText(from)).act(async () => {});
  }

  async #info(iq: Element, node: string, from: Jid): Promise<Element> {
    if (node === '') return infoReply(iq, IDENTITIES, [COMMANDS, PUBSUB, ...PUBSUB_FEATURES]);
    if (node === COMMANDS) return infoReply(iq, [{ category: 'automation', type: 'command-list' }], [COMMANDS]);
    const title = commandTitle(node);
    if (title !== undefined) {
      const identity = { category: 'automation', type: 'command-node', name: title };
      return infoReply(iq, [identity], [COMMANDS, DATA_FORM]);
    }
    await this.#requireEntry(from);
    return this.#nodeInfo(iq, node);
  }

  /** Of an exchange as a node of publish-subscribe [XEP-0060 §5.3, §5.4]. */
  async #nodeInfo(iq: Element, node: string): Promise<Element> {
    const { directory } = this.#context;
    const found = findNode(node, (name) => directory.has(name));
    if (found === undefined) throw new StanzaError('item-not-found', `no node '${node}'`);
    const { exchange, key } = found;
    const bindings = directory.bindingsOf(exchange).filter(({ bindingKey }) => key === '' || bindingKey === key);
    const fields = {
      'pubsub#title': exchange,
      'pubsub#access_model': 'whitelist',
      'pubsub#publish_model': 'publishers',
      'pubsub#num_subscribers': String(new Set(bindings.map(({ destination }) => destination)).size),
    };
    return infoReply(
      iq,
      [{ category: 'pubsub', type: 'leaf', name: exchange }],
      await this.#exchangeFeatures(exchange, [PUBSUB]),
      resultForm(`${PUBSUB}#meta-data`, fields),
    );
  }

  async #items(iq: Element, node: string, from: Jid): Promise<Element> {
    const { directory, domain } = this.#context;
    if (node === COMMANDS) return itemsReply(iq, commandItems(domain));
    await this.#requireEntry(from);
    if (node !== '') {
      const isNode = findNode(node, (name) => directory.has(name)) !== undefined;
      if (isNode || commandTitle(node) !== undefined) return itemsReply(iq, []);
      throw new StanzaError('item-not-found');
    }
    const names = directory.exchanges();
    return itemsReply(iq, [
      // As contacts, and as nodes.
      ...names.map((name) => ({ jid: exchangeAddress(directory, domain, name), name })),
      ...names.map((name) => ({ jid: domain, node: name, name })),
    ]);
  }

  async #onExchangeIq(iq: Element, to: Jid, from: Jid): Promise<Element | undefined> {
    const [info, items] = [infoNode(iq), itemsNode(iq)];
    if (info === undefined && items === undefined) return undefined;
    await this.#requireEntry(from);
    const { exchange } = exchangeOf(to, this.#context.directory);
    if (items !== undefined) return itemsReply(iq, []);
    const identities = [
      { category: 'component', type: 'bot', name: 'AMQP Exchange' },
      { category: 'hierarchy', type: 'leaf' },
    ];
    return infoReply(iq, identities, await this.#exchangeFeatures(exchange, []));
  }

  async #exchangeFeatures(exchange: string, more: readonly string[]): Promise<string[]> {
    const { broker, directory } = this.#context;
    const { exchanges } = await broker.snapshot(directory.vhost);
    const found = exchanges.find(({ name }) => name === exchange);
    if (found === undefined) throw new StanzaError('item-not-found', `no exchange '${exchange}'`);
    return [EXCHANGE_FEATURE, `${EXCHANGE_FEATURE}-${found.type}`, ...more];
  }
}

/** What is so, as a form [XEP-0004, XEP-0068]. */
function resultForm(type: string, fields: { readonly [name: string]: string }): Element {
  const field = (name: string, value: string, kind?: string): Element =>
    element('field', DATA_FORM, { var: name, type: kind }, element('value', DATA_FORM, {}, value));
  const rest = Object.entries(fields).map(([name, value]) => field(name, value));
  return element('x', DATA_FORM, { type: 'result' }, field('FORM_TYPE', type, 'hidden'), ...rest);
}
