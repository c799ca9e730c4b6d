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
import { InvariantError } from '../../broker/assert.ts';
import type { Principal } from '../../broker/port.ts';
import { createTrace } from '../trace.ts';
import type { Account } from './account.ts';
import { ClientLogin, type ClientPeer, FEATURES, type LoginHost } from './client-login.ts';
import { ClientManagement } from './client-management.ts';
import { type Element, element } from './element.ts';
import { InHand } from './in-hand.ts';
import { tryParseJid } from './jid.ts';
import * as ns from './namespaces.ts';
import type { ResolvedOptions } from './options.ts';
import { mayPublish, type PublishGate } from './publish-gate.ts';
import type { SaslLogin } from './sasl.ts';
import type { Session, SessionStream } from './session.ts';
import { SilenceWatch } from './silence-watch.ts';
import { checkStanza, errorReply, resultReply, StanzaError, stanzaErrorOf } from './stanza-error.ts';
import { StreamError, streamErrorElement } from './stream-error.ts';
import type { Wire, WireEvents } from './wire.ts';

const TRACE = createTrace('xmpp');

/** What of a client may be in hand before its stream is held back. */
export const IN_HAND_LIMITS = { count: 64, weight: 1024 * 1024 };
/** Octets that a client does not read before it is cut off. */
export const STUCK_BYTES = 16 * 1024 * 1024;

/** What a client stream needs of the door. */
export interface ClientHost {
  readonly options: ResolvedOptions;
  login(peer: ClientPeer): SaslLogin;
  account(principal: Principal): Account;
  readonly gate: PublishGate;
}

/** What differs between TCP and WebSocket. */
export interface ClientTransport {
  readonly wire: Wire;
  readonly peer: ClientPeer;
  /** Goes on inside TLS; absent where that cannot be. The peer as it is then comes later, by `secured`. */
  startTls?(): void;
}

type State = 'opening' | 'login' | 'binding' | 'bound' | 'closed';

export class ClientStream implements WireEvents, SessionStream, LoginHost {
  readonly options: ResolvedOptions;
  readonly #host: ClientHost;
  readonly #onEnded: () => void;
  #transport: ClientTransport | undefined;
  #state: State = 'opening';
  peer: ClientPeer;
  readonly #login: ClientLogin;
  readonly #management: ClientManagement;
  readonly #silence: SilenceWatch;
  #principal: Principal | undefined;
  /** From resource binding on. */
  #account: Account | undefined;
  #session: Session | undefined;
  #opened = false;
  #handshake: NodeJS.Timeout;
  /** Elements that wait for one that takes its time. */
  readonly #waiting: Element[] = [];
  #busy = false;
  readonly #inHand = new InHand(IN_HAND_LIMITS, (isFull) => this.#onFull(isFull));

  constructor(host: ClientHost, peer: ClientPeer, onEnded: () => void) {
    this.#host = host;
    this.options = host.options;
    this.peer = peer;
    this.#login = new ClientLogin(this);
    this.#management = new ClientManagement((element) => this.#send(element), host.options.resumeMs);
    this.#silence = new SilenceWatch(
      host.options.silenceMs,
      () => this.#askForLife(),
      () => this.#fail(new StreamError('connection-timeout', 'no sign of life')),
    );
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
    this.peer = peer;
    this.#state = 'opening';
  }

  /** Of who has logged in. */
  get username(): string | undefined {
    return this.#principal?.username;
  }

  /** The door closes, or the user is gone. */
  shutDown(error: StreamError): void {
    if (this.#session !== undefined) this.#session.end(error);
    else this.end(error);
  }

  // ---- the wire

  onStreamOpen(header: Element): void {
    this.#silence.heard();
    const { to, from, version } = header.attributes;
    const { userDomain } = this.options;
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
    this.#send(this.#principal === undefined ? this.#login.features : FEATURES);
  }

  onElement(element: Element): void {
    this.#silence.heard();
    if (TRACE.enabled)
      TRACE.line('<', this.peer.name, element.xmlns === ns.SASL ? `<${element.name}…/>` : String(element));
    if (this.#busy || this.#inHand.isFull) this.#waiting.push(element);
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
      this.options.log.error({ peer: this.peer.name, err: error }, 'XMPP stream closed over a defect of Warren');
      this.#fail(new StreamError('internal-server-error'));
      return;
    }
    if (!this.#opened) {
      this.#opened = true;
      this.#wire.open({
        from: this.options.userDomain,
        id: randomBytes(12).toString('base64url'),
        version: '1.0',
      });
    }
    this.#fail(error);
  }

  onGone(): void {
    clearTimeout(this.#handshake);
    this.#silence.stop();
    this.#state = 'closed';
    this.#session?.detach(this, this.options.resumeMs);
    this.#session = undefined;
    this.#onEnded();
  }

  // ---- negotiation

  get startTls(): (() => void) | undefined {
    const startTls = this.#transport?.startTls;
    return startTls && (() => this.#afresh(startTls));
  }

  /** A new stream begins: what has come on the present one in advance counts for nothing, least of all what came in clear. */
  #afresh(restart: () => void): void {
    this.#waiting.length = 0;
    restart();
  }

  newLogin(): SaslLogin {
    return this.#host.login(this.peer);
  }

  onLoggedIn(principal: Principal): void {
    this.#principal = principal;
    this.#state = 'binding';
    this.#wire.stanzaBytesMax = this.options.stanzaBytesMax;
    this.#afresh(() => this.#wire.restart());
  }

  close(): void {
    this.#close(undefined);
  }

  #take(element: Element): void {
    switch (this.#state) {
      case 'login': {
        const taken = this.#login.take(element);
        if (taken !== undefined) this.#hold(taken);
        return;
      }
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

  #takeBinding(request: Element): void {
    const account = this.#host.account(this.#principal as Principal);
    this.#account = account;
    if (request.is('resume', ns.STREAM_MANAGEMENT)) {
      this.#takeResume(account, request);
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
      const reply = errorReply(request, error);
      if (reply !== undefined) this.#send(reply);
      return;
    }
    this.#bound();
    const jid = element('jid', ns.BIND, {}, this.#session.address);
    this.#send(resultReply(request, element('bind', ns.BIND, {}, jid)));
  }

  #takeResume(account: Account, request: Element): void {
    const previd = request.attributes.previd ?? '';
    const resume = (): void => {
      if (this.#state !== 'binding') return;
      // Looked up again: it may have ended while we waited.
      const session = account.resumable(previd);
      this.#management.resume(session, request, this, () => {
        this.#bound();
        this.#session = session;
      });
    };
    // What is in hand still must be counted, or the client would say it again.
    const settled = account.resumable(previd)?.suspend(this.options.resumeMs);
    if (settled === undefined) resume();
    else this.#hold(settled.then(resume));
  }

  #bound(): void {
    clearTimeout(this.#handshake);
    this.#state = 'bound';
    this.#silence.start();
  }

  requestAck(): void {
    if (this.#session !== undefined) this.#management.requestAck(this.#session);
  }

  // ---- stanzas

  #takeBound(stanza: Element): void {
    const session = this.#session;
    if (session === undefined) return;
    if (stanza.xmlns === ns.STREAM_MANAGEMENT) {
      this.#management.take(session, stanza);
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
    const result = this.#attempt(session, stanza);
    if (result === undefined) {
      handled.done(number);
      return;
    }
    const end = this.#inHand.begin(stanza);
    const done = (): void => {
      handled.done(number);
      end();
    };
    result.then(done, (error: unknown) => this.onFault(error));
  }

  #onFull(isFull: boolean): void {
    if (this.#state === 'closed') return;
    if (isFull) this.#wire.pause();
    else if (!this.#busy) this.#goOn();
  }

  /** Resolves when the stanza has been taken care of; refusals go back to the client. */
  #attempt(session: Session, stanza: Element): Promise<void> | void {
    return this.#orRefuse(session, stanza, () => {
      checkStanza(stanza);
      if (this.#host.gate.isOpen || !mayPublish(stanza)) return this.#account?.send(session, stanza);
      return session
        .waitFor(this.#host.gate, stanza)
        .then(() => this.#orRefuse(session, stanza, () => this.#account?.send(session, stanza)));
    });
  }

  #orRefuse(session: Session, stanza: Element, act: () => Promise<void> | void): Promise<void> | void {
    try {
      return act();
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
      while (!this.#busy && !this.#inHand.isFull && this.#waiting.length > 0 && this.#state !== 'closed') {
        this.#take(this.#waiting.shift() as Element);
      }
    } catch (error) {
      this.onFault(error);
    }
    if (!this.#busy && !this.#inHand.isFull && this.#state !== 'closed') this.#wire.resume();
  }

  #askForLife(): void {
    // Who is not read has no chance to give a sign of life.
    if (this.#busy || this.#inHand.isFull) {
      this.#silence.heard();
      return;
    }
    if (this.#session?.managed) this.#management.askNow();
    else {
      const { userDomain } = this.options;
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
      TRACE.line('>', this.peer.name, stanza.xmlns === ns.SASL ? `<${stanza.name}…/>` : String(stanza));
    this.#wire.send(stanza, onWritten);
  }

  /** The session is over or goes on elsewhere. */
  end(error: StreamError | undefined): void {
    this.#session = undefined;
    this.#close(error);
  }

  /** The peer or the line is at fault: a session that can be resumed waits. */
  #fail(error: StreamError): void {
    if (this.#state === 'closed') return;
    this.options.log.info({ peer: this.peer.name }, `XMPP stream closed: ${error.condition} ${error.message}`);
    const session = this.#session;
    this.#session = undefined;
    // Before the goodbye, so that nothing more is said on this stream.
    session?.detach(this, error.condition === 'connection-timeout' ? this.options.resumeMs : 0);
    this.#close(error);
  }

  #close(error: StreamError | undefined): void {
    if (this.#state === 'closed') return;
    if (error !== undefined) this.#send(streamErrorElement(error));
    this.#state = 'closed';
    clearTimeout(this.#handshake);
    this.#silence.stop();
    this.#wire.close();
  }
}
