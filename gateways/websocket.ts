/**
 * The one HTTP listener for every door. Of a WebSocket, the subprotocol that the client asks for picks the door; a client
 * that asks for none gets the door that takes such clients, and the path means nothing: `/`, `/ws` and `/ws/amqp` are all
 * the same. A plain request goes to the first HTTP door that takes it (http-door.ts); whoever asks for what no door has
 * is told in a sentence what this port is (426). [RFC 6455]
 *
 * A web page may open a WebSocket to any address, this machine's included, and guest/guest is known to all; so what a
 * browser says about the page's origin is checked: by default only pages that were served from this machine.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { isLoopback, peerOfSocket } from './addresses.ts';
import type { Gateway, PeerAddress, Transport } from './gateway.ts';
import { peerName } from './gateway.ts';
import { type HttpDoor, headWithoutUpgrade } from './http-door.ts';
import {
  CLOSE_TIMEOUT_MS,
  type Listener,
  type ListenerOptions,
  type ListenerSettings,
  listen,
  withListenerDefaults,
} from './listener.ts';
import { OPTIONS } from './options.ts';
import { WebSocketStream } from './websocket-stream.ts';

export type { HttpDoor } from './http-door.ts';

/** What a door offers to WebSocket clients. */
export interface WebSocketDoor {
  /** As registered, e.g. `amqp`, `v12.stomp`; matched as written. */
  readonly subprotocols: readonly string[];
  /** Takes clients that ask for no subprotocol; one door at most. */
  readonly takesNone?: boolean;
  /** Whether a client that asked for no subprotocol, and begins with `octets`, is one of this door's all the same. */
  recognises?(octets: Uint8Array): boolean;
  /** Its protocol is text: clients may write text messages, and are answered in such. */
  readonly takesText?: boolean;
  /** A sentence for whoever comes with plain HTTP: how to come in by this door. */
  readonly invitation: string;
  /** What to log about a client that began with `octets`, no HTTP, if it was looking for this door; else undefined. */
  adviseStray?(octets: Uint8Array): string | undefined;
  /** Takes the connection over; must attach an error listener to the socket before it returns. */
  accept(transport: Transport): void;
}

export interface WebSocketOptions extends ListenerSettings {
  readonly doors: readonly WebSocketDoor[];
  /** Asked in this order whose a plain request is. */
  readonly httpDoors?: readonly HttpDoor[];
  /** Origins of web pages that may connect: `https://app.example`, `null`, `loopback` (this machine's), `*` (all). */
  readonly origins?: readonly string[];
  /** Octets of one WebSocket message; a larger one ends the connection (1009). */
  readonly messageBytesMax?: number;
}

type ResolvedOptions = ListenerOptions & Required<Pick<WebSocketOptions, 'doors' | 'origins' | 'messageBytesMax'>>;

/** What `node:http` says about a connection that is no HTTP, with the octets that made it think so. */
type ClientError = NodeJS.ErrnoException & { readonly rawPacket?: Buffer };

/** Octets of an HTTP request's header section; a larger one is answered 431. */
const HEADER_BYTES_MAX = 16 * 1024;

/** What remains open when the listener closes is told so after this time: the doors say goodbye first, in their own words. */
export const GOODBYE_TIMEOUT_MS = 1000;

const CLOSE_GOING_AWAY = 1001;

/** How long a connection may stay without a request after an answer; longer than proxies keep theirs (nginx: 60 s). */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;

/** What plain requests are spoken over where a door has further protocols for TLS [RFC 7301]. */
const ALPN_HTTP = 'http/1.1';

/** Requests that a connection may send ahead, before the one that is being answered; with one more it is closed. */
const REQUESTS_AHEAD_MAX = 1000;

/** An HTTP connection that has not become anything else yet. */
interface HttpConnection {
  readonly peer: PeerAddress;
  /** What has not been answered to its end; the first of it is being answered, the others wait for that. */
  readonly pending: Exchange[];
  /** Ends a connection on which no request comes to the end of its head in time. */
  timer: NodeJS.Timeout | undefined;
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** Starts the listener. Rejects with ListenError. */
export async function startWebSocketGateway(options: WebSocketOptions): Promise<Gateway> {
  const gateway = new WebSocketGateway(options);
  await gateway.start();
  return gateway;
}

class WebSocketGateway implements Gateway {
  readonly name = 'websocket';
  readonly #options: ResolvedOptions;
  /** For whoever comes with plain HTTP. */
  readonly #invitation: string;
  readonly #httpDoors: readonly HttpDoor[];
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  readonly #streams = new Set<WebSocketStream>();
  readonly #connections = new Map<Duplex, HttpConnection>();
  #closing = false;
  #listener: Listener | undefined;

  constructor(options: WebSocketOptions) {
    const { origins = OPTIONS.websocketOrigins.default, messageBytesMax } = options;
    this.#options = {
      ...withListenerDefaults(options),
      origins,
      messageBytesMax: messageBytesMax ?? OPTIONS.websocketMessageBytesMax.default,
    };
    this.#httpDoors = options.httpDoors ?? [];
    const invitations = [...options.doors, ...this.#httpDoors].map((door) => door.invitation);
    const port = this.#httpDoors.length > 0 ? 'an HTTP' : 'the WebSocket';
    this.#invitation = `${[`This is ${port} port of a message broker.`, ...invitations].join(' ')}\n`;
    this.#http = createServer({ maxHeaderSize: HEADER_BYTES_MAX, keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS });
    this.#http.on('request', (request, response) => this.#onRequest(request, response));
    // A door may say no before the body has been sent.
    this.#http.on('checkContinue', (request, response) => this.#onRequest(request, response));
    this.#http.on('upgrade', (request, socket, head) => this.#onUpgrade(request, socket, head));
    this.#http.on('clientError', (error, socket) => this.#onClientError(error, socket));
    const settings = {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: this.#options.messageBytesMax,
      closeTimeout: CLOSE_TIMEOUT_MS, // Unknown to @types/ws 8.18.
      // The door is chosen, and so the subprotocol known to be acceptable, before the handshake goes on.
      handleProtocols: (offered: Set<string>) => this.#choose(offered)?.subprotocol ?? false,
    };
    this.#webSockets = new WebSocketServer(settings);
  }

  get addresses(): Gateway['addresses'] {
    if (!this.#listener) return [];
    return [{ label: this.#options.tls ? 'wss' : 'ws', ...this.#listener.address }];
  }

  async start(): Promise<void> {
    const alpnProtocols = this.#httpDoors.flatMap((door) => door.alpnProtocols ?? []);
    this.#listener = await listen({
      ...this.#options,
      ...(alpnProtocols.length > 0 && { alpnProtocols: [...alpnProtocols, ALPN_HTTP] }),
      onConnection: (transport) => this.#onConnection(transport),
    });
  }

  stopAccepting(): void {
    this.#listener?.stopAccepting();
  }

  async close(): Promise<void> {
    this.stopAccepting();
    this.#closing = true;
    for (const [socket, { pending }] of this.#connections) if (pending.length === 0) socket.destroy();
    for (const door of this.#httpDoors) door.close?.();
    const timer = setTimeout(() => {
      for (const socket of this.#connections.keys()) socket.destroy();
      for (const stream of this.#streams) stream.closeWith(CLOSE_GOING_AWAY, 'shutting down');
    }, GOODBYE_TIMEOUT_MS);
    await this.#listener?.close();
    clearTimeout(timer);
  }

  #onConnection(transport: Transport): void {
    const { socket, peer, applicationProtocol: agreed } = transport;
    const door = this.#httpDoors.find(({ alpnProtocols }) => agreed !== undefined && alpnProtocols?.includes(agreed));
    if (door?.accept && agreed !== undefined) {
      door.accept(transport, agreed);
      return;
    }
    const connection: HttpConnection = { peer, pending: [], timer: undefined };
    this.#connections.set(socket, connection);
    this.#awaitHead(socket, connection, this.#options.handshakeTimeoutMs);
    socket.once('close', () => this.#forget(socket));
    this.#http.emit('connection', socket);
  }

  /** `node:http` enforces its own time limit on heads only on servers that listen by themselves. */
  #awaitHead(socket: Duplex, connection: HttpConnection, milliseconds: number): void {
    clearTimeout(connection.timer);
    connection.timer = setTimeout(() => socket.destroy(), milliseconds);
  }

  #forget(socket: Duplex): HttpConnection | undefined {
    const connection = this.#connections.get(socket);
    clearTimeout(connection?.timer);
    this.#connections.delete(socket);
    return connection;
  }

  /** What a client has asked before is answered first, on the same socket. */
  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const connection = this.#forget(socket);
    const peer = connection?.peer ?? this.#peerOf(request);
    const before = connection?.pending.at(-1);
    if (before === undefined) {
      this.#upgrade(request, socket, head, peer);
      return;
    }
    socket.on('error', () => {});
    before.response.once('close', () => {
      if (!socket.destroyed) this.#upgrade(request, socket, head, peer);
    });
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, peer: PeerAddress): void {
    const door = this.#httpDoors.find((candidate) => candidate.takes(request));
    if (door?.onUpgrade?.(request, socket, head, peer)) return;
    const { origin } = request.headers;
    if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
      if (door) {
        socket.unshift(Buffer.concat([headWithoutUpgrade(request), head]));
        this.#onConnection({ socket, peer });
      } else refuse(socket, 400, this.#invitation);
      return;
    }
    if (!isOriginAllowed(origin, this.#options.origins)) {
      this.#options.log.warn({ peer: peerName(peer), origin }, 'refused a WebSocket from a web page of another origin');
      refuse(socket, 403, `pages from ${origin} may not connect; see --websocket-origins\n`);
      return;
    }
    const offered = offeredSubprotocols(request);
    const chosen = this.#choose(offered);
    if (!chosen) {
      const known = this.#options.doors.flatMap((door) => door.subprotocols).join(', ');
      refuse(socket, 400, `no such WebSocket subprotocol here: ${[...offered].join(', ')}; there are: ${known}\n`);
      return;
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const isNamed = chosen.subprotocol !== undefined;
      const { doors } = this.#options;
      const takesText = isNamed ? chosen.door.takesText : doors.some((door) => door.takesText && door.recognises);
      const stream = new WebSocketStream(webSocket, takesText);
      this.#streams.add(stream);
      stream.duplex.once('close', () => this.#streams.delete(stream));
      const transport = { socket: stream.duplex, peer };
      if (isNamed || !doors.some((door) => door.recognises)) chosen.door.accept(transport);
      else this.#awaitFirstOctets(transport, chosen.door);
    });
  }

  /** A client that asked for no subprotocol: what it says first picks the door. */
  #awaitFirstOctets(transport: Transport, otherwise: WebSocketDoor): void {
    const { socket } = transport;
    const ignore = (): void => {};
    const timer = setTimeout(() => socket.destroy(), this.#options.handshakeTimeoutMs);
    socket.once('close', () => clearTimeout(timer)).on('error', ignore);
    socket.once('data', (octets: Buffer) => {
      clearTimeout(timer);
      socket.pause();
      socket.unshift(octets);
      const door = this.#options.doors.find((candidate) => candidate.recognises?.(octets)) ?? otherwise;
      door.accept(transport);
      socket.off('error', ignore);
      socket.resume();
    });
  }

  #peerOf(request: IncomingMessage): PeerAddress {
    return peerOfSocket(request.socket, this.#options.tls !== undefined);
  }

  /** The first subprotocol that some door speaks, in the client's order of preference. */
  #choose(offered: ReadonlySet<string>): { door: WebSocketDoor; subprotocol?: string } | undefined {
    const { doors } = this.#options;
    if (offered.size === 0) {
      const door = doors.find((candidate) => candidate.takesNone) ?? doors.find((candidate) => candidate.recognises);
      return door && { door };
    }
    for (const subprotocol of offered) {
      const door = doors.find((candidate) => candidate.subprotocols.includes(subprotocol));
      if (door) return { door, subprotocol };
    }
    return undefined;
  }

  /** One request of a connection at a time: an answer that has to wait would not even learn that its client has gone. */
  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const connection = this.#connections.get(socket);
    if (!connection) {
      if (!socket.destroyed) this.#answer({ request, response }, this.#peerOf(request));
      return;
    }
    clearTimeout(connection.timer);
    const { pending, peer } = connection;
    pending.push({ request, response });
    response.once('close', () => {
      pending.shift();
      const [next] = pending;
      if (next && !socket.destroyed) this.#answer(next, peer);
      else this.#onAnswered(socket, connection);
    });
    if (pending.length === 1) this.#answer({ request, response }, peer);
    else if (pending.length > REQUESTS_AHEAD_MAX) socket.destroy();
  }

  #answer({ request, response }: Exchange, peer: PeerAddress): void {
    if (this.#closing) response.shouldKeepAlive = false;
    const door = this.#httpDoors.find((candidate) => candidate.takes(request));
    if (door) {
      door.onRequest(request, response, peer);
      return;
    }
    response.writeHead(426, {
      Upgrade: 'websocket',
      Connection: 'Upgrade, close',
      'Content-Type': 'text/plain; charset=utf-8',
      'Content-Length': Buffer.byteLength(this.#invitation),
    });
    response.end(this.#invitation);
  }

  #onAnswered(socket: Duplex, connection: HttpConnection): void {
    if (connection.pending.length > 0 || this.#connections.get(socket) !== connection) return;
    if (this.#closing) socket.end(() => socket.destroy());
    else this.#awaitHead(socket, connection, KEEP_ALIVE_TIMEOUT_MS + this.#options.handshakeTimeoutMs);
  }

  #onClientError(error: ClientError, socket: Duplex): void {
    const connection = this.#forget(socket);
    this.#logClientError(connection?.peer, error);
    const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
    // Not into the middle of another answer.
    const hasBegun = connection?.pending[0]?.response.headersSent ?? false;
    if (socket.writable && !hasBegun) refuse(socket, status, this.#invitation);
    else socket.destroy();
  }

  #logClientError(peer: PeerAddress | undefined, error: ClientError): void {
    const { log, doors } = this.#options;
    const fields = { peer: peer && peerName(peer) };
    const octets = error.rawPacket;
    const advice = octets && doors.map((door) => door.adviseStray?.(octets)).find((one) => one !== undefined);
    if (advice !== undefined) log.warn(fields, advice);
    // Not the error itself: the octets are in it, and a login or a capability may be in them.
    else log.debug({ ...fields, code: error.code, reason: error.message }, 'no HTTP on the WebSocket port');
  }
}

/** Answers an HTTP request on a socket that `node:http` has let go of, and closes it. */
function refuse(socket: Duplex, status: number, text: string): void {
  socket.on('error', () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
    () => socket.destroy(),
  );
}

function offeredSubprotocols(request: IncomingMessage): ReadonlySet<string> {
  const header = request.headers['sec-websocket-protocol'] ?? '';
  return new Set(
    header
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== ''),
  );
}

/**
 * May a page of this origin connect? Programs that are no browsers send no origin and may. `loopback` allows pages from
 * localhost, *.localhost, 127.0.0.0/8 and ::1 on any port, `*` all pages.
 */
export function isOriginAllowed(origin: string | undefined, allowed: readonly string[]): boolean {
  if (origin === undefined || allowed.includes('*')) return true;
  if (allowed.some((one) => one.toLowerCase() === origin.toLowerCase())) return true;
  if (!allowed.includes('loopback') || !URL.canParse(origin)) return false;
  const host = new URL(origin).hostname.replace(/^\[|\]$/g, '');
  return host === 'localhost' || host.endsWith('.localhost') || isLoopback(host);
}
