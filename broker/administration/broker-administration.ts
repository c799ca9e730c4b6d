/**
 * The administration of one broker: checks that what is named exists, changes the directories (users, permissions,
 * policies, parameters), and has the engine act on it. The directories know nothing of each other; what must happen in
 * several of them at once happens here. A verb that changes something resolves when the change is on disk; what it
 * changes, it changes in one turn of the event loop, so that the store has all of it or nothing.
 */

import { THE_PROGRAM } from '../access/permissions.ts';
import { type Alarm, BrokerError, type PeerInfo } from '../port.ts';
import type {
  Administration,
  Definitions,
  DelayedMessageView,
  ImportOptions,
  Permission,
  Policy,
  TopicPermission,
  UserLimits,
  UserSpec,
  UserView,
  VhostLimits,
  VhostSpec,
} from './administration.ts';
import { readDefinitions } from './definitions.ts';
import { writeDefinitions } from './definitions-export.ts';
import { type Administered, checkVhost, importDefinitions } from './definitions-import.ts';
import type { PolicyKind } from './policy-settings.ts';

export class BrokerAdministration implements Administration {
  readonly #parts: Administered;

  /** The directories are shared with the engine, which asks them. */
  constructor(parts: Administered) {
    this.#parts = parts;
  }

  async users(): Promise<readonly UserView[]> {
    return this.#parts.users.list();
  }

  async putUser(user: UserSpec): Promise<void> {
    await this.#parts.users.put(user);
    await this.#parts.engine.synced();
  }

  async deleteUser(name: string): Promise<void> {
    const { engine, users, permissions } = this.#parts;
    users.delete(name);
    permissions.forgetUser(name);
    engine.closeConnections(
      ({ principal }) => principal !== THE_PROGRAM && principal.username === name,
      `user '${name}' is deleted`,
    );
    engine.userDeleted(name);
    await engine.synced();
  }

  async setUserLimits(name: string, limits: UserLimits): Promise<void> {
    this.#parts.users.setLimits(name, limits);
    await this.#parts.engine.synced();
  }

  async vhosts(): Promise<readonly VhostSpec[]> {
    return this.#parts.engine.vhosts();
  }

  async putVhost(vhost: VhostSpec): Promise<void> {
    checkVhost(vhost);
    this.#parts.engine.putVhost(vhost);
    await this.#parts.engine.synced();
  }

  async deleteVhost(name: string): Promise<void> {
    const { engine, permissions, policies, parameters } = this.#parts;
    this.#vhost(name);
    // First, so that nobody enters while the engine is at it.
    permissions.forgetVhost(name);
    engine.deleteVhost(name, `vhost '${name}' is deleted`);
    policies.forgetVhost(name);
    parameters.forgetVhost(name);
    await engine.synced();
  }

  async setVhostLimits(name: string, limits: VhostLimits): Promise<void> {
    await this.putVhost({ ...this.#vhost(name), limits });
  }

  async permissions(): Promise<readonly Permission[]> {
    return this.#parts.permissions.list();
  }

  async setPermission(permission: Permission): Promise<void> {
    this.#requireUserAndVhost(permission.user, permission.vhost);
    this.#parts.permissions.set(permission);
    await this.#parts.engine.synced();
  }

  async clearPermission(vhost: string, user: string): Promise<void> {
    this.#requireUserAndVhost(user, vhost);
    this.#parts.permissions.clear(vhost, user);
    await this.#parts.engine.synced();
  }

  async topicPermissions(): Promise<readonly TopicPermission[]> {
    return this.#parts.permissions.listTopic();
  }

  async setTopicPermission(permission: TopicPermission): Promise<void> {
    this.#requireUserAndVhost(permission.user, permission.vhost);
    this.#parts.permissions.setTopic(permission);
    await this.#parts.engine.synced();
  }

  async clearTopicPermission(vhost: string, user: string, exchange?: string): Promise<void> {
    this.#requireUserAndVhost(user, vhost);
    this.#parts.permissions.clearTopic(vhost, user, exchange);
    await this.#parts.engine.synced();
  }

  async policies(): Promise<readonly Policy[]> {
    return this.#parts.policies.list('user');
  }

  async setPolicy(policy: Policy): Promise<void> {
    await this.#setPolicy('user', policy);
  }

  async clearPolicy(vhost: string, name: string): Promise<void> {
    await this.#clearPolicy('user', vhost, name);
  }

  async operatorPolicies(): Promise<readonly Policy[]> {
    return this.#parts.policies.list('operator');
  }

  async setOperatorPolicy(policy: Policy): Promise<void> {
    await this.#setPolicy('operator', policy);
  }

  async clearOperatorPolicy(vhost: string, name: string): Promise<void> {
    await this.#clearPolicy('operator', vhost, name);
  }

  async #setPolicy(kind: PolicyKind, policy: Policy): Promise<void> {
    this.#vhost(policy.vhost);
    this.#parts.policies.set(kind, policy);
    this.#parts.engine.applyPolicies(policy.vhost);
    await this.#parts.engine.synced();
  }

  async #clearPolicy(kind: PolicyKind, vhost: string, name: string): Promise<void> {
    this.#vhost(vhost);
    this.#parts.policies.clear(kind, vhost, name);
    this.#parts.engine.applyPolicies(vhost);
    await this.#parts.engine.synced();
  }

  async clearGlobalParameter(name: string): Promise<void> {
    this.#parts.parameters.clearGlobal(name);
    await this.#parts.engine.synced();
  }

  async importDefinitions(definitions: Definitions, { vhost, onSkipped }: ImportOptions = {}): Promise<void> {
    if (vhost !== undefined) this.#vhost(vhost);
    await importDefinitions(readDefinitions(definitions, vhost), this.#parts, onSkipped);
    await this.#parts.engine.synced();
  }

  async exportDefinitions(vhost?: string): Promise<Definitions> {
    if (vhost !== undefined) this.#vhost(vhost);
    return writeDefinitions(this.#parts, vhost);
  }

  async connections(): Promise<readonly (PeerInfo & { readonly username: string; readonly vhost: string })[]> {
    return this.#parts.engine
      .connections()
      .map(({ peer, principal, vhost }) => ({ ...peer, username: principal.username, vhost }));
  }

  async closeConnection(name: string, reason: string): Promise<void> {
    const closed = this.#parts.engine.closeConnections(({ peer }) => peer.name === name, reason);
    if (closed === 0) throw new BrokerError('not-found', `no connection '${name}'`);
  }

  async delayedMessages(vhost: string): Promise<readonly DelayedMessageView[]> {
    return this.#parts.engine.delayedMessages(this.#vhost(vhost).name);
  }

  async cancelDelayedMessage(vhost: string, id: string): Promise<boolean> {
    const cancelled = this.#parts.engine.cancelDelayedMessage(this.#vhost(vhost).name, id);
    await this.#parts.engine.synced();
    return cancelled;
  }

  async alarms(): Promise<readonly Alarm[]> {
    return this.#parts.engine.alarms();
  }

  async setAlarm(alarm: Alarm, raised: boolean, source = 'administrator'): Promise<void> {
    this.#parts.engine.setAlarm(alarm, raised, source);
  }

  /** Throws not-found. */
  #vhost(name: string): VhostSpec {
    const vhost = this.#parts.engine.vhosts().find((candidate) => candidate.name === name);
    if (vhost === undefined) throw new BrokerError('not-found', `no vhost '${name}'`);
    return vhost;
  }

  #requireUserAndVhost(user: string, vhost: string): void {
    this.#parts.users.get(user);
    this.#vhost(vhost);
  }
}
