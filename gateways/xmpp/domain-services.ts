/** What a domain of exchanges answers when it is asked: what there is [XEP-0030], commands, publish-subscribe, the bot. */
import { exchangeAddress, exchangeOf } from './addresses.ts';
import { answerLine } from './bot.ts';
import { commandItems, commandTitle, serveCommand } from './commands.ts';
import type { Element } from './element.ts';
import type { DomainServices } from './exchange-domain.ts';
import type { Jid } from './jid.ts';
import { COMMANDS, DATA_FORM, PUBSUB, PUBSUB_OWNER } from './namespaces.ts';
import { PUBSUB_FEATURES, servePubsub } from './pubsub.ts';
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
    if (to.local !== '') return this.#onExchangeIq(iq, to);
    const [payload] = iq.elements;
    if (payload?.is('command', COMMANDS) && iq.attributes.type === 'set') {
      return serveCommand(iq, payload, from, this.#context);
    }
    if (payload?.is('pubsub', PUBSUB) || payload?.is('pubsub', PUBSUB_OWNER))
      return servePubsub(iq, payload, from, this.#context);
    const [info, items] = [infoNode(iq), itemsNode(iq)];
    if (info !== undefined) return this.#info(iq, info);
    return items === undefined ? undefined : this.#items(iq, items);
  }

  async #info(iq: Element, node: string): Promise<Element> {
    if (node === '') return infoReply(iq, IDENTITIES, [COMMANDS, PUBSUB, ...PUBSUB_FEATURES]);
    if (node === COMMANDS) return infoReply(iq, [{ category: 'automation', type: 'command-list' }], [COMMANDS]);
    const title = commandTitle(node);
    if (title !== undefined) {
      const identity = { category: 'automation', type: 'command-node', name: title };
      return infoReply(iq, [identity], [COMMANDS, DATA_FORM]);
    }
    return infoReply(iq, [{ category: 'pubsub', type: 'leaf' }], await this.#exchangeFeatures(node, [PUBSUB]));
  }

  #items(iq: Element, node: string): Element {
    const { directory, domain } = this.#context;
    if (node === COMMANDS) return itemsReply(iq, commandItems(domain));
    if (node !== '') {
      if (directory.has(node) || commandTitle(node) !== undefined) return itemsReply(iq, []);
      throw new StanzaError('item-not-found');
    }
    return itemsReply(
      iq,
      directory.exchanges().map((name) => ({ jid: exchangeAddress(directory, domain, name), name })),
    );
  }

  async #onExchangeIq(iq: Element, to: Jid): Promise<Element | undefined> {
    const [info, items] = [infoNode(iq), itemsNode(iq)];
    if (info === undefined && items === undefined) return undefined;
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
