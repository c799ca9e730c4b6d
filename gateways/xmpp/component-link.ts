/**
 * Warren as a component of another XMPP server [XEP-0114]: one connection for one domain, which Warren opens, and opens
 * again, with growing pauses, when it is lost.
 *
 * ```
 * > header to=DOMAIN        < header id=ID        > handshake: SHA-1 of ID and secret        < handshake
 * ```
 *
 * What becomes of deliveries is in custody.ts; those of a lost link are returned.
 */
import { createHash } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { InvariantError } from '../../broker/assert.ts';
import { type CancelTimer, type Clock, systemClock } from '../../broker/clock.ts';
import type { Log } from '../log.ts';
import { createTrace } from '../trace.ts';
import { Backoff } from './backoff.ts';
import { Custody } from './custody.ts';
import { type Element, element } from './element.ts';
import { InHand } from './in-hand.ts';
import { tryParseJid } from './jid.ts';
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

export class ComponentLink implements StanzaLink, WireEvents {
  readonly #options: ComponentLinkOptions;
  #wire: TcpWire | undefined;
  #state: 'down' | 'opening' | 'handshake' | 'up' | 'closed' = 'down';
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  #cancelTimer: CancelTimer = () => {};
  readonly #silence: SilenceWatch;
  readonly #custody: Custody;
  #failure = '';
  readonly #inHand = new InHand(LINK_IN_HAND_LIMITS, (isFull) => this.#onFull(isFull));
  /** The server has been heard to speak for users of ours, and its owner been told. */
  #warned = false;

  constructor(options: ComponentLinkOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff({ minMs: PAUSE_MS_MIN, maxMs: PAUSE_MS_MAX, stableMs: STABLE_MS, clock: this.#clock });
    const { domain } = options;
    this.#custody = new Custody({
      domain,
      clock: this.#clock,
      say: (stanza) => this.#say(stanza),
      onUnreachable: (address) => this.#tellOfError(address),
    });
    this.#silence = new SilenceWatch(
      options.silenceMs,
      // A line that is not read brings no sign of life.
      () => (this.#inHand.isFull ? this.#silence.heard() : this.#askForLife()),
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
    this.#custody.giveUp();
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
    this.#custody.giveUp();
    this.#cancelTimer = this.#clock.schedule(pauseMs, () => this.start());
  }

  /** The server carries it back, which is a sign of life, and is not answered. */
  #askForLife(): void {
    const { domain } = this.#options;
    this.#say(
      element('iq', ns.CLIENT, { type: 'get', id: 'alive', from: domain, to: domain }, element('ping', ns.PING)),
    );
  }

  // ---- stanzas

  #onStanza(stanza: Element): void {
    const { id, from, to, type } = stanza.attributes;
    const { domain, router } = this.#options;
    const [sender, target] = [tryParseJid(from), tryParseJid(to)];
    if (sender === undefined || target?.domain !== domain) return;
    const isOurs = stanza.name === 'iq' && this.#custody.onIq(stanza);
    // Of ourselves we hear pings only.
    if (isOurs || sender.domain === domain) return;
    if (router.isLocal(sender)) {
      this.#refuseImpostor(stanza, sender.domain);
      return;
    }
    if (stanza.name === 'message' && type === 'error' && this.#onBounce(id, from)) return;
    // His presence is passed on in this turn: what is returned finds out that he has gone.
    if (stanza.name === 'presence' && (type === 'unavailable' || type === 'error')) this.#custody.onGone(from);
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
    if (!this.#custody.onBounce(id, from)) return false;
    this.#tellOfError(from);
    return true;
  }

  /** As its server would say it, to whoever of us believes that he is there. */
  #tellOfError(from: string | undefined): void {
    const { router, domain } = this.#options;
    void router.route(element('presence', ns.CLIENT, { type: 'error', from, to: domain }));
  }

  send(stanza: Element, settlement?: Settlement): void {
    if (this.#state !== 'up') settlement?.returned();
    else if (settlement === undefined) this.#say(stanza);
    else this.#custody.send(stanza, settlement);
  }

  #say(stanza: Element): void {
    if (TRACE.enabled) TRACE.line('>', this.#options.domain, String(stanza));
    this.#wire?.send(stanza);
  }
}
