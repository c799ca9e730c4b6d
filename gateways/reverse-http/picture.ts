/** A picture of the virtual host in which claims are, for questions that only the whole of it answers. */
import type { Broker } from '../../broker/port.ts';
import type { Topology } from '../../broker/topology.ts';
import type { DoorSession } from './door-session.ts';

/** How long one serves; asking is cheap for whoever asks, and must be for the broker. */
const PICTURE_MS = 500;

export class Picture {
  readonly #broker: Broker;
  readonly #door: DoorSession;
  #taken: Promise<Topology> | undefined;

  constructor(broker: Broker, door: DoorSession) {
    this.#broker = broker;
    this.#door = door;
  }

  /** What is there, or was half a second ago. Rejects with BrokerError. */
  look(): Promise<Topology> {
    if (this.#taken === undefined) {
      this.#taken = this.#door.vhost().then((vhost) => this.#broker.snapshot(vhost));
      const forget = (): void => {
        this.#taken = undefined;
      };
      this.#taken.catch(forget);
      setTimeout(forget, PICTURE_MS).unref();
    }
    return this.#taken;
  }
}
