/**
 * The door's own entry into the broker, with every right: for what no user asks for by himself, such as the binding of a
 * claim's queue, the end of a lease, and requests that anybody may send.
 */
import { type Broker, BrokerError, type Channel, type Connection } from '../../broker/port.ts';

export class DoorSession {
  readonly #broker: Broker;
  #opening: Promise<Channel> | undefined;
  #connection: Connection | undefined;
  #opened: Channel | undefined;
  constructor(broker: Broker) {
    this.#broker = broker;
  }

  /** The channel, opened at the first call and again after the broker has closed it. Rejects with BrokerError. */
  channel(): Promise<Channel> {
    this.#opening ??= this.#open().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  /** The channel, if it is open. */
  get opened(): Channel | undefined {
    return this.#opened;
  }

  /** The virtual host in which claims are. Rejects with BrokerError. */
  async vhost(): Promise<string> {
    await this.channel();
    return this.#connection?.vhost ?? '';
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#forget();
    await connection?.close();
  }

  async #open(): Promise<Channel> {
    const events = { onClose: () => this.#forget() };
    const peer = { protocol: 'HTTP', name: 'reverse-HTTP door' };
    this.#connection = await this.#broker.connect(undefined, undefined, events, peer);
    this.#opened = this.#connection.openChannel();
    return this.#opened;
  }

  #forget(): void {
    this.#connection = undefined;
    this.#opened = undefined;
    this.#opening = undefined;
  }
}

/** True when `error` is the broker's, of this kind. */
export function isBrokerError(error: unknown, kind: BrokerError['kind']): boolean {
  return error instanceof BrokerError && error.kind === kind;
}
