/**
 * What the administration needs from the engine: its virtual hosts, the things in them as data, and its connections.
 * `broker/engine.ts` implements this; `BrokerAdministration` is its only caller. Users, permissions, policies and
 * parameters are no business of the engine: it is given the directories and asks them.
 */

import type { Alarm, BindingSpec, ExchangeDeclaration, PeerInfo, Principal, QueueDeclaration } from '../port.ts';
import type { Topology } from '../topology.ts';
import type { DelayedMessageView, VhostSpec } from './administration.ts';

/** One open connection, as the administration sees it. The program's own have the principal `THE_PROGRAM`. */
export interface AdministeredConnection {
  readonly peer: PeerInfo;
  readonly principal: Principal;
  readonly vhost: string;
}

/**
 * The caller has checked rights and names before: an unknown virtual host throws not-found, and is a defect of the
 * caller. What verbs change has been told to the store when they return, and is on disk when `synced` resolves.
 */
export interface AdministeredEngine {
  /** In the order of creation. */
  vhosts(): readonly VhostSpec[];
  /**
   * Creates the virtual host with its predeclared exchanges, or takes over the description, tags, default queue type
   * and limits of one that exists; what is in it stays.
   */
  putVhost(vhost: VhostSpec): void;
  /** Closes its connections with connection-forced and `reason`, then deletes everything in it. */
  deleteVhost(name: string, reason: string): void;

  /** Exchanges (predeclared ones too), queues (exclusive ones too) and explicit bindings, as `Broker.snapshot` answers. */
  topology(vhost: string): Topology;
  /** As the verbs of a channel do, in the name of the program itself, and without asking for a queue limit. */
  declareExchange(vhost: string, declaration: ExchangeDeclaration): void;
  declareQueue(vhost: string, declaration: QueueDeclaration): void;
  bind(vhost: string, binding: BindingSpec): void;
  /** The policies of the virtual host have changed: every queue and exchange asks `Policies.effective` again. */
  applyPolicies(vhost: string): void;

  connections(): readonly AdministeredConnection[];
  /** Ends every connection that `chosen` says with connection-forced and `reason`; how many they were. */
  closeConnections(chosen: (connection: AdministeredConnection) => boolean, reason: string): number;

  /** Tells the observers that the user of that name is no more. */
  userDeleted(username: string): void;

  delayedMessages(vhost: string): readonly DelayedMessageView[];
  /** False when no such message is waiting any more. */
  cancelDelayedMessage(vhost: string, id: string): boolean;

  /** Resolves when everything changed until now is on disk. Throws connection-forced when the broker is closed. */
  synced(): Promise<void>;

  /** In force now. */
  alarms(): readonly Alarm[];
  /** An alarm is in force while any `source` raises it. */
  setAlarm(alarm: Alarm, raised: boolean, source: string): void;
}
