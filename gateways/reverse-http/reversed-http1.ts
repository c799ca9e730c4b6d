/**
 * A reversed HTTP/1.1 connection: the peer opened it, and now it is the server. One request at a time; `node:http` writes
 * it and reads the answer. What comes without having been asked for ends the connection.
 */
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { isChunked } from './body.ts';
import type { Crew, Server } from './crew.ts';
import { type Errand, type ErrandRequest, framingOf } from './errand.ts';
import { HttpError } from './http-error.ts';
import { endToEndHeaders, headerValue, trailerFields } from './http-message.ts';

export interface ReversedOptions {
  /** How long an application may go on with an answer that nobody waits for, and a closing connection may take. */
  readonly closeTimeoutMs: number;
  /** How long a connection may give no sign of life after it was asked for one, where the protocol can ask. */
  readonly pongTimeoutMs: number;
  /** Requests at a time, where the protocol has more than one. */
  readonly streamsMax: number;
}

/** What the door knows better than whoever asked. */
export const REPLACED: ReadonlySet<string> = new Set(['requesting-client']);

/** An application behind a connection that it has opened. */
export interface ReversedConnection extends Server {
  /** Serves the claim from now on, until it closes. */
  enlist(crew: Crew): void;
  /** Ends the connection when what is being served is done, or after a time. Idempotent. */
  dismiss(): void;
}

export class ReversedHttp1 implements ReversedConnection {
  readonly streams = true;
  readonly changesTo = (): boolean => true;
  readonly #socket: Duplex;
  readonly #options: ReversedOptions;
  readonly #agent: Agent;
  #crew: Crew | undefined;
  #errand: Errand | undefined;
  /** Some of the request may have gone out. */
  #sent = false;
  #dismissed = false;

  /** Takes the socket over. `onEnd` is called once, when it is gone. */
  constructor(socket: Duplex, options: ReversedOptions, onEnd: () => void) {
    this.#socket = socket;
    this.#options = options;
    this.#agent = agentFor(socket);
    socket.on('error', () => {});
    socket.on('data', () => {
      if (this.#errand === undefined) socket.destroy();
    });
    socket.on('end', () => socket.end());
    socket.once('close', () => {
      this.#crew?.leave(this);
      this.#errand?.lost(this.#sent);
      onEnd();
    });
  }

  enlist(crew: Crew): void {
    this.#crew = crew;
    if (this.#socket.destroyed) return;
    crew.enter(this, 1);
  }

  serve(errand: Errand): void {
    this.#errand = errand;
    this.#sent = false;
    errand.request().then(
      (request) => this.#send(errand, request),
      (error: unknown) => {
        if (!(error instanceof HttpError)) throw error;
        this.#errand = undefined;
        errand.fail(400, error.message);
      },
    );
  }

  dismiss(): void {
    if (this.#dismissed) return;
    this.#dismissed = true;
    if (this.#errand === undefined) this.#end();
  }

  #end(): void {
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), this.#options.closeTimeoutMs).unref();
  }

  #send(errand: Errand, request: ErrandRequest): void {
    if (errand.settled) return;
    const { head, body } = request;
    const headers = [...endToEndHeaders(head.headers, REPLACED), 'Requesting-Client', errand.requestingClient];
    if (headerValue(headers, 'host') === undefined) headers.push('Host', 'localhost');
    const { passage } = errand.requestor;
    headers.push(...framingOf(request), 'Connection', passage === undefined ? 'keep-alive' : 'Upgrade');
    if (passage !== undefined) headers.push('Upgrade', passage.protocol);
    // As names and values in turn, so that they keep their order and their letters.
    const options = { agent: this.#agent, method: head.method, path: head.target, setHost: false };
    const outgoing = attempt(() => httpRequest({ ...options, headers: headers as unknown as Record<string, string> }));
    if (outgoing === undefined) {
      this.#errand = undefined;
      errand.fail(400, 'this request cannot be handed on');
      return;
    }
    outgoing.on('response', (response) => {
      // `node:http` takes an answer to HEAD without a length for one that lasts until the connection ends.
      if (head.method === 'HEAD' && staysOpen(response)) outgoing.shouldKeepAlive = true;
      // Nothing more can be asked on a connection that ends with this answer.
      if (!outgoing.shouldKeepAlive) this.#crew?.leave(this);
      this.#onResponse(errand, response);
    });
    outgoing.on('information', ({ statusCode, statusMessage, rawHeaders }) =>
      errand.inform({ status: statusCode, reason: statusMessage, headers: rawHeaders }),
    );
    // The end of the socket says whether the request may be sent again.
    outgoing.on('error', () => this.#socket.destroy());
    outgoing.on('upgrade', (response, _socket, rest) => this.#onUpgrade(errand, response, rest));
    outgoing.on('socket', (socket) => {
      // From its first octet on the application may act on it.
      this.#sent = socket.writable;
    });
    errand.requestor.onGone = () => this.#onGone(errand);
    const trail = (): void => void attempt(() => outgoing.addTrailers(trailerFields(request.trailers?.() ?? [])));
    if (Buffer.isBuffer(body)) {
      trail();
      outgoing.end(body.length > 0 ? body : undefined);
    } else {
      body.once('end', trail);
      this.#stream(body, outgoing);
    }
  }

  #stream(body: NodeJS.ReadableStream, outgoing: ClientRequest): void {
    body.pipe(outgoing);
    // A request that breaks off cannot be ended in any other way.
    body.once('close', () => {
      if (!outgoing.writableEnded) this.#socket.destroy();
    });
  }

  #onResponse(errand: Errand, response: IncomingMessage): void {
    const { statusCode: status = 0, statusMessage: reason = '', rawHeaders: headers } = response;
    response.on('error', () => {});
    const coding = response.headers['transfer-encoding'];
    if (coding !== undefined && !isChunked(coding)) {
      this.#socket.destroy();
      return;
    }
    response.once('close', () => {
      this.#errand = undefined;
      errand.finish();
      if (this.#dismissed) this.#end();
    });
    errand.answer({ status, reason, headers }, response, () => response.rawTrailers);
  }

  /** The connection is the tunnel's from now on, and so is its end; until then this server is busy. */
  #onUpgrade(errand: Errand, response: IncomingMessage, rest: Buffer): void {
    const { statusCode: status = 0, statusMessage: reason = '', rawHeaders: headers } = response;
    const asked = errand.requestor.passage?.protocol.toLowerCase().split(/\s*,\s*/) ?? [];
    const isAsked = asked.includes(response.headers.upgrade?.toLowerCase() ?? '');
    if (status === 101 && isAsked) errand.open({ status, reason, headers }, this.#socket, rest);
    else this.#socket.destroy();
  }

  /** Nobody waits any more. The application may finish, for a time: ending its connection is all that would stop it. */
  #onGone(errand: Errand): void {
    setTimeout(() => {
      if (!errand.settled && this.#errand === errand) this.#socket.destroy();
    }, this.#options.closeTimeoutMs).unref();
  }
}

/** Does a response without a body leave its connection open? [RFC 9112 §9.3] */
function staysOpen({ headers, httpVersion }: IncomingMessage): boolean {
  return httpVersion === '1.1' && !/(?:^|,)\s*close\s*(?:,|$)/i.test(headers.connection ?? '');
}

/** What `node:http` reads it does not always write: such a request is nobody's defect but its sender's. */
export function attempt<Outgoing>(make: () => Outgoing): Outgoing | undefined {
  try {
    return make();
  } catch {
    return undefined;
  }
}

/**
 * Keeps one connection, and never makes another: a request that finds it gone fails. It is told so by the callback, since
 * the agent also asks from inside the `close` event of the socket, where nobody would catch what is thrown.
 */
function agentFor(socket: Duplex): Agent {
  let given = false;
  const createConnection = (_options: unknown, callback: (error: Error) => void): Duplex | undefined => {
    if (given) {
      callback(new Error('a reversed connection cannot be made again'));
      return undefined;
    }
    given = true;
    return socket;
  };
  return Object.assign(new Agent({ keepAlive: true, maxSockets: 1 }), { createConnection });
}
