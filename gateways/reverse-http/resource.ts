/** What a URL of the door stands for. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { PeerAddress } from '../gateway.ts';

/** What is known about a request before its body is read. */
export interface Visit {
  readonly peer: PeerAddress;
  /** The target's path and query. The host is the one the client used; it is no proof of anything. */
  readonly url: URL;
}

export interface Resource {
  /** Answers. What it throws, or rejects with, is told to the client if it is an HttpError or BrokerError. */
  onRequest(request: IncomingMessage, response: ServerResponse, visit: Visit): void | Promise<void>;
}
