/**
 * Which way a stanza goes: to whoever in this process owns the address or its domain, else over the component link of the
 * domain that it comes from, else back with an error. The registration point for owners: the users' domain, the domains
 * of exchanges, bots.
 */
import { rethrowLater } from '../../broker/assert.ts';
import type { Element } from './element.ts';
import { bareText, type Jid, parseJid, tryParseJid } from './jid.ts';
import { errorReply, StanzaError, stanzaErrorOf } from './stanza-error.ts';

/** How the sender of a stanza learns what became of it. One of the two is called, once. */
export interface Settlement {
  /** It is the receiver's now. */
  delivered(): void;
  /** It never arrived, as far as anybody knows. */
  returned(): void;
}

/** What owns an address, or all addresses of a domain. */
export interface JidOwner {
  /**
   * A stanza for one of its addresses; `from` is who sent it, proved by login or by the sender's server. An error that is
   * thrown refuses the stanza: StanzaError and BrokerError in their own words. Stanzas of one sender come in order.
   */
  onStanza(stanza: Element, to: Jid, from: Jid, settlement?: Settlement): Promise<void> | void;
  /** It calls the settlements that it is given; for others `delivered` is called when they have returned. */
  readonly settles?: boolean;
  /** Of an address in the domain of a component: the way to the users of that server is there, or is not any more. */
  onLink?(isUp: boolean): void;
}

/** The way to another server, for stanzas from one of our domains. */
export interface StanzaLink {
  send(stanza: Element, settlement?: Settlement): void;
}

export class StanzaRouter {
  readonly #owners = new Map<string, JidOwner>();
  readonly #links = new Map<string, StanzaLink>();

  /**
   * Makes `owner` the owner of an address (`bot@broker.example`) or of all addresses of a domain that have no owner of
   * their own. Throws RangeError when it has one. The returned function ends it.
   */
  register(address: string, owner: JidOwner): () => void {
    const jid = tryParseJid(address);
    if (jid === undefined || jid.resource !== '') throw new RangeError(`"${address}" is no bare address`);
    const key = bareText(jid);
    if (this.#owners.has(key)) throw new RangeError(`${key} has an owner already`);
    this.#owners.set(key, owner);
    return () => {
      if (this.#owners.get(key) === owner) this.#owners.delete(key);
    };
  }

  /** What comes from `domain` and is for nobody here leaves by `link`. */
  addLink(domain: string, link: StanzaLink): () => void {
    this.#links.set(domain, link);
    return () => this.#links.delete(domain);
  }

  /** Tells those who have an address in `domain` of the link by which it leaves. */
  tellOfLink(domain: string, isUp: boolean): void {
    for (const [address, owner] of this.#owners) if (parseJid(address).domain === domain) owner.onLink?.(isUp);
  }

  /** Is there somebody in this process for this address? */
  isLocal(jid: Jid): boolean {
    return this.#owners.has(bareText(jid)) || this.#owners.has(jid.domain);
  }

  /** Can stanzas for `jid` be sent from `domain`? */
  reaches(domain: string, jid: Jid): boolean {
    return this.isLocal(jid) || this.#links.has(domain);
  }

  /** Sends a stanza on its way; both addresses must be there. Resolves when it has been taken care of. Never throws. */
  route(stanza: Element, settlement?: Settlement): Promise<void> | void {
    const { to, from } = stanza.attributes;
    const [target, sender] = [tryParseJid(to), tryParseJid(from)];
    if (target === undefined || sender === undefined) {
      this.#refuse(stanza, new StanzaError('jid-malformed', `"${to}" is no address`), settlement);
      return undefined;
    }
    const owner = this.#owners.get(bareText(target)) ?? this.#owners.get(target.domain);
    if (owner !== undefined) return this.#hand(owner, stanza, target, sender, settlement);
    const link = this.#links.get(sender.domain);
    if (link !== undefined) link.send(stanza, settlement);
    else
      this.#refuse(
        stanza,
        new StanzaError('remote-server-not-found', `no way to ${target.domain} from here`),
        settlement,
      );
    return undefined;
  }

  #hand(
    owner: JidOwner,
    stanza: Element,
    to: Jid,
    from: Jid,
    settlement: Settlement | undefined,
  ): Promise<void> | void {
    const done = (): void => {
      if (!owner.settles) settlement?.delivered();
    };
    try {
      const result = owner.onStanza(stanza, to, from, settlement);
      if (result === undefined) done();
      else return result.then(done, (error: unknown) => this.#refuse(stanza, error, settlement));
    } catch (error) {
      this.#refuse(stanza, error, settlement);
    }
    return undefined;
  }

  #refuse(stanza: Element, error: unknown, settlement: Settlement | undefined): void {
    settlement?.returned();
    const refusal = stanzaErrorOf(error);
    if (refusal === undefined) rethrowLater(error);
    const reply = errorReply(stanza, refusal ?? new StanzaError('internal-server-error'));
    if (reply?.attributes.to !== undefined && reply.attributes.from !== undefined) void this.route(reply);
  }
}
