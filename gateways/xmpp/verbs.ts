/**
 * What the control bot can do, each thing said once: for the line of a chat (bot.ts) and for the form of an ad-hoc
 * command (commands.ts). Rights are those of whoever asks.
 */
import { type Broker, BrokerError, type Channel } from '../../broker/port.ts';
import { contactAddress, exchangeAddress } from './addresses.ts';
import type { Directory } from './directory.ts';
import type { Element } from './element.ts';
import type { Inboxes } from './inboxes.ts';
import { bareText, type Jid, parseJid } from './jid.ts';
import { presenceElement } from './presence.ts';
import { StanzaError } from './stanza-error.ts';
import type { StanzaRouter } from './stanza-router.ts';

export interface VerbContext {
  readonly broker: Broker;
  readonly domain: string;
  readonly directory: Directory;
  readonly inboxes: Inboxes;
  readonly router: StanzaRouter;
  /** Resolves when what `stanza` asks to publish may be; undefined: at once. Throws StanzaError. */
  admit(stanza: Element, from: Jid): Promise<void> | undefined;
}

export interface VerbField {
  readonly name: string;
  readonly label: string;
  readonly required?: boolean;
  /** In a line, a word with a dash before it: `-type T`, and for a boolean `-transient`. */
  readonly dash?: boolean;
  readonly type?: 'text' | 'boolean' | 'choice';
  readonly choices?: readonly string[];
  readonly default?: string;
}

/** Values of fields by name; absent unless given, `true` for a boolean that is set. */
export type VerbValues = { readonly [field: string]: string | undefined };

export interface Verb {
  readonly name: string;
  /** The line, after the name. */
  readonly usage: string;
  readonly help: string;
  readonly fields: readonly VerbField[];
  /** What to say to `who`. Rejects with BrokerError and StanzaError, whose texts are for him. */
  run(values: VerbValues, who: Jid, context: VerbContext): Promise<string>;
}

const EXCHANGE_TYPES = ['fanout', 'direct', 'topic', 'headers'];

const EXCHANGE: VerbField = { name: 'exchange', label: 'Name of the exchange', required: true };
const BINDING: readonly VerbField[] = [
  EXCHANGE,
  { name: 'jid', label: 'Address of the follower', required: true },
  { name: 'key', label: 'Binding key' },
];

export const VERBS: readonly Verb[] = [
  {
    name: 'exchange.declare',
    usage: 'NAME [-type T] [-transient]',
    help: 'Creates an exchange: a durable fanout one unless you say otherwise.',
    fields: [
      EXCHANGE,
      { name: 'type', label: 'Type', dash: true, type: 'choice', choices: EXCHANGE_TYPES, default: 'fanout' },
      { name: 'transient', label: 'Gone after a restart of the broker', dash: true, type: 'boolean' },
    ],
    async run({ exchange = '', type = 'fanout', transient }, who, context) {
      if (exchange.startsWith('amq.'))
        throw new StanzaError('not-allowed', "names that begin with 'amq.' are reserved");
      await act(who, context, (channel) => channel.declareExchange({ exchange, type, durable: transient !== 'true' }));
      return `exchange '${exchange}' is there: ${exchangeAddress(context.directory, context.domain, exchange)}`;
    },
  },
  {
    name: 'exchange.delete',
    usage: 'NAME',
    help: 'Deletes an exchange; whoever follows it is told.',
    fields: [EXCHANGE],
    async run({ exchange = '' }, who, context) {
      requireExchange(exchange, context);
      await act(who, context, (channel) => channel.deleteExchange(exchange));
      return `exchange '${exchange}' is deleted`;
    },
  },
  {
    name: 'bind',
    usage: 'EXCHANGE JID [KEY]',
    help: 'Asks somebody whether he wants to follow an exchange.',
    fields: BINDING,
    async run({ exchange = '', jid = '', key = '' }, who, context) {
      requireExchange(exchange, context);
      await act(who, context, (channel) => channel.declareExchange({ exchange, type: '', passive: true }));
      const user = bareText(parseJid(jid));
      if (!context.router.reaches(context.domain, parseJid(user))) {
        throw new StanzaError('remote-server-not-found', `no way to ${user} from here`);
      }
      // The key in the local part: other servers keep no resources in contacts, and would have him follow everything.
      const contact = contactAddress(context.directory, context.domain, exchange, key);
      void context.router.route(presenceElement('subscribe', contact, user));
      return `${user} has been asked`;
    },
  },
  {
    name: 'unbind',
    usage: 'EXCHANGE JID [KEY]',
    help: 'Ends a binding of somebody, by default with the empty key; he is told.',
    fields: BINDING,
    async run({ exchange = '', jid = '', key = '' }, who, { inboxes, directory }) {
      const user = bareText(parseJid(jid));
      const bindings = directory
        .bindingsTo(user)
        .filter(({ source, bindingKey }) => source === exchange && bindingKey === key);
      if (bindings.length === 0) {
        throw new StanzaError('item-not-found', `${user} does not follow '${exchange}' with the key '${key}'`);
      }
      await inboxes.get(directory, bareText(who)).act(async (channel) => {
        for (const binding of bindings) await channel.unbind(binding);
      });
      return `${user} does not follow '${exchange}' with the key '${key}' any more`;
    },
  },
  {
    name: 'list',
    usage: '[EXCHANGE]',
    help: 'Lists the exchanges, or who follows one of them.',
    fields: [{ ...EXCHANGE, required: false }],
    async run({ exchange }, who, context) {
      // Whoever may not enter the virtual host may not look either.
      await act(who, context, async () => {});
      if (exchange === undefined || exchange === '') return listExchanges(context);
      requireExchange(exchange, context);
      const bindings = context.directory.bindingsOf(exchange);
      if (bindings.length === 0) return `nobody follows '${exchange}'`;
      return bindings.map(({ destination, bindingKey }) => `${destination} ${bindingKey}`.trim()).join('\n');
    },
  },
];

async function listExchanges({ broker, directory }: VerbContext): Promise<string> {
  const { exchanges } = await broker.snapshot(directory.vhost);
  return exchanges
    .filter(({ name }) => name !== '')
    .map(({ name, type, durable }) => `${name} (${type}, ${durable ? 'durable' : 'transient'})`)
    .sort()
    .join('\n');
}

function act<Result>(who: Jid, context: VerbContext, verb: (channel: Channel) => Promise<Result>): Promise<Result> {
  return context.inboxes.get(context.directory, bareText(who)).act(verb);
}

function requireExchange(exchange: string, { directory }: VerbContext): void {
  if (!directory.has(exchange)) {
    throw new BrokerError('not-found', `no exchange '${exchange}' in vhost '${directory.vhost}'`);
  }
}
