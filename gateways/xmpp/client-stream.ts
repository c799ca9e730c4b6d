/**
 * One connection of a client, from its first octet to its last, over TCP, TLS or WebSocket:
 *
 * ```
 * header > features (STARTTLS, SASL) > STARTTLS > header > SASL > header > bind or resume > stanzas
 * ```
 *
 * What is about users is in the session and the account. Elements that take their time (a login) hold the stream back:
 * nothing overtakes them.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { InvariantError } from '../../broker/assert.ts';
import type { Principal } from '../../broker/port.ts';
import { createTrace } from '../trace.ts';
import type { Account } from './account.ts';
import { type Element, element } from './element.ts';
import { tryParseJid } from './jid.ts';
import * as ns from './namespaces.ts';
import type { ResolvedOptions } from './options.ts';
import { mechanismsFor, SaslError, type SaslLogin } from './sasl.ts';
import type { Session, SessionStream } from './session.ts';
import { errorReply, resultReply, StanzaError, stanzaErrorOf } from './stanza-error.ts';
import { StreamError, streamErrorElement } from './stream-error.ts';
import { OverAcknowledged, readCount } from './stream-management.ts';
import type { Wire, WireEvents } from './wire.ts';

const TRACE = createTrace('xmpp');

/** Logins that may fail on one connection. */
export const LOGIN_FAILURES_MAX = 3;
/** Stanzas of a client that may be in hand at a time before its stream is held back. */
const IN_HAND_MAX = 64;
/** Octets that a client does not read before it is cut off. */
export const STUCK_BYTES = 16 * 1024 * 1024;

/** What a client stream needs of the door. */
export interface ClientHost {
  readonly options: ResolvedOptions;
  login(peer: ClientPeer): SaslLogin;
  account(principal: Principal): Account;
  /** Publishers are held back (memory, disk): resolves when they are not, at once or later. */
  untilPublishable(): Promise<void> | undefined;
}

/** What is known about the other end. */
export interface ClientPeer {
  readonly name: string;
  readonly loopback: boolean;
  readonly encrypted: boolean;
  readonly certificateName?: string;
}

/** What differs between TCP and WebSocket. */
export interface ClientTransport {
  readonly wire: Wire;
  readonly peer: ClientPeer;
  /** Goes on inside TLS; absent where that cannot be. The peer as it is then comes later, by `secured`. */
  startTls?(): void;
}

type State = 'opening' | 'login' | 'binding' | 'bound' | 'closed';

export class ClientStream implements WireEvents, SessionStream {
  readonly #host: ClientHost;
  readonly #onEnded: () => void;
  #transport: ClientTransport | undefined;
  #state: State = 'opening';
  #peer: ClientPeer;
  #login: SaslLogin | undefined;
  #failures = 0;
  #account: Account | undefined;
  #session: Session | undefined;
  #opened = false;
  #handshake: NodeJS.Timeout;
  #silence: NodeJS.Timeout | undefined;
  #heard = false;
  #ackWanted = false;
  #ackRequested = false;
  /** Elements that wait for one that takes its time. */
  readonly #waiting: Element[] = [];
  #busy = false;
  #held = false;

  constructor(host: ClientHost, peer: ClientPeer, onEnded: () => void) {
    this.#host = host;
    this.#peer = peer;
    this.#onEnded = onEnded;
    this.#handshake = setTimeout(
      () => this.#fail(new StreamError('connection-timeout', 'no session within the time limit')),
      host.options.handshakeTimeoutMs,
    );
  }

  /** To be called once, before anything comes. */
  attach(transport: ClientTransport): void {
    this.#transport = transport;
  }

  get #wire(): Wire {
    if (this.#transport === undefined) throw new Error('no transport');
    return this.#transport.wire;
  }

  /** The connection is inside TLS now. */
  secured(peer: ClientPeer): void {
    this.#peer = peer;
    this.#state = 'opening';
  }

  /** The door closes. */
  shutDown(): void {
    const error = new StreamError('system-shutdown', 'the broker is shutting down');
    if (this.#session !== undefined) this.#session.end(error);
    else this.end(error);
  }

  // ---- the wire

  onStreamOpen(header: Element): void {
    this.#heard = true;
    const { to, from, version } = header.attributes;
    const { userDomain } = this.#host.options;
    const isFraming = header.xmlns === ns.FRAMING;
    this.#opened = true;
    this.#wire.open({
      from: userDomain,
      to: tryParseJid(from) && from,
      id: randomBytes(12).toString('base64url'),
      version: '1.0',
      'xml:lang': 'en',
    });
    if (!isFraming && (header.xmlns !== ns.STREAMS || header.name !== 'stream')) {
      throw new StreamError('invalid-namespace', 'not a stream');
    }
    if (!isFraming && header.attributes.xmlns !== ns.CLIENT) {
      throw new StreamError('invalid-namespace', `this port speaks ${ns.CLIENT}`);
    }
    if (version === undefined || !/^[1-9]\d*\.\d+$/.test(version))
      throw new StreamError('unsupported-version', 'XMPP 1.0');
    if (to !== undefined && tryParseJid(to)?.domain !== userDomain) {
      throw new StreamError('host-unknown', `users here are in the domain ${userDomain} (xmpp-user-domain)`);
    }
    if (this.#state === 'opening') this.#state = 'login';
    this.#send(this.#features());
  }

  onElement(element: Element): void {
    this.#heard = true;
    if (TRACE.enabled)
      TRACE.line('<', this.#peer.name, element.xmlns === ns.SASL ? `<${element.name}…/>` : String(element));
    if (this.#busy) this.#waiting.push(element);
    else this.#take(element);
  }

  onStreamClose(): void {
    // A goodbye: nothing is kept for coming back.
    const session = this.#session;
    this.#session = undefined;
    session?.end(undefined);
    this.#close(undefined);
  }

  onFault(error: unknown): void {
    if (!(error instanceof StreamError)) {
      if (error instanceof InvariantError) throw error;
      this.#host.options.log.error({ peer: this.#peer.name, err: error }, 'XMPP stream closed over a defect of Warren');
      this.#fail(new StreamError('internal-server-error'));
      return;
    }
    if (!this.#opened) {
      this.#opened = true;
      this.#wire.open({
        from: this.#host.options.userDomain,
        id: randomBytes(12).toString('base64url'),
        version: '1.0',
      });
    }
    this.#fail(error);
  }

  onGone(): void {
    clearTimeout(this.#handshake);
    clearTimeout(this.#silence);
    this.#state = 'closed';
    this.#session?.detach(this, this.#host.options.resumeMs);
    this.#session = undefined;
    this.#onEnded();
  }

  // ---- negotiation

  get #mayLogIn(): boolean {
    const { withoutTls } = this.#host.options;
    return this.#peer.encrypted || withoutTls === 'everyone' || (withoutTls === 'loopback' && this.#peer.loopback);
  }

  #features(): Element {
    if (this.#account !== undefined) {
      return element(
        'features',
        ns.STREAMS,
        {},
        element('bind', ns.BIND),
        element('session', ns.SESSION, {}, element('optional', ns.SESSION)),
        element('sm', ns.STREAM_MANAGEMENT),
        element('ver', ns.ROSTER_VERSIONING),
      );
    }
    const canStartTls = !this.#peer.encrypted && this.#transport?.startTls !== undefined;
    const required = this.#mayLogIn ? undefined : element('required', ns.TLS);
    const mechanisms = mechanismsFor(this.#peer).map((name) => element('mechanism', ns.SASL, {}, name));
    return element(
      'features',
      ns.STREAMS,
      {},
      canStartTls ? element('starttls', ns.TLS, {}, required) : undefined,
      this.#mayLogIn ? element('mechanisms', ns.SASL, {}, ...mechanisms) : undefined,
    );
  }

  #take(element: Element): void {
    switch (this.#state) {
      case 'login':
        this.#takeLogin(element);
        return;
      case 'binding':
        this.#takeBinding(element);
        return;
      case 'bound':
        this.#takeBound(element);
        return;
      case 'opening':
      case 'closed':
        return;
    }
  }

  #takeLogin(request: Element): void {
    if (request.is('starttls', ns.TLS)) {
      const startTls = this.#transport?.startTls;
      if (this.#peer.encrypted || startTls === undefined) {
        this.#send(element('failure', ns.TLS));
        this.#close(undefined);
        return;
      }
      this.#send(element('proceed', ns.TLS));
      startTls();
      return;
    }
    if (request.xmlns !== ns.SASL) throw new StreamError('not-authorized', 'log in first');
    if (!this.#mayLogIn) throw new StreamError('policy-violation', 'STARTTLS first (xmpp-without-tls)');
    this.#hold(this.#authenticate(request));
  }

  async #authenticate(request: Element): Promise<void> {
    this.#login ??= this.#host.login(this.#peer);
    try {
      const step = await this.#login.next(request);
      if ('challenge' in step) {
        this.#send(element('challenge', ns.SASL, {}, encodeOctets(step.challenge)));
        return;
      }
      this.#account = this.#host.account(step.principal);
      this.#state = 'binding';
      const success = step.success === undefined ? undefined : encodeOctets(step.success);
      this.#send(element('success', ns.SASL, {}, success));
      this.#wire.stanzaBytesMax = this.#host.options.stanzaBytesMax;
      this.#wire.restart();
    } catch (error) {
      if (!(error instanceof SaslError)) throw error;
      await this.#refuseLogin(error);
    }
  }

  async #refuseLogin(error: SaslError): Promise<void> {
    const { log, loginRefusalDelayMs } = this.#host.options;
    this.#login = undefined;
    this.#failures += 1;
    log.warn({ peer: this.#peer.name }, `XMPP login refused: ${error.message}`);
    if (!this.#peer.loopback) await delay(loginRefusalDelayMs, undefined, { ref: false });
    this.#send(error.toElement());
    if (this.#failures >= LOGIN_FAILURES_MAX) this.#fail(new StreamError('policy-violation', 'too many failed logins'));
  }

  #takeBinding(request: Element): void {
    const account = this.#account as Account;
    if (request.is('resume', ns.STREAM_MANAGEMENT)) {
      this.#resume(account, request);
      return;
    }
    const bind =
      request.is('iq', ns.CLIENT) && request.attributes.type === 'set' ? request.child('bind', ns.BIND) : undefined;
    if (bind === undefined) throw new StreamError('not-authorized', 'bind a resource first');
    const wanted = bind.child('resource')?.text ?? '';
    const resource = wanted === '' ? randomBytes(9).toString('base64url') : wanted;
    try {
      if (tryParseJid(`${account.bare}/${resource}`) === undefined)
        throw new StanzaError('bad-request', 'no such resource');
      const conflict = new StreamError('conflict', 'the resource has been bound by another connection');
      this.#session = account.open(resource, this, conflict);
    } catch (error) {
      if (!(error instanceof StanzaError)) throw error;
      this.#reply(errorReply(request, error));
      return;
    }
    this.#bound();
    const jid = element('jid', ns.BIND, {}, this.#session.address);
    this.#send(resultReply(request, element('bind', ns.BIND, {}, jid)));
  }

  #bound(): void {
    clearTimeout(this.#handshake);
    this.#state = 'bound';
    this.#watchSilence();
  }

  // ---- stream management [XEP-0198]

  #resume(account: Account, request: Element): void {
    const session = account.resumable(request.attributes.previd ?? '');
    const h = readCount(request);
    if (session === undefined || h === undefined) {
      const condition = h === undefined ? 'bad-request' : 'item-not-found';
      this.#send(element('failed', ns.STREAM_MANAGEMENT, {}, element(condition, ns.STANZA_CONDITIONS)));
      return;
    }
    this.#bound();
    this.#session = session;
    this.#settleCount(() =>
      session.resume(this, h, () => {
        this.#send(element('resumed', ns.STREAM_MANAGEMENT, { previd: session.id, h: session.handled.h }));
      }),
    );
  }

  #takeManagement(session: Session, request: Element): void {
    switch (request.name) {
      case 'enable': {
        if (session.managed) {
          this.#send(element('failed', ns.STREAM_MANAGEMENT, {}, element('unexpected-request', ns.STANZA_CONDITIONS)));
          return;
        }
        const resume = ['true', '1'].includes(request.attributes.resume ?? '');
        session.enable(resume);
        const max = String(Math.round(this.#host.options.resumeMs / 1000));
        const offer = resume ? { id: session.id, resume: 'true', max } : {};
        this.#send(element('enabled', ns.STREAM_MANAGEMENT, offer));
        return;
      }
      case 'r':
        if (session.managed) this.#sendAck(session);
        return;
      case 'a': {
        const h = readCount(request);
        if (h === undefined) throw new StreamError('policy-violation', 'an <a/> without h');
        this.#ackRequested = false;
        this.#settleCount(() => session.acknowledge(h));
        if (session.awaitsAck) this.requestAck();
        return;
      }
      default:
        throw new StreamError('unsupported-stanza-type', `<${request.name}/> has no place here`);
    }
  }

  /** Throws StreamError when the peer has acknowledged what was never sent. */
  #settleCount(act: () => void): void {
    try {
      act();
    } catch (error) {
      if (!(error instanceof OverAcknowledged)) throw error;
      const counts = { h: String(error.h), 'send-count': String(error.sent) };
      const detail = element('handled-count-too-high', ns.STREAM_MANAGEMENT, counts);
      throw new StreamError('undefined-condition', error.message, detail);
    }
  }

  requestAck(): void {
    if (this.#ackWanted || this.#ackRequested) return;
    this.#ackWanted = true;
    // After what else this turn has to say.
    setImmediate(() => {
      this.#ackWanted = false;
      if (this.#state !== 'bound' || this.#ackRequested || !this.#session?.awaitsAck) return;
      this.#ackRequested = true;
      this.#send(element('r', ns.STREAM_MANAGEMENT));
    });
  }

  #sendAck(session: Session): void {
    this.#send(element('a', ns.STREAM_MANAGEMENT, { h: session.handled.h }));
  }

  // ---- stanzas

  #takeBound(stanza: Element): void {
    const session = this.#session;
    if (session === undefined) return;
    if (stanza.xmlns === ns.STREAM_MANAGEMENT) {
      this.#takeManagement(session, stanza);
      return;
    }
    if (stanza.xmlns !== ns.CLIENT || !['message', 'presence', 'iq'].includes(stanza.name)) {
      throw new StreamError('unsupported-stanza-type', `<${stanza.name} xmlns="${stanza.xmlns}"/> is no stanza`);
    }
    const { from } = stanza.attributes;
    if (from !== undefined && from !== session.address && from !== session.bare) {
      const jid = tryParseJid(from);
      const isOwn = jid?.local === session.jid.local && jid.domain === session.jid.domain;
      if (!isOwn || (jid.resource !== '' && jid.resource !== session.jid.resource)) {
        throw new StreamError('invalid-from', `you are ${session.address}`);
      }
    }
    this.#handle(session, stanza.with({ from: session.address }));
  }

  #handle(session: Session, stanza: Element): void {
    const { handled } = session;
    const number = handled.begin();
    const done = (): void => {
      if (!handled.done(number)) return;
      if (this.#held && handled.outstanding < IN_HAND_MAX / 2) this.#release();
    };
    const result = this.#attempt(session, stanza);
    if (result === undefined) {
      done();
      return;
    }
    void result.then(done);
    if (handled.outstanding >= IN_HAND_MAX && !this.#held) {
      this.#held = true;
      this.#wire.pause();
    }
  }

  #release(): void {
    this.#held = false;
    if (this.#state !== 'closed' && !this.#busy) this.#wire.resume();
  }

  /** Resolves when the stanza has been taken care of; refusals go back to the client. */
  #attempt(session: Session, stanza: Element): Promise<void> | void {
    try {
      checkStanza(stanza);
      const blocked = stanza.name === 'message' ? this.#host.untilPublishable() : undefined;
      // While publishers are held back this stream is not read: its messages are publishes.
      if (blocked !== undefined) this.#hold(blocked);
      return this.#account?.send(session, stanza);
    } catch (error) {
      const refusal = stanzaErrorOf(error);
      if (refusal === undefined) throw error;
      const reply = errorReply(stanza, refusal);
      if (reply !== undefined) session.deliver(reply);
      return undefined;
    }
  }

  // ---- its life

  /** Takes nothing more until `promise` is settled. */
  #hold(promise: Promise<void>): void {
    this.#busy = true;
    this.#wire.pause();
    promise.then(
      () => this.#goOn(),
      (error: unknown) => this.onFault(error),
    );
  }

  #goOn(): void {
    this.#busy = false;
    try {
      while (!this.#busy && this.#waiting.length > 0 && this.#state !== 'closed') {
        this.#take(this.#waiting.shift() as Element);
      }
    } catch (error) {
      this.onFault(error);
    }
    if (!this.#busy && !this.#held && this.#state !== 'closed') this.#wire.resume();
  }

  /** Asks a silent peer for a sign of life, and gives it up when none comes. */
  #watchSilence(): void {
    const { silenceMs } = this.#host.options;
    let asked = false;
    const look = (): void => {
      if (this.#heard) asked = false;
      else if (asked) {
        this.#fail(new StreamError('connection-timeout', 'no sign of life'));
        return;
      } else {
        asked = true;
        this.#askForLife();
      }
      this.#heard = false;
      this.#silence = setTimeout(look, silenceMs).unref();
    };
    this.#silence = setTimeout(look, silenceMs).unref();
  }

  #askForLife(): void {
    if (this.#session?.managed) this.#send(element('r', ns.STREAM_MANAGEMENT));
    else {
      const { userDomain } = this.#host.options;
      this.#session?.deliver(
        element('iq', ns.CLIENT, { type: 'get', id: 'alive', from: userDomain }, element('ping', ns.PING)),
      );
    }
  }

  send(stanza: Element, onWritten?: () => void): void {
    this.#send(stanza, onWritten);
    if (this.#wire.pendingBytes > STUCK_BYTES)
      this.#fail(new StreamError('policy-violation', 'the client does not read'));
  }

  #send(stanza: Element, onWritten?: () => void): void {
    if (this.#state === 'closed') return;
    if (TRACE.enabled)
      TRACE.line('>', this.#peer.name, stanza.xmlns === ns.SASL ? `<${stanza.name}…/>` : String(stanza));
    this.#wire.send(stanza, onWritten);
  }

  #reply(stanza: Element | undefined): void {
    if (stanza !== undefined) this.#send(stanza);
  }

  /** The session is over or goes on elsewhere. */
  end(error: StreamError | undefined): void {
    this.#session = undefined;
    this.#close(error);
  }

  /** The peer or the line is at fault: a session that can be resumed waits. */
  #fail(error: StreamError): void {
    if (this.#state === 'closed') return;
    this.#host.options.log.info({ peer: this.#peer.name }, `XMPP stream closed: ${error.condition} ${error.message}`);
    const session = this.#session;
    this.#session = undefined;
    // Before the goodbye, so that nothing more is said on this stream.
    session?.detach(this, error.condition === 'connection-timeout' ? this.#host.options.resumeMs : 0);
    this.#close(error);
  }

  #close(error: StreamError | undefined): void {
    if (this.#state === 'closed') return;
    if (error !== undefined) this.#send(streamErrorElement(error));
    this.#state = 'closed';
    clearTimeout(this.#handshake);
    clearTimeout(this.#silence);
    this.#wire.close();
  }
}

function encodeOctets(text: string): string {
  return text === '' ? '=' : Buffer.from(text).toString('base64');
}

/** What every server must insist on [RFC 6120 §8]. Throws StanzaError. */
function checkStanza({ name, attributes: { id, to, type }, elements }: Element): void {
  if (to !== undefined && tryParseJid(to) === undefined)
    throw new StanzaError('jid-malformed', `"${to}" is no address`);
  if (name !== 'iq') return;
  if (id === undefined) throw new StanzaError('bad-request', 'an iq without id');
  if (type !== 'get' && type !== 'set' && type !== 'result' && type !== 'error') {
    throw new StanzaError('bad-request', `an iq of type "${type}"`);
  }
  if ((type === 'get' || type === 'set') && elements.length !== 1) {
    throw new StanzaError('bad-request', 'an iq asks one thing');
  }
}
