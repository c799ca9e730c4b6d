/**
 * Reply queues: a SEND whose `reply-to` is `/temp-queue/NAME` gets an exclusive queue of its session under that name, the
 * session is subscribed to it, and the message carries the address by which anybody can reply.
 * [RabbitMQ: Temp Queue Destinations]
 */
import { randomBytes } from 'node:crypto';
import type { Channel, Connection } from '../../broker/port.ts';
import { REPLY_QUEUE_PREFIX } from './properties.ts';
import { Subscription, type SubscriptionHost } from './subscription.ts';
import { SUBSCRIPTIONS_MAX, tooManySubscriptions } from './subscriptions.ts';
import { requireDestination } from './targets.ts';

const TEMP_QUEUE_PREFIX = '/temp-queue/';
const QUEUE_PREFIX = 'stomp.gen-';

interface ReplyQueue {
  readonly queue: string;
  isOpen: boolean;
}

/** The temporary queues of one session by their names. */
export class ReplyQueues {
  readonly #host: SubscriptionHost;
  readonly #connection: Connection;
  /** Declares them. */
  readonly #channel: Channel;
  readonly #queues = new Map<string, ReplyQueue>();
  readonly #onSubscribed: (subscription: Subscription) => void;

  constructor(
    host: SubscriptionHost,
    connection: Connection,
    channel: Channel,
    onSubscribed: (subscription: Subscription) => void,
  ) {
    this.#host = host;
    this.#connection = connection;
    this.#channel = channel;
    this.#onSubscribed = onSubscribed;
  }

  /** Whether a `reply-to` asks for a reply queue. Throws ReplyError when it does and has no name. */
  isWanted(replyTo: string): boolean {
    if (!replyTo.startsWith(TEMP_QUEUE_PREFIX)) return false;
    requireDestination(replyTo);
    return true;
  }

  /** The address of the reply queue of `/temp-queue/NAME`, which need not be there yet. Throws ReplyError for one too many. */
  addressOf(replyTo: string): string {
    return REPLY_QUEUE_PREFIX + this.#queueOf(replyTo).queue;
  }

  isOpen(replyTo: string): boolean {
    return this.#queueOf(replyTo).isOpen;
  }

  #queueOf(replyTo: string): ReplyQueue {
    let known = this.#queues.get(replyTo);
    if (known === undefined) {
      // Names are remembered before their queues are there, also when what asks for them fails in the end.
      if (this.#queues.size >= SUBSCRIPTIONS_MAX) throw tooManySubscriptions();
      known = { queue: QUEUE_PREFIX + randomBytes(16).toString('base64url'), isOpen: false };
      this.#queues.set(replyTo, known);
    }
    return known;
  }

  /** Makes the reply queue, which is not open. Rejects with BrokerError. */
  async open(replyTo: string): Promise<void> {
    const replyQueue = this.#queueOf(replyTo);
    const { queue } = replyQueue;
    await this.#channel.declareQueue({ queue, exclusive: true, autoDelete: true });
    const channel = this.#connection.openChannel();
    const subscription = new Subscription(this.#host, channel, { id: replyTo, hasId: true, mode: 'auto' });
    subscription.queue = queue;
    subscription.consumerTag = await channel.consume({ queue, consumerTag: replyTo, noAck: true }, subscription);
    replyQueue.isOpen = true;
    this.#onSubscribed(subscription);
  }

  /** The subscription to a reply queue has ended: the next SEND makes another. */
  forget(replyTo: string): void {
    this.#queues.delete(replyTo);
  }
}
