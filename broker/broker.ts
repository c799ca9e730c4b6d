/** `createBroker`: a broker inside this process, behind the port. */

import { Permissions, THE_PROGRAM } from './access/permissions.ts';
import { Users } from './access/users.ts';
import type { Administration, ScramHash, ScramKeys } from './administration/administration.ts';
import { BrokerAdministration } from './administration/broker-administration.ts';
import { Policies } from './administration/policies.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Connection } from './connection.ts';
import { Engine } from './engine.ts';
import type { Observer, ObserverScope } from './observer.ts';
import type { Broker, ConnectionEvents, Credentials, PeerInfo, Principal } from './port.ts';
import type { Topology } from './topology.ts';

/** Everything has a default: `createBroker()` is a broker ready for use. */
export interface BrokerOptions {
  /** Shown as the cluster name; default `warren@localhost`. */
  readonly name?: string;
  /** The virtual host that exists from the start, and that `connect` enters; default `/`. */
  readonly defaultVhost?: string;
  /** The user that exists from the start, with every right in the default virtual host; default guest, guest. */
  readonly defaultUser?: string;
  readonly defaultPassword?: string;
  /** Users that may only come from this machine; default guest. */
  readonly loopbackUsers?: readonly string[];
  /** Largest body in octets; default 128 MiB. */
  readonly bodyBytesMax?: number;
  /** Longest time that a delivery may stay unacked, for queues without an own one; default 0 = any. */
  readonly consumerTimeoutMs?: number;
  /** Time and chance; for tests. */
  readonly clock?: Clock;
}

/** Default of `BrokerOptions.bodyBytesMax`: 128 MiB, as large as RabbitMQ 3 took messages by default. */
export const BODY_BYTES_MAX = 128 * 1024 * 1024;

/** Default of `Broker.drain`. */
const DRAIN_TIMEOUT_MS = 5000;
/** How often a drain looks whether everything has been acked. */
const DRAIN_CHECK_MS = 20;

/** Makes a broker with its default user and virtual host. It keeps everything in memory and no process alive. */
export async function createBroker(options: BrokerOptions = {}): Promise<Broker> {
  const broker = new InProcessBroker(options);
  const { defaultUser: user = 'guest', defaultPassword: password = 'guest', defaultVhost: vhost = '/' } = options;
  const { administration } = broker;
  await administration.putVhost({ name: vhost, description: 'Default virtual host' });
  await administration.putUser({ name: user, password, tags: ['administrator'] });
  await administration.setPermission({ vhost, user, configure: '.*', write: '.*', read: '.*' });
  return broker;
}

class InProcessBroker implements Broker {
  readonly name: string;
  readonly administration: Administration;
  readonly #clock: Clock;
  readonly #users: Users;
  readonly #engine: Engine;
  readonly #defaultVhost: string;

  constructor(options: BrokerOptions) {
    const { loopbackUsers = ['guest'], clock = systemClock } = options;
    const users = new Users({ loopbackUsers });
    const permissions = new Permissions();
    const policies = new Policies();
    this.name = options.name ?? 'warren@localhost';
    this.#clock = clock;
    this.#users = users;
    this.#defaultVhost = options.defaultVhost ?? '/';
    this.#engine = new Engine({
      clock,
      users,
      permissions,
      policies,
      bodyBytesMax: options.bodyBytesMax ?? BODY_BYTES_MAX,
      consumerTimeoutMs: options.consumerTimeoutMs ?? 0,
    });
    this.administration = new BrokerAdministration({ engine: this.#engine, users, permissions, policies });
  }

  authenticate(credentials: Credentials): Promise<Principal> {
    return this.#users.authenticate(credentials);
  }

  scramKeys(username: string, hash: ScramHash): Promise<ScramKeys> {
    return this.#users.scramKeys(username, hash);
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
  }
}
