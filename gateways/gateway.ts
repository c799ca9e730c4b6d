/**
 * What every door looks like to the composition root, and what a listener hands to a door. A door exports one
 * function `startXxxGateway(broker, options): Promise<Gateway>`.
 */
import type { Duplex } from 'node:stream';
import type { ChunkReader } from './chunk.ts';

export interface GatewayAddress {
  /** e.g. `amqp`, `amqps`, `ws`, `wss` */
  readonly label: string;
  readonly host: string;
  /** The port really bound, never 0. */
  readonly port: number;
}

/** A running door. */
export interface Gateway {
  readonly name: string;
  readonly addresses: readonly GatewayAddress[];
  /** Takes no new connections from now on; those that are open stay, so that the broker can drain. Idempotent. */
  stopAccepting(): void;
  /** Stops accepting and ends what is open, politely; resolves when every socket is gone. Idempotent. */
  close(): Promise<void>;
}

/** Where an accepted connection comes from; the PROXY protocol's word for it where a trusted proxy gave one. */
export interface PeerAddress {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
  /** True when the peer is on this machine. */
  readonly loopback: boolean;
  /** True when the octets travel encrypted. */
  readonly encrypted: boolean;
  /** Name in the peer's verified TLS certificate (CN, or the whole subject by configuration), for SASL EXTERNAL. */
  readonly certificateName?: string;
}

/** One accepted connection: a TCP or TLS socket, or a WebSocket as a byte stream. */
export interface Transport {
  readonly socket: Duplex;
  readonly peer: PeerAddress;
  /** There for a socket that has no `data` events; see `receive`. */
  readonly reader?: ChunkReader;
  /** What TLS agreed on, if the listener offered anything [RFC 7301]. */
  readonly applicationProtocol?: string;
}

/** `127.0.0.1:40212 -> 127.0.0.1:5672`, the form in which connections are named in lists and logs. */
export function peerName(peer: PeerAddress): string {
  return `${hostPort(peer.remoteAddress, peer.remotePort)} -> ${hostPort(peer.localAddress, peer.localPort)}`;
}

/** `127.0.0.1:5672`, or `[::1]:5672` for an IPv6 address. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
