/**
 * Turning a connection round: the client becomes the server of a claim. Three ways to ask for it:
 *
 *   Upgrade: PTTH/1.0                     HTTP/1.1 [draft-lentczner-rhttp-00]
 *   Upgrade: ptth, ALPN: h2, http%2F1.1   HTTP/2 or HTTP/1.1 [draft-kazuho-ptth-ptth, RFC 7639]
 *   TLS with ALPN rh2 or rh1              the same, from the first octet [draft-thomson-ptth-potato]
 *
 * With TLS alone nobody has named a claim yet. It is the label before the door's domain in the server name (SNI), else
 * the name in the client's certificate; a peer without a certificate is asked, by `GET /.well-known/reversehttp`, and
 * answers with a form (`name`, `token`) and an Authorization field.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { Principal } from '../../broker/port.ts';
import { type PeerAddress, peerName, type Transport } from '../gateway.ts';
import type { Authentication } from './authentication.ts';
import { collect } from './body.ts';
import { type Claim, claimName } from './claim.ts';
import type { Claims } from './claims.ts';
import { Errand } from './errand.ts';
import { asHttpError, HttpError, responseOn, sendError } from './http-error.ts';
import { headerValue, type ResponseHead } from './http-message.ts';
import type { ResolvedOptions } from './options.ts';
import { nobody, type Requestor } from './requestor.ts';
import type { Resource } from './resource.ts';
import { type ReversedConnection, ReversedHttp1 } from './reversed-http1.ts';
import { ReversedHttp2 } from './reversed-http2.ts';

/** In the order in which they are offered to TLS clients. */
export const REVERSED_ALPN: readonly string[] = ['rh2', 'rh1'];

/** What a peer without a certificate is asked for. */
export const WELL_KNOWN_PATH = '/.well-known/reversehttp';
/** A form and little more. */
const INTRODUCTION_BYTES_MAX = 16 * 1024;

export interface ReversalHost {
  readonly options: ResolvedOptions;
  readonly claims: Claims;
  readonly authentication: Authentication;
  /** What the private URL of a claim is. */
  readonly privateUrl: (claim: Claim) => Resource;
}

interface Turn {
  readonly name: string;
  readonly principal: Principal;
  readonly secret?: string;
}

export class Reversal {
  readonly #host: ReversalHost;
  readonly #connections = new Set<ReversedConnection>();

  constructor(host: ReversalHost) {
    this.#host = host;
  }

  /** True if the request asks for a reversal, for the claim `name`; then the socket is taken over. */
  onUpgrade(name: string, request: IncomingMessage, socket: Duplex, head: Buffer, peer: PeerAddress): boolean {
    const asked = request.headers.upgrade?.toLowerCase();
    if (asked !== 'ptth' && asked !== 'ptth/1.0') return false;
    socket.on('error', () => {});
    const timer = setTimeout(() => socket.destroy(), this.#host.options.bodyIdleMs);
    this.#upgrade(name, asked, request, socket, head, peer)
      .catch((error: unknown) => this.#refuse(request, socket, error))
      .finally(() => clearTimeout(timer));
    return true;
  }

  /** Takes over a TLS connection whose protocol is one of `REVERSED_ALPN`. */
  onTls(transport: Transport, protocol: string): void {
    const { socket, peer } = transport;
    socket.on('error', () => {});
    const connection = this.#reverse(socket, protocol === 'rh2');
    const timer = setTimeout(() => socket.destroy(), this.#host.options.bodyIdleMs);
    this.#introduce(connection, transport)
      .then(async (turn) => connection.enlist(await this.#join(turn)))
      .catch((error: unknown) => {
        this.#log(error, `refused a reversed connection from ${peerName(peer)}`);
        socket.destroy();
      })
      .finally(() => clearTimeout(timer));
  }

  close(): void {
    for (const connection of this.#connections) connection.dismiss();
  }

  async #upgrade(
    name: string,
    asked: string,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    peer: PeerAddress,
  ): Promise<void> {
    const { headers, url = '' } = request;
    if (headers.origin !== undefined) throw new HttpError(403, 'web pages cannot serve in this way');
    if (Number(headers['content-length'] ?? 0) > 0 || headers['transfer-encoding'] !== undefined) {
      throw new HttpError(400, 'a request that turns its connection round has no body');
    }
    const protocol = asked === 'ptth' ? chooseProtocol(headers.alpn) : 'http/1.1';
    if (protocol === undefined) throw new HttpError(400, 'ALPN: h2 and http%2F1.1 are spoken here');
    const principal = await this.#host.authentication.authenticate(request, peer);
    const secret = new URLSearchParams(/\?(.*)$/s.exec(url)?.[1] ?? '').get('token');
    const crew = await this.#join({ name, principal, ...(secret !== null && { secret }) });
    if (socket.destroyed) return;
    const fields =
      asked === 'ptth'
        ? `Upgrade: ptth\r\nConnection: Upgrade\r\nALPN: ${encodeURIComponent(protocol)}`
        : 'Upgrade: PTTH/1.0\r\nConnection: Upgrade';
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${fields}\r\n\r\n`);
    if (head.length > 0) socket.unshift(head);
    this.#reverse(socket, protocol === 'h2').enlist(crew);
  }

  #reverse(socket: Duplex, isHttp2: boolean): ReversedConnection {
    const onEnd = (): void => void this.#connections.delete(connection);
    const { options } = this.#host;
    const connection = isHttp2 ? new ReversedHttp2(socket, options, onEnd) : new ReversedHttp1(socket, options, onEnd);
    this.#connections.add(connection);
    return connection;
  }

  #join({ name, principal, secret }: Turn): ReturnType<Claims['join']> {
    return this.#host.claims.join(name, principal, secret, this.#host.privateUrl);
  }

  #refuse(request: IncomingMessage, socket: Duplex, error: unknown): void {
    this.#log(error, 'refused to turn a connection round');
    if (!socket.writable) return;
    const response = responseOn(request, socket, this.#host.options.closeTimeoutMs);
    sendError(response, asHttpError(error) ?? new HttpError(500, 'internal error'));
  }

  #log(error: unknown, message: string): void {
    const { log } = this.#host.options;
    if (asHttpError(error) === undefined) log.error({ err: error }, message);
    else log.debug({ reason: error instanceof Error ? error.message : undefined }, message);
  }

  // ---- who is it, and for which claim?

  async #introduce(connection: ReversedConnection, { socket, peer }: Transport): Promise<Turn> {
    const { certificateName } = peer;
    const { authentication, options } = this.#host;
    const served = socket instanceof TLSSocket ? nameBefore(options.domain, socket.servername) : undefined;
    if (certificateName === undefined) return this.#ask(connection, peer, served);
    const principal = await authentication.authenticate({ headers: {} }, peer);
    const name = served ?? claimName(certificateName);
    if (name === undefined) throw new HttpError(400, 'neither its certificate nor its server name names a claim');
    return { name, principal };
  }

  async #ask(connection: ReversedConnection, peer: PeerAddress, served: string | undefined): Promise<Turn> {
    const { authentication, options } = this.#host;
    const { head, body } = await new Promise<{ head: ResponseHead; body: Buffer | Readable }>((resolve, reject) => {
      const fail = (status: number, explanation: string): void => reject(new HttpError(status, explanation));
      const timer = setTimeout(() => fail(408, 'it did not say who it is'), options.closeTimeoutMs);
      const requestor: Requestor = {
        ...nobody(),
        method: 'GET',
        gone: false,
        attempts: Number.POSITIVE_INFINITY,
        answer: (answerHead, answerBody) => resolve({ head: answerHead, body: answerBody }),
        fail,
      };
      const request = {
        head: { method: 'GET', target: WELL_KNOWN_PATH, version: '1.1', headers: ['Host', 'reversehttp'] },
        body: Buffer.alloc(0),
      };
      connection.serve(new Errand({ requestor, requestingClient: '', request, settle: () => clearTimeout(timer) }));
    });
    const limits = { bodyBytesMax: INTRODUCTION_BYTES_MAX, bodyIdleMs: options.closeTimeoutMs };
    const form = new URLSearchParams(String(Buffer.isBuffer(body) ? body : await collect(body, limits)));
    const authorization = headerValue(head.headers, 'authorization');
    const principal = await authentication.authenticate({ headers: { authorization } }, peer);
    const name = served ?? claimName(form.get('name') ?? '');
    if (head.status !== 200 || name === undefined) throw new HttpError(400, 'it named no claim');
    const secret = form.get('token');
    return { name, principal, ...(secret !== null && { secret }) };
  }
}

/** The best protocol that is offered; HTTP/1.1 where nothing is. [RFC 7639 §2.2] */
function chooseProtocol(alpn: string | string[] | undefined): 'h2' | 'http/1.1' | undefined {
  if (alpn === undefined) return 'http/1.1';
  const offered = String(alpn)
    .split(',')
    .map((part) => part.trim().toLowerCase());
  if (offered.includes('h2')) return 'h2';
  return offered.includes('http%2f1.1') ? 'http/1.1' : undefined;
}

/** `foo` of `foo.DOMAIN`. */
function nameBefore(domain: string | undefined, host: string | false | null | undefined): string | undefined {
  const suffix = `.${domain}`;
  if (domain === undefined || !host || !host.toLowerCase().endsWith(suffix)) return undefined;
  return claimName(host.slice(0, -suffix.length));
}
