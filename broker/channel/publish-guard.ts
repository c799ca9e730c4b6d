/**
 * What is asked before a channel publishes: is the exchange there, may this user write to it and with these keys, is the
 * message such as it may be. What was found about the exchange last published to is remembered while it holds.
 */
import type { Connection } from '../connection.ts';
import { EMPTY_TABLE } from '../fields.ts';
import { type Message, Trait } from '../message.ts';
import { BrokerError } from '../port.ts';
import { copyKeys, TIME_MAX_MS } from '../queue/queue-settings.ts';
import type { Exchange } from '../routing/exchange.ts';

/** Properties that have to be looked at. */
const CHECKED_TRAITS = Trait.expiration | Trait.userId | Trait.copies;

/** Routing keys remembered as allowed by topic permissions. */
const ALLOWED_KEYS_MAX = 1024;

interface Target {
  readonly name: string;
  readonly exchange: Exchange;
  readonly permissionsRevision: number;
  /** Of an exchange to which topic permissions apply: the keys found allowed so far. */
  readonly allowedKeys: Set<string> | undefined;
}

export class PublishGuard {
  readonly #connection: Connection;
  #target: Target | undefined;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * The exchange that a message is for. Throws not-found; access-refused without the right, or for an internal exchange;
   * precondition-failed for a message that is too large or has a property that cannot be.
   */
  admit(message: Message): Exchange {
    const { permissions, bodyBytesMax } = this.#connection.engine;
    let target = this.#target;
    if (
      target === undefined ||
      target.name !== message.exchange ||
      target.exchange.deleted ||
      target.permissionsRevision !== permissions.revision
    ) {
      target = this.#find(message.exchange);
      this.#target = target;
    }
    if (message.bodyBytes > bodyBytesMax) {
      const text = `message size ${message.bodyBytes} is larger than configured max size ${bodyBytesMax}`;
      throw new BrokerError('precondition-failed', text);
    }
    if (target.allowedKeys !== undefined) this.#allowKey(target.name, target.allowedKeys, message.routingKey);
    if ((message.traits & CHECKED_TRAITS) !== 0) this.#check(message, target);
    return target.exchange;
  }

  #find(name: string): Target {
    const { principal, vhost, host, engine } = this.#connection;
    const { permissions } = engine;
    permissions.authorize(principal, vhost, 'write', 'exchange', name);
    const exchange = host.requireExchange(name);
    if (exchange.internal) {
      throw new BrokerError('access-refused', `cannot publish to internal exchange '${name}' in vhost '${vhost}'`);
    }
    const asksKeys = exchange.isTopic && permissions.hasTopicPermission(principal, vhost, name);
    const allowedKeys = asksKeys ? new Set<string>() : undefined;
    return { name, exchange, permissionsRevision: permissions.revision, allowedKeys };
  }

  #allowKey(exchange: string, allowedKeys: Set<string>, routingKey: string): void {
    if (allowedKeys.has(routingKey)) return;
    const { principal, vhost, engine } = this.#connection;
    engine.permissions.authorizeTopic(principal, vhost, 'write', exchange, routingKey);
    if (allowedKeys.size >= ALLOWED_KEYS_MAX) allowedKeys.clear();
    allowedKeys.add(routingKey);
  }

  #check(message: Message, { name, allowedKeys }: Target): void {
    const { expiration, userId, headers = EMPTY_TABLE } = message.properties;
    const { username, tags } = this.#connection.principal;
    if (expiration !== undefined) requireExpiration(expiration);
    if (userId !== undefined && userId !== username && !tags.includes('impersonator')) {
      const text = `user_id property set to '${userId}' but authenticated user was '${username}'`;
      throw new BrokerError('precondition-failed', text);
    }
    // Here and not when the message is routed, which may be after a commit or a delay.
    for (const key of [...copyKeys(headers, 'CC'), ...copyKeys(headers, 'BCC')]) {
      if (allowedKeys !== undefined) this.#allowKey(name, allowedKeys, key);
    }
  }
}

function requireExpiration(expiration: string): void {
  const complaint = !/^[+-]?\d+$/.test(expiration)
    ? 'no_integer'
    : Number(expiration) < 0
      ? `{value_negative,${expiration}}`
      : Number(expiration) > TIME_MAX_MS
        ? `{value_too_large,${expiration}}`
        : undefined;
  if (complaint === undefined) return;
  throw new BrokerError('precondition-failed', `invalid expiration '${expiration}': ${complaint}`);
}
