/**
 * The domain of the broker's own users: `NAME@localhost` for each of them, whether online or not. Owns their accounts
 * while they have sessions or something to keep.
 */
import type { Broker } from '../../broker/port.ts';
import { Account } from './account.ts';
import type { Directory } from './directory.ts';
import type { Element } from './element.ts';
import type { Inboxes } from './inboxes.ts';
import { bareText, type Jid, parseJid, tryParseJid } from './jid.ts';
import { decodeName, encode } from './local-part.ts';
import { CARBONS, OFFLINE, ROSTER } from './namespaces.ts';
import { presenceElement } from './presence.ts';
import type { RosterStore } from './roster.ts';
import { infoNode, infoReply, itemsNode, itemsReply, serveInfo } from './server-info.ts';
import { StanzaError } from './stanza-error.ts';
import type { JidOwner, Settlement, StanzaRouter } from './stanza-router.ts';
import type { StreamError } from './stream-error.ts';

export interface UserDomainOptions {
  readonly domain: string;
  readonly version: string;
  readonly broker: Broker;
  readonly router: StanzaRouter;
  readonly inboxes: Inboxes;
  readonly rosters: RosterStore;
  /** Of the virtual host in which users have their inboxes. */
  readonly directory: Directory;
  /** Domains of exchanges that this domain's users can reach. */
  readonly exchangeDomains: readonly string[];
  /** Domains of anything that may be a contact with a resource. */
  isOfExchanges(domain: string): boolean;
}

export class UserDomain implements JidOwner {
  readonly settles = true;
  readonly domain: string;
  readonly #options: UserDomainOptions;
  readonly #accounts = new Map<string, Account>();

  constructor(options: UserDomainOptions) {
    this.#options = options;
    this.domain = options.domain;
  }

  /** The bare address of a user. */
  addressOf(username: string): string {
    return `${encode(username)}@${this.domain}`;
  }

  /** The name of the user with that bare address; undefined for an address of another domain. */
  usernameOf(bare: string): string | undefined {
    const jid = tryParseJid(bare);
    return jid?.domain === this.domain && jid.local !== '' ? decodeName(jid.local).text : undefined;
  }

  /** The account of a user who exists. */
  account(username: string): Account {
    const address = this.addressOf(username);
    const existing = this.#accounts.get(address);
    if (existing !== undefined) return existing;
    const { router, inboxes, rosters, directory, isOfExchanges } = this.#options;
    const account: Account = new Account(parseJid(address), rosters.open(username), {
      router,
      get inbox() {
        return inboxes.get(directory, address);
      },
      isOfExchanges,
      usernameOf: (bare) => this.usernameOf(bare),
      onEmpty: () => {
        if (this.#accounts.get(address) === account) this.#accounts.delete(address);
      },
    });
    this.#accounts.set(address, account);
    return account;
  }

  async onStanza(stanza: Element, to: Jid, from: Jid, settlement?: Settlement): Promise<void> {
    if (to.local === '') {
      settlement?.delivered();
      this.#serve(stanza, to);
      return;
    }
    const address = bareText(to);
    const account = this.#accounts.get(address) ?? (await this.#offline(address));
    if (account === undefined) {
      settlement?.delivered();
      if (stanza.name === 'presence' && stanza.attributes.type !== 'subscribe') return;
      throw new StanzaError('service-unavailable', 'no such user');
    }
    await account.receive(stanza, to, from, settlement);
  }

  /** The account of somebody who is not here, for as long as this stanza needs it. */
  async #offline(address: string): Promise<Account | undefined> {
    const username = this.usernameOf(address);
    if (username === undefined) return undefined;
    const users = await this.#options.broker.administration.users();
    if (!users.some(({ name }) => name === username)) return undefined;
    const account = this.account(username);
    setImmediate(() => {
      if ([...account.sessions].length === 0 && this.#accounts.get(address) === account) this.#accounts.delete(address);
    });
    return account;
  }

  #serve(stanza: Element, to: Jid): void {
    const { type } = stanza.attributes;
    if (stanza.name === 'presence') return;
    if (stanza.name !== 'iq' || (type !== 'get' && type !== 'set')) throw new StanzaError('service-unavailable');
    const { router, version, exchangeDomains } = this.#options;
    const reply = serveInfo(stanza, version) ?? this.#disco(stanza, exchangeDomains);
    if (reply === undefined || to.resource !== '') throw new StanzaError('service-unavailable');
    void router.route(reply);
  }

  #disco(iq: Element, exchangeDomains: readonly string[]): Element | undefined {
    if (infoNode(iq) === '') {
      return infoReply(iq, [{ category: 'server', type: 'im', name: 'Warren' }], [ROSTER, CARBONS, OFFLINE]);
    }
    if (itemsNode(iq) === '') {
      return itemsReply(
        iq,
        exchangeDomains.map((jid) => ({ jid, name: 'Exchanges' })),
      );
    }
    return undefined;
  }

  /**
   * A user is no more: the next one of his name gets neither his sessions and contacts, nor what others have granted him.
   * What waits for him in queues is up to the caller.
   */
  forget(username: string, error: StreamError): void {
    const address = this.addressOf(username);
    const account = this.#accounts.get(address);
    this.#accounts.delete(address);
    account?.end(error);
    for (const { jid, to, asking, from, asked } of this.#options.rosters.forget(username)) {
      // Bindings go with his queue.
      if (this.#options.isOfExchanges(parseJid(jid).domain)) continue;
      if (to || asking) void this.#options.router.route(presenceElement('unsubscribe', address, jid));
      if (from || asked) void this.#options.router.route(presenceElement('unsubscribed', address, jid));
    }
  }

  /** A user's connection to the broker has been ended. */
  endUser(bare: string, error: StreamError): void {
    this.#accounts.get(bare)?.end(error);
  }

  end(error: StreamError): void {
    for (const account of [...this.#accounts.values()]) account.end(error);
  }
}
