/** `createBroker`: a broker inside this process, behind the port. */

import { DIGEST_REALM } from './access/digest-keys.ts';
import { Permissions, THE_PROGRAM } from './access/permissions.ts';
import { Users } from './access/users.ts';
import type { Administration, DigestAlgorithm, ScramHash, ScramKeys } from './administration/administration.ts';
import { BrokerAdministration } from './administration/broker-administration.ts';
import { Parameters } from './administration/parameters.ts';
import { Policies } from './administration/policies.ts';
import { callOut } from './assert.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Connection } from './connection.ts';
import { DefinitionLog } from './definition-log.ts';
import { Engine } from './engine.ts';
import { memoryStore } from './memory-store.ts';
import type { Observer, ObserverScope } from './observer.ts';
import type { Broker, ConnectionEvents, Credentials, PeerInfo, Principal } from './port.ts';
import { type BrokerParts, isNew, makeDefaults, makeSpareUser, restore } from './restore.ts';
import type { Store, StoreEvent, StoreNotice } from './store.ts';
import type { Topology } from './topology.ts';
import { VERSION } from './version.ts';

/** Everything has a default: `createBroker()` is a broker ready for use. */
export interface BrokerOptions {
  /** Shown as the cluster name; default `warren@localhost`. */
  readonly name?: string;
  /** The virtual host that a new broker begins with, and that `connect` enters; default `/`. */
  readonly defaultVhost?: string;
  /**
   * The user that a new broker begins with, with every right in the default virtual host; default guest, guest. A broker
   * whose data folder knows a user, a virtual host or a permission is not new: who may enter is said there.
   */
  readonly defaultUser?: string;
  readonly defaultPassword?: string;
  /** Users that may only come from this machine; default guest. */
  readonly loopbackUsers?: readonly string[];
  /** Largest body in octets; default 128 MiB. */
  readonly bodyBytesMax?: number;
  /** Longest time that a delivery may stay unacked, for queues without an own one; default 0 = any. */
  readonly consumerTimeoutMs?: number;
  /** The folder that keeps definitions and messages beyond the process; absent: everything ends with the process. */
  readonly dataDir?: string;
  /** When part of the data folder cannot be read: refuse to start (default), or salvage what can be read. */
  readonly recover?: 'refuse' | 'salvage';
  /**
   * Octets of the bodies of waiting messages that are kept in memory; what goes beyond it is on disk only. Default 32 MiB;
   * means nothing without `dataDir`.
   */
  readonly messageMemoryBytes?: number;
  /** Called for what the store wants somebody to know, from the moment at which the folder is opened. */
  readonly onStoreEvent?: (event: StoreNotice) => void;
  /** Time and chance; for tests. */
  readonly clock?: Clock;
}

/** Default of `BrokerOptions.bodyBytesMax`: 128 MiB, as large as RabbitMQ 3 took messages by default. */
export const BODY_BYTES_MAX = 128 * 1024 * 1024;

/** Default of `BrokerOptions.messageMemoryBytes`: 32 MiB. */
export const MESSAGE_MEMORY_BYTES = 32 * 1024 * 1024;

/** Who raises the disk alarm when the store cannot write. */
const STORE_ALARM = 'store';

/** Default of `Broker.drain`. */
const DRAIN_TIMEOUT_MS = 5000;
/** How often a drain looks whether everything has been acked. */
const DRAIN_CHECK_MS = 20;

/** Where `connect` enters that names no virtual host. */
const DEFAULT_VHOST = '/';

/**
 * Makes a broker: with everything that its data folder holds, or with its default user and virtual host where that holds
 * nothing yet. It keeps no process alive. Throws StoreError for a folder that cannot be used, RestoreError, and TypeError
 * for a `dataDir` that is no path.
 */
export async function createBroker(options: BrokerOptions = {}): Promise<Broker> {
  const watch = new StoreWatch(options.onStoreEvent);
  const store = await openStoreFor(options, watch);
  try {
    return await createBrokerOn(store, options, watch);
  } catch (error) {
    await store.close();
    throw error;
  }
}

async function openStoreFor(options: BrokerOptions, watch: StoreWatch): Promise<Store> {
  const { dataDir, recover = 'refuse', messageMemoryBytes = MESSAGE_MEMORY_BYTES, clock = systemClock } = options;
  if (dataDir === undefined) return memoryStore();
  checkDataDir(dataDir);
  // Loaded only here: a broker without a data folder has no use for it.
  const { openStore } = await import('./storage/open-store.ts');
  return openStore({
    dataDir,
    version: VERSION,
    recover,
    residentBytesMax: messageMemoryBytes,
    onEvent: (event) => watch.onEvent(event),
    clock,
  });
}

/** Programs without types may give anything. Throws TypeError. */
function checkDataDir(dataDir: unknown): void {
  const advice = 'give the path of a folder, or leave it out for a broker that keeps nothing beyond its process';
  if (typeof dataDir !== 'string') {
    throw new TypeError(`dataDir is ${dataDir === null ? 'null' : `a ${typeof dataDir}`}, not a text: ${advice}`);
  }
  if (dataDir === '') throw new TypeError(`dataDir is empty: ${advice}`);
  if (dataDir.includes('\0')) throw new TypeError(`dataDir has a null character in it: ${advice}`);
}

/**
 * Makes a broker as `createBroker` does, on a store that is open already and, when this throws, stays so. Of the options
 * for a data folder, `recover` and `onStoreEvent` mean something here: what has become of definitions that were damaged.
 */
export async function createBrokerOn(
  store: Store,
  options: BrokerOptions,
  watch = new StoreWatch(options.onStoreEvent),
): Promise<Broker> {
  const { defaultUser: user = 'guest', defaultPassword: password = 'guest', defaultVhost = DEFAULT_VHOST } = options;
  const log = new DefinitionLog(store);
  const parts = makeParts(options, store, log);
  watch.raiseAt(parts.engine);
  try {
    const onLost = (text: string): void => watch.onEvent({ type: 'damage', text });
    const isSalvage = options.recover === 'salvage';
    await restore(log, parts, isSalvage ? onLost : undefined);
    if (isNew(parts)) await makeDefaults(parts, { vhost: defaultVhost, user, password });
    else if (isSalvage && parts.users.list().length === 0) {
      await makeSpareUser(parts, { user, password });
      onLost(`no user is left; '${user}' has been made, who may do everything`);
    }
  } catch (error) {
    // Nothing of what has been restored may fall due any more.
    parts.engine.close();
    throw error;
  }
  return new InProcessBroker(options, store, parts);
}

function makeParts(options: BrokerOptions, store: Store, log: DefinitionLog): BrokerParts {
  const { loopbackUsers = ['guest'], clock = systemClock } = options;
  const users = new Users({ loopbackUsers, log });
  const permissions = new Permissions(log);
  const policies = new Policies(log);
  const engine = new Engine({
    clock,
    store,
    log,
    users,
    permissions,
    policies,
    bodyBytesMax: options.bodyBytesMax ?? BODY_BYTES_MAX,
    consumerTimeoutMs: options.consumerTimeoutMs ?? 0,
  });
  return { engine, users, permissions, policies, parameters: new Parameters(log) };
}

/** Hands on what the store says, and raises the disk alarm for as long as the store cannot write. */
export class StoreWatch {
  readonly #onStoreEvent: ((event: StoreNotice) => void) | undefined;
  #engine: Engine | undefined;
  #isInTrouble = false;

  constructor(onStoreEvent: ((event: StoreNotice) => void) | undefined) {
    this.#onStoreEvent = onStoreEvent;
  }

  onEvent(event: StoreEvent): void {
    if (event.type === 'trouble' || event.type === 'recovered') {
      this.#isInTrouble = event.type === 'trouble';
      this.#setAlarm();
    }
    if (event.type === 'behind' || event.type === 'caught-up') this.#engine?.holdPublishers(event.type === 'behind');
    else callOut(() => this.#onStoreEvent?.(event));
  }

  /** Where to raise the alarm; the store may have had trouble before there was an engine. */
  raiseAt(engine: Engine): void {
    this.#engine = engine;
    this.#setAlarm();
  }

  #setAlarm(): void {
    this.#engine?.setAlarm('disk', this.#isInTrouble, STORE_ALARM);
  }
}

class InProcessBroker implements Broker {
  readonly name: string;
  readonly administration: Administration;
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #users: Users;
  readonly #engine: Engine;
  readonly #defaultVhost: string;

  constructor(options: BrokerOptions, store: Store, parts: BrokerParts) {
    this.name = options.name ?? 'warren@localhost';
    this.#clock = options.clock ?? systemClock;
    this.#store = store;
    this.#users = parts.users;
    this.#engine = parts.engine;
    this.#defaultVhost = options.defaultVhost ?? DEFAULT_VHOST;
    this.administration = new BrokerAdministration(parts);
  }

  authenticate(credentials: Credentials): Promise<Principal> {
    return this.#users.authenticate(credentials);
  }

  scramKeys(username: string, hash: ScramHash): Promise<ScramKeys> {
    return this.#users.scramKeys(username, hash);
  }

  async digestKey(username: string, algorithm: DigestAlgorithm): Promise<{ realm: string; key: string }> {
    return { realm: DIGEST_REALM, key: this.#users.digestKey(username, algorithm) };
  }

  async connect(
    principal: Principal = THE_PROGRAM,
    vhost: string = this.#defaultVhost,
    events: Partial<ConnectionEvents> = {},
    peer?: PeerInfo,
  ): Promise<Connection> {
    return this.#engine.connect(principal, vhost, events, peer);
  }

  observe(observer: Observer, scope?: ObserverScope): () => void {
    return this.#engine.observers.add(observer, scope);
  }

  async snapshot(vhost: string): Promise<Topology> {
    return this.#engine.topology(vhost);
  }

  drain(timeoutMs = DRAIN_TIMEOUT_MS): Promise<void> {
    this.#engine.cancelConsumers();
    const endMs = this.#clock.now() + timeoutMs;
    return new Promise((resolve) => {
      const check = (): void => {
        if (this.#engine.unackedCount === 0 || this.#clock.now() >= endMs) resolve();
        else this.#clock.schedule(DRAIN_CHECK_MS, check);
      };
      check();
    });
  }

  async close(): Promise<void> {
    this.#engine.close();
    await this.#store.close();
  }
}
