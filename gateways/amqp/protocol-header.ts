/**
 * The eight octets with which a client opens [AMQP 4.2.2]: `AMQP` 0 0 9 1. Its predecessor `AMQP` 1 1 0 9 is taken for
 * the same (COMPAT: as RabbitMQ does). Everything else is answered with the former, and the socket closed.
 */

export const PROTOCOL_HEADER = Buffer.from('AMQP\x00\x00\x09\x01', 'latin1');
const PROTOCOL_HEADER_0_9 = Buffer.from('AMQP\x01\x01\x00\x09', 'latin1');

/** What a connection begins with; `undecided` as long as more octets could make it any of these. */
type Opening = 'amqp' | 'undecided' | 'http' | 'tls' | 'unknown';

const HTTP_METHODS = ['GET ', 'HEAD', 'POST', 'PUT ', 'DELE', 'OPTI', 'PATC', 'CONN', 'TRAC', 'PRI '];

/** What `octets`, the first that came, are the beginning of. */
export function judgeOpening(octets: Buffer): Opening {
  const length = Math.min(octets.length, PROTOCOL_HEADER.length);
  const begun = octets.subarray(0, length);
  for (const header of [PROTOCOL_HEADER, PROTOCOL_HEADER_0_9]) {
    if (begun.equals(header.subarray(0, length))) return length === header.length ? 'amqp' : 'undecided';
  }
  // A TLS record with a handshake in it begins 0x16 0x03.
  if (begun[0] === 0x16 && (length < 2 || begun[1] === 0x03)) return length < 2 ? 'undecided' : 'tls';
  const word = begun.toString('latin1', 0, 4);
  if (!HTTP_METHODS.some((method) => method.startsWith(word))) return 'unknown';
  return word.length < 4 ? 'undecided' : 'http';
}

/** What to log about a client that began with `octets` on a WebSocket port, if he speaks AMQP; else undefined. */
export function strayAdvice(octets: Uint8Array): string | undefined {
  const name = PROTOCOL_HEADER.subarray(0, 4);
  if (!name.equals(octets.subarray(0, name.length))) return undefined;
  return 'AMQP client on the WebSocket port: give it the amqp port, or let it speak WebSocket';
}

/** What to write in the log about a connection that did not begin as it should. */
export function openingAdvice(opening: Opening): string {
  switch (opening) {
    case 'http':
      return 'HTTP client on the AMQP port: give it the port of an HTTP door, or connect an AMQP client here';
    case 'tls':
      return 'TLS client on the AMQP port: give it the amqps port, or let it connect without TLS';
    default:
      return 'no AMQP 0-9-1 client: it did not begin with the protocol header';
  }
}
