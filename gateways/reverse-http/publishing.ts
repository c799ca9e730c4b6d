/**
 * `POST /exchange/NAME/KEY`: publishing a message. `amq.default` names the default exchange.
 *
 *   202 taken   200 with `?wait`: confirmed   404 no such exchange   422 with `?mandatory`: no queue wanted it
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createMessage, type Message } from '../../broker/message.ts';
import type { Connection, Principal } from '../../broker/port.ts';
import { readBody } from './body.ts';
import { HttpError, sendEmpty } from './http-error.ts';
import { propertiesOf } from './message-headers.ts';
import type { ResolvedOptions } from './options.ts';
import type { UserSessions } from './user-sessions.ts';

/** Under this name URLs speak of the default exchange, whose own name is empty. */
export const DEFAULT_EXCHANGE = 'amq.default';

type Outcome = 'accepted' | 'refused' | 'returned';

export class Publishing {
  readonly #sessions: UserSessions;
  readonly #options: ResolvedOptions;

  constructor(sessions: UserSessions, options: ResolvedOptions) {
    this.#sessions = sessions;
    this.#options = options;
  }

  /** Throws HttpError and BrokerError. */
  async onRequest(
    request: IncomingMessage,
    response: ServerResponse,
    url: URL,
    address: { readonly exchange: string; readonly routingKey: string },
    principal: Principal,
  ): Promise<void> {
    const properties = propertiesOf(request.headers);
    const session = await this.#sessions.get(principal, url.searchParams.get('vhost') ?? undefined);
    const { replyTimeoutMs } = this.#options;
    // Before the body is read, and once more, since the broker may have said so while it came.
    await session.admission.pass(replyTimeoutMs);
    const body = await readBody(request, response, this.#options);
    await session.admission.pass(replyTimeoutMs);
    const message = createMessage({ ...address, body, properties });
    const isAwaited = isSet(url, 'wait');
    const isMandatory = isSet(url, 'mandatory');
    if (!isAwaited && !isMandatory) {
      session.channel.publish(message);
      sendEmpty(response, 202);
      return;
    }
    const outcome = await confirmed(session.connection, message, isMandatory, replyTimeoutMs);
    if (outcome === 'returned') throw new HttpError(422, 'no queue wanted this message');
    if (outcome === 'refused') throw new HttpError(503, 'a queue has refused this message', { 'Retry-After': '5' });
    sendEmpty(response, isAwaited ? 200 : 202);
  }
}

/** `?wait`, `?wait=true`; not `?wait=false`. */
function isSet({ searchParams }: URL, name: string): boolean {
  const value = searchParams.get(name);
  return value !== null && value !== 'false' && value !== '0';
}

/** Publishes on a channel of its own and waits until the broker has taken responsibility, or refused. */
function confirmed(
  connection: Connection,
  message: Message,
  isMandatory: boolean,
  timeoutMs: number,
): Promise<Outcome> {
  return new Promise<Outcome>((resolve, reject) => {
    let isReturned = false;
    const channel = connection.openChannel({
      onReturn: () => {
        isReturned = true;
      },
      onConfirm: (_sequence, _multiple, accepted) => end(isReturned ? 'returned' : accepted ? 'accepted' : 'refused'),
    });
    const end = (outcome: Outcome | Error): void => {
      clearTimeout(timer);
      // Not from inside the publish.
      setImmediate(() => channel.close());
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
    const timer = setTimeout(() => end(new HttpError(504, 'the broker has not confirmed in time')), timeoutMs);
    channel
      .confirmSelect()
      .then(() => channel.publish(message, isMandatory))
      .catch(end);
  });
}
