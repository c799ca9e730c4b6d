/** The inboxes in use: made when somebody needs one, let go when nobody does. */
import type { Message } from '../../broker/message.ts';
import type { Broker, BrokerError, Principal } from '../../broker/port.ts';
import type { Log } from '../log.ts';
import { queueAddress, senderAddress } from './addresses.ts';
import { noticeOf, sentAtMs, stanzaOf } from './content.ts';
import { delayElement } from './delay.ts';
import type { Directory } from './directory.ts';
import { isLarger } from './element.ts';
import { type DeliverySettlement, Inbox } from './inbox.ts';
import { bareText, parseJid } from './jid.ts';
import { keptStanza, STANZA_TYPE } from './kept-stanza.ts';
import { presenceElement } from './presence.ts';
import type { StanzaRouter } from './stanza-router.ts';

export interface InboxesOptions {
  readonly broker: Broker;
  readonly router: StanzaRouter;
  readonly log: Log;
  readonly userDomain: string;
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
      onClosed: (error) => this.#options.onClosed(bare, error),
      onIdle: () => {
        if (this.#inboxes.get(key) === inbox) this.#inboxes.delete(key);
        void inbox.rest();
      },
    });
    this.#inboxes.set(key, inbox);
    return inbox;
  }

  async close(): Promise<void> {
    await Promise.all(Array.from(this.#inboxes.values(), (inbox) => inbox.close()));
    this.#inboxes.clear();
  }

  #onMessage(
    directory: Directory,
    bare: string,
    delivery: {
      readonly message: Message;
      readonly to: string;
      readonly redelivered: boolean;
      readonly settlement: DeliverySettlement;
      readonly queue: string;
    },
  ): void {
    const { message, to, redelivered, settlement, queue } = delivery;
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
    const from =
      message.exchange === '' || queue !== bare
        ? queueAddress(domain, queue)
        : senderAddress(directory, domain, bare, message.exchange, message.routingKey);
    const address = { from, to, redelivered };
    const stanza = message.bodyBytes > stanzaBytesMax ? undefined : stanzaOf(message, address).plus(...delays);
    if (stanza === undefined || isLarger(stanza, stanzaBytesMax)) {
      void router.route(noticeOf(message, address));
      settlement.refused();
      return;
    }
    void router.route(stanza, settlement);
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
