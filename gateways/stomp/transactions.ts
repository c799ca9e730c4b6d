/**
 * Transactions [STOMP 1.2 BEGIN]: what a client does in one is kept here until its COMMIT. Messages are published in a
 * transaction of the broker then, all or none; acks follow, so that a failure in between repeats a message rather than
 * loses one.
 */
import type { Message } from '../../broker/message.ts';
import { ReplyError } from './errors.ts';
import type { Subscription } from './subscription.ts';

/** Transactions that a connection may have open at a time. */
export const TRANSACTIONS_MAX = 16;
/** Frames in one transaction. */
export const ACTIONS_MAX = 1024;
/** Octets of the messages in all open transactions of a connection. */
export const TRANSACTION_BYTES_MAX = 64 * 1024 * 1024;

/** What a message takes besides its octets. */
const MESSAGE_OVERHEAD_BYTES = 256;

export interface Settlement {
  readonly subscription: Subscription;
  readonly tag: number;
  readonly verdict: 'ack' | 'requeue' | 'discard';
}

export interface Publication {
  readonly message: Message;
  readonly mandatory: boolean;
  /** What is to be receipted once the message is published. */
  readonly receipt: string | undefined;
}

/** What one transaction holds, each in the order in which it came. */
export interface Transaction {
  readonly publications: Publication[];
  readonly settlements: Settlement[];
}

export class Transactions {
  readonly #open = new Map<string, Transaction>();
  #bytes = 0;

  /** Throws ReplyError for a name in use, and for one too many. */
  begin(name: string): void {
    if (this.#open.has(name)) throw new ReplyError('Bad transaction', `transaction '${name}' has begun already`);
    if (this.#open.size >= TRANSACTIONS_MAX) {
      throw new ReplyError('Bad transaction', `more than ${TRANSACTIONS_MAX} transactions are open`);
    }
    this.#open.set(name, { publications: [], settlements: [] });
  }

  /** Keeps a message until the COMMIT. Throws ReplyError. */
  publish(name: string, message: Message, mandatory: boolean, receipt: string | undefined): void {
    const transaction = this.#withRoom(name);
    const kept = message.compact();
    this.#bytes += bytesOf(kept);
    if (this.#bytes > TRANSACTION_BYTES_MAX) {
      throw new ReplyError('Bad transaction', `open transactions hold more than ${TRANSACTION_BYTES_MAX} octets`);
    }
    transaction.publications.push({ message: kept, mandatory, receipt });
  }

  /** Keeps an ACK or NACK until the COMMIT. Throws ReplyError. */
  settle(name: string, settlement: Settlement): void {
    this.#withRoom(name).settlements.push(settlement);
  }

  /** Takes a transaction out, for COMMIT or ABORT. Throws ReplyError when there is none of that name. */
  end(name: string): Transaction {
    const transaction = this.#require(name);
    this.#open.delete(name);
    for (const { message } of transaction.publications) this.#bytes -= bytesOf(message);
    return transaction;
  }

  #withRoom(name: string): Transaction {
    const transaction = this.#require(name);
    if (transaction.publications.length + transaction.settlements.length >= ACTIONS_MAX) {
      throw new ReplyError('Bad transaction', `transaction '${name}' has more than ${ACTIONS_MAX} frames`);
    }
    return transaction;
  }

  #require(name: string): Transaction {
    const transaction = this.#open.get(name);
    if (transaction === undefined) throw new ReplyError('Bad transaction', `transaction '${name}' has not begun`);
    return transaction;
  }
}

function bytesOf(message: Message): number {
  return message.bodyEnd - message.propertiesStart + MESSAGE_OVERHEAD_BYTES;
}
