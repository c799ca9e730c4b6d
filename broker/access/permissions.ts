/**
 * Who may do what: permissions per virtual host and user, and topic permissions on routing keys. The decisions are
 * RabbitMQ's: three regular expressions on the names of queues and exchanges, for the rights configure, write and
 * read. Whether users and virtual hosts exist is not asked here; `BrokerAdministration` does that.
 */
import type { Permission, TopicPermission } from '../administration/administration.ts';
import { DefinitionLog } from '../definition-log.ts';
import { Directory } from '../directory.ts';
import { BrokerError, type Principal } from '../port.ts';
import { Pattern, PatternError } from './pattern.ts';

export type Right = 'configure' | 'write' | 'read';

/** The program in which the broker runs, entering without credentials. It may do everything. Compared by identity. */
export const THE_PROGRAM: Principal = Object.freeze({
  username: 'none',
  tags: Object.freeze(['administrator', 'impersonator']),
});

/** Under this name permissions speak of the default exchange, whose own name is empty. */
const DEFAULT_EXCHANGE_NAME = 'amq.default';

/** Of a permission or topic permission: an absent right is refused. */
type CompiledRights = { readonly [right in Right]?: Pattern };

interface Compiled<Entry> {
  readonly entry: Entry;
  readonly rights: CompiledRights;
}

/** Permissions of one broker; changes take effect with the next question. */
export class Permissions {
  /** Another number after every change. Who keeps decisions keeps this with them and compares. */
  revision = 0;
  readonly #permissions: Directory<'permission', Compiled<Permission>>;
  readonly #topicPermissions: Directory<'topic-permission', Compiled<TopicPermission>>;

  constructor(log = new DefinitionLog()) {
    this.#permissions = new Directory(log, 'permission', ({ entry }) => entry);
    this.#topicPermissions = new Directory(log, 'topic-permission', ({ entry }) => entry);
  }

  /** Throws precondition-failed for what is no regular expression. */
  set(permission: Permission): void {
    const { vhost, user, configure, write, read } = permission;
    const rights = {
      configure: compileRight(configure),
      write: compileRight(write),
      read: compileRight(read),
    };
    this.#permissions.set({ entry: { vhost, user, configure, write, read }, rights });
    this.revision += 1;
  }

  clear(vhost: string, user: string): void {
    this.#permissions.delete(vhost, user);
    this.revision += 1;
  }

  /** Replaces those of the same user, virtual host and exchange. Throws precondition-failed. */
  setTopic(permission: TopicPermission): void {
    const { vhost, user, exchange, write, read } = permission;
    const expand = (pattern: string): Pattern =>
      compileRight(pattern.replaceAll('{username}', () => quote(user)).replaceAll('{vhost}', () => quote(vhost)));
    const rights = { write: expand(write), read: expand(read) };
    this.#topicPermissions.set({ entry: { vhost, user, exchange, write, read }, rights });
    this.revision += 1;
  }

  /** Without an exchange: all of that user in that virtual host. */
  clearTopic(vhost: string, user: string, exchange?: string): void {
    this.#topicPermissions.deleteWhere(({ entry }) => {
      const isTheirs = entry.vhost === vhost && entry.user === user;
      return isTheirs && (exchange === undefined || entry.exchange === exchange);
    });
    this.revision += 1;
  }

  /** Drops everything about a deleted user. */
  forgetUser(user: string): void {
    this.#forget((entry) => entry.user === user);
  }

  /** Drops everything about a deleted virtual host. */
  forgetVhost(vhost: string): void {
    this.#forget((entry) => entry.vhost === vhost);
  }

  #forget(chosen: (entry: Permission | TopicPermission) => boolean): void {
    this.#permissions.deleteWhere(({ entry }) => chosen(entry));
    this.#topicPermissions.deleteWhere(({ entry }) => chosen(entry));
    this.revision += 1;
  }

  list(): readonly Permission[] {
    return this.#permissions.list().map(({ entry }) => entry);
  }

  listTopic(): readonly TopicPermission[] {
    return this.#topicPermissions.list().map(({ entry }) => entry);
  }

  /** May this principal enter the virtual host? Any permission in it will do, even one that grants nothing. */
  hasAccess(principal: Principal, vhost: string): boolean {
    return principal === THE_PROGRAM || this.#permissions.has(vhost, principal.username);
  }

  /** Throws not-allowed unless `hasAccess`. [B3] */
  authorizeVhost(principal: Principal, vhost: string): void {
    if (this.hasAccess(principal, vhost)) return;
    throw new BrokerError('not-allowed', `access to vhost '${vhost}' refused for user '${principal.username}'`);
  }

  /** `name` of a queue or exchange; '' is the default exchange. */
  may(principal: Principal, vhost: string, right: Right, name: string): boolean {
    if (principal === THE_PROGRAM) return true;
    const rights = this.#permissions.get(vhost, principal.username)?.rights;
    return rights?.[right]?.matches(name === '' ? DEFAULT_EXCHANGE_NAME : name) ?? false;
  }

  /** Throws access-refused unless `may`. [B18] */
  authorize(principal: Principal, vhost: string, right: Right, kind: 'queue' | 'exchange', name: string): void {
    if (this.may(principal, vhost, right, name)) return;
    const shown = name === '' ? DEFAULT_EXCHANGE_NAME : name;
    throw new BrokerError(
      'access-refused',
      `${right} access to ${kind} '${shown}' in vhost '${vhost}' refused for user '${principal.username}'`,
    );
  }

  /** Has this principal any topic permission here? If not, `mayTopic` is true for every key. */
  hasTopicPermission(principal: Principal, vhost: string, exchange: string): boolean {
    return principal !== THE_PROGRAM && this.#topicRights(principal, vhost, exchange) !== undefined;
  }

  /**
   * May this principal publish with (write) or bind with (read) `routingKey` at this topic exchange? Asked in addition
   * to `may`, for exchanges of type topic only. True unless a topic permission says otherwise.
   */
  mayTopic(
    principal: Principal,
    vhost: string,
    right: 'write' | 'read',
    exchange: string,
    routingKey: string,
  ): boolean {
    if (principal === THE_PROGRAM) return true;
    const rights = this.#topicRights(principal, vhost, exchange);
    return rights === undefined || (rights[right]?.matches(routingKey) ?? false);
  }

  /** Throws access-refused unless `mayTopic`. [B18] */
  authorizeTopic(
    principal: Principal,
    vhost: string,
    right: 'write' | 'read',
    exchange: string,
    routingKey: string,
  ): void {
    if (this.mayTopic(principal, vhost, right, exchange, routingKey)) return;
    throw new BrokerError(
      'access-refused',
      `${right} access to topic '${routingKey}' in exchange '${exchange}' in vhost '${vhost}' ` +
        `refused for user '${principal.username}'`,
    );
  }

  /** That of the exchange itself comes before that of every exchange. */
  #topicRights(principal: Principal, vhost: string, exchange: string): CompiledRights | undefined {
    if (this.#topicPermissions.size === 0) return undefined;
    const { username } = principal;
    const found =
      this.#topicPermissions.get(vhost, username, exchange) ?? this.#topicPermissions.get(vhost, username, '');
    return found?.rights;
  }
}

/** Throws precondition-failed for what is no regular expression; for checks before anything is changed. */
export function checkPermissionPattern(pattern: string): void {
  compileRight(pattern);
}

/** The empty pattern grants nothing but the empty name. */
function compileRight(pattern: string): Pattern {
  try {
    return new Pattern(pattern === '' ? '^$' : pattern);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    const reason = `${error.message} (at ${error.position})`;
    throw new BrokerError('precondition-failed', `regular expression '${pattern}' is invalid: ${reason}`);
  }
}

/** So that a user cannot widen a pattern by his name. */
function quote(text: string): string {
  return text.replaceAll(/[\\^$.|?*+()[\]{}-]/g, (character) => `\\${character}`);
}
