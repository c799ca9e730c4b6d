/**
 * The PROXY protocol, versions 1 and 2: what a proxy in front of a listener says about the connection it forwards,
 * before the first octet of the connection itself. Source: haproxy, doc/proxy-protocol.txt.
 *
 *   v1   "PROXY" SP ("TCP4" | "TCP6") SP source SP destination SP sourcePort SP destinationPort CR LF
 *        "PROXY UNKNOWN" … CR LF                                             at most 107 octets
 *   v2   0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | version:4 command:4 | family:4 transport:4 | length:16
 *        TCP4: source:32 destination:32 sourcePort:16 destinationPort:16     then TLVs, which are skipped
 *        TCP6: source:128 destination:128 sourcePort:16 destinationPort:16   likewise
 *
 * The header is believed only from addresses that the configuration trusts, and from those it is required: guessing
 * whether there is one would let a client behind a proxy claim any address [proxy-protocol.txt §2].
 */
import { isIPv4, isIPv6, type Socket } from 'node:net';
import { isLoopback, normaliseAddress } from './addresses.ts';
import type { PeerAddress } from './gateway.ts';

/** Longest version 1 header, with its CR LF [§2.1]. */
const V1_BYTES_MAX = 107;
/** Longest version 2 header taken, TLVs included; proxies send some hundred octets at most. */
export const V2_BYTES_MAX = 4096;

const V1_START = Buffer.from('PROXY ');
const V2_START = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]);
const V2_FIXED_BYTES = 16;

/** The octets are no PROXY header, from `offset` on. */
export class ProxyProtocolError extends Error {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.name = 'ProxyProtocolError';
    this.offset = offset;
  }
}

/** The two ends of the forwarded connection. */
export interface ProxiedAddress {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress: string;
  readonly localPort: number;
}

export interface ProxyHeader {
  /** Octets that the header takes; the connection's own begin after them. */
  readonly byteLength: number;
  /** Absent when the proxy speaks for itself (health checks) or does not know: the socket's own ends hold. */
  readonly proxied?: ProxiedAddress;
}

/** Reads the header at the beginning of `bytes`; undefined when more octets are needed. Throws ProxyProtocolError. */
export function decodeProxyHeader(bytes: Buffer): ProxyHeader | undefined {
  if (startsLike(bytes, V1_START)) return bytes.length < V1_START.length ? undefined : decodeV1(bytes);
  if (startsLike(bytes, V2_START)) return bytes.length < V2_FIXED_BYTES ? undefined : decodeV2(bytes);
  throw new ProxyProtocolError('no PROXY header', 0);
}

function startsLike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

function decodeV1(bytes: Buffer): ProxyHeader | undefined {
  const end = bytes.subarray(0, V1_BYTES_MAX).indexOf('\r\n');
  if (end < 0) {
    if (bytes.length < V1_BYTES_MAX) return undefined;
    throw new ProxyProtocolError(`a version 1 header without CR LF in its first ${V1_BYTES_MAX} octets`, V1_BYTES_MAX);
  }
  const byteLength = end + 2;
  const [, protocol, source = '', destination = '', sourcePort = '', destinationPort = '', ...rest] = bytes
    .toString('latin1', 0, end)
    .split(' ');
  if (protocol === 'UNKNOWN') return { byteLength };
  const isAddress = protocol === 'TCP4' ? isIPv4 : protocol === 'TCP6' ? isIPv6 : undefined;
  if (!isAddress) throw new ProxyProtocolError('a version 1 header for neither TCP4, TCP6 nor UNKNOWN', 6);
  if (!isAddress(source) || !isAddress(destination) || rest.length > 0) {
    throw new ProxyProtocolError(`a version 1 header whose addresses are not ${protocol} ones`, 11);
  }
  return {
    byteLength,
    proxied: {
      remoteAddress: normaliseAddress(source),
      remotePort: decimalPort(sourcePort),
      localAddress: normaliseAddress(destination),
      localPort: decimalPort(destinationPort),
    },
  };
}

function decimalPort(text: string): number {
  if (!/^(0|[1-9]\d{0,4})$/.test(text) || Number(text) > 65535) {
    throw new ProxyProtocolError('a version 1 header with a port that is none', 11);
  }
  return Number(text);
}

function decodeV2(bytes: Buffer): ProxyHeader | undefined {
  const versionAndCommand = bytes.readUInt8(12);
  const familyAndTransport = bytes.readUInt8(13);
  const byteLength = V2_FIXED_BYTES + bytes.readUInt16BE(14);
  if (versionAndCommand !== 0x20 && versionAndCommand !== 0x21) {
    throw new ProxyProtocolError('a version 2 header with an unknown version or command', 12);
  }
  if (familyAndTransport >> 4 > 3 || (familyAndTransport & 0x0f) > 2) {
    throw new ProxyProtocolError('a version 2 header with an unknown address family or transport', 13);
  }
  if (byteLength > V2_BYTES_MAX) {
    throw new ProxyProtocolError(`a version 2 header of ${byteLength} octets; at most ${V2_BYTES_MAX} are taken`, 14);
  }
  if (bytes.length < byteLength) return undefined;
  if (versionAndCommand === 0x20) return { byteLength }; // LOCAL: the proxy itself, e.g. its health check
  const addressBytes = familyAndTransport === 0x11 ? 4 : familyAndTransport === 0x21 ? 16 : 0;
  if (addressBytes === 0) return { byteLength }; // UNSPEC, UNIX and datagrams say nothing of use here
  if (byteLength < V2_FIXED_BYTES + 2 * addressBytes + 4) {
    throw new ProxyProtocolError('a version 2 header too short for its addresses', 14);
  }
  const ports = V2_FIXED_BYTES + 2 * addressBytes;
  return {
    byteLength,
    proxied: {
      remoteAddress: addressText(bytes, V2_FIXED_BYTES, addressBytes),
      remotePort: bytes.readUInt16BE(ports),
      localAddress: addressText(bytes, V2_FIXED_BYTES + addressBytes, addressBytes),
      localPort: bytes.readUInt16BE(ports + 2),
    },
  };
}

function addressText(bytes: Buffer, start: number, length: number): string {
  if (length === 4) return bytes.subarray(start, start + 4).join('.');
  const groups: string[] = [];
  for (let i = start; i < start + 16; i += 2) groups.push(bytes.readUInt16BE(i).toString(16));
  return normaliseAddress(groups.join(':'));
}

/** `peer` as the proxy has it. */
export function withProxied(peer: PeerAddress, header: ProxyHeader): PeerAddress {
  const { proxied } = header;
  return proxied ? { ...peer, ...proxied, loopback: isLoopback(proxied.remoteAddress) } : peer;
}

/**
 * Takes the header off a socket nobody has read from yet; what follows it stays in the socket, to be read by the next
 * listener. Calls back once, with the header or with what was wrong; never after the socket was destroyed.
 */
export function readProxyHeader(socket: Socket, done: (result: ProxyHeader | ProxyProtocolError) => void): void {
  let received: Buffer = Buffer.alloc(0);
  const onReadable = (): void => {
    for (let chunk: Buffer | null = socket.read(); chunk !== null; chunk = socket.read()) {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    }
    const result = attempt(received);
    if (result === undefined) return;
    socket.off('readable', onReadable);
    if (!(result instanceof ProxyProtocolError) && received.length > result.byteLength) {
      socket.unshift(received.subarray(result.byteLength));
    }
    done(result);
  };
  socket.on('readable', onReadable);
}

function attempt(received: Buffer): ProxyHeader | ProxyProtocolError | undefined {
  try {
    return decodeProxyHeader(received);
  } catch (error) {
    if (error instanceof ProxyProtocolError) return error;
    throw error;
  }
}
