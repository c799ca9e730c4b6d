/** What a transactional channel has been asked to do since the last commit or rollback. [AMQP 1.9] */

import type { Message } from '../message.ts';
import type { QueuedMessage } from '../queue/queued-message.ts';
import type { Exchange } from '../routing/exchange.ts';

export interface PendingPublish {
  readonly exchange: Exchange;
  readonly message: Message;
  readonly mandatory: boolean;
}

export interface PendingSettlement {
  readonly messages: readonly QueuedMessage[];
  readonly verdict: 'ack' | 'discard' | 'requeue';
  readonly returned: boolean;
}

export class Transaction {
  #publishes: PendingPublish[] = [];
  #settlements: PendingSettlement[] = [];

  publish(exchange: Exchange, message: Message, mandatory: boolean): void {
    this.#publishes.push({ exchange, message: message.compact(), mandatory });
  }

  settle(messages: readonly QueuedMessage[], verdict: PendingSettlement['verdict'], returned = false): void {
    this.#settlements.push({ messages, verdict, returned });
  }

  /** What there is to do or to undo, each in the order of asking; the next transaction begins empty. */
  end(): { readonly publishes: readonly PendingPublish[]; readonly settlements: readonly PendingSettlement[] } {
    const ended = { publishes: this.#publishes, settlements: this.#settlements };
    this.#publishes = [];
    this.#settlements = [];
    return ended;
  }
}
