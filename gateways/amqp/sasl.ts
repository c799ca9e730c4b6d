/**
 * How a peer proves who he is [AMQP 2.2.4]. All mechanisms here take one response, which comes with connection.start-ok;
 * connection.secure, the challenge, is never needed.
 */

import { decodeField } from '../../broker/encoding/field-tables.ts';
import { decodeText, OctetReader } from '../../broker/encoding/octets.ts';
import { ProtocolError } from '../../broker/encoding/protocol-error.ts';
import type { PeerAddress } from '../gateway.ts';

/** A name and what proves it. */
export type Login = { readonly username: string } & (
  | { readonly password: string }
  | { readonly provedBy: 'certificate' }
);

interface Mechanism {
  readonly name: string;
  isOffered(peer: PeerAddress): boolean;
  /** Throws `ProtocolError` 502 for a response that is none. */
  login(response: Uint8Array, peer: PeerAddress): Login;
}

/** `authzid NUL authcid NUL password` [RFC 4616]; the first must be empty, as in RabbitMQ. */
const PLAIN: Mechanism = {
  name: 'PLAIN',
  isOffered: () => true,
  login(response) {
    const [authorise, username, password, ...more] = decodeText(response, 0, response.length).split('\0');
    if (authorise !== '' || username === undefined || password === undefined || more.length > 0) {
      throw new ProtocolError(502, 'the PLAIN response must be NUL, name, NUL, password', 0);
    }
    return { username, password };
  },
};

/** The fields LOGIN and PASSWORD, as a table without its size. */
const AMQPLAIN: Mechanism = {
  name: 'AMQPLAIN',
  isOffered: () => true,
  login(response) {
    const reader = new OctetReader(response, 0, response.length, 502);
    const fields = new Map<string, unknown>();
    while (reader.at < reader.end) fields.set(reader.text(), decodeField(reader));
    const [username, password] = [fields.get('LOGIN'), fields.get('PASSWORD')];
    if (typeof username !== 'string' || typeof password !== 'string') {
      throw new ProtocolError(502, 'the AMQPLAIN response must have the strings LOGIN and PASSWORD', 0);
    }
    return { username, password };
  },
};

/** The name in the certificate that the peer has shown. */
const EXTERNAL: Mechanism = {
  name: 'EXTERNAL',
  isOffered: (peer) => peer.certificateName !== undefined,
  login: (_response, peer) => ({ username: peer.certificateName ?? '', provedBy: 'certificate' }),
};

const MECHANISMS: readonly Mechanism[] = [PLAIN, AMQPLAIN, EXTERNAL];

/** What connection.start offers to this peer, separated by spaces. */
export function offeredMechanisms(peer: PeerAddress): string {
  return MECHANISMS.filter((mechanism) => mechanism.isOffered(peer))
    .map((mechanism) => mechanism.name)
    .join(' ');
}

/** The mechanism of that name, if it is offered to this peer. */
export function mechanismFor(name: string, peer: PeerAddress): Mechanism | undefined {
  return MECHANISMS.find((mechanism) => mechanism.name === name && mechanism.isOffered(peer));
}

export type { Mechanism };
