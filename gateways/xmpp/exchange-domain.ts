/**
 * A domain whose addresses are the exchanges of a virtual host, for users of any server: contacts to follow, addresses to
 * write to. The same for the users of the client port and for those of a server of which Warren is a component.
 *
 * How somebody (U) comes to follow an exchange (X), who never grants without asking back:
 *
 * ```
 * U > X subscribe      X > U subscribe                                   no such exchange: X > U unsubscribed
 * U > X subscribed     the binding is made; X > U subscribed, available
 * U > X unsubscribe    the binding goes;    X > U unsubscribed, unsubscribe
 * ```
 *
 * The last two also when the binding goes by another door, or with its exchange.
 */
import type { BindingSpec } from '../../broker/port.ts';
import { contactAddress, exchangeOf, presenceAddress, queueOf, targetOf } from './addresses.ts';
import { messageOf } from './content.ts';
import type { Directory } from './directory.ts';
import { type Element, element } from './element.ts';
import type { Inbox } from './inbox.ts';
import type { Inboxes } from './inboxes.ts';
import { bareText, formatJid, type Jid, tryParseJid } from './jid.ts';
import { goneElement } from './node-events.ts';
import { presenceElement, priorityOf } from './presence.ts';
import { errorReply, StanzaError, stanzaErrorOf } from './stanza-error.ts';
import type { JidOwner, StanzaRouter } from './stanza-router.ts';
import { addressOf, isSame, nodeOf } from './subscriptions.ts';

/** What answers iqs and the messages to the domain itself. */
export interface DomainServices {
  /** The answer to an iq; undefined for what is not understood. Rejects with StanzaError, BrokerError. */
  onIq(iq: Element, to: Jid, from: Jid): Promise<Element | undefined>;
  /** What the bot says to a line; undefined for nothing. */
  onChat(line: string, from: Jid): Promise<string | undefined>;
}

export interface ExchangeDomainOptions {
  readonly domain: string;
  readonly directory: Directory;
  readonly inboxes: Inboxes;
  readonly router: StanzaRouter;
  readonly services: DomainServices;
  /** All domains of exchanges, this one included. */
  isOurs(domain: string): boolean;
  /** Is the owner of this bare address one whose presence reaches this domain? */
  serves(bare: string): boolean;
  /** Resolves when what `stanza` asks to publish may be; undefined: at once. Throws StanzaError. */
  admit(stanza: Element, from: Jid): Promise<void> | undefined;
}

export class ExchangeDomain implements JidOwner {
  readonly domain: string;
  readonly #options: ExchangeDomainOptions;
  readonly #directory: Directory;
  readonly #stop: () => void;

  constructor(options: ExchangeDomainOptions) {
    this.domain = options.domain;
    this.#options = options;
    this.#directory = options.directory;
    this.#stop = options.directory.listen({
      onBound() {},
      onUnbound: (binding) => this.#onUnbound(binding),
    });
  }

  close(): void {
    this.#stop();
  }

  onStanza(stanza: Element, to: Jid, from: Jid): Promise<void> | void {
    switch (stanza.name) {
      case 'presence':
        // Between our own domains nothing is to be followed: a loop otherwise.
        if (!this.#options.isOurs(from.domain)) this.#onPresence(stanza, to, from);
        return undefined;
      case 'message':
        return this.#onMessage(stanza, to, from);
      default:
        return this.#onIq(stanza, to, from);
    }
  }

  // ---- following

  #onPresence(stanza: Element, to: Jid, from: Jid): void {
    const user = bareText(from);
    const contact = formatJid(to);
    switch (stanza.attributes.type) {
      case 'subscribe':
        this.#onSubscribe(stanza, to, user);
        return;
      case 'subscribed':
        this.#onSubscribed(stanza, to, user);
        return;
      case 'unsubscribe':
      case 'unsubscribed':
        this.#onUnsubscribe(to, user, stanza.attributes.type);
        return;
      case 'probe':
        if (this.#follows(user, to)) this.#greet(contact, formatJid(from));
        return;
      case 'error':
        this.#inbox(user)?.dropResource(formatJid(from));
        return;
      case undefined:
        this.#onAvailable(stanza, to, from);
        return;
      case 'unavailable':
        if (from.resource === '') this.#inbox(user)?.forgetKnower(contact);
        else this.#inbox(user)?.setResource(formatJid(from), contact, undefined);
        return;
      default:
        throw new StanzaError('bad-request');
    }
  }

  #onAvailable(stanza: Element, to: Jid, from: Jid): void {
    const user = bareText(from);
    const queue = queueOf(to);
    const inbox = queue === undefined ? this.#inbox(user) : this.#options.inboxes.get(this.#directory, user);
    inbox?.setResource(formatJid(from), formatJid(to), priorityOf(stanza));
    // Whoever has a queue on his contact list takes from it while he is there.
    if (queue !== undefined) inbox?.tap(queue);
  }

  /** The inbox of somebody who follows something here, or is about to. */
  #inbox(user: string): Inbox | undefined {
    const { inboxes } = this.#options;
    const hasBindings = this.#directory.bindingsTo(user).length > 0;
    return hasBindings ? inboxes.get(this.#directory, user) : inboxes.find(this.#directory.vhost, user);
  }

  #send(type: string | undefined, from: string, to: string): void {
    void this.#options.router.route(presenceElement(type, from, to));
  }

  /** Says that an exchange is there. */
  #greet(contact: string, user: string): void {
    this.#send(undefined, presenceAddress(contact), user);
  }

  #follows(user: string, to: Jid): boolean {
    const known = this.#known(to);
    if (known === undefined) return false;
    const { exchange, bindingKey } = known;
    return this.#directory.bindingsTo(user).some((one) => isSame(one, { exchange, bindingKey }));
  }

  /** The exchange that an address means, if there is just one. */
  #known(to: Jid): ReturnType<typeof exchangeOf> | undefined {
    try {
      return exchangeOf(to, this.#directory);
    } catch (error) {
      if (stanzaErrorOf(error) === undefined) throw error;
      return undefined;
    }
  }

  #onSubscribe(stanza: Element, to: Jid, user: string): void {
    const contact = formatJid(to);
    if (to.local === '') {
      // The bot: always there, and nothing to bind.
      this.#send('subscribed', contact, user);
      this.#greet(contact, user);
      return;
    }
    const ask = async (): Promise<void> => {
      const target = targetOf(to, this.#directory);
      if (target.kind === 'queue') await this.#requireQueue(target.queue, user);
      this.#send('subscribe', contact, user);
    };
    ask().catch((error: unknown) => this.#refuse(stanza, error, contact, user));
  }

  #onSubscribed(stanza: Element, to: Jid, user: string): void {
    const contact = formatJid(to);
    if (to.local === '') return;
    const follow = async (): Promise<void> => {
      const target = targetOf(to, this.#directory);
      if (target.kind === 'queue') await this.#requireQueue(target.queue, user);
      if (target.kind === 'exchange') {
        const { exchange, bindingKey } = target;
        await this.#options.inboxes.get(this.#directory, user).follow({ exchange, bindingKey, address: contact });
      }
      this.#send('subscribed', contact, user);
      this.#greet(contact, user);
    };
    follow().catch((error: unknown) => {
      this.#refuse(stanza, error, contact, user);
      this.#send('unsubscribe', contact, user);
    });
  }

  /** Throws not-found for a queue that is not there, access-refused for one that he may not know of. */
  async #requireQueue(queue: string, user: string): Promise<void> {
    await this.#options.inboxes
      .get(this.#directory, user)
      .act((channel) => channel.declareQueue({ queue, passive: true }));
  }

  /** Says why, for a person, and `unsubscribed`, for his server. */
  #refuse(stanza: Element, error: unknown, contact: string, user: string): void {
    const refusal = stanzaErrorOf(error);
    if (refusal === undefined) throw error;
    const reply = errorReply(stanza.with({ type: 'subscribe' }), refusal);
    if (reply !== undefined) void this.#options.router.route(reply.with({ from: contact, to: user }));
    this.#send('unsubscribed', contact, user);
  }

  #onUnsubscribe(to: Jid, user: string, type: 'unsubscribe' | 'unsubscribed'): void {
    const contact = formatJid(to);
    const unfollow = async (): Promise<boolean> => {
      const queue = queueOf(to);
      if (queue !== undefined) {
        this.#inbox(user)?.forgetKnower(contact);
        if (await this.#inbox(user)?.untap(queue)) this.#send('unsubscribe', contact, user);
        return false;
      }
      const exchange = this.#known(to);
      if (exchange === undefined) return false;
      // In turn: the binding may be on its way.
      const { exchange: source, bindingKey } = exchange;
      return (await this.#inbox(user)?.unfollow({ exchange: source, bindingKey })) ?? false;
    };
    unfollow().then(
      (done) => {
        // When something was bound, `#onUnbound` has the answer.
        if (!done && type === 'unsubscribe') this.#send('unsubscribed', contact, user);
      },
      (error: unknown) => {
        const refusal = stanzaErrorOf(error);
        if (refusal === undefined) throw error;
        const reply = errorReply(presenceElement('subscribe', user, contact), refusal);
        if (reply !== undefined) void this.#options.router.route(reply);
      },
    );
  }

  /** A binding has gone, by whatever door. */
  #onUnbound(binding: BindingSpec): void {
    const { source, destination: user, bindingKey } = binding;
    const node = nodeOf(binding);
    if (!this.#isUser(user)) return;
    const known = addressOf(binding);
    if (known !== undefined && known.domain !== this.domain) return;
    // The same may be bound still, with other arguments.
    if (this.#directory.bindingsTo(user).some((one) => isSame(one, { exchange: source, bindingKey, node }))) return;
    const inbox = this.#options.inboxes.find(this.#directory.vhost, user);
    // He has changed his mind meanwhile: what he is told last is what becomes of that.
    if (inbox?.isAboutToFollow(binding)) return;
    if (node === undefined) {
      const contact = this.#contactOf(binding);
      inbox?.forgetKnower(contact);
      this.#send('unsubscribed', contact, user);
      this.#send('unsubscribe', contact, user);
    } else if (!inbox?.isGivingUp(binding)) {
      // Whoever has asked for it has had his answer.
      void this.#options.router.route(goneElement(this.domain, user, node, this.#directory.has(source)));
    }
    // Only a queue that this door has made for him.
    if (known !== undefined && this.#directory.bindingsTo(user).length === 0) this.#tidy(user);
  }

  /** Is this queue the inbox of somebody whom this domain serves? */
  #isUser(queue: string): boolean {
    const jid = tryParseJid(queue);
    return jid !== undefined && jid.local !== '' && jid.resource === '' && this.#options.serves(queue);
  }

  /** The address of the contact that a binding is. */
  #contactOf(binding: BindingSpec): string {
    const known = addressOf(binding);
    return known === undefined
      ? contactAddress(this.#directory, this.domain, binding.source, binding.bindingKey)
      : formatJid(known);
  }

  #tidy(user: string): void {
    this.#options.inboxes
      .get(this.#directory, user)
      .tidy()
      .catch((error: unknown) => {
        // Without the right to delete it, or in a shutdown, it stays.
        if (stanzaErrorOf(error) === undefined) throw error;
      });
  }

  /** Tells everybody who follows something here that it is there, and asks whether he is. */
  greetAll(): void {
    for (const user of this.#directory.boundQueues()) {
      if (!this.#isUser(user)) continue;
      const bindings = this.#directory.bindingsTo(user).filter((one) => {
        const known = addressOf(one);
        return known === undefined || known.domain === this.domain;
      });
      if (bindings.some((one) => nodeOf(one) !== undefined)) this.#send('probe', this.domain, user);
      for (const binding of bindings.filter((one) => nodeOf(one) === undefined)) {
        const contact = this.#contactOf(binding);
        this.#send('probe', contact, user);
        this.#greet(contact, user);
      }
    }
  }

  /** Those whose presence has come to this domain cannot be reached any more. */
  forgetAll(): void {
    for (const inbox of this.#options.inboxes.all) inbox.forgetKnowersIn(this.domain);
  }

  // ---- publishing

  #onMessage(stanza: Element, to: Jid, from: Jid): Promise<void> | void {
    const { type = 'normal' } = stanza.attributes;
    if (type === 'error') {
      this.#inbox(bareText(from))?.dropResource(formatJid(from));
      return undefined;
    }
    if (type === 'groupchat') throw new StanzaError('service-unavailable', 'not a chat room');
    const target = targetOf(to, this.#directory);
    if (target.kind === 'domain') return this.#onChat(stanza, to, from);
    const [exchange, routingKey] = target.kind === 'queue' ? ['', target.queue] : [target.exchange, target.routingKey];
    return this.publish(stanza, exchange, routingKey, from);
  }

  /** Publishes the content of a stanza with the rights of its sender. Rejects with StanzaError, BrokerError. */
  async publish(stanza: Element, exchange: string, routingKey: string, from: Jid): Promise<void> {
    const address = { exchange, routingKey, nowMs: Date.now() };
    if (messageOf(stanza, { ...address, userId: '' }) === undefined) return;
    await this.#options.admit(stanza, from);
    await this.#options.inboxes.get(this.#directory, bareText(from)).publish((userId) => {
      const message = messageOf(stanza, { ...address, userId });
      if (message === undefined) throw new StanzaError('bad-request');
      return message;
    });
  }

  async #onChat(stanza: Element, to: Jid, from: Jid): Promise<void> {
    const line = stanza.child('body')?.text.trim() ?? '';
    if (line === '') return;
    const { type, id } = stanza.attributes;
    const answer = await this.#options.services.onChat(line, from);
    if (answer === undefined) return;
    const thread = stanza.child('thread');
    const attributes = {
      from: formatJid(to),
      to: formatJid(from),
      type: type === 'chat' ? 'chat' : undefined,
      id: id && `re-${id}`,
    };
    void this.#options.router.route(
      element('message', stanza.xmlns, attributes, element('body', stanza.xmlns, {}, answer), thread),
    );
  }

  // ---- questions

  async #onIq(iq: Element, to: Jid, from: Jid): Promise<void> {
    const { type } = iq.attributes;
    if (type !== 'get' && type !== 'set') return;
    const reply = await this.#options.services.onIq(iq, to, from);
    if (reply === undefined) throw new StanzaError('service-unavailable');
    void this.#options.router.route(reply);
  }
}
