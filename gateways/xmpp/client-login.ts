/**
 * A client stream until somebody has logged in [RFC 6120 §5, §6]: what is offered, STARTTLS, SASL. Whoever fails is made
 * to wait unless he is on this machine, and after some failures has to connect again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Principal } from '../../broker/port.ts';
import { type Element, element } from './element.ts';
import * as ns from './namespaces.ts';
import type { ResolvedOptions } from './options.ts';
import { mechanismsFor, SaslError, type SaslLogin, type SaslPeer } from './sasl.ts';
import { StreamError } from './stream-error.ts';

/** Logins that may fail on one connection. */
export const LOGIN_FAILURES_MAX = 3;

/** What is known about the other end. */
export interface ClientPeer extends SaslPeer {
  readonly name: string;
}

/** What the login needs of its stream. */
export interface LoginHost {
  readonly options: ResolvedOptions;
  readonly peer: ClientPeer;
  /** Goes on inside TLS; absent where that cannot be. */
  readonly startTls: (() => void) | undefined;
  newLogin(): SaslLogin;
  send(element: Element): void;
  /** He is who he says; `success` has been sent. */
  onLoggedIn(principal: Principal): void;
  /** Without a word more. */
  close(): void;
}

/** What is offered to somebody who has logged in. */
export const FEATURES = element(
  'features',
  ns.STREAMS,
  {},
  element('bind', ns.BIND),
  element('session', ns.SESSION, {}, element('optional', ns.SESSION)),
  element('sm', ns.STREAM_MANAGEMENT),
  element('ver', ns.ROSTER_VERSIONING),
);

export class ClientLogin {
  readonly #host: LoginHost;
  #login: SaslLogin | undefined;
  #failures = 0;

  constructor(host: LoginHost) {
    this.#host = host;
  }

  get #mayLogIn(): boolean {
    const { options, peer } = this.#host;
    const { withoutTls } = options;
    return peer.encrypted || withoutTls === 'everyone' || (withoutTls === 'loopback' && peer.loopback);
  }

  /** What is offered to somebody who has not logged in. */
  get features(): Element {
    const { peer, startTls } = this.#host;
    const required = this.#mayLogIn ? undefined : element('required', ns.TLS);
    const mechanisms = mechanismsFor(peer).map((name) => element('mechanism', ns.SASL, {}, name));
    const types = (peer.channelBindings?.announced ?? []).map((type) =>
      element('channel-binding', ns.CHANNEL_BINDING, { type }),
    );
    return element(
      'features',
      ns.STREAMS,
      {},
      !peer.encrypted && startTls !== undefined ? element('starttls', ns.TLS, {}, required) : undefined,
      this.#mayLogIn ? element('mechanisms', ns.SASL, {}, ...mechanisms) : undefined,
      this.#mayLogIn && types.length > 0
        ? element('sasl-channel-binding', ns.CHANNEL_BINDING, {}, ...types)
        : undefined,
    );
  }

  /** Takes the next element; nothing must overtake it until the promise, if there is one, is settled. Throws StreamError. */
  take(request: Element): Promise<void> | void {
    if (request.is('starttls', ns.TLS)) return this.#startTls();
    if (request.xmlns !== ns.SASL) throw new StreamError('not-authorized', 'log in first');
    if (!this.#mayLogIn) throw new StreamError('policy-violation', 'STARTTLS first (xmpp-without-tls)');
    return this.#authenticate(request);
  }

  #startTls(): void {
    const { peer, startTls } = this.#host;
    if (peer.encrypted || startTls === undefined) {
      this.#host.send(element('failure', ns.TLS));
      this.#host.close();
      return;
    }
    this.#host.send(element('proceed', ns.TLS));
    startTls();
  }

  async #authenticate(request: Element): Promise<void> {
    this.#login ??= this.#host.newLogin();
    try {
      const step = await this.#login.next(request);
      if ('challenge' in step) {
        this.#host.send(element('challenge', ns.SASL, {}, encodeOctets(step.challenge)));
        return;
      }
      const success = step.success === undefined ? undefined : encodeOctets(step.success);
      this.#host.send(element('success', ns.SASL, {}, success));
      this.#host.onLoggedIn(step.principal);
    } catch (error) {
      if (!(error instanceof SaslError)) throw error;
      await this.#refuse(error);
    }
  }

  async #refuse(error: SaslError): Promise<void> {
    const { options, peer } = this.#host;
    this.#login = undefined;
    this.#failures += 1;
    options.log.warn({ peer: peer.name }, `XMPP login refused: ${error.message}`);
    if (!peer.loopback) await delay(options.loginRefusalDelayMs, undefined, { ref: false });
    this.#host.send(error.toElement());
    if (this.#failures >= LOGIN_FAILURES_MAX) throw new StreamError('policy-violation', 'too many failed logins');
  }
}

function encodeOctets(text: string): string {
  return text === '' ? '=' : Buffer.from(text).toString('base64');
}
