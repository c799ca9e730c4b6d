/**
 * `GET /queue/NAME`: waits for one message. Its acknowledgement is a URL in `Link: rel="ack"`: POST acknowledges, POST
 * with `?reject` drops or dead-letters it, DELETE gives it back. What nobody settles in time goes back by itself. With
 * `?ack=auto` the message is settled as it is sent.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Message } from '../../broker/message.ts';
import type { Channel, Connection, Principal } from '../../broker/port.ts';
import type { Capabilities } from './capabilities.ts';
import { asHttpError, HttpError, sendEmpty, sendError } from './http-error.ts';
import { baseUrl, capabilityUrl, link } from './links.ts';
import { fieldsOf } from './message-headers.ts';
import type { ResolvedOptions } from './options.ts';
import { waitMs } from './poll.ts';
import type { Resource, Visit } from './resource.ts';
import type { UserSessions } from './user-sessions.ts';

export interface ConsumingHost {
  readonly options: ResolvedOptions;
  readonly capabilities: Capabilities<Resource>;
  readonly sessions: UserSessions;
}

/** Whoever opens a message of somebody else in a browser runs nothing of it. */
export const INERT_FIELDS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': 'sandbox',
  'X-Content-Type-Options': 'nosniff',
};

export class Consuming {
  readonly #host: ConsumingHost;

  constructor(host: ConsumingHost) {
    this.#host = host;
  }

  /** Throws HttpError and BrokerError. */
  async onRequest(
    request: IncomingMessage,
    response: ServerResponse,
    { url, peer }: Visit,
    queue: string,
    principal: Principal,
  ): Promise<void> {
    const noAck = acknowledgesItself(url);
    const base = baseUrl(request, peer, this.#host.options);
    const vhost = url.searchParams.get('vhost') ?? undefined;
    const fail = (error: Error): void => {
      if (!response.writableEnded) sendError(response, asHttpError(error) ?? new HttpError(503, error.message));
    };
    const connection = await this.#host.sessions.open(principal, vhost, fail);
    const close = (): void => void connection.close();
    if (response.destroyed) return close();
    response.once('close', close);
    const timer = setTimeout(
      () => {
        close();
        sendEmpty(response, 204);
      },
      waitMs(request, url, this.#host.options),
    );
    response.once('close', () => clearTimeout(timer));
    try {
      const channel = connection.openChannel();
      channel.prefetch(1);
      await channel.consume(
        { queue, noAck },
        {
          onDeliver: (message, deliveryTag, redelivered) => {
            clearTimeout(timer);
            channel.pause();
            if (response.destroyed) return close();
            const held = noAck ? undefined : { connection, channel, deliveryTag };
            const acknowledge = held && this.#mint(held);
            if (held !== undefined) response.off('close', close);
            send(response, message, redelivered, acknowledge && link(capabilityUrl(base, acknowledge), 'ack'));
            if (held !== undefined) {
              response.once('close', () => {
                if (!response.writableFinished) close();
              });
            }
          },
          onCancel: (_reason, explanation) => {
            // Also after the delivery, when there is nobody to tell any more.
            if (!response.headersSent) fail(new HttpError(410, explanation));
          },
        },
      );
    } catch (error) {
      clearTimeout(timer);
      close();
      throw error;
    }
  }

  #mint(held: Held): string {
    const { capabilities, options } = this.#host;
    const resource = new Acknowledgement(held, () => {
      clearTimeout(timer);
      capabilities.revoke(token);
    });
    const timer = setTimeout(() => resource.end(), options.ackTimeoutMs).unref();
    const token = capabilities.mint(resource);
    return token;
  }
}

/** Does the client want messages settled as they are sent? Throws HttpError 400 for what can mean neither. */
export function acknowledgesItself(url: URL): boolean {
  const ack = url.searchParams.get('ack') ?? 'manual';
  if (ack !== 'auto' && ack !== 'manual') throw new HttpError(400, 'ack is auto or manual');
  return ack === 'auto';
}

function send(response: ServerResponse, message: Message, redelivered: boolean, ack: string | undefined): void {
  response.writeHead(200, {
    ...fieldsOf(message, redelivered),
    ...INERT_FIELDS,
    'Content-Length': message.bodyBytes,
    ...(ack !== undefined && { Link: ack }),
  });
  response.end(message.body);
}

interface Held {
  readonly connection: Connection;
  readonly channel: Channel;
  readonly deliveryTag: number;
}

/** A message that somebody has and has not settled. */
class Acknowledgement implements Resource {
  readonly #held: Held;
  readonly #onEnd: () => void;

  constructor(held: Held, onEnd: () => void) {
    this.#held = held;
    this.#onEnd = onEnd;
  }

  onRequest(request: IncomingMessage, response: ServerResponse, { url }: Visit): void {
    const { channel, deliveryTag } = this.#held;
    if (request.method === 'POST' && url.searchParams.has('reject')) channel.reject(deliveryTag);
    else if (request.method === 'POST') channel.ack(deliveryTag);
    else if (request.method === 'DELETE') channel.reject(deliveryTag, { requeue: true });
    else {
      const allowed = { Allow: 'POST, DELETE, OPTIONS' };
      throw new HttpError(405, 'POST acknowledges, POST with ?reject rejects, DELETE gives it back', allowed);
    }
    this.end();
    sendEmpty(response, 204);
  }

  /** What is not settled goes back to its queue. */
  end(): void {
    this.#onEnd();
    void this.#held.connection.close();
  }
}
