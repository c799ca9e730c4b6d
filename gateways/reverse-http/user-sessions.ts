/**
 * The broker connections of users who publish over HTTP: one for each user and virtual host, opened at the first request
 * and closed when nothing has come for a while.
 */
import type { Broker, BrokerError, Channel, Connection, Principal } from '../../broker/port.ts';
import { Admission } from './admission.ts';

/** How long a connection stays open after its last request. */
const IDLE_MS = 60_000;

export class UserSession {
  readonly connection: Connection;
  /** For publishes that nobody waits for. */
  readonly channel: Channel;
  readonly admission: Admission;
  readonly timer: NodeJS.Timeout;

  constructor(connection: Connection, admission: Admission, onIdle: () => void) {
    this.connection = connection;
    this.admission = admission;
    this.channel = connection.openChannel();
    this.timer = setTimeout(onIdle, IDLE_MS).unref();
  }
}

export class UserSessions {
  readonly #broker: Broker;
  readonly #sessions = new Map<string, Promise<UserSession>>();
  #count = 0;

  constructor(broker: Broker) {
    this.#broker = broker;
  }

  /** The session of a user. Rejects with BrokerError, not-allowed for a virtual host that is not his. */
  get(principal: Principal, vhost: string | undefined): Promise<UserSession> {
    const key = `${principal.username}\0${vhost ?? ''}`;
    let opening = this.#sessions.get(key);
    if (opening === undefined) {
      opening = this.#open(key, principal, vhost);
      opening.catch(() => this.#sessions.delete(key));
      this.#sessions.set(key, opening);
    }
    void opening.then(({ timer }) => timer.refresh()).catch(() => {});
    return opening;
  }

  /** A connection of its own, for somebody who holds on to what he gets. Rejects with BrokerError. */
  open(principal: Principal, vhost: string | undefined, onClose: (error: BrokerError) => void): Promise<Connection> {
    return this.#broker.connect(principal, vhost, { onClose }, this.#peer(principal));
  }

  async close(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    await Promise.allSettled(sessions.map(async (opening) => (await opening).connection.close()));
  }

  async #open(key: string, principal: Principal, vhost: string | undefined): Promise<UserSession> {
    const admission = new Admission();
    const events = { ...admission.events, onClose: () => this.#sessions.delete(key) };
    const connection = await this.#broker.connect(principal, vhost, events, this.#peer(principal));
    await admission.settled();
    return new UserSession(connection, admission, () => {
      this.#sessions.delete(key);
      void connection.close();
    });
  }

  #peer({ username }: Principal): { protocol: string; name: string } {
    this.#count += 1;
    return { protocol: 'HTTP', name: `HTTP of ${username} #${this.#count}` };
  }
}
