/** The confirms that a channel owes for what it has published into one commit of the store. */
import type { SyncWaiter } from '../store.ts';
import type { Channel } from './channel.ts';

export class ConfirmTicket implements SyncWaiter {
  readonly batch: number;
  /** The last publish that is safe with the commit; those before it that are not settled yet are too. */
  sequence: number;
  readonly #channel: Channel;

  constructor(channel: Channel, batch: number, sequence: number) {
    this.#channel = channel;
    this.batch = batch;
    this.sequence = sequence;
  }

  onSynced(): void {
    this.#channel.onStored(this.sequence);
  }
}
