/**
 * Warren as a component of another XMPP server [XEP-0114]: one connection for one domain, which Warren opens, and opens
 * again, with growing pauses, when it is lost.
 *
 * ```
 * > header to=DOMAIN        < header id=ID        > handshake: SHA-1 of ID and secret        < handshake
 * ```
 *
 * XEP-0114 has no acknowledgements. So the link says something to itself now and then: a ping from the domain to the
 * domain, which the server has to carry back. A server handles what a component says in order; when the ping is back, all
 * before it has been taken. Then deliveries are acknowledged; those of a lost link are returned.
 */
import { createHash, randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { InvariantError } from '../../broker/assert.ts';
import { type CancelTimer, type Clock, systemClock } from '../../broker/clock.ts';
import type { Log } from '../log.ts';
import { createTrace } from '../trace.ts';
import { Backoff } from './backoff.ts';
import { type Element, element } from './element.ts';
import { InHand } from './in-hand.ts';
import { bareText, tryParseJid } from './jid.ts';
import * as ns from './namespaces.ts';
import { SilenceWatch } from './silence-watch.ts';
import { errorReply, StanzaError } from './stanza-error.ts';
import type { Settlement, StanzaLink, StanzaRouter } from './stanza-router.ts';
import { StreamError, streamErrorElement, streamErrorText } from './stream-error.ts';
import { TcpWire } from './tcp-wire.ts';
import type { WireEvents } from './wire.ts';

/** One domain as a component of one server. */
export interface ComponentOptions {
  /** As the server's configuration names the component. */
  readonly domain: string;
  /** The virtual host whose exchanges are in the domain. */
  readonly vhost: string;
  readonly host: string;
  readonly port: number;
  readonly secret: string;
}

export interface ComponentLinkOptions extends ComponentOptions {
  readonly router: StanzaRouter;
  readonly stanzaBytesMax: number;
  readonly handshakeTimeoutMs: number;
  /** A silent link is tested after this time, and given up after as much again. */
  readonly silenceMs: number;
  readonly log: Log;
  /** Default: the real one. */
  readonly clock?: Clock;
  /** The link has been opened, or lost. */
  onUp(): void;
  onDown(): void;
}

/** Pauses between attempts: the first, and the longest. */
export const PAUSE_MS_MIN = 500;
export const PAUSE_MS_MAX = 60_000;
/** A link that has been open for so long begins with the first pause again. */
export const STABLE_MS = 60_000;
/** What of the server may be in hand before its line is held back. */
export const LINK_IN_HAND_LIMITS = { count: 1000, weight: 16 * 1024 * 1024 };
const TRACE = createTrace('xmpp');

interface Outstanding {
  readonly id: string;
  readonly to: string;
  readonly settlement: Settlement;
}

export class ComponentLink implements StanzaLink, WireEvents {
  readonly #options: ComponentLinkOptions;
  #wire: TcpWire | undefined;
  #state: 'down' | 'opening' | 'handshake' | 'up' | 'closed' = 'down';
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #cancelTimer: CancelTimer = () => {};
  readonly #silence: SilenceWatch;
  /** Said, and not known to have been taken, oldest first. */
  #outstanding: Outstanding[] = [];
  /** The ping on its way, and how many of `#outstanding` were said before it. */
  #echo: { readonly id: string; readonly count: number } | undefined;
  #ids = 0;
  #echoWanted = false;
  #failure = '';
  readonly #inHand = new InHand(LINK_IN_HAND_LIMITS, (isFull) => this.#onFull(isFull));
  /** The server has been heard to speak for users of ours, and its owner been told. */
  #warned = false;

  constructor(options: ComponentLinkOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff({ minMs: PAUSE_MS_MIN, maxMs: PAUSE_MS_MAX, stableMs: STABLE_MS, clock: this.#clock });
    this.#silence = new SilenceWatch(
      options.silenceMs,
      // A line that is not read brings no sign of life.
      () => (this.#inHand.isFull ? this.#silence.heard() : this.#sendEcho()),
      () => this.#fail('no sign of life'),
    );
  }

  get up(): boolean {
    return this.#state === 'up';
  }

  /** Begins to connect. */
  start(): void {
    const { host, port, stanzaBytesMax, handshakeTimeoutMs } = this.#options;
    if (this.#state !== 'down') return;
    this.#state = 'opening';
    const socket: Socket = connect({ host, port, noDelay: true, keepAlive: true });
    const wire: TcpWire = new TcpWire(
      { socket, xmlns: ns.COMPONENT, stanzaBytesMax },
      this.#eventsOf(() => wire),
    );
    this.#wire = wire;
    socket.once('error', (error) => {
      this.#failure = error.message;
    });
    socket.once('connect', () => wire.open({ to: this.#options.domain }));
    this.#cancelTimer = this.#clock.schedule(handshakeTimeoutMs, () => this.#fail('no answer within the time limit'));
  }

  /** Says goodbye and does not come back. */
  close(): void {
    const wire = this.#wire;
    this.#state = 'closed';
    this.#cancelTimer();
    this.#silence.stop();
    this.#wire = undefined;
    this.#return();
    wire?.close();
  }

  /** Events of a wire that has been given up are nobody's. */
  #eventsOf(wire: () => TcpWire): WireEvents {
    const isCurrent = (): boolean => this.#wire === wire();
    return {
      onStreamOpen: (header) => isCurrent() && this.onStreamOpen(header),
      onElement: (element) => isCurrent() && this.onElement(element),
      onStreamClose: () => isCurrent() && this.onStreamClose(),
      onFault: (error) => isCurrent() && this.onFault(error),
      onGone: () => isCurrent() && this.onGone(),
    };
  }

  // ---- the stream

  onStreamOpen({ attributes: { id = '' } }: Element): void {
    this.#state = 'handshake';
    const digest = createHash('sha1').update(id).update(this.#options.secret).digest('hex');
    this.#wire?.send(element('handshake', ns.CLIENT, {}, digest));
  }

  onElement(element: Element): void {
    this.#silence.heard();
    if (TRACE.enabled) TRACE.line('<', this.#options.domain, String(element));
    if (element.is('error', ns.STREAMS)) this.#fail(streamErrorText(element));
    else if (this.#state === 'handshake' && element.is('handshake', ns.CLIENT)) this.#onUp();
    else if (this.#state === 'up') this.#onStanza(element);
  }

  onStreamClose(): void {
    this.#fail('the server has closed the stream');
  }

  onFault(error: unknown): void {
    if (error instanceof InvariantError) throw error;
    const { domain, log } = this.#options;
    const isTheirs = error instanceof StreamError;
    if (!isTheirs) log.error({ domain, err: error }, 'XMPP component link closed over a defect of Warren');
    const fault = isTheirs ? error : new StreamError('internal-server-error');
    this.#wire?.send(streamErrorElement(fault));
    this.#fail(`${fault.condition} ${fault.message}`);
  }

  onGone(): void {
    this.#fail(this.#failure || 'the connection is gone');
  }

  #onUp(): void {
    this.#state = 'up';
    this.#backoff.connected();
    this.#cancelTimer();
    const { domain, host, port, log } = this.#options;
    log.info({ domain, server: `${host}:${port}` }, 'XMPP component link open');
    this.#silence.start();
    if (this.#inHand.isFull) this.#wire?.pause();
    this.#options.onUp();
  }

  #fail(reason: string): void {
    if (this.#state === 'closed' || this.#state === 'down') return;
    const wasUp = this.#state === 'up';
    const { domain, host, port, log } = this.#options;
    const pauseMs = this.#backoff.nextMs();
    const wire = this.#wire;
    this.#wire = undefined;
    this.#state = 'down';
    this.#cancelTimer();
    this.#silence.stop();
    wire?.close();
    log.warn({ domain, server: `${host}:${port}`, againInMs: pauseMs }, `XMPP component link not open: ${reason}`);
    if (wasUp) this.#options.onDown();
    this.#return();
    this.#cancelTimer = this.#clock.schedule(pauseMs, () => this.start());
  }

  /** What the server may not have taken goes back to where it came from. */
  #return(): void {
    const outstanding = this.#outstanding;
    this.#outstanding = [];
    this.#echo = undefined;
    for (const { settlement } of outstanding) settlement.returned();
  }

  // ---- stanzas

  #onStanza(stanza: Element): void {
    const { id, from, to, type } = stanza.attributes;
    const { domain, router } = this.#options;
    const [sender, target] = [tryParseJid(from), tryParseJid(to)];
    if (sender === undefined || target?.domain !== domain) return;
    if (sender.domain === domain) {
      // Of ourselves we hear echoes only. On its way there it is a question, which is not answered: that it is here says
      // all. Some servers refuse it instead.
      if (stanza.name === 'iq' && this.#echo !== undefined && id === this.#echo.id) this.#onEcho(this.#echo.count);
      return;
    }
    if (router.isLocal(sender)) {
      this.#refuseImpostor(stanza, sender.domain);
      return;
    }
    if (stanza.name === 'message' && type === 'error' && this.#onBounce(id, from)) return;
    // Whatever the server has to say, no more of it than some is in hand at a time.
    const taken = router.route(stanza);
    if (taken !== undefined) void taken.then(this.#inHand.begin(stanza));
  }

  /** A server does not speak for our own users: it would have their rights. One that has our domain by mistake is told. */
  #refuseImpostor(stanza: Element, theirs: string): void {
    const { domain, log } = this.#options;
    const text = `the domain ${theirs} is Warren's own (xmpp-user-domain, xmpp-domains); no other server's users can have it`;
    if (!this.#warned) log.warn({ domain }, `XMPP component link: stanzas refused: ${text}`);
    this.#warned = true;
    const reply = errorReply(stanza, new StanzaError('not-allowed', text));
    if (reply !== undefined) this.#say(reply);
  }

  #onFull(isFull: boolean): void {
    if (isFull) this.#wire?.pause();
    else this.#wire?.resume();
  }

  /** A stanza that cannot be delivered now: the receiver is not what it was said to be. */
  #onBounce(id: string | undefined, from: string | undefined): boolean {
    const index = this.#outstanding.findIndex((one) => one.id === id && one.to === from);
    const [bounced] = index < 0 ? [] : this.#outstanding.splice(index, 1);
    if (bounced === undefined) return false;
    if (this.#echo !== undefined && index < this.#echo.count) {
      this.#echo = { ...this.#echo, count: this.#echo.count - 1 };
    }
    const { router, domain } = this.#options;
    const jid = tryParseJid(from);
    if (jid !== undefined) {
      // As its server would say it, to whoever of us believes otherwise.
      void router.route(element('presence', ns.CLIENT, { type: 'error', from, to: domain }));
      bounced.settlement.returned();
      return bareText(jid) !== '';
    }
    return false;
  }

  send(stanza: Element, settlement?: Settlement): void {
    if (this.#state !== 'up') {
      settlement?.returned();
      return;
    }
    if (settlement === undefined) {
      this.#say(stanza);
      return;
    }
    // By its id a stanza that comes back is known.
    this.#ids += 1;
    const id = stanza.attributes.id ?? `w${this.#ids}`;
    this.#say(stanza.with({ id }));
    this.#outstanding.push({ id, to: stanza.attributes.to ?? '', settlement });
    this.#wantEcho();
  }

  #say(stanza: Element): void {
    if (TRACE.enabled) TRACE.line('>', this.#options.domain, String(stanza));
    this.#wire?.send(stanza);
  }

  #wantEcho(): void {
    if (this.#echoWanted || this.#echo !== undefined) return;
    this.#echoWanted = true;
    setImmediate(() => {
      this.#echoWanted = false;
      if (this.#echo === undefined && this.#outstanding.length > 0) this.#sendEcho();
    });
  }

  #sendEcho(): void {
    if (this.#state !== 'up' || this.#echo !== undefined) return;
    const { domain } = this.#options;
    // Not to be guessed: whoever could answer for it would have messages forgotten that nobody has.
    const id = `echo-${randomBytes(9).toString('base64url')}`;
    this.#echo = { id, count: this.#outstanding.length };
    this.#wire?.send(element('iq', ns.CLIENT, { type: 'get', id, from: domain, to: domain }, element('ping', ns.PING)));
  }

  #onEcho(count: number): void {
    this.#echo = undefined;
    for (const { settlement } of this.#outstanding.splice(0, count)) settlement.delivered();
    if (this.#outstanding.length > 0) this.#wantEcho();
  }
}
