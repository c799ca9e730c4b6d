/**
 * The in-process engine: the virtual hosts and connections of one broker. What answers the port when everything
 * happens on this machine.
 */

import { checkUserConnections, checkVhostConnections } from './access/limits.ts';
import { type Permissions, THE_PROGRAM } from './access/permissions.ts';
import type { Users } from './access/users.ts';
import type { AdministeredConnection, AdministeredEngine } from './administration/administered-engine.ts';
import type { DelayedMessageView, UserLimits, VhostSpec } from './administration/administration.ts';
import type { Policies } from './administration/policies.ts';
import type { Clock } from './clock.ts';
import { Connection } from './connection.ts';
import type { DefinitionLog } from './definition-log.ts';
import { Observers } from './observer.ts';
import {
  type Alarm,
  type BindingSpec,
  BrokerError,
  type ConnectionEvents,
  type ExchangeDeclaration,
  type PeerInfo,
  type Principal,
  type QueueDeclaration,
} from './port.ts';
import type { Store } from './store.ts';
import type { Topology } from './topology.ts';
import { topologyOf } from './topology-view.ts';
import { VirtualHost } from './vhost.ts';

export interface EngineOptions {
  readonly clock: Clock;
  /** The engine uses it; whoever made it closes it. */
  readonly store: Store;
  readonly log: DefinitionLog;
  readonly users: Users;
  readonly permissions: Permissions;
  readonly policies: Policies;
  /** Largest body accepted. */
  readonly bodyBytesMax: number;
  /** For queues without an own one; 0 = none. */
  readonly consumerTimeoutMs: number;
}

const ALARMS: readonly Alarm[] = ['memory', 'disk'];

export class Engine implements AdministeredEngine {
  readonly observers = new Observers();
  readonly permissions: Permissions;
  readonly bodyBytesMax: number;
  /** True from the beginning of a shutdown: no new consumers. */
  draining = false;
  #isClosed = false;
  readonly #options: EngineOptions;
  readonly #vhosts = new Map<string, VirtualHost>();
  readonly #connections = new Set<Connection>();
  /** Who raises each alarm that is in force. */
  readonly #alarms = new Map<Alarm, Set<string>>();
  #publishersHeld = false;
  #programCount = 0;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.permissions = options.permissions;
    this.bodyBytesMax = options.bodyBytesMax;
  }

  /** Throws not-allowed; connection-forced during a shutdown. */
  connect(
    principal: Principal,
    vhostName: string,
    events: Partial<ConnectionEvents>,
    peer: PeerInfo | undefined,
  ): Connection {
    const vhost = this.#vhosts.get(vhostName);
    if (this.draining) throw new BrokerError('connection-forced', 'the broker is shutting down');
    if (vhost === undefined) throw new BrokerError('not-allowed', `vhost ${vhostName} not found`);
    this.permissions.authorizeVhost(principal, vhostName);
    const { username } = principal;
    checkVhostConnections(vhost.spec.limits ?? {}, vhost.connections.size, vhostName, username);
    const userLimits = this.userLimits(principal);
    if (userLimits.maxConnections !== undefined) {
      checkUserConnections(userLimits, this.#connectionsOf(username).length, username);
    }
    const shown = peer ?? { protocol: 'in-process', name: `in-process ${++this.#programCount}` };
    const connection = new Connection(this, vhost, principal, events, shown);
    this.#connections.add(connection);
    vhost.connections.add(connection);
    if (this.observers.watched) this.observers.notify({ type: 'connection-opened', vhost: vhostName, peer: shown });
    if (this.#alarms.size > 0 || this.#publishersHeld) {
      this.#options.clock.defer(() => {
        if (!this.#connections.has(connection)) return;
        if (this.#alarms.size > 0) connection.events.onAlarms(this.alarms());
        if (this.#publishersHeld) connection.events.onFlow(true);
      });
    }
    return connection;
  }

  userLimits(principal: Principal): UserLimits {
    return principal === THE_PROGRAM ? {} : this.#options.users.limits(principal.username);
  }

  /** Open channels of a user in all his connections. */
  channelsOf(username: string): number {
    return this.#connectionsOf(username).reduce((count, { channels }) => count + channels.size, 0);
  }

  #connectionsOf(username: string): readonly Connection[] {
    return [...this.#connections].filter(
      ({ principal }) => principal !== THE_PROGRAM && principal.username === username,
    );
  }

  /** For the connection. */
  connectionClosed(connection: Connection): void {
    this.#connections.delete(connection);
    const { vhost, peer } = connection;
    if (this.observers.watched) this.observers.notify({ type: 'connection-closed', vhost, peer });
  }

  vhosts(): readonly VhostSpec[] {
    return Array.from(this.#vhosts.values(), ({ spec }) => spec);
  }

  putVhost(spec: VhostSpec): void {
    this.#options.log.define('vhost', spec);
    const existing = this.#vhosts.get(spec.name);
    if (existing !== undefined) existing.spec = spec;
    else this.#vhosts.set(spec.name, new VirtualHost(spec, { ...this.#options, observers: this.observers }));
  }

  deleteVhost(name: string, reason: string): void {
    const vhost = this.requireVhost(name);
    this.#vhosts.delete(name);
    this.closeConnections((connection) => connection.vhost === name, reason);
    vhost.delete();
    this.#options.log.undefine('vhost', vhost);
  }

  topology(vhost: string): Topology {
    return topologyOf(this.requireVhost(vhost));
  }

  declareExchange(vhost: string, declaration: ExchangeDeclaration): void {
    this.requireVhost(vhost).declareExchange(declaration);
  }

  declareQueue(vhost: string, declaration: QueueDeclaration): void {
    this.requireVhost(vhost).declareQueue(declaration, undefined);
  }

  bind(vhost: string, binding: BindingSpec): void {
    this.requireVhost(vhost).bind(binding, undefined);
  }

  applyPolicies(vhost: string): void {
    this.requireVhost(vhost).applyPolicies();
  }

  connections(): readonly AdministeredConnection[] {
    return [...this.#connections];
  }

  closeConnections(chosen: (connection: AdministeredConnection) => boolean, reason: string): number {
    const ended = [...this.#connections].filter((connection) => chosen(connection));
    for (const connection of ended) connection.pause();
    for (const connection of ended) {
      connection.events.onClose(new BrokerError('connection-forced', reason));
      // The door says goodbye at its own pace; what the connection held is free from now on.
      void connection.close();
    }
    return ended.length;
  }

  userDeleted(username: string): void {
    if (this.observers.watched) this.observers.notify({ type: 'user-deleted', username });
  }

  delayedMessages(vhost: string): readonly DelayedMessageView[] {
    return this.requireVhost(vhost).router.delayed.list();
  }

  cancelDelayedMessage(vhost: string, id: string): boolean {
    return this.requireVhost(vhost).router.delayed.cancel(id);
  }

  async synced(): Promise<void> {
    if (this.#isClosed) throw new BrokerError('connection-forced', 'the broker is closed: nothing is kept any more');
    return this.#options.store.synced();
  }

  alarms(): readonly Alarm[] {
    return ALARMS.filter((alarm) => this.#alarms.has(alarm));
  }

  setAlarm(alarm: Alarm, raised: boolean, source: string): void {
    const sources = this.#alarms.get(alarm) ?? new Set();
    const wasInForce = sources.size > 0;
    if (raised) sources.add(source);
    else sources.delete(source);
    if (sources.size > 0) this.#alarms.set(alarm, sources);
    else this.#alarms.delete(alarm);
    if (sources.size > 0 === wasInForce) return;
    const alarms = this.alarms();
    for (const connection of this.#connections) connection.events.onAlarms(alarms);
    if (this.observers.watched) this.observers.notify({ type: 'alarms', alarms });
  }

  /** The store is behind with writing, or has caught up. */
  holdPublishers(held: boolean): void {
    if (this.#publishersHeld === held) return;
    this.#publishersHeld = held;
    for (const connection of this.#connections) connection.events.onFlow(held);
  }

  /** Cancels all consumers and refuses new ones and new connections. */
  cancelConsumers(): void {
    this.#beginShutdown();
    for (const connection of this.#connections) {
      for (const channel of connection.channels.values()) channel.cancelConsumers();
    }
  }

  /** Deliveries that wait for their ack. */
  get unackedCount(): number {
    let count = 0;
    for (const connection of this.#connections) {
      for (const channel of connection.channels.values()) count += channel.unackedCount;
    }
    return count;
  }

  /** The messages of queues and exchanges that outlived the last process come back; their definitions have. */
  async restoreMessages(): Promise<void> {
    const vhosts = [...this.#vhosts.values()];
    const delayed = vhosts.flatMap((vhost) => vhost.restoreMessages());
    this.#options.store.restored();
    await Promise.all(delayed);
  }

  #beginShutdown(): void {
    this.draining = true;
    for (const vhost of this.#vhosts.values()) vhost.stopping = true;
  }

  /** Closes every connection and forgets everything; what is stored stays so. The store is to be closed afterwards. */
  close(): void {
    this.#beginShutdown();
    this.closeConnections(() => true, "broker forced connection closure with reason 'shutdown'");
    for (const vhost of this.#vhosts.values()) vhost.stop();
    this.#vhosts.clear();
    this.#isClosed = true;
  }

  /** Throws not-found. */
  requireVhost(name: string): VirtualHost {
    const vhost = this.#vhosts.get(name);
    if (vhost === undefined) throw new BrokerError('not-found', `no vhost '${name}'`);
    return vhost;
  }
}
