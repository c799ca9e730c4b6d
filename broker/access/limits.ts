/**
 * Limits on users and virtual hosts: how many connections, channels and queues. The engine keeps the counts and asks
 * here before it adds one; the texts are RabbitMQ's, which clients and people know. A limit that is absent or negative
 * is none. [B3; RabbitMQ: virtual host limits, user limits]
 */
import type { UserLimits, VhostLimits } from '../administration/administration.ts';
import { BrokerError } from '../port.ts';

/** May one be added to the `count` there are? */
function isReached(limit: number | undefined, count: number): limit is number {
  return limit !== undefined && limit >= 0 && count >= limit;
}

/** Throws not-allowed when the virtual host has as many connections as it may; `count` does not include the new one. */
export function checkVhostConnections(limits: VhostLimits, count: number, vhost: string, username: string): void {
  const limit = limits.maxConnections;
  if (!isReached(limit, count)) return;
  throw new BrokerError(
    'not-allowed',
    `access to vhost '${vhost}' refused for user '${username}': connection limit (${limit}) is reached`,
  );
}

/** Throws not-allowed when the user has as many connections as he may, in all virtual hosts. */
export function checkUserConnections(limits: UserLimits, count: number, username: string): void {
  const limit = limits.maxConnections;
  if (!isReached(limit, count)) return;
  throw new BrokerError(
    'not-allowed',
    `connection refused for user '${username}': user connection limit (${limit}) is reached`,
  );
}

/** Throws not-allowed when the user has as many channels as he may, in all his connections. Closes the connection. */
export function checkUserChannels(limits: UserLimits, count: number, username: string): void {
  const limit = limits.maxChannels;
  if (!isReached(limit, count)) return;
  throw new BrokerError(
    'not-allowed',
    `number of channels opened for user '${username}' has reached the maximum allowed user limit of (${limit})`,
  );
}

/** Throws precondition-failed when the virtual host has as many queues as it may; asked for a new queue only. */
export function checkVhostQueues(limits: VhostLimits, count: number, vhost: string, queue: string): void {
  const limit = limits.maxQueues;
  if (!isReached(limit, count)) return;
  throw new BrokerError(
    'precondition-failed',
    `cannot declare queue '${queue}': queue limit in vhost '${vhost}' (${limit}) is reached`,
  );
}

/** Throws precondition-failed for a limit that is no integer. `kind` names the limits in the text. */
export function checkLimits(limits: UserLimits | VhostLimits, kind: 'user' | 'vhost'): void {
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined || Number.isSafeInteger(value)) continue;
    throw new BrokerError('precondition-failed', `${kind} limit ${name} should be an integer, actually was ${value}`);
  }
}
