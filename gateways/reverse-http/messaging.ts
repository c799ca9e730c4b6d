/** HTTP as a messaging fabric: every exchange and every queue has a URL. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Broker, Principal } from '../../broker/port.ts';
import { Capabilities } from './capabilities.ts';
import { Consuming } from './consuming.ts';
import { EventStreams } from './event-stream.ts';
import { HttpError } from './http-error.ts';
import type { ResolvedOptions } from './options.ts';
import { DEFAULT_EXCHANGE, Publishing } from './publishing.ts';
import type { Resource, Visit } from './resource.ts';
import { UserSessions } from './user-sessions.ts';

/** `/exchange/NAME/KEY`, `/exchange/NAME` for the empty key, `/queue/NAME`; the key may contain slashes. */
export const MESSAGING_PATH = /^\/(exchange|queue)\/([^/]+)(?:\/(.*))?$/s;

export class Messaging {
  readonly #sessions: UserSessions;
  readonly #publishing: Publishing;
  readonly #consuming: Consuming;
  readonly #streams: EventStreams;

  constructor(broker: Broker, options: ResolvedOptions, capabilities: Capabilities<Resource>) {
    this.#sessions = new UserSessions(broker);
    const host = { options, capabilities, sessions: this.#sessions };
    this.#publishing = new Publishing(this.#sessions, options);
    this.#consuming = new Consuming(host);
    this.#streams = new EventStreams(host, new Capabilities());
  }

  close(): Promise<void> {
    return this.#sessions.close();
  }

  /** Throws HttpError and BrokerError. */
  onRequest(
    request: IncomingMessage,
    response: ServerResponse,
    visit: Visit,
    principal: Principal,
  ): void | Promise<void> {
    const [, kind, encodedName = '', encodedKey = ''] = MESSAGING_PATH.exec(visit.url.pathname) ?? [];
    const name = decode(encodedName);
    const key = decode(encodedKey);
    const { method, headers } = request;
    const wantsEvents = headers.accept?.includes('text/event-stream') ?? false;
    if (kind === 'queue') {
      if (key !== '') throw new HttpError(404, 'a queue has no keys; a slash in its name is %2F');
      if (method !== 'GET') throw new HttpError(405, 'GET waits for a message', { Allow: 'GET, OPTIONS' });
      if (wantsEvents) return this.#streams.onRequest(request, response, visit, { queue: name }, principal);
      return this.#consuming.onRequest(request, response, visit, name, principal);
    }
    if (method === 'POST') {
      const address = { exchange: name === DEFAULT_EXCHANGE ? '' : name, routingKey: key };
      return this.#publishing.onRequest(request, response, visit.url, address, principal);
    }
    if (method !== 'GET') throw new HttpError(405, 'POST publishes, GET follows', { Allow: 'GET, POST, OPTIONS' });
    if (!wantsEvents) throw new HttpError(406, 'an exchange is followed with Accept: text/event-stream');
    return this.#streams.onRequest(request, response, visit, { exchange: name, bindingKey: key }, principal);
  }
}

/** Throws HttpError 400. */
function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new HttpError(400, 'the target is not percent-encoded UTF-8');
  }
}
