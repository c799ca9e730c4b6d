/**
 * A user of the client port: his sessions, his contacts, his presence [RFC 6121], and his inbox, whose queue keeps what
 * comes while he is away.
 *
 * A contact in a domain of exchanges may have a resource (`logs@broker.localhost/app.#`), everybody else is a bare
 * address. When the user has asked for such a contact, its request for his presence is granted at once: nobody stands
 * behind an exchange whom he would want to keep from knowing.
 */

import { type Element, element } from './element.ts';
import type { Inbox } from './inbox.ts';
import { bareText, formatJid, type Jid, parseJid } from './jid.ts';
import { STANZA_TYPE } from './kept-stanza.ts';
import { AMQP, CARBONS, CLIENT, FORWARD, ROSTER } from './namespaces.ts';
import { presenceElement, priorityOf } from './presence.ts';
import { itemElement, type Roster, type RosterItem } from './roster.ts';
import { Session, type SessionHost, type SessionStream } from './session.ts';
import { errorReply, resultReply, StanzaError } from './stanza-error.ts';
import type { Settlement, StanzaRouter } from './stanza-router.ts';
import type { StreamError } from './stream-error.ts';

/** What an account needs of the door. */
export interface AccountHost {
  readonly router: StanzaRouter;
  /** The inbox of the account, made anew when it was not in use. */
  readonly inbox: Inbox;
  /** Is this a domain of exchanges, where contacts have resources and presence is granted at once? */
  isOfExchanges(domain: string): boolean;
  /** The name of the broker's user behind an address of the users' domain, for stanzas that are kept. */
  usernameOf(bare: string): string | undefined;
  /** The last session is over. */
  onEmpty(): void;
}

/** Of one user; one more is refused. */
export const SESSIONS_MAX = 100;
/** Addresses beyond the roster that one session tells that it is there; it cannot tell more. */
export const DIRECTED_MAX = 1000;

export class Account implements SessionHost {
  readonly jid: Jid;
  readonly bare: string;
  readonly #host: AccountHost;
  readonly #roster: Roster;
  readonly #sessions = new Map<string, Session>();
  #order = 0;

  constructor(jid: Jid, roster: Roster, host: AccountHost) {
    this.jid = jid;
    this.bare = bareText(jid);
    this.#roster = roster;
    this.#host = host;
  }

  get sessions(): Iterable<Session> {
    return this.#sessions.values();
  }

  /** A session for a stream. One that has the resource already ends. Throws StanzaError. */
  open(resource: string, stream: SessionStream, conflict: StreamError): Session {
    const former = this.#sessions.get(resource);
    if (former === undefined && this.#sessions.size >= SESSIONS_MAX)
      throw new StanzaError('resource-constraint', 'too many resources');
    const session = new Session({ ...this.jid, resource }, this, stream);
    this.#sessions.set(resource, session);
    former?.end(conflict);
    return session;
  }

  /** The session that is to be resumed under that name. */
  resumable(id: string): Session | undefined {
    return [...this.#sessions.values()].find((session) => session.id === id && session.resumable);
  }

  onEnded(session: Session): void {
    if (this.#sessions.get(session.jid.resource) === session) this.#sessions.delete(session.jid.resource);
    this.#becomeUnavailable(session, session.goodbye);
    if (this.#sessions.size === 0) this.#host.onEmpty();
  }

  /** Copies for the user's other resources [XEP-0280 §6]. */
  onReceived(session: Session, stanza: Element): void {
    if (isCarbonWorthy(stanza)) this.#carbons('received', stanza, session);
  }

  #carbons(direction: 'sent' | 'received', stanza: Element, except: Session): void {
    for (const session of this.#sessions.values()) {
      if (!session.carbons || session === except) continue;
      const copy = element(direction, CARBONS, {}, element('forwarded', FORWARD, {}, stanza));
      session.deliver(element('message', CLIENT, { from: this.bare, type: stanza.attributes.type }, copy));
    }
  }

  // ---- what the client sends

  /** A stanza from one of the user's sessions, which carries its full address. */
  send(session: Session, stanza: Element): Promise<void> | void {
    if (stanza.name === 'presence') return this.#sendPresence(session, stanza);
    if (stanza.name === 'message' && isCarbonWorthy(stanza)) this.#carbons('sent', stanza, session);
    return this.#host.router.route(stanza.attributes.to === undefined ? stanza.with({ to: this.bare }) : stanza);
  }

  #sendPresence(session: Session, stanza: Element): void {
    const { to, type } = stanza.attributes;
    switch (type) {
      case undefined:
      case 'unavailable':
        if (to !== undefined) this.#sendDirected(session, stanza, to);
        else if (type === undefined) this.#becomeAvailable(session, stanza);
        else this.#becomeUnavailable(session, stanza);
        return;
      case 'subscribe':
      case 'subscribed':
      case 'unsubscribe':
      case 'unsubscribed':
        if (to !== undefined) this.#sendSubscription(type, stanza, to);
        return;
      default:
        // Probes are the server's business, and errors about presence nobody's.
        return;
    }
  }

  #sendDirected(session: Session, stanza: Element, to: string): void {
    if (stanza.attributes.type === undefined) {
      if (session.directed.size >= DIRECTED_MAX && !session.directed.has(to))
        throw new StanzaError('resource-constraint');
      session.directed.add(to);
    } else session.directed.delete(to);
    void this.#host.router.route(stanza);
  }

  #becomeAvailable(session: Session, presence: Element): void {
    const isFirst = session.presence === undefined;
    session.presence = presence;
    session.priority = priorityOf(presence);
    this.#order += 1;
    session.order = this.#order;
    for (const item of this.#roster.items) if (item.from) this.#tell(item.jid, presence);
    for (const other of this.#sessions.values()) {
      if (other.presence === undefined) continue;
      other.deliver(presence);
      if (isFirst && other !== session) session.deliver(other.presence);
    }
    if (isFirst) {
      for (const item of this.#roster.items) {
        if (item.to) void this.#host.router.route(presenceElement('probe', session.address, item.jid));
        if (item.asked) session.deliver(presenceElement('subscribe', item.jid, this.bare));
      }
    }
    this.#host.inbox.setResource(session.address, this.bare, session.priority);
  }

  #becomeUnavailable(session: Session, presence: Element): void {
    const wasAvailable = session.presence !== undefined;
    session.presence = undefined;
    this.#host.inbox.setResource(session.address, this.bare, undefined);
    for (const to of session.directed) this.#tell(to, presence);
    session.directed.clear();
    if (!wasAvailable) return;
    for (const item of this.#roster.items) if (item.from) this.#tell(item.jid, presence);
    for (const other of this.#sessions.values()) if (other.presence !== undefined) other.deliver(presence);
  }

  #tell(to: string, presence: Element): void {
    void this.#host.router.route(presence.with({ to, id: undefined }));
  }

  /** Only a contact that is an exchange may have a resource. Throws JidError. */
  #contact(text: string): string {
    const jid = parseJid(text);
    return this.#host.isOfExchanges(jid.domain) ? formatJid(jid) : bareText(jid);
  }

  #sendSubscription(type: string, stanza: Element, to: string): void {
    const contact = this.#contact(to);
    const item = this.#roster.get(contact);
    const request = stanza.with({ from: this.bare, to: contact });
    switch (type) {
      case 'subscribe':
        if (this.#roster.full && !this.#roster.has(contact))
          throw new StanzaError('resource-constraint', 'roster full');
        if (item.to) this.#push(item);
        else this.#alter(contact, { asking: true, listed: true });
        break;
      case 'subscribed':
        // A yes that nobody has asked for means something to an exchange only: it makes the binding.
        if (item.asked) this.#grant(contact);
        else if (!this.#host.isOfExchanges(parseJid(contact).domain)) return;
        break;
      case 'unsubscribe':
        if (item.to || item.asking) this.#alter(contact, { to: false, asking: false });
        break;
      default:
        if (item.from)
          for (const session of this.#sessions.values()) if (session.presence) this.#tell(contact, session.goodbye);
        if (item.from || item.asked) this.#alter(contact, { from: false, asked: false });
    }
    void this.#host.router.route(request);
    if (type === 'subscribed') this.#tellPresence(contact);
  }

  #grant(contact: string): void {
    this.#alter(contact, { from: true, asked: false, listed: true });
  }

  /** A contact learns of every session that is available. */
  #tellPresence(contact: string): void {
    for (const { presence } of this.#sessions.values()) if (presence !== undefined) this.#tell(contact, presence);
  }

  /** Changes an item and tells the sessions that have asked for the roster. */
  #alter(jid: string, change: Partial<RosterItem>): void {
    const before = this.#roster.get(jid);
    const item = this.#roster.alter(jid, change);
    if (isShown(item)) this.#push(item);
    else if (isShown(before)) this.#push(before, true);
  }

  #push(item: RosterItem, removed = false): void {
    const query = element('query', ROSTER, { ver: String(this.#roster.version) }, itemElement(item, removed));
    for (const session of this.#sessions.values()) {
      if (session.interested) {
        session.deliver(element('iq', CLIENT, { type: 'set', id: `push-${this.#roster.version}` }, query));
      }
    }
  }

  // ---- what comes for the user

  /** A stanza for his bare address or one of his resources. Throws StanzaError. */
  receive(stanza: Element, to: Jid, from: Jid, settlement?: Settlement): Promise<void> | void {
    const session = to.resource === '' ? undefined : this.#sessions.get(to.resource);
    if (session !== undefined && !isSubscription(stanza)) {
      session.deliver(stanza, settlement ?? this.#custody(stanza));
      return undefined;
    }
    switch (stanza.name) {
      case 'presence':
        settlement?.delivered();
        this.#receivePresence(stanza, from);
        return undefined;
      case 'message':
        return this.#receiveMessage(stanza, from, settlement);
      default:
        settlement?.delivered();
        if (to.resource !== '' || bareText(from) !== this.bare) throw new StanzaError('service-unavailable');
        this.#serve(stanza, from);
        return undefined;
    }
  }

  #receiveMessage(stanza: Element, from: Jid, settlement: Settlement | undefined): Promise<void> | void {
    const { type = 'normal' } = stanza.attributes;
    if (settlement !== undefined) {
      // Of the inbox, for a session that has gone meanwhile: it finds another, or waits.
      this.#host.inbox.dropResource(stanza.attributes.to ?? '');
      settlement.returned();
      return undefined;
    }
    if (type === 'error') return undefined;
    if (type === 'groupchat') throw new StanzaError('service-unavailable');
    const ready = [...this.#sessions.values()].filter(({ presence, priority }) => presence && priority >= 0);
    if (type === 'headline') {
      for (const session of ready) session.deliver(stanza);
      return undefined;
    }
    const [best] = ready.sort((a, b) => b.priority - a.priority || b.order - a.order);
    if (best === undefined) return this.#keep(stanza, from);
    best.deliver(stanza, this.#custody(stanza));
    return undefined;
  }

  /** What becomes of a stanza that was on its way to a session that has died; nothing of one that nobody misses. */
  #custody(stanza: Element): Settlement | undefined {
    const { type = 'normal' } = stanza.attributes;
    const { router } = this.#host;
    // A message goes to the next session, or into the inbox.
    if (stanza.name === 'message' && (type === 'chat' || type === 'normal')) {
      return { delivered() {}, returned: () => void router.route(stanza.with({ to: this.bare })) };
    }
    if (stanza.name !== 'iq' || (type !== 'get' && type !== 'set')) return undefined;
    const refusal = errorReply(stanza, new StanzaError('recipient-unavailable', 'gone before he got it'));
    return { delivered() {}, returned: () => void (refusal && router.route(refusal)) };
  }

  /** In the inbox until the user comes [XEP-0160]. Only what a user has sent is kept: his name vouches for the address. */
  #keep(stanza: Element, from: Jid): Promise<void> | void {
    if (stanza.child('body') === undefined) return undefined;
    const userId = this.#host.usernameOf(bareText(from));
    if (userId === undefined)
      throw new StanzaError('recipient-unavailable', 'not here, and only users can leave messages');
    const timestamp = Math.floor(Date.now() / 1000);
    const messageId = stanza.attributes.id;
    return this.#host.inbox.put(stanza.toString(), {
      properties: { contentType: STANZA_TYPE, deliveryMode: 2, userId, timestamp, ...(messageId && { messageId }) },
    });
  }

  #receivePresence(stanza: Element, from: Jid): void {
    const { type } = stanza.attributes;
    const contact = this.#contact(formatJid(from));
    const item = this.#roster.get(contact);
    switch (type) {
      case 'subscribe':
        this.#receiveSubscribe(stanza, contact, item);
        break;
      case 'subscribed':
        if (!item.asking) return;
        this.#alter(contact, { to: true, asking: false });
        this.#show(stanza);
        break;
      case 'unsubscribe':
        if (!item.from && !item.asked) return;
        this.#alter(contact, { from: false, asked: false });
        this.#show(stanza);
        break;
      case 'unsubscribed':
        if (!item.to && !item.asking) return;
        this.#alter(contact, { to: false, asking: false });
        this.#show(stanza);
        break;
      case 'probe':
        if (item.from) this.#tellPresence(formatJid(from));
        break;
      case 'error':
        if (item.asking) this.#alter(contact, { asking: false });
        this.#show(stanza);
        break;
      default:
        this.#show(stanza);
    }
  }

  #receiveSubscribe(stanza: Element, contact: string, item: RosterItem): void {
    const isWanted = this.#host.isOfExchanges(parseJid(contact).domain) && (item.asking || item.to);
    if (item.from || isWanted) {
      if (!item.from) this.#grant(contact);
      void this.#host.router.route(presenceElement('subscribed', this.bare, contact));
      this.#tellPresence(contact);
    } else if (!item.asked) {
      if (this.#roster.full && !this.#roster.has(contact)) return;
      this.#alter(contact, { asked: true });
      this.#show(stanza);
    }
  }

  /** To every session that is available. */
  #show(stanza: Element): void {
    for (const session of this.#sessions.values()) {
      if (session.presence !== undefined) session.deliver(stanza.with({ to: session.address }));
    }
  }

  // ---- what the account itself answers to its user

  #serve(iq: Element, from: Jid): void {
    const session = this.#sessions.get(from.resource);
    const { type } = iq.attributes;
    if (session === undefined || type === 'result' || type === 'error') return;
    const [payload] = iq.elements;
    if (payload?.is('query', ROSTER)) {
      session.deliver(type === 'get' ? this.#rosterOf(session, iq, payload) : this.#setRoster(iq, payload));
    } else if (payload?.xmlns === CARBONS && type === 'set') {
      session.carbons = payload.name === 'enable';
      session.deliver(resultReply(iq));
    } else throw new StanzaError('service-unavailable');
  }

  #rosterOf(session: Session, iq: Element, query: Element): Element {
    session.interested = true;
    const ver = String(this.#roster.version);
    if (query.attributes.ver === ver) return resultReply(iq);
    const items = this.#roster.items.filter(isShown).map((item) => itemElement(item));
    return resultReply(iq, element('query', ROSTER, { ver }, ...items));
  }

  #setRoster(iq: Element, query: Element): Element {
    const items = query.elements.filter((child) => child.is('item', ROSTER));
    const [item] = items;
    if (item?.attributes.jid === undefined || items.length > 1) throw new StanzaError('bad-request');
    const contact = this.#contact(item.attributes.jid);
    if (contact === this.bare) throw new StanzaError('not-allowed', 'nobody is a contact of himself');
    if (item.attributes.subscription === 'remove') {
      if (!isShown(this.#roster.get(contact))) throw new StanzaError('item-not-found');
      this.#removeContact(contact);
      return resultReply(iq);
    }
    if (this.#roster.full && !this.#roster.has(contact)) throw new StanzaError('resource-constraint', 'roster full');
    const { name } = item.attributes;
    const groups = item.elements.filter((child) => child.is('group', ROSTER)).map(({ text }) => text);
    if (groups.includes('')) throw new StanzaError('not-acceptable', 'a group without a name');
    const { name: _, ...rest } = this.#roster.get(contact);
    this.#alter(contact, { ...rest, name: name ?? '', groups: [...new Set(groups)], listed: true });
    return resultReply(iq);
  }

  #removeContact(contact: string): void {
    const item = this.#roster.get(contact);
    this.#roster.remove(contact);
    this.#push(item, true);
    const send = (type: string): void => void this.#host.router.route(presenceElement(type, this.bare, contact));
    if (item.to || item.asking) send('unsubscribe');
    if (item.from || item.asked) {
      for (const session of this.#sessions.values()) if (session.presence) this.#tell(contact, session.goodbye);
      send('unsubscribed');
    }
  }

  /** The door is closing, or the user is gone. */
  end(error: StreamError): void {
    for (const session of [...this.#sessions.values()]) session.end(error);
  }
}

function isSubscription({ name, attributes: { type = '' } }: Element): boolean {
  return name === 'presence' && ['subscribe', 'subscribed', 'unsubscribe', 'unsubscribed', 'probe'].includes(type);
}

function isShown({ listed, to, from, asking }: RosterItem): boolean {
  return listed || to || from || asking;
}

/** Chats; not what is a copy already, nor deliveries of queues: they have one receiver. */
function isCarbonWorthy(stanza: Element): boolean {
  return (
    stanza.name === 'message' &&
    stanza.attributes.type === 'chat' &&
    !stanza.elements.some(({ xmlns, name }) => (xmlns === CARBONS && name !== 'thank-you') || xmlns === AMQP)
  );
}
