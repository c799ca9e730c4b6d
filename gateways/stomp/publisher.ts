/**
 * What a session sends to exchanges, and what its receipts say of it. The broker confirms from the first SEND with a
 * receipt on: the receipt of a SEND says that the broker has taken responsibility for the message, a persistent one being
 * on disk then; a message that a queue refuses, or that is mandatory and finds no queue, is an error instead.
 */
import type { Message } from '../../broker/message.ts';
import { BrokerError, type Channel, type Connection } from '../../broker/port.ts';
import { ReplyError } from './errors.ts';
import { PendingReceipts } from './receipts.ts';
import type { Publication } from './transactions.ts';

/** What a publisher tells its session. */
export interface PublisherEvents {
  onReceipt(receipt: string): void;
  onFailure(error: unknown, receipt: string | undefined): void;
}

export class Publisher {
  /** Publishes; and, being the session's first, declares and binds. */
  readonly channel: Channel;
  readonly #connection: Connection;
  readonly #events: PublisherEvents;
  readonly #receipts: PendingReceipts;
  /** Publishes under confirms so far; -1 without confirms. */
  #sequence = -1;
  /** The receipt of the publish under way, and those of messages that came back and whose confirm has not yet. */
  #current: string | undefined;
  readonly #returned = new Set<string>();
  #transactional: Channel | undefined;
  /** A message of the transaction under way came back. */
  #transactionReturned = false;
  readonly #onAllSettled: (() => void)[] = [];

  constructor(connection: Connection, events: PublisherEvents) {
    this.#connection = connection;
    this.#events = events;
    this.#receipts = new PendingReceipts({
      onAccepted: (receipt) => {
        if (this.#returned.delete(receipt)) events.onFailure(unroutable(), receipt);
        else events.onReceipt(receipt);
      },
      onRefused: (receipt) => events.onFailure(refused(), receipt),
      onSettled: () => {
        for (const resolve of this.#onAllSettled.splice(0)) resolve();
      },
    });
    this.channel = connection.openChannel({
      onReturn: () => this.#onReturn(),
      onConfirm: (sequence, multiple, accepted) => this.#receipts.settle(sequence, multiple, accepted),
    });
  }

  /** Publishes; the answer is a promise for the first message with a receipt. Throws what the broker throws. */
  publish(message: Message, mandatory: boolean, receipt: string | undefined): Promise<void> | void {
    if (receipt === undefined && this.#sequence < 0) this.channel.publish(message, mandatory);
    else if (this.#sequence < 0) return this.#publishFirst(message, mandatory, receipt);
    else this.#publishConfirmed(message, mandatory, receipt);
    return undefined;
  }

  async #publishFirst(message: Message, mandatory: boolean, receipt: string | undefined): Promise<void> {
    await this.channel.confirmSelect();
    this.#sequence = 0;
    this.#publishConfirmed(message, mandatory, receipt);
  }

  #publishConfirmed(message: Message, mandatory: boolean, receipt: string | undefined): void {
    // Announced before: a transient message is confirmed from inside the call.
    this.#sequence += 1;
    this.#current = receipt;
    if (receipt !== undefined) this.#receipts.expect(this.#sequence, receipt);
    try {
      this.channel.publish(message, mandatory);
    } catch (error) {
      this.#sequence -= 1;
      if (receipt !== undefined) this.#receipts.retract();
      throw error;
    } finally {
      this.#current = undefined;
    }
  }

  /** A mandatory message that no queue wanted; its confirm follows. */
  #onReturn(): void {
    if (this.#current === undefined) this.#events.onFailure(unroutable(), undefined);
    else this.#returned.add(this.#current);
  }

  /** Publishes all or, when one of them may not be published, none. Rejects with what the broker says. */
  async publishTogether(publications: readonly Publication[]): Promise<void> {
    if (publications.length === 0) return;
    this.#transactional ??= this.#connection.openChannel({
      onReturn: () => {
        this.#transactionReturned = true;
      },
    });
    const channel = this.#transactional;
    this.#transactionReturned = false;
    await channel.txSelect();
    try {
      for (const { message, mandatory } of publications) channel.publish(message, mandatory);
    } catch (error) {
      await channel.txRollback();
      throw error;
    }
    await channel.txCommit();
    if (this.#transactionReturned) throw unroutable();
  }

  /** Resolves when no receipt is owed any more. */
  settled(): Promise<void> {
    if (this.#receipts.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onAllSettled.push(resolve));
  }
}

function unroutable(): ReplyError {
  return new ReplyError('Unroutable message', 'no queue takes the message, and it is mandatory', 312);
}

function refused(): BrokerError {
  return new BrokerError('precondition-failed', 'a queue has refused the message: it is full');
}
