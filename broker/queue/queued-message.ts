/** The custody of one message in one queue, from the moment the queue takes it in until it is settled. */
import type { Consumer } from '../channel/consumer.ts';
import type { Message } from '../message.ts';
import type { Custody, Holder, StoredRecord } from '../store.ts';
import type { Queue } from './queue.ts';

/** Where a queued message is: waiting, with a consumer, held back for a delayed retry, or no longer in the queue. */
export const Place = { ready: 0, unacked: 1, held: 2, gone: 3 } as const;

export class QueuedMessage implements Custody {
  readonly queue: Queue;
  message: Message;
  /** Order of arrival in the queue; never changes, so that a returning message finds its old place. */
  readonly position: number;
  /** 0 to the queue's maximum. */
  readonly priority: number;
  /** Milliseconds since 1970; Infinity = never. */
  readonly expiresAtMs: number;
  /** Times it came back from a consumer or a channel. */
  returnCount = 0;
  place: number = Place.ready;
  /** For `Deadlines`: when it expires (ready) or becomes ready again (held), and its place there. */
  dueMs = 0;
  heapIndex = -1;
  /** While unacked: the consumer, or undefined when it was fetched by get. */
  consumer: Consumer | undefined = undefined;
  deliveryTag = 0;
  /** Milliseconds since 1970 by which it must be settled; set only under a consumer timeout. */
  ackDueMs = 0;
  record: StoredRecord | undefined = undefined;
  slot = 0;

  constructor(queue: Queue, message: Message, position: number, priority: number, expiresAtMs: number) {
    this.queue = queue;
    this.message = message;
    this.position = position;
    this.priority = priority;
    this.expiresAtMs = expiresAtMs;
  }

  get holder(): Holder {
    return this.queue.holder;
  }

  get heldUntilMs(): number {
    return this.place === Place.held ? this.dueMs : 0;
  }

  /** It is with `consumer` now, or with whoever fetched it, under this delivery tag. */
  markUnacked(consumer: Consumer | undefined, deliveryTag: number): void {
    this.place = Place.unacked;
    this.consumer = consumer;
    this.deliveryTag = deliveryTag;
    this.ackDueMs = 0;
  }

  /** It will stay for a while: it is kept without the chunk that it came in. */
  compact(): void {
    this.message = this.message.compact();
  }
}
