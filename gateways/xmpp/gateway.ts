/**
 * The XMPP door: exchanges as contacts, for the broker's users on the client port (TCP with STARTTLS, TLS, WebSocket) and
 * for the users of other servers, of which Warren is a component. One set of stanza handlers serves all.
 *
 * A program that holds the door can give addresses in it to code of its own: `XmppDoor.register`.
 */
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { type Broker, BrokerError, type Principal } from '../../broker/port.ts';
import { type Gateway, type GatewayAddress, peerName, type Transport } from '../gateway.ts';
import { type Listener, type ListenerOptions, listen, withListenerDefaults } from '../listener.ts';
import type { WebSocketDoor } from '../websocket.ts';
import { channelBindingsOf } from './channel-binding.ts';
import type { ClientPeer } from './client-login.ts';
import { type ClientHost, ClientStream } from './client-stream.ts';
import { ComponentLink, type ComponentOptions } from './component-link.ts';
import { Directory } from './directory.ts';
import { ExchangeServices } from './domain-services.ts';
import type { Element } from './element.ts';
import { ExchangeDomain } from './exchange-domain.ts';
import { Inboxes } from './inboxes.ts';
import { type Jid, parseJid } from './jid.ts';
import { CLIENT } from './namespaces.ts';
import { type ResolvedOptions, resolveOptions, type XmppOptions } from './options.ts';
import { PublishGate } from './publish-gate.ts';
import { RosterStore } from './roster.ts';
import { SaslLogin } from './sasl.ts';
import { type JidOwner, type Settlement, StanzaRouter } from './stanza-router.ts';
import { StreamError } from './stream-error.ts';
import { TcpWire } from './tcp-wire.ts';
import { UserDomain } from './user-domain.ts';
import { WebSocketWire } from './websocket-wire.ts';

export type { ComponentOptions } from './component-link.ts';
export { Element, element, type Node } from './element.ts';
export { type Jid, parseJid } from './jid.ts';
export type { XmppOptions } from './options.ts';
export { StanzaError } from './stanza-error.ts';
export type { JidOwner, Settlement } from './stanza-router.ts';

/** As registered. */
const CLIENT_PORT = 5222;

/** Makes a door that has no port yet: users, domains, component links. Give it clients with `accept…`. */
export async function openXmppDoor(broker: Broker, options: XmppOptions = {}): Promise<XmppDoor> {
  const door = new XmppDoor(broker, resolveOptions(options));
  await door.open();
  return door;
}

/** The door for WebSocket clients [RFC 7395]. */
export function xmppWebSocketDoor(door: XmppDoor): WebSocketDoor {
  return {
    subprotocols: ['xmpp'],
    takesText: true,
    invitation: 'For XMPP connect to /xmpp-websocket with the subprotocol "xmpp", for instance with @xmpp/client.',
    accept: (transport) => door.acceptWebSocket(transport),
  };
}

/**
 * Opens one port for clients: TLS if `options.tls` is given, else plain with STARTTLS. By default it is 5222 of this
 * machine, with the door's log and time limit. Rejects with ListenError.
 */
export async function startXmppGateway(door: XmppDoor, options: Partial<ListenerOptions> = {}): Promise<Gateway> {
  const { handshakeTimeoutMs, log } = door.options;
  const listener = await listen({
    ...withListenerDefaults({ port: CLIENT_PORT, handshakeTimeoutMs, log, ...options }),
    onConnection: (transport) => door.accept(transport),
  });
  return new XmppGateway(door, listener, options.tls === undefined ? 'xmpp' : 'xmpps');
}

class XmppGateway implements Gateway {
  readonly name = 'xmpp';
  readonly addresses: readonly GatewayAddress[];
  readonly #door: XmppDoor;
  readonly #listener: Listener;

  constructor(door: XmppDoor, listener: Listener, label: string) {
    this.#door = door;
    this.#listener = listener;
    this.addresses = [{ label, ...listener.address }];
  }

  stopAccepting(): void {
    this.#listener.stopAccepting();
  }

  async close(): Promise<void> {
    this.stopAccepting();
    await this.#door.close();
    await this.#listener.close();
  }
}

function withChannelBindings(peer: ClientPeer, socket: Duplex): ClientPeer {
  const channelBindings = channelBindingsOf(socket);
  return { ...peer, ...(channelBindings !== undefined && { channelBindings }) };
}

export class XmppDoor implements ClientHost, Gateway {
  readonly name = 'xmpp';
  /** None of its own: see `startXmppGateway`. */
  readonly addresses: readonly GatewayAddress[] = [];
  readonly options: ResolvedOptions;
  readonly #broker: Broker;
  readonly #router = new StanzaRouter();
  readonly #directories = new Map<string, Directory>();
  readonly #inboxes: Inboxes;
  readonly #rosters: RosterStore;
  readonly #users: UserDomain;
  readonly #domains: ExchangeDomain[] = [];
  readonly #links: ComponentLink[] = [];
  readonly #streams = new Set<ClientStream>();
  #endings: (() => void)[] = [];
  readonly gate = new PublishGate();
  #closing: Promise<void> | undefined;

  constructor(broker: Broker, options: ResolvedOptions) {
    const { userDomain, userVhost, domains, log, stanzaBytesMax, version, delayMsMin } = options;
    this.options = options;
    this.#broker = broker;
    this.#rosters = new RosterStore(broker.administration, log);
    this.#inboxes = new Inboxes({
      broker,
      router: this.#router,
      log,
      userDomain,
      stanzaBytesMax,
      delayMsMin,
      principalOf: (bare) => this.#principalOf(bare),
      addressOfUser: (username) => this.#users.addressOf(username),
      domainFor: (vhost, bare) => this.#domainFor(vhost, bare),
      gate: this.gate,
      onClosed: (bare, error) =>
        this.#users.endUser(
          bare,
          new StreamError(error.message.includes('shut') ? 'system-shutdown' : 'reset', error.message),
        ),
    });
    this.#users = new UserDomain({
      domain: userDomain,
      version,
      broker,
      router: this.#router,
      inboxes: this.#inboxes,
      rosters: this.#rosters,
      directory: this.#directory(userVhost),
      exchangeDomains: domains.map(({ domain }) => domain),
      isOfExchanges: (domain) => this.#isOurs(domain),
    });
  }

  /** Learns what there is, and begins to connect to the servers of which it is a component. */
  async open(): Promise<void> {
    const { domains, components, userDomain, log } = this.options;
    this.#endings.push(this.#router.register(userDomain, this.#users));
    for (const { domain, vhost } of domains) this.#addDomain(domain, vhost, (bare) => this.#isUser(bare));
    for (const { domain, vhost } of components) this.#addDomain(domain, vhost, (bare) => !this.#isUser(bare));
    const stop = this.#broker.observe((event) => {
      if (event.type === 'alarms') this.gate.setAlarmed(event.alarms.length > 0);
      else if (event.type === 'user-deleted') this.#forgetUser(event.username);
      else for (const directory of this.#directories.values()) directory.onEvent(event);
    }, 'topology');
    this.#endings.push(stop);
    this.gate.setAlarmed((await this.#broker.administration.alarms()).length > 0);
    for (const directory of this.#directories.values()) {
      // Its domain comes to life when somebody makes it.
      if (!(await directory.load(this.#broker))) log.warn({ vhost: directory.vhost }, 'XMPP: no such virtual host yet');
    }
    await this.#rosters.load();
    for (const component of components) this.#addLink(component);
  }

  /**
   * Gives an address (`bot@broker.localhost`) or a domain of its own (`bots.localhost`) to `owner`, who gets every stanza
   * for it, from the client port and, if it is in the domain of a component, from that server. The returned function ends
   * it. Throws RangeError when it is taken.
   */
  register(address: string, owner: JidOwner): () => void {
    return this.#router.register(address, owner);
  }

  /** Sends a stanza, of namespace `jabber:client` and with both addresses, for an owner; what becomes of it is settled. */
  send(stanza: Element, settlement?: Settlement): void {
    if (stanza.xmlns !== CLIENT) throw new RangeError(`a stanza is in the namespace ${CLIENT}`);
    void this.#router.route(stanza, settlement);
  }

  /** All domains in which exchanges are addresses; an owner may have addresses in them. */
  get exchangeDomains(): readonly string[] {
    return this.#domains.map(({ domain }) => domain);
  }

  // ---- clients

  /** Takes a TCP or TLS connection over. */
  accept({ socket, peer }: Transport): void {
    const { loginStanzaBytesMax: stanzaBytesMax, tls } = this.options;
    const name = peerName(peer);
    const known: ClientPeer = withChannelBindings({ ...peer, name }, socket);
    const stream = this.#newStream(known);
    const wire = new TcpWire({ socket, xmlns: CLIENT, stanzaBytesMax }, stream);
    const startTls = (identity: NonNullable<typeof tls>): void => {
      wire.replaceSocket((plain) => {
        const { verifyClient } = identity.options;
        const secure = new TLSSocket(plain as ConstructorParameters<typeof TLSSocket>[0], {
          ...identity.context,
          isServer: true,
          requestCert: verifyClient !== 'none',
          rejectUnauthorized: verifyClient === 'required',
        });
        secure.once('secure', () => {
          const certificateName = identity.nameOf(secure);
          const peer = { ...known, encrypted: true, ...(certificateName !== undefined && { certificateName }) };
          stream.secured(withChannelBindings(peer, secure));
        });
        return secure;
      });
    };
    stream.attach({ wire, peer: known, ...(tls && !peer.encrypted && { startTls: () => startTls(tls) }) });
  }

  /** Takes a WebSocket over. */
  acceptWebSocket({ socket, peer }: Transport): void {
    const known: ClientPeer = { ...peer, name: peerName(peer) };
    const stream = this.#newStream(known);
    stream.attach({ wire: new WebSocketWire(socket, this.options.loginStanzaBytesMax, stream), peer: known });
  }

  #newStream(peer: ClientPeer): ClientStream {
    const stream: ClientStream = new ClientStream(this, peer, () => this.#streams.delete(stream));
    this.#streams.add(stream);
    return stream;
  }

  login(peer: ClientPeer): SaslLogin {
    return new SaslLogin(this.#broker, peer);
  }

  account({ username }: Principal) {
    return this.#users.account(username);
  }

  /** What is kept under the name of a deleted user goes with him. */
  #forgetUser(username: string): void {
    const error = new StreamError('reset', `user '${username}' is deleted`);
    for (const stream of [...this.#streams]) if (stream.username === username) stream.shutDown(error);
    this.#users.forget(username, error);
    // An observer must not call back into the broker.
    setImmediate(() => void this.#inboxes.remove(this.#users.addressOf(username), this.#directories.keys()));
  }

  // ---- domains

  #directory(vhost: string): Directory {
    const directory = this.#directories.get(vhost) ?? new Directory(vhost);
    this.#directories.set(vhost, directory);
    return directory;
  }

  #isOurs(domain: string): boolean {
    return this.#domains.some((one) => one.domain === domain);
  }

  #isUser(bare: string): boolean {
    return parseJid(bare).domain === this.options.userDomain;
  }

  /** Where somebody sees the exchanges of a virtual host: users here, everybody else through a component. */
  #domainFor(vhost: string, bare: string): string {
    const { domains, components, userDomain } = this.options;
    const own = this.#isUser(bare) ? domains : components;
    return (own.find((one) => one.vhost === vhost) ?? domains[0] ?? { domain: userDomain }).domain;
  }

  #addDomain(domain: string, vhost: string, serves: (bare: string) => boolean): void {
    const context = {
      broker: this.#broker,
      domain,
      directory: this.#directory(vhost),
      inboxes: this.#inboxes,
      router: this.#router,
      // A user of the client port has waited already.
      admit: (stanza: Element, from: Jid) =>
        from.domain === this.options.userDomain ? undefined : this.gate.admit(stanza),
    };
    const exchanges = new ExchangeDomain({
      ...context,
      services: new ExchangeServices(context, this.options.version),
      isOurs: (other) => this.#isOurs(other),
      serves,
    });
    this.#domains.push(exchanges);
    this.#endings.push(this.#router.register(domain, exchanges), () => exchanges.close());
  }

  #addLink(component: ComponentOptions): void {
    const { stanzaBytesMax, handshakeTimeoutMs, silenceMs, log } = this.options;
    const domain = this.#domains.find((one) => one.domain === component.domain);
    const link = new ComponentLink({
      ...component,
      router: this.#router,
      // What other servers pass on may be larger than what we pass on.
      stanzaBytesMax: stanzaBytesMax * 4,
      handshakeTimeoutMs,
      silenceMs,
      log,
      onUp: () => {
        domain?.greetAll();
        this.#router.tellOfLink(component.domain, true);
      },
      onDown: () => {
        domain?.forgetAll();
        this.#router.tellOfLink(component.domain, false);
      },
    });
    this.#links.push(link);
    this.#endings.push(this.#router.addLink(component.domain, link));
    link.start();
  }

  /** With whose rights the owner of a bare address acts. Rejects with access-refused. */
  async #principalOf(bare: string): Promise<Principal> {
    const username = this.#users.usernameOf(bare);
    if (username !== undefined) return this.#broker.authenticate({ username, loopback: true, provedBy: 'renewal' });
    const vouched = (name: string): Promise<Principal> =>
      // The configuration names the user, so that it does not matter from where he comes.
      this.#broker.authenticate({ username: name, loopback: true, provedBy: 'server' });
    try {
      return await vouched(bare);
    } catch (error) {
      const { componentUser } = this.options;
      if (componentUser !== undefined) return vouched(componentUser);
      throw error instanceof BrokerError ? new BrokerError('access-refused', `${bare} has no rights here`) : error;
    }
  }

  stopAccepting(): void {}

  /** Says goodbye to everybody. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const error = new StreamError('system-shutdown', 'the broker is shutting down');
    for (const stream of [...this.#streams]) stream.shutDown(error);
    this.#users.end(error);
    for (const link of this.#links) link.close();
    for (const end of this.#endings.splice(0)) end();
    await this.#inboxes.close();
    await this.#rosters.flush();
  }
}
