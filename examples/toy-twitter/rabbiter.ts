/**
 * Rabbiter: Toy Twitter behind a single XMPP address. Whoever adds it to his contacts has an exchange and an inbox; what he
 * writes to it goes to those who follow him, and what is said by those whom he follows comes from it. Lines that begin with
 * a star are commands (rabbiter-commands.ts). After the bot of 2008 for ejabberd, in its manners though not in its words.
 *
 * It owns its address in Warren's XMPP door, and so serves the users of Warren's own client port as well as, in the domain
 * of a component, those of ejabberd, Prosody and every server that these are in touch with.
 *
 * ```
 * user                    bot
 *   subscribe  ────────▶        he adds it to his contacts
 *              ◀──────── subscribe      may I see when you are there?
 *   subscribed ────────▶        exchange and inbox are made
 *              ◀──────── subscribed, presence, a welcome
 *   presence   ────────▶        the inbox is read to the resource with the highest priority
 *   unavailable ───────▶        what comes waits in the inbox
 *   unsubscribe ───────▶        exchange and inbox are deleted
 * ```
 */
import { type Element, element, type Jid, type JidOwner, type Settlement, StanzaError } from 'warren/xmpp';
import { Flood } from './flood.ts';
import { type Names, TwitterError } from './names.ts';
import { type Deed, isNews, type Post } from './posts.ts';
import { answerCommand, readLine } from './rabbiter-commands.ts';
import { Resources } from './resources.ts';
import type { Settle, Timeline } from './timeline.ts';
import type { Joined, Twitter } from './twitter.ts';
import { noticeOf } from './wording.ts';

const CLIENT = 'jabber:client';
const DELAY = 'urn:xmpp:delay';
const DISCO_INFO = 'http://jabber.org/protocol/disco#info';
const PING = 'urn:xmpp:ping';

/** Lines of one person: so many in a row, then one in so many milliseconds. */
export const LINES_AT_ONCE = 20;
const LINE_EVERY_MS = 1000;
/** People who are read to at a time, each over a channel of one AMQP connection. */
export const READERS_MAX = 2000;
/** What is younger has not waited. */
const DELAY_MIN_MS = 5000;
/** After a reading that failed. */
const AGAIN_MS = 5000;

export interface RabbiterOptions {
  /** Its own bare address. */
  readonly address: string;
  readonly twitter: Twitter;
  readonly names: Names;
  /** Are people of that name its business? */
  serves(name: string): boolean;
  send(stanza: Element, settlement?: Settlement): void;
  /** Default READERS_MAX. */
  readonly readersMax?: number;
  /** What went wrong for reasons of our own, or of the broker's. */
  onDefect(error: unknown): void;
}

/** Somebody who is there, or was lately. */
interface Presence {
  readonly resources: Resources;
  timeline: Timeline | undefined;
  again: NodeJS.Timeout | undefined;
}

export class Rabbiter implements JidOwner {
  readonly #options: RabbiterOptions;
  readonly #lines = new Flood(LINES_AT_ONCE, LINE_EVERY_MS);
  /** Those who have been told to slow down and have not been heard since. */
  readonly #warned = new Set<string>();
  readonly #present = new Map<string, Presence>();
  /** One thing after the other, for each person. */
  readonly #turns = new Map<string, Promise<void>>();
  #closed = false;

  constructor(options: RabbiterOptions) {
    this.#options = options;
  }

  /** Asks all who have added it whether they are there. */
  async start(): Promise<void> {
    const { address, twitter } = this.#options;
    const graph = await twitter.graph();
    for (const name of graph.contactsOf(address)) {
      this.#sendPresence('probe', name);
      this.#sendPresence(undefined, name);
    }
  }

  /** The way to the users of another server is there, or is not any more: nobody is known to be there, then. */
  onLink(isUp: boolean): void {
    for (const [name, { resources }] of this.#present) {
      resources.clear();
      this.#inTurn(name, () => this.#settleReading(name));
    }
    if (isUp) this.#inTurn('', () => this.start());
  }

  /** Says goodbye to all who are there; what they have not got waits for them. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const [name, { timeline, again }] of this.#present) {
      clearTimeout(again);
      this.#sendPresence('unavailable', name);
      await timeline?.close();
    }
    await Promise.all(this.#turns.values());
  }

  onStanza(stanza: Element, _to: Jid, from: Jid): void {
    switch (stanza.name) {
      case 'presence':
        this.#onPresence(stanza, from);
        break;
      case 'message':
        this.#onMessage(stanza, from);
        break;
      default:
        this.#onIq(stanza);
    }
  }

  // ---- presence

  #onPresence(stanza: Element, from: Jid): void {
    const name = this.#nameOf(from);
    const { type } = stanza.attributes;
    if (name === undefined) {
      if (type === 'subscribe') this.#refuse(from);
      return;
    }
    const full = addressOf(from);
    switch (type) {
      case 'subscribe':
        this.#sendPresence('subscribe', name);
        break;
      case 'subscribed':
        this.#inTurn(name, () => this.#onSubscribed(name));
        break;
      case 'unsubscribe':
      case 'unsubscribed':
        this.#inTurn(name, () => this.#onUnsubscribed(name, type));
        break;
      case 'probe':
        this.#inTurn(name, () => this.#onProbe(name, full));
        break;
      case undefined:
        this.#inTurn(name, () => this.#onAvailable(name, full, priorityOf(stanza)));
        break;
      case 'unavailable':
      case 'error':
        this.#inTurn(name, () => this.#onUnavailable(name, from.resource === '' ? undefined : full));
        break;
      default:
    }
  }

  async #onSubscribed(name: string): Promise<void> {
    const { twitter, address } = this.#options;
    const wasContact = (await twitter.graph()).isContact(name);
    const joined = await twitter.join(name);
    if (!wasContact) await twitter.addContact(name, address);
    this.#sendPresence('subscribed', name);
    this.#sendPresence(undefined, name);
    const isKnown = joined === 'already' && wasContact;
    if (!isKnown) this.#say(this.#options.names.address(name), welcome(this.#options.names.address(name), joined));
  }

  async #onUnsubscribed(name: string, type: 'unsubscribe' | 'unsubscribed'): Promise<void> {
    const { twitter } = this.#options;
    const wasContact = (await twitter.graph()).isContact(name);
    this.#present.get(name)?.resources.clear();
    await this.#settleReading(name);
    if (wasContact) await twitter.leave(name);
    if (wasContact || type === 'unsubscribe') this.#sendPresence('unsubscribed', name);
    if (wasContact && type === 'unsubscribe') this.#sendPresence('unsubscribe', name);
  }

  async #onProbe(name: string, full: string): Promise<void> {
    const isContact = (await this.#options.twitter.graph()).isContact(name);
    this.#presenceTo(full, isContact ? undefined : 'unsubscribed');
  }

  async #onAvailable(name: string, full: string, priority: number): Promise<void> {
    const graph = await this.#options.twitter.graph();
    // A presence of somebody who has not finished adding it means nothing yet.
    if (!graph.isContact(name)) return;
    const presence = this.#present.get(name) ?? { resources: new Resources(), timeline: undefined, again: undefined };
    const isFirst = !presence.resources.has(full);
    this.#present.set(name, presence);
    presence.resources.set(full, priority);
    if (isFirst) this.#presenceTo(full, undefined);
    await this.#settleReading(name);
  }

  async #onUnavailable(name: string, full: string | undefined): Promise<void> {
    const resources = this.#present.get(name)?.resources;
    if (full === undefined) resources?.clear();
    else resources?.delete(full);
    await this.#settleReading(name);
  }

  // ---- reading

  /** Begins, goes on with or ends reading somebody's inbox to him, as his resources have it. */
  async #settleReading(name: string): Promise<void> {
    const presence = this.#present.get(name);
    if (presence === undefined || this.#closed) return;
    const { best } = presence.resources;
    if (best === undefined) {
      clearTimeout(presence.again);
      const { timeline } = presence;
      presence.timeline = undefined;
      if (presence.resources.isEmpty) this.#present.delete(name);
      await timeline?.close();
      return;
    }
    if (presence.timeline !== undefined) {
      await presence.timeline.setPriority(best.priority);
      return;
    }
    const { readersMax = READERS_MAX } = this.#options;
    if (this.#present.size > readersMax) {
      this.#say(best.address, 'Too many are here at the moment. What comes for you will wait; please come back later.');
      return;
    }
    presence.timeline = await this.#options.twitter.timeline(name, {
      priority: best.priority,
      onItem: (item, settle) => this.#deliver(name, item, settle),
      onEnd: () => this.#onReadingEnded(name, presence),
    });
  }

  /** Somebody has deleted the inbox, or the broker has given up on us. */
  #onReadingEnded(name: string, presence: Presence): void {
    presence.timeline = undefined;
    if (this.#closed) return;
    clearTimeout(presence.again);
    presence.again = setTimeout(() => this.#inTurn(name, () => this.#settleReading(name)), AGAIN_MS);
    presence.again.unref();
  }

  #deliver(name: string, item: Post | Deed | undefined, settle: Settle): void {
    if (!isNews(item, name)) {
      settle.taken();
      return;
    }
    const presence = this.#present.get(name);
    const best = presence?.resources.best;
    if (presence === undefined || best === undefined) {
      settle.returned();
      return;
    }
    const [id, at] = item?.kind === 'post' ? [item.id || undefined, item.at] : [undefined, new Date()];
    const isLate = Date.now() - at.getTime() > DELAY_MIN_MS;
    const delay = isLate ? element('delay', DELAY, { stamp: at.toISOString() }) : undefined;
    const body = element('body', CLIENT, {}, this.#textOf(item, name));
    const { address } = this.#options;
    this.#options.send(element('message', CLIENT, { type: 'chat', from: address, to: best.address, id }, body, delay), {
      delivered: () => settle.taken(),
      returned: () => {
        // It is not there, whatever was said of it.
        presence.resources.delete(best.address);
        settle.returned();
        this.#inTurn(name, () => this.#settleReading(name));
      },
    });
  }

  #textOf(item: Post | Deed | undefined, reader: string): string {
    const { names } = this.#options;
    if (item === undefined) return 'Something odd has come for you that I do not understand.';
    if (item.kind === 'deed') return noticeOf(item, names.address(item.who));
    const { author, text, exchange } = item;
    if (author === undefined) return `The exchange '${exchange}' has sent you a message:\n${text}`;
    if (/^\/me\b/.test(text)) return `${names.address(author)}${text.slice('/me'.length)}`;
    return `from ${author === reader ? 'you' : names.address(author)}: ${text}`;
  }

  // ---- what is written to it

  #onMessage(stanza: Element, from: Jid): void {
    const { type } = stanza.attributes;
    const text = stanza.child('body')?.text.replace(/^\u{feff}/u, '') ?? '';
    if (type === 'error' || type === 'headline' || text.trim() === '') return;
    if (type === 'groupchat') throw new StanzaError('service-unavailable');
    const name = this.#nameOf(from);
    if (name === undefined) {
      this.#refuse(from);
      return;
    }
    const full = addressOf(from);
    if (!this.#lines.allows(name)) {
      if (!this.#warned.has(name))
        this.#say(full, 'Not so fast, please: that was more than I can carry. Wait a little.');
      this.#warned.add(name);
      return;
    }
    this.#warned.delete(name);
    this.#inTurn(name, async () => {
      const answer = await this.#answer(name, text);
      if (answer !== undefined) this.#say(full, answer);
    });
  }

  /** Does what a line says; what to say to it, if anything. */
  async #answer(name: string, text: string): Promise<string | undefined> {
    const { twitter, names } = this.#options;
    const line = readLine(text);
    const graph = await twitter.graph();
    if (!graph.isContact(name) && line.command !== 'help') {
      this.#sendPresence('subscribe', name);
      return (
        'We are not through with getting to know each other: I may not see yet when you are there. I have asked you ' +
        'once more; when you have said yes, please try this again.'
      );
    }
    try {
      return await answerCommand(line, { me: name, twitter, names, graph, invite: (whom) => this.#invite(whom) });
    } catch (error) {
      if (error instanceof TwitterError) return error.message;
      throw error;
    }
  }

  #invite(name: string): boolean {
    if (!this.#options.serves(name)) return false;
    this.#sendPresence('subscribe', name);
    return true;
  }

  #onIq(iq: Element): void {
    const { type, from, to, id } = iq.attributes;
    if (type === 'result' || type === 'error') return;
    const [payload] = iq.elements;
    const reply = (...content: Element[]): void =>
      this.#options.send(element('iq', CLIENT, { type: 'result', from: to, to: from, id }, ...content));
    if (type === 'get' && payload?.is('query', DISCO_INFO)) {
      const identity = element('identity', DISCO_INFO, { category: 'client', type: 'bot', name: 'Rabbiter' });
      const features = [DISCO_INFO, PING].map((feature) => element('feature', DISCO_INFO, { var: feature }));
      reply(element('query', DISCO_INFO, {}, identity, ...features));
    } else if (type === 'get' && payload?.is('ping', PING)) reply();
    else throw new StanzaError('service-unavailable');
  }

  // ---- what it is made of

  /** Who that is; undefined for somebody whom it has no name for, or who is not its business. */
  #nameOf({ local, domain }: Jid): string | undefined {
    if (local === '') return undefined;
    try {
      const name = this.#options.names.read(`${local}@${domain}`);
      return this.#options.serves(name) ? name : undefined;
    } catch (error) {
      if (error instanceof TwitterError) return undefined;
      throw error;
    }
  }

  #refuse(from: Jid): void {
    if (from.local === '') return;
    const bare = `${from.local}@${from.domain}`;
    this.#say(bare, 'I am sorry, but I cannot serve an address like yours.');
    this.#presenceTo(bare, 'unsubscribed');
  }

  #sendPresence(type: string | undefined, name: string): void {
    this.#presenceTo(this.#options.names.address(name), type);
  }

  #presenceTo(to: string, type: string | undefined): void {
    this.#options.send(element('presence', CLIENT, { type, from: this.#options.address, to }));
  }

  #say(to: string, text: string): void {
    const body = element('body', CLIENT, {}, text);
    this.#options.send(element('message', CLIENT, { type: 'chat', from: this.#options.address, to }, body));
  }

  /** What one person asks for is done in the order in which he asked. */
  #inTurn(name: string, act: () => Promise<void>): void {
    const before = this.#turns.get(name) ?? Promise.resolve();
    const turn = before.then(act).catch((error: unknown) => {
      // Of a place that is being closed nothing else is to be expected.
      if (this.#closed) return;
      const address = name === '' ? undefined : this.#options.names.address(name);
      if (address !== undefined) this.#say(address, 'Something has gone wrong here. Please try that again.');
      this.#options.onDefect(error);
    });
    this.#turns.set(name, turn);
    void turn.then(() => {
      if (this.#turns.get(name) === turn) this.#turns.delete(name);
    });
  }
}

function addressOf({ local, domain, resource }: Jid): string {
  return `${local}@${domain}${resource === '' ? '' : `/${resource}`}`;
}

/** -128 to 127; 0 when it is none. */
function priorityOf(presence: Element): number {
  const priority = Number(presence.child('priority')?.text.trim() || 0);
  return Number.isInteger(priority) && priority >= -128 && priority <= 127 ? priority : 0;
}

function welcome(address: string, joined: Joined): string {
  if (joined === 'back') {
    return (
      `Welcome back, ${address}. When you removed me, whom you followed and who followed you was forgotten; ` +
      'you will have to begin anew.'
    );
  }
  return (
    `Hello, ${address}. I am Rabbiter. What you write to me goes to everybody who follows you, and what is said by ` +
    'those whom you follow comes to you from me. Write help to learn how to get along with me.'
  );
}
