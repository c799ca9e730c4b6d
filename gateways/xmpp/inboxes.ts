/** The inboxes in use: made when somebody needs one, let go when nobody does. */
import type { Message } from '../../broker/message.ts';
import { type Broker, BrokerError, type Principal } from '../../broker/port.ts';
import type { Log } from '../log.ts';
import { queueAddress, senderAddress } from './addresses.ts';
import { noticeOf, sentAtMs, stanzaOf } from './content.ts';
import { delayElement } from './delay.ts';
import type { Directory } from './directory.ts';
import { type Element, isLarger } from './element.ts';
import { type DeliverySettlement, Inbox } from './inbox.ts';
import { bareText, parseJid } from './jid.ts';
import { keptStanza, STANZA_TYPE } from './kept-stanza.ts';
import { eventOf } from './node-events.ts';
import { presenceElement } from './presence.ts';
import type { PublishGate } from './publish-gate.ts';
import type { Settlement, StanzaRouter } from './stanza-router.ts';
import { audienceOf } from './subscriptions.ts';

export interface InboxesOptions {
  readonly broker: Broker;
  readonly router: StanzaRouter;
  readonly log: Log;
  readonly userDomain: string;
  readonly gate: PublishGate;
  /** Largest stanza that others take from us. */
  readonly stanzaBytesMax: number;
  /** What has been on its way for less has not waited, in milliseconds. */
  readonly delayMsMin: number;
  /** With whose rights the owner of this address acts. Rejects with BrokerError. */
  principalOf(bare: string): Promise<Principal>;
  /** The bare address of a user of the broker. */
  addressOfUser(username: string): string;
  /** The domain in which the owner of `bare` sees the exchanges of a virtual host. */
  domainFor(vhost: string, bare: string): string;
  /** The broker has ended the connection of somebody in no domain but ours. */
  onClosed(bare: string, error: BrokerError): void;
}

/** For what is said beside a stanza that is settled. */
const NOBODY: Settlement = { delivered() {}, returned() {} };

/** Something out of a queue for somebody. */
interface Delivery {
  readonly message: Message;
  readonly to: string;
  readonly redelivered: boolean;
  readonly settlement: DeliverySettlement;
  readonly queue: string;
}

export class Inboxes {
  readonly #options: InboxesOptions;
  readonly #inboxes = new Map<string, Inbox>();

  constructor(options: InboxesOptions) {
    this.#options = options;
  }

  /** The inbox of `bare` if it is in use. */
  find(vhost: string, bare: string): Inbox | undefined {
    return this.#inboxes.get(keyOf(vhost, bare));
  }

  /** Those of a domain that are in use. */
  ofDomain(domain: string): Inbox[] {
    return [...this.#inboxes.values()].filter(({ queue }) => parseJid(queue).domain === domain);
  }

  get all(): Iterable<Inbox> {
    return this.#inboxes.values();
  }

  /** The inbox of `bare`, the bare address of its owner. */
  get(directory: Directory, bare: string): Inbox {
    const key = keyOf(directory.vhost, bare);
    const existing = this.#inboxes.get(key);
    if (existing !== undefined) return existing;
    const { broker, log } = this.#options;
    const inbox: Inbox = new Inbox(bare, {
      broker,
      directory,
      log,
      keepsMessages: parseJid(bare).domain === this.#options.userDomain,
      principal: () => this.#options.principalOf(bare),
      onMessage: (message, to, redelivered, settlement, queue) =>
        this.#onMessage(directory, bare, { message, to, redelivered, settlement, queue }),
      onTapGone: (queue) => {
        const address = queueAddress(this.#options.domainFor(directory.vhost, bare), queue);
        for (const type of ['unsubscribed', 'unsubscribe']) {
          void this.#options.router.route(presenceElement(type, address, bare));
        }
      },
      onFlow: (held) => this.#options.gate.setHeld(inbox, held),
      onClosed: (error) => this.#options.onClosed(bare, error),
      onIdle: () => {
        if (this.#inboxes.get(key) === inbox) this.#inboxes.delete(key);
        void inbox.rest();
      },
    });
    this.#inboxes.set(key, inbox);
    return inbox;
  }

  /** Whether he is there is known only when he lets us know: a user of another server. */
  asksForPresence(bare: string): boolean {
    return parseJid(bare).domain !== this.#options.userDomain;
  }

  /** Deletes the queues of somebody who is no more, with what waits in them. */
  async remove(bare: string, vhosts: Iterable<string>): Promise<void> {
    const { broker, log } = this.#options;
    for (const vhost of [...vhosts]) {
      try {
        const connection = await broker.connect(undefined, vhost);
        await connection
          .openChannel()
          .deleteQueue(bare)
          .finally(() => connection.close());
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        // Where the virtual host is not there, neither is the queue.
        if (error.kind !== 'not-allowed') log.warn({ queue: bare, vhost }, `XMPP: queue not deleted: ${error.message}`);
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.#inboxes.values(), (inbox) => inbox.close()));
    this.#inboxes.clear();
  }

  #onMessage(directory: Directory, bare: string, delivery: Delivery): void {
    const { message, to, redelivered, settlement } = delivery;
    const { router, stanzaBytesMax } = this.#options;
    const kept = this.#kept(message);
    const domain = this.#options.domainFor(directory.vhost, bare);
    const atMs = sentAtMs(message);
    const waited = atMs !== undefined && Date.now() - atMs > this.#options.delayMsMin;
    const delays = waited ? [delayElement(domain, atMs)] : [];
    if (kept !== undefined) {
      void router.route(kept.with({ to }).plus(...delays), settlement);
      return;
    }
    const whole = (stanza: Element): Element | undefined => {
      const made = stanza.plus(...delays);
      return isLarger(made, stanzaBytesMax) ? undefined : made;
    };
    const stanzas: Element[] = [];
    let isRefused = true;
    for (const { from, node } of this.#senders(directory, bare, delivery)) {
      const address = { from, to, redelivered };
      let stanza: Element | undefined;
      if (message.bodyBytes <= stanzaBytesMax) {
        stanza = node === undefined ? whole(stanzaOf(message, address)) : whole(eventOf(message, address, node, true));
        // The body says again what is in the item: rather without.
        if (node !== undefined) stanza ??= whole(eventOf(message, address, node, false));
      }
      isRefused &&= stanza === undefined;
      stanzas.push(stanza ?? noticeOf(message, address));
    }
    // The last settles for all: what is before it has been taken when it has.
    const last = stanzas.pop();
    for (const stanza of stanzas) void router.route(stanza, NOBODY);
    if (last !== undefined) void router.route(last, isRefused ? undefined : settlement);
    if (isRefused) settlement.refused();
  }

  /** As whose message, or as an item of which node, a delivery is to be said: once for each. */
  #senders(
    directory: Directory,
    bare: string,
    { message, queue }: Delivery,
  ): { readonly from: string; readonly node?: string }[] {
    const { exchange, routingKey } = message;
    const domain = this.#options.domainFor(directory.vhost, bare);
    if (exchange === '' || queue !== bare) return [{ from: queueAddress(domain, queue) }];
    const typeOf = (name: string): string | undefined => directory.typeOf(name);
    const { nodes, isChat } = audienceOf(directory.bindingsTo(bare), typeOf, exchange, routingKey);
    const senders: { readonly from: string; readonly node?: string }[] = nodes.map((node) => ({ from: domain, node }));
    if (isChat) senders.push({ from: senderAddress(directory, domain, bare, exchange, routingKey) });
    return senders;
  }

  /** A stanza between users that waited here, if its sender is who it says: the broker vouches for the name. */
  #kept({ exchange, properties, body }: Message): ReturnType<typeof keptStanza> {
    const { contentType, userId } = properties;
    if (exchange !== '' || contentType !== STANZA_TYPE || userId === undefined) return undefined;
    const stanza = keptStanza(body, this.#options.stanzaBytesMax);
    const { from } = stanza?.attributes ?? {};
    return from !== undefined && bareText(parseJid(from)) === this.#options.addressOfUser(userId) ? stanza : undefined;
  }
}

function keyOf(vhost: string, bare: string): string {
  return `${bare} ${vhost}`;
}
