/**
 * Requests for another protocol, WebSockets above all, on their way through the door [RFC 9110 §7.8]: the client's socket,
 * which `node:http` has let go of, is joined to a reversed connection whose application has changed its protocol (101), or
 * to a stream of HTTP/2 that it has opened for that [RFC 8441]. Nothing of what goes through is looked at.
 */
import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { encodeInterim, endToEndHeaders, headerValue, type ResponseHead } from './http-message.ts';

/** What a client may send before it knows whether its protocol is accepted; with more it is left. */
const EARLY_BYTES_MAX = 64 * 1024;

/**
 * Protocols that are HTTP once more: requests in them would go past this door, with whatever fields their sender likes, so
 * that they are read as if nobody had asked for them.
 */
const HTTP_AGAIN = /^(?:h2c?|h3|https?|tls|ptth|rh[12])(?:[/-]|$)/i;

/** What every WebSocket key is hashed with. [RFC 6455 §1.3] */
const WEBSOCKET_SALT = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

export interface TunnelLimits {
  readonly tunnelsMax: number;
  /** How long a tunnel may stand still, in both directions. */
  readonly idleMs: number;
  /** How long an end may take to close. */
  readonly closeTimeoutMs: number;
}

/** The protocol that a request asks for, as it is written, if it can be handed on; else undefined. */
export function protocolAskedFor({ headers }: IncomingMessage): string | undefined {
  const asked = headers.upgrade?.trim() ?? '';
  const isHttp = asked.split(',').some((one) => HTTP_AGAIN.test(one.trim()));
  return asked === '' || isHttp ? undefined : asked;
}

/** `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`; undefined for what is no key. */
export function acceptOf(key: string | undefined): string | undefined {
  if (key === undefined || !/^[\w+/]{22}==$/.test(key)) return undefined;
  return createHash('sha1').update(`${key}${WEBSOCKET_SALT}`).digest('base64');
}

/** All clients of one door that have asked for another protocol and not been refused. */
export class Tunnels {
  readonly #limits: TunnelLimits;
  readonly #tunnels = new Set<Tunnel>();

  constructor(limits: TunnelLimits) {
    this.#limits = limits;
  }

  /** Takes the socket over; undefined when there are as many as allowed. `head`: what came after the request. */
  enter(protocol: string, socket: Duplex, head: Buffer): Tunnel | undefined {
    if (this.#tunnels.size >= this.#limits.tunnelsMax) return undefined;
    const tunnel = new Tunnel(protocol, socket, head, this.#limits);
    this.#tunnels.add(tunnel);
    socket.once('close', () => this.#tunnels.delete(tunnel));
    return tunnel;
  }

  /** Ends those that are open; who is still waiting is answered by others. */
  close(): void {
    for (const tunnel of this.#tunnels) tunnel.close();
  }
}

/** One client, from its request to the end of its connection. */
export class Tunnel {
  /** As the client has written it. */
  readonly protocol: string;
  readonly #near: Duplex;
  readonly #limits: TunnelLimits;
  readonly #early: Buffer[];
  #earlyBytes: number;
  #far: Duplex | undefined;
  /** Reads from the beginning, since a client that leaves is not noticed otherwise. */
  readonly #onEarly = (octets: Buffer): void => {
    this.#early.push(octets);
    this.#earlyBytes += octets.length;
    if (this.#earlyBytes > EARLY_BYTES_MAX) this.#near.destroy();
  };

  constructor(protocol: string, near: Duplex, head: Buffer, limits: TunnelLimits) {
    this.protocol = protocol;
    this.#near = near;
    this.#limits = limits;
    this.#early = [head];
    this.#earlyBytes = head.length;
    near.on('error', () => {});
    near.on('data', this.#onEarly);
  }

  /**
   * The application has accepted with this answer. `far` is its side, owned by this tunnel from now on, and `rest` what
   * came from there after the answer.
   */
  open(head: ResponseHead, far: Duplex, rest: Buffer): void {
    const near = this.#near;
    if (near.destroyed) {
      far.destroy();
      return;
    }
    this.#far = far;
    far.on('error', () => {});
    near.off('data', this.#onEarly).pause();
    const upgrade = headerValue(head.headers, 'upgrade') ?? this.protocol;
    const headers = ['Upgrade', upgrade, 'Connection', 'Upgrade', ...endToEndHeaders(head.headers)];
    near.write(encodeInterim({ ...head, status: 101, headers }));
    if (this.#earlyBytes > 0) far.write(Buffer.concat(this.#early));
    if (rest.length > 0) near.write(rest);
    this.#join(near, far);
  }

  /** Ends it, if it is open. */
  close(): void {
    if (this.#far === undefined) return;
    this.#finish(this.#near);
    this.#finish(this.#far);
  }

  #join(near: Duplex, far: Duplex): void {
    const timer = setTimeout(() => {
      near.destroy();
      far.destroy();
    }, this.#limits.idleMs);
    const onData = (): unknown => timer.refresh();
    near.on('data', onData).pipe(far);
    far.on('data', onData).pipe(near);
    const onClose = (other: Duplex) => (): void => {
      clearTimeout(timer);
      this.#finish(other);
    };
    near.once('close', onClose(far));
    far.once('close', onClose(near));
    if (far.destroyed) this.#finish(near);
  }

  /** What has been written still goes out, if it does so in time. */
  #finish(end: Duplex): void {
    if (end.destroyed) return;
    end.end();
    const timer = setTimeout(() => end.destroy(), this.#limits.closeTimeoutMs).unref();
    end.once('close', () => clearTimeout(timer));
  }
}
