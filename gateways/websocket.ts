/**
 * The one WebSocket listener for every door. The subprotocol that the client asks for picks the door; a client that asks
 * for none gets the door that takes such clients. The path means nothing: `/`, `/ws` and `/ws/amqp` are all the same.
 * Whoever comes with plain HTTP is told in a sentence what this port is (426). [RFC 6455]
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
import { CLOSE_TIMEOUT_MS, type Listener, type ListenerOptions, listen } from './listener.ts';
import { WebSocketStream } from './websocket-stream.ts';

/** What a door offers to WebSocket clients. */
export interface WebSocketDoor {
  /** As registered, e.g. `amqp`, `v12.stomp`; matched as written. */
  readonly subprotocols: readonly string[];
  /** Takes clients that ask for no subprotocol; one door at most. */
  readonly takesNone?: boolean;
  /** A sentence for whoever comes with plain HTTP: how to come in by this door. */
  readonly invitation: string;
  /** What to log about a client that began with `octets`, no HTTP, if it was looking for this door; else undefined. */
  adviseStray?(octets: Uint8Array): string | undefined;
  /** Takes the connection over; must attach an error listener to the socket before it returns. */
  accept(transport: Transport): void;
}

export interface WebSocketOptions extends ListenerOptions {
  readonly doors: readonly WebSocketDoor[];
  /** Origins of web pages that may connect: `https://app.example`, `null`, `loopback` (this machine's), `*` (all). */
  readonly origins: readonly string[];
  /** Octets of one WebSocket message; a larger one ends the connection (1009). */
  readonly messageBytesMax: number;
}

/** What `node:http` says about a connection that is no HTTP, with the octets that made it think so. */
type ClientError = NodeJS.ErrnoException & { readonly rawPacket?: Buffer };

/** Octets of an HTTP request's header section; a larger one is answered 431. */
const HEADER_BYTES_MAX = 16 * 1024;

/** What remains open when the listener closes is told so after this time: the doors say goodbye first, in their own words. */
export const GOODBYE_TIMEOUT_MS = 1000;

const CLOSE_GOING_AWAY = 1001;

/** Starts the listener. Rejects with ListenError. */
export async function startWebSocketGateway(options: WebSocketOptions): Promise<Gateway> {
  const gateway = new WebSocketGateway(options);
  await gateway.start();
  return gateway;
}

class WebSocketGateway implements Gateway {
  readonly name = 'websocket';
  readonly #options: WebSocketOptions;
  /** For whoever comes with plain HTTP. */
  readonly #invitation: string;
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  readonly #streams = new Set<WebSocketStream>();
  /** What is known about the two ends of every HTTP connection that has not become a WebSocket yet. */
  readonly #waiting = new Map<Duplex, { readonly peer: PeerAddress; readonly timer: NodeJS.Timeout }>();
  #listener: Listener | undefined;

  constructor(options: WebSocketOptions) {
    this.#options = options;
    const invitations = options.doors.map((door) => door.invitation);
    this.#invitation = `${['This is the WebSocket port of a message broker.', ...invitations].join(' ')}\n`;
    this.#http = createServer({ maxHeaderSize: HEADER_BYTES_MAX }, (request, response) =>
      this.#onRequest(request, response),
    );
    this.#http.on('upgrade', (request, socket, head) => this.#onUpgrade(request, socket, head));
    this.#http.on('clientError', (error, socket) => this.#onClientError(error, socket));
    const settings = {
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: options.messageBytesMax,
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
    this.#listener = await listen({ ...this.#options, onConnection: (transport) => this.#onConnection(transport) });
  }

  stopAccepting(): void {
    this.#listener?.stopAccepting();
  }

  async close(): Promise<void> {
    this.stopAccepting();
    for (const socket of this.#waiting.keys()) socket.destroy();
    const timer = setTimeout(() => {
      for (const stream of this.#streams) stream.closeWith(CLOSE_GOING_AWAY, 'shutting down');
    }, GOODBYE_TIMEOUT_MS);
    await this.#listener?.close();
    clearTimeout(timer);
  }

  #onConnection({ socket, peer }: Transport): void {
    const { handshakeTimeoutMs } = this.#options;
    // node:http enforces its own time limits only on servers that listen by themselves.
    const timer = setTimeout(() => socket.destroy(), handshakeTimeoutMs);
    this.#waiting.set(socket, { peer, timer });
    socket.once('close', () => this.#forget(socket));
    this.#http.emit('connection', socket);
  }

  #forget(socket: Duplex): PeerAddress | undefined {
    const waiting = this.#waiting.get(socket);
    clearTimeout(waiting?.timer);
    this.#waiting.delete(socket);
    return waiting?.peer;
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const peer = this.#forget(socket) ?? peerOfSocket(request.socket, this.#options.tls !== undefined);
    const { origin } = request.headers;
    if (request.headers.upgrade?.toLowerCase() !== 'websocket') {
      refuse(socket, 400, this.#invitation);
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
      const stream = new WebSocketStream(webSocket);
      this.#streams.add(stream);
      stream.duplex.once('close', () => this.#streams.delete(stream));
      chosen.door.accept({ socket: stream.duplex, peer });
    });
  }

  /** The first subprotocol that some door speaks, in the client's order of preference. */
  #choose(offered: ReadonlySet<string>): { door: WebSocketDoor; subprotocol?: string } | undefined {
    const { doors } = this.#options;
    if (offered.size === 0) {
      const door = doors.find((candidate) => candidate.takesNone);
      return door && { door };
    }
    for (const subprotocol of offered) {
      const door = doors.find((candidate) => candidate.subprotocols.includes(subprotocol));
      if (door) return { door, subprotocol };
    }
    return undefined;
  }

  #onRequest(_request: IncomingMessage, response: ServerResponse): void {
    response.writeHead(426, {
      Upgrade: 'websocket',
      Connection: 'Upgrade, close',
      'Content-Type': 'text/plain; charset=utf-8',
      'Content-Length': Buffer.byteLength(this.#invitation),
    });
    response.end(this.#invitation);
  }

  #onClientError(error: ClientError, socket: Duplex): void {
    const peer = this.#forget(socket);
    this.#logClientError(peer, error);
    const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400;
    if (socket.writable) refuse(socket, status, this.#invitation);
    else socket.destroy();
  }

  #logClientError(peer: PeerAddress | undefined, error: ClientError): void {
    const { log, doors } = this.#options;
    const fields = { peer: peer && peerName(peer) };
    const octets = error.rawPacket;
    const advice = octets && doors.map((door) => door.adviseStray?.(octets)).find((one) => one !== undefined);
    if (advice !== undefined) log.warn(fields, advice);
    else log.debug({ ...fields, err: error }, 'no HTTP on the WebSocket port');
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
