/**
 * From the protocol header to connection.open [AMQP 2.2.4]:
 *
 * ```
 * start > start-ok > tune > tune-ok > open      (open-ok is the connection's)
 * ```
 *
 * Whoever cannot log in is told so if he has said that he understands it, and is made to wait unless he is on this
 * machine; the log says why. Whoever cannot even ask properly is made to wait in any case.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type FieldTable, isFieldTable } from '../../broker/fields.ts';
import { type Broker, BrokerError, type Principal } from '../../broker/port.ts';
import { type PeerAddress, peerName } from '../gateway.ts';
import { FRAME_MAX_FLOOR_BYTES } from './constants.ts';
import { ReplyError } from './errors.ts';
import { decodeArguments, type MethodArguments, type MethodName } from './methods.ts';
import type { ResolvedOptions } from './options.ts';
import { type Login, type Mechanism, mechanismFor, offeredMechanisms } from './sasl.ts';

/** What both sides have agreed on. */
export interface Agreement {
  readonly principal: Principal;
  readonly clientProperties: FieldTable;
  /** Capabilities that the client has said to have. */
  readonly capabilities: ReadonlySet<string>;
  readonly channelMax: number;
  /** 0 = no limit. */
  readonly frameMaxBytes: number;
  /** 0 = none. */
  readonly heartbeatSeconds: number;
}

/** What the handshake needs of its connection. */
export interface HandshakeHost {
  readonly broker: Broker;
  readonly peer: PeerAddress;
  readonly options: ResolvedOptions;
  send<M extends MethodName>(name: M, args: MethodArguments<M>): void;
  /** tune-ok has come; `onOpen` follows. */
  onAgreed(agreement: Agreement): void;
  onOpen(vhost: string): Promise<void>;
}

/** The connection is to be closed without a word: this peer would not understand one. */
export class SilentClose extends Error {}

/** The peer is not who he says he is. No method is at fault, as in RabbitMQ. */
export class LoginRefused extends ReplyError {}

const CAPABILITIES = [
  'publisher_confirms',
  'exchange_exchange_bindings',
  'basic.nack',
  'consumer_cancel_notify',
  'connection.blocked',
  'consumer_priorities',
  'authentication_failure_close',
  'per_consumer_qos',
  'direct_reply_to',
];

export class Handshake {
  readonly #host: HandshakeHost;
  #state: 'starting' | 'tuning' | 'opening' = 'starting';
  #clientProperties: FieldTable = {};
  #capabilities: ReadonlySet<string> = new Set();
  #principal: Principal | undefined;

  constructor(host: HandshakeHost) {
    this.#host = host;
  }

  get username(): string {
    return this.#principal?.username ?? '';
  }

  /** Says connection.start. */
  start(): void {
    const { peer } = this.#host;
    this.#host.send('connection.start', {
      versionMajor: 0,
      versionMinor: 9,
      serverProperties: this.#serverProperties(),
      mechanisms: offeredMechanisms(peer),
      locales: 'en_US',
    });
  }

  #serverProperties(): FieldTable {
    const { options, broker } = this.#host;
    const { product, version } = options.announcedProduct ?? { product: 'Warren', version: options.version };
    return {
      capabilities: Object.fromEntries(CAPABILITIES.map((capability) => [capability, true])),
      cluster_name: broker.name,
      copyright: 'Copyright (c) the Warren authors',
      information: 'Licensed under the Apache License 2.0',
      platform: `Node.js ${process.versions.node}`,
      product,
      version,
    };
  }

  /** Takes the next method, its arguments being `octets[start, end)`. Throws and rejects with what ends the connection. */
  onMethod(name: MethodName | undefined, octets: Uint8Array, start: number, end: number): Promise<void> | void {
    if (this.#state === 'starting') return this.#onFirstMethod(name, octets, start, end);
    if (name === 'connection.tune-ok' && this.#state === 'tuning') {
      return this.#onTuneOk(decodeArguments(name, octets, start, end));
    }
    if (name === 'connection.open' && this.#state === 'opening') {
      return this.#host.onOpen(decodeArguments(name, octets, start, end).virtualHost);
    }
    throw this.#unexpected();
  }

  async #onFirstMethod(name: MethodName | undefined, octets: Uint8Array, start: number, end: number): Promise<void> {
    const { peer, options } = this.#host;
    let request: { readonly mechanism: Mechanism; readonly login: Login };
    try {
      if (name !== 'connection.start-ok') throw this.#unexpected();
      request = this.#readStartOk(decodeArguments(name, octets, start, end));
    } catch (error) {
      // Nothing is known yet that would speak for this peer.
      await delay(options.loginRefusalDelayMs, undefined, { ref: false });
      throw error;
    }
    const { mechanism, login } = request;
    await this.#logIn(mechanism.name, login, peer, options);
  }

  #readStartOk(args: MethodArguments<'connection.start-ok'>): { mechanism: Mechanism; login: Login } {
    const { mechanism: name, clientProperties, response } = args;
    const { peer } = this.#host;
    const mechanism = mechanismFor(name, peer);
    if (mechanism === undefined) throw new ReplyError(503, `unknown authentication mechanism '${name}'`);
    this.#clientProperties = clientProperties;
    const { capabilities } = clientProperties;
    if (isFieldTable(capabilities)) {
      this.#capabilities = new Set(Object.keys(capabilities).filter((key) => capabilities[key] === true));
    }
    return { mechanism, login: mechanism.login(response as Uint8Array, peer) };
  }

  #unexpected(): ReplyError {
    return new ReplyError(504, `unexpected method in connection state ${this.#state}`);
  }

  async #logIn(mechanism: string, login: Login, peer: PeerAddress, options: ResolvedOptions): Promise<void> {
    const { broker } = this.#host;
    try {
      this.#principal = await broker.authenticate({ ...login, loopback: peer.loopback });
    } catch (error) {
      if (!(error instanceof BrokerError) || error.kind !== 'access-refused') throw error;
      options.log.warn(
        { peer: peerName(peer), username: login.username, mechanism, reason: error.message },
        'login refused',
      );
      if (!peer.loopback) await delay(options.loginRefusalDelayMs, undefined, { ref: false });
      if (!this.#capabilities.has('authentication_failure_close')) throw new SilentClose();
      throw new LoginRefused(403, refusalText(mechanism, error.message));
    }
    this.#state = 'tuning';
    const { channelMax, frameMaxBytes: frameMax, heartbeatSeconds: heartbeat } = options;
    this.#host.send('connection.tune', { channelMax, frameMax, heartbeat });
  }

  #onTuneOk({ channelMax, frameMax, heartbeat }: MethodArguments<'connection.tune-ok'>): void {
    const { options } = this.#host;
    // A frame_max of 0 is no limit, and fine: frames are never waited for as a whole. [AMQP 1.4.2.6]
    if (frameMax !== 0) requireNegotiable('frame_max', frameMax, FRAME_MAX_FLOOR_BYTES, options.frameMaxBytes);
    requireNegotiable('channel_max', channelMax, 1, options.channelMax);
    this.#state = 'opening';
    this.#host.onAgreed({
      principal: this.#principal as Principal,
      clientProperties: this.#clientProperties,
      capabilities: this.#capabilities,
      channelMax,
      frameMaxBytes: frameMax,
      heartbeatSeconds: heartbeat,
    });
  }

  /**
   * connection.update-secret: looks anew at who this user is by now. Throws not-allowed when he may not be here any more.
   * The secret itself is for backends whose tokens expire; a password proved once stays proved, and amqplib's own suite
   * sends any. [RabbitMQ: update-secret]
   */
  async renew(): Promise<Principal> {
    const { broker, peer } = this.#host;
    try {
      return await broker.authenticate({ username: this.username, loopback: peer.loopback, provedBy: 'renewal' });
    } catch (error) {
      if (!(error instanceof BrokerError) || error.kind !== 'access-refused') throw error;
      throw new ReplyError(530, 'New secret was refused by one of the backends');
    }
  }
}

/**
 * What a refused peer is told: nothing about why, as in RabbitMQ, except that his user may come from this machine only,
 * which he would search for long.
 */
function refusalText(mechanism: string, reason: string): string {
  const refused = `Login was refused using authentication mechanism ${mechanism}. `;
  return refused + (reason.includes('can only connect via localhost') ? reason : 'For details see the broker logfile.');
}

function requireNegotiable(name: string, value: number, min: number, max: number): void {
  const [side, limit, bound] = value !== 0 && value < min ? ['lower', 'minimum', min] : ['higher', 'maximum', max];
  if (value >= min && value <= max) return;
  const unlimited = value === 0 ? ' (no limit)' : '';
  throw new ReplyError(
    530,
    `negotiated ${name} = ${value}${unlimited} is ${side} than the ${limit} allowed value (${bound})`,
  );
}
