/**
 * Addresses as the kit reads them: IPv4-mapped IPv6 addresses appear as the IPv4 addresses they are, IPv6 ones in their
 * shortest form, and "this machine" means 127.0.0.0/8 or ::1.
 */
import { BlockList, isIP, isIPv4, type Socket, SocketAddress } from 'node:net';
import type { PeerAddress } from './gateway.ts';

/** `::ffff:10.0.0.1` becomes `10.0.0.1`; an IPv6 address its shortest form; anything else stays as it is. */
export function normaliseAddress(address: string): string {
  const withoutZone = address.replace(/%.*$/, '');
  if (isIP(withoutZone) !== 6) return address;
  const shortest = new SocketAddress({ address: withoutZone, family: 'ipv6' }).address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(shortest)?.[1];
  return mapped ?? shortest;
}

/** Is this address of this machine: 127.0.0.0/8, ::1, or the former mapped into IPv6? */
export function isLoopback(address: string): boolean {
  const normal = normaliseAddress(address);
  return normal === '::1' || (isIPv4(normal) && normal.startsWith('127.'));
}

/** The two ends of an accepted socket. Fields are '' and 0 once the socket has been destroyed. */
export function peerOfSocket(socket: Socket, encrypted: boolean): PeerAddress {
  const remoteAddress = normaliseAddress(socket.remoteAddress ?? '');
  return {
    remoteAddress,
    remotePort: socket.remotePort ?? 0,
    localAddress: normaliseAddress(socket.localAddress ?? ''),
    localPort: socket.localPort ?? 0,
    loopback: isLoopback(remoteAddress),
    encrypted,
  };
}

/** A set of addresses, from a list of `10.0.0.0/8`, `2001:db8::/32`, `10.1.2.3`. */
export class AddressRanges {
  readonly #ranges = new BlockList();

  /** Throws RangeError, naming the range that is none. */
  constructor(ranges: readonly string[]) {
    for (const range of ranges) this.#add(range);
  }

  includes(address: string): boolean {
    const normal = normaliseAddress(address);
    const version = isIP(normal);
    return version !== 0 && this.#ranges.check(normal, version === 6 ? 'ipv6' : 'ipv4');
  }

  #add(range: string): void {
    const [, address = '', prefix] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(range) ?? [];
    const version = isIP(address);
    const bits = version === 6 ? 128 : 32;
    const prefixBits = prefix === undefined ? bits : Number(prefix);
    if (version === 0 || prefixBits > bits) {
      throw new RangeError(`"${range}" is no address range; write it like 10.0.0.0/8, 2001:db8::/32 or 10.1.2.3`);
    }
    this.#ranges.addSubnet(address, prefixBits, version === 6 ? 'ipv6' : 'ipv4');
  }
}
