/** Publishes over one connection, with confirms: when the broker has taken responsibility for a message is known. */
import type { Message } from '../../broker/message.ts';
import type { Channel, Connection } from '../../broker/port.ts';
import { Confirms } from './confirms.ts';

export class Publisher {
  readonly #confirms: Confirms;
  readonly #channel: Channel;

  private constructor(channel: Channel, confirms: Confirms) {
    this.#channel = channel;
    this.#confirms = confirms;
  }

  /** Opens a channel of its own. Rejects with BrokerError. */
  static async open(connection: Connection): Promise<Publisher> {
    const confirms = new Confirms();
    const channel = connection.openChannel({
      onConfirm: (sequence, multiple, accepted) => confirms.onConfirm(sequence, multiple, accepted),
    });
    await channel.confirmSelect();
    return new Publisher(channel, confirms);
  }

  /** True while a confirm is outstanding. */
  get outstanding(): boolean {
    return this.#confirms.outstanding;
  }

  /** Publishes at once, and throws what publishing throws; resolves to whether the broker has taken responsibility. */
  publish(message: Message): Promise<boolean> {
    return this.#confirms.after(() => this.#channel.publish(message));
  }

  /** The connection is gone: nothing more will be confirmed. */
  abandon(): void {
    this.#confirms.abandon();
  }
}
