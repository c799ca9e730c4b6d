/**
 * Accepting connections, the same for every door: TCP or TLS, with the PROXY protocol where a proxy is trusted, a cap on
 * the number of connections and a limit on the time until a door gets its bytes. A door sees a `Transport` only; from
 * then on the socket, its errors included, is the door's.
 *
 *   accept > cap > PROXY header (trusted sources only) > TLS handshake > onConnection(transport)
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type TLSSocket, Server as TlsServer } from 'node:tls';
import { type AddressRanges, peerOfSocket } from './addresses.ts';
import { ChunkReader, readingBy } from './chunk.ts';
import { type PeerAddress, peerName, type Transport } from './gateway.ts';
import { type Log, SILENT_LOG } from './log.ts';
import { OPTIONS } from './options.ts';
import { type ProxyHeader, ProxyProtocolError, readProxyHeader, withProxied } from './proxy-protocol.ts';
import type { TlsIdentity } from './tls.ts';

/** What the composition root decides about a listener, whatever door is behind it. */
export interface ListenerOptions {
  /** A name or address of this machine; `::` is every address, IPv4 included. */
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  /** With it, the listener speaks TLS only. */
  readonly tls?: TlsIdentity;
  /** Application protocols for TLS clients that ask for one, best first [RFC 7301]; one that has none of them is refused. */
  readonly alpnProtocols?: readonly string[];
  /** Addresses of proxies that speak the PROXY protocol to this listener; a connection from there must begin with it. */
  readonly proxyProtocolSources?: AddressRanges;
  /** Connections open at a time; one more is closed as soon as it is accepted. */
  readonly connectionsMax: number;
  /** For the PROXY header, and again for the TLS handshake. */
  readonly handshakeTimeoutMs: number;
  readonly log: Log;
}

/** What a program that opens a door has to say: the port. The rest is as in the command `warren`, and nothing is logged. */
export type ListenerSettings = Partial<ListenerOptions> & Pick<ListenerOptions, 'port'>;

/** `settings` with what is not in them. */
export function withListenerDefaults<Settings extends ListenerSettings>(
  settings: Settings,
): Settings & ListenerOptions {
  return {
    host: OPTIONS.host.default,
    connectionsMax: OPTIONS.connectionsMax.default,
    handshakeTimeoutMs: OPTIONS.handshakeTimeoutSeconds.default * 1000,
    log: SILENT_LOG,
    ...settings,
  };
}

export interface ListenOptions extends ListenerOptions {
  /** The door takes what comes with `receive`: where possible, transports have a reader. */
  readonly receives?: boolean;
  /** Takes the connection over; must attach an error listener to the socket before it returns. */
  onConnection(transport: Transport): void;
}

interface ListenerAddress {
  readonly host: string;
  /** The port really bound, never 0. */
  readonly port: number;
}

/** A listener that cannot be started; the message says why, what to do about it is known to whoever chose the port. */
export class ListenError extends Error {
  override readonly name = 'ListenError';
  readonly reason: 'in-use' | 'not-allowed' | 'no-such-address' | 'other';

  constructor(reason: ListenError['reason'], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** How long `Listener.close` waits for sockets to end by themselves before it destroys them. */
export const CLOSE_TIMEOUT_MS = 3000;

/** Keepalive probes find peers that vanished without a word where a protocol has no heartbeat. */
const KEEP_ALIVE_IDLE_MS = 60_000;
/** Connections that the kernel holds until they are accepted; it caps this at its own limit. */
const BACKLOG = 4096;
/** Refusals are counted always and logged at most this often. */
const REFUSAL_LOG_INTERVAL_MS = 1000;

/** Starts listening. Rejects with ListenError. */
export async function listen(options: ListenOptions): Promise<Listener> {
  const listener = new Listener(options);
  await listener.start();
  return listener;
}

export class Listener {
  readonly #options: ListenOptions;
  readonly #server: Server;
  readonly #tlsServer: TlsServer | undefined;
  readonly #sockets = new Set<Socket>();
  /** Connections between accept and door, by `endsOf`. */
  readonly #handshaking = new Map<string, { readonly socket: Socket; readonly peer: PeerAddress }>();
  readonly #endReload: () => void;
  #address: ListenerAddress | undefined;
  #refused = 0;
  #refusedLogged = 0;
  #refusalLoggedAt = Number.NEGATIVE_INFINITY;
  #closed: Promise<unknown> | undefined;
  #onAllGone: (() => void) | undefined;

  constructor(options: ListenOptions) {
    const { tls } = options;
    this.#options = options;
    this.#server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_IDLE_MS });
    this.#server.on('connection', (socket) => this.#onAccept(socket));
    this.#tlsServer = tls && this.#createTlsServer(tls);
    this.#endReload = tls?.onReload((context) => this.#tlsServer?.setSecureContext(context)) ?? (() => {});
  }

  /** Where it listens. Throws before it does. */
  get address(): ListenerAddress {
    if (!this.#address) throw new Error('the listener has not been started');
    return this.#address;
  }

  /** Connections open now, handshakes included. */
  get connectionCount(): number {
    return this.#sockets.size;
  }

  /** Connections refused since the start, because of `connectionsMax` or because the system had no more to give. */
  get refusedCount(): number {
    return this.#refused;
  }

  /** Binds the port; see `listen`. */
  start(): Promise<void> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      const onError = (error: NodeJS.ErrnoException): void => reject(listenError(host, port, error));
      this.#server.once('error', onError);
      this.#server.listen({ host, port, backlog: BACKLOG }, () => {
        this.#server.off('error', onError);
        // From here on errors are those of single accepts (EMFILE, ECONNABORTED): the listener goes on.
        this.#server.on('error', (error) => this.#onRefuse(error.message));
        const bound = this.#server.address() as AddressInfo;
        this.#address = { host: bound.address, port: bound.port };
        resolve();
      });
    });
  }

  /** Accepts nothing from now on; open connections stay. Idempotent. */
  stopAccepting(): void {
    if (this.#closed) return;
    this.#endReload();
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    const allGone = new Promise<void>((resolve) => {
      this.#onAllGone = resolve;
    });
    if (this.#sockets.size === 0) this.#onAllGone?.();
    this.#closed = Promise.all([stopped, allGone]);
  }

  /**
   * Stops accepting, drops connections that no door has yet, and resolves when every socket is gone; those that doors
   * do not end within CLOSE_TIMEOUT_MS are destroyed. Idempotent.
   */
  async close(): Promise<void> {
    this.stopAccepting();
    for (const { socket } of this.#handshaking.values()) socket.destroy();
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, CLOSE_TIMEOUT_MS);
    await this.#closed;
    clearTimeout(timer);
  }

  #createTlsServer(tls: TlsIdentity): TlsServer {
    const { verifyClient } = tls.options;
    // Never listens itself: it is handed sockets whose PROXY header, if any, has been taken off.
    const { alpnProtocols } = this.#options;
    const server = new TlsServer({
      ...tls.context,
      ...(alpnProtocols && { ALPNProtocols: [...alpnProtocols] }),
      handshakeTimeout: this.#options.handshakeTimeoutMs,
      requestCert: verifyClient !== 'none',
      rejectUnauthorized: verifyClient === 'required',
    });
    server.on('secureConnection', (socket) => this.#onSecure(socket, tls));
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      const peer = this.#handshaking.get(endsOf(socket))?.peer;
      this.#options.log.info(
        { peer: peer && peerName(peer), code: error.code },
        `TLS handshake failed: ${handshakeReason(error)}`,
      );
      socket.destroy();
    });
    return server;
  }

  #onRefuse(reason: string): void {
    this.#refused += 1;
    const now = performance.now();
    if (now - this.#refusalLoggedAt < REFUSAL_LOG_INTERVAL_MS) return;
    const { connectionsMax, log } = this.#options;
    const fields = { port: this.#address?.port, connectionsMax, refused: this.#refused - this.#refusedLogged };
    log.warn(fields, `connections refused: ${reason}`);
    this.#refusalLoggedAt = now;
    this.#refusedLogged = this.#refused;
  }

  #onAccept(accepted: Socket): void {
    const { connectionsMax, proxyProtocolSources, receives } = this.#options;
    if (this.#sockets.size >= connectionsMax) {
      accepted.destroy();
      this.#onRefuse('as many as allowed are open');
      return;
    }
    const peer = peerOfSocket(accepted, this.#tlsServer !== undefined);
    const isProxied = proxyProtocolSources?.includes(peer.remoteAddress) === true;
    const reader = new ChunkReader();
    const isPlain = receives === true && !isProxied && this.#tlsServer === undefined;
    const socket = isPlain ? readingBy(reader, accepted) : undefined;
    this.#add(socket ?? accepted);
    if (socket !== undefined) this.#options.onConnection({ socket, peer, reader });
    else if (isProxied) this.#readProxyHeader(accepted, peer);
    else this.#onPeerKnown(accepted, peer);
  }

  #add(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#onAllGone?.();
    });
  }

  #readProxyHeader(socket: Socket, peer: PeerAddress): void {
    const { handshakeTimeoutMs, log } = this.#options;
    const ends = endsOf(socket);
    const fields = { peer: peerName(peer) };
    const drop = (reason: string): void => {
      log.warn(fields, `closed a connection from a trusted proxy: ${reason}`);
      socket.destroy();
    };
    const onError = (error: Error): void => log.debug({ ...fields, err: error }, 'lost before its PROXY header');
    const forget = (): boolean => this.#handshaking.delete(ends);
    const timer = setTimeout(() => drop(`no PROXY header within ${handshakeTimeoutMs} ms`), handshakeTimeoutMs);
    const stopTimer = (): void => clearTimeout(timer);
    this.#handshaking.set(ends, { socket, peer });
    socket.once('close', stopTimer).once('close', forget).on('error', onError);
    readProxyHeader(socket, (result: ProxyHeader | ProxyProtocolError) => {
      if (result instanceof ProxyProtocolError) return drop(`${result.message} (octet ${result.offset})`);
      stopTimer();
      forget();
      socket.off('close', stopTimer).off('close', forget).off('error', onError);
      this.#onPeerKnown(socket, withProxied(peer, result));
    });
  }

  #onPeerKnown(socket: Socket, peer: PeerAddress): void {
    if (!this.#tlsServer) {
      this.#options.onConnection({ socket, peer });
      return;
    }
    const ends = endsOf(socket);
    this.#handshaking.set(ends, { socket, peer });
    socket.once('close', () => this.#handshaking.delete(ends));
    this.#tlsServer.emit('connection', socket);
  }

  #onSecure(socket: TLSSocket, tls: TlsIdentity): void {
    const ends = endsOf(socket);
    const handshaking = this.#handshaking.get(ends);
    if (!handshaking) {
      socket.destroy(); // Lost between its handshake and this event.
      return;
    }
    this.#handshaking.delete(ends);
    const certificateName = tls.nameOf(socket);
    const peer = certificateName === undefined ? handshaking.peer : { ...handshaking.peer, certificateName };
    const applicationProtocol = socket.alpnProtocol || undefined;
    this.#options.onConnection({ socket, peer, ...(applicationProtocol !== undefined && { applicationProtocol }) });
  }
}

/** Tells a socket, and the TLS socket around it, from every other one that is open on the same listener. */
function endsOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort} ${socket.localAddress}`;
}

function handshakeReason(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'ERR_SSL_WRONG_VERSION_NUMBER':
    case 'ERR_SSL_HTTP_REQUEST':
    case 'ERR_SSL_PACKET_LENGTH_TOO_LONG':
      return 'the peer does not speak TLS; this port takes nothing else';
    case 'ERR_TLS_HANDSHAKE_TIMEOUT':
      return 'it took too long';
    case 'ECONNRESET':
      return 'the peer went away';
    default:
      return error.message;
  }
}

function listenError(host: string, port: number, error: NodeJS.ErrnoException): ListenError {
  switch (error.code) {
    case 'EADDRINUSE':
      return new ListenError('in-use', `port ${port} on ${host} is in use by another program`);
    case 'EACCES':
      return new ListenError('not-allowed', `port ${port} on ${host} is not allowed to this user`);
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new ListenError('no-such-address', `${host} is no address of this machine`);
    default:
      return new ListenError('other', `cannot listen on port ${port} of ${host}: ${error.message}`);
  }
}
