/**
 * What one TLS connection is known by at both of its ends, and nowhere in between: with it, a login proves that nobody sits
 * on the line who ends the client's TLS and begins another.
 *
 * ```
 * tls-exporter           secret material of the connection, TLS 1.3       [RFC 9266]
 * tls-server-end-point   the hash of the server's certificate             [RFC 5929 §4]
 * tls-unique             the client's Finished message, TLS 1.2           [RFC 5929 §3]
 * ```
 */
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';

/** The octets of each type that the connection has, and which of these types are announced [XEP-0440]. */
export interface ChannelBindings {
  readonly octets: ReadonlyMap<string, Buffer>;
  readonly announced: readonly string[];
}

const EXPORTER_BYTES = 32;

/** Of a connection whose TLS begins here and whose handshake is over; undefined for any other. */
export function channelBindingsOf(socket: Duplex): ChannelBindings | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const octets = new Map<string, Buffer>();
  const isThirteen = socket.getProtocol() === 'TLSv1.3';
  // In TLS 1.2 it needs an extension of which Node.js does not tell whether it is in use [RFC 9266 §4.2].
  if (isThirteen) {
    octets.set(
      'tls-exporter',
      socket.exportKeyingMaterial(EXPORTER_BYTES, 'EXPORTER-Channel-Binding', Buffer.alloc(0)),
    );
  }
  const certificate = socket.getX509Certificate()?.raw;
  const digest = certificate && digestOf(certificate);
  if (certificate !== undefined && digest !== undefined) {
    octets.set('tls-server-end-point', createHash(digest).update(certificate).digest());
  }
  // In a resumed session the first Finished message is the server's.
  const finished = socket.isSessionReused() ? undefined : socket.getPeerFinished();
  if (finished !== undefined) octets.set('tls-unique', finished);
  // COMPAT: slixmpp 1.8 knows tls-unique only and uses it in TLS 1.3 too, where it is not defined, but does what it should.
  const announced = [...octets.keys()].filter((type) => type !== 'tls-unique' || !isThirteen);
  return octets.size === 0 ? undefined : { octets, announced };
}

/** By the OIDs of signatures, in hexadecimal, the hash of each [RFC 5929 §4.1: never less than SHA-256]. */
const DIGESTS: { readonly [oid: string]: string } = {
  // RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512, SHA-224.
  '2a864886f70d010104': 'sha256',
  '2a864886f70d010105': 'sha256',
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  '2a864886f70d01010e': 'sha224',
  // ECDSA with SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
  '2a8648ce3d0401': 'sha256',
  '2a8648ce3d040301': 'sha224',
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
};

/**
 * The hash function with which a certificate is signed; undefined where there is none of its own, as with Ed25519.
 *
 * ```
 * Certificate = SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, … }  [RFC 5280]
 * ```
 */
function digestOf(certificate: Buffer): string | undefined {
  const [inside] = contentAt(certificate, 0);
  const [, afterSigned] = contentAt(certificate, inside);
  const [algorithm] = contentAt(certificate, afterSigned);
  const [oid, oidEnd] = contentAt(certificate, algorithm);
  return DIGESTS[certificate.toString('hex', oid, oidEnd)];
}

/** Where the content of the DER element at `at` begins, and where it ends. */
function contentAt(octets: Buffer, at: number): readonly [start: number, end: number] {
  const first = octets[at + 1] ?? 0;
  if (first < 0x80) return [at + 2, at + 2 + first];
  const count = first & 0x7f;
  const start = at + 2 + count;
  return [start, start + Number.parseInt(octets.toString('hex', at + 2, start), 16)];
}
