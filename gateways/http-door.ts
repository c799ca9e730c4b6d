/**
 * What a door that speaks plain HTTP looks like to the listener that it shares with the WebSocket doors (websocket.ts).
 * The listener has `node:http` read the requests and asks the doors, in their order, whose each one is.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { PeerAddress, Transport } from './gateway.ts';

/** A door for requests of some hosts or paths. */
export interface HttpDoor {
  /** A sentence for whoever asks for what no door has: what there is to ask for here. */
  readonly invitation: string;
  /** Application protocols [RFC 7301] by which a TLS client asks for `accept`; offered beside `http/1.1`. */
  readonly alpnProtocols?: readonly string[];
  /** Is this request the door's? Decided by its target and its Host alone. */
  takes(request: IncomingMessage): boolean;
  /**
   * Answers a request; the next one of its connection comes when this one has been answered. A client that expects a 100 (Continue) has not got it: whoever wants the body asks for it with
   * `response.writeContinue()`.
   */
  onRequest(request: IncomingMessage, response: ServerResponse, peer: PeerAddress): void;
  /**
   * A request for another protocol, if the door takes it, whose socket `node:http` has let go of; `head` is what came after
   * it. True: the door has taken the socket over, its errors included. False: it knows no such protocol, and a request
   * for `websocket` is one for the WebSocket doors; any other goes on as if it had not asked [RFC 9110 §7.8].
   */
  onUpgrade?(request: IncomingMessage, socket: Duplex, head: Buffer, peer: PeerAddress): boolean;
  /** Takes over a TLS connection on which one of `alpnProtocols` was agreed; attaches an error listener at once. */
  accept?(transport: Transport, protocol: string): void;
  /** Says goodbye on every connection that the door has taken over. Idempotent; a door may serve several listeners. */
  close?(): void;
}

/**
 * The octets of a request's head without what asks for another protocol, for reading it once more as an ordinary
 * request. Names and values are those that came.
 */
export function headWithoutUpgrade(request: IncomingMessage): Buffer {
  const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`];
  const { rawHeaders } = request;
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    const lowerName = name.toLowerCase();
    if (lowerName === 'upgrade' || lowerName === 'http2-settings') continue;
    const value = lowerName === 'connection' ? withoutUpgrade(rawHeaders[index + 1] ?? '') : rawHeaders[index + 1];
    lines.push(`${name}: ${value}`);
  }
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

function withoutUpgrade(connection: string): string {
  const tokens = connection.split(',').map((token) => token.trim());
  return tokens.filter((token) => !/^(upgrade|http2-settings)$/i.test(token)).join(', ');
}
