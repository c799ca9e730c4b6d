/**
 * Direct reply-to: a requester consumes from a pseudo queue, its requests carry an address that nobody can guess, and a
 * reply to that address goes straight to it without a queue in between. [RabbitMQ: direct reply-to]
 */
import type { Channel } from './channel.ts';
import type { Clock } from './clock.ts';
import type { Message } from './message.ts';

/** The pseudo queue to consume from, and the `reply-to` that the broker replaces by an address. */
export const REPLY_TO = 'amq.rabbitmq.reply-to';

const ADDRESS_PREFIX = `${REPLY_TO}.`;

/** The requesters of one virtual host by their addresses. */
export class ReplyConsumers {
  readonly #clock: Clock;
  readonly #channels = new Map<string, Channel>();
  readonly #waiting: Message[] = [];
  #delivering = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Gives a channel an address for replies, valid until `remove`. */
  add(channel: Channel): string {
    const address = ADDRESS_PREFIX + this.#clock.randomName();
    this.#channels.set(address, channel);
    return address;
  }

  remove(address: string): void {
    this.#channels.delete(address);
  }

  has(address: string): boolean {
    return this.#channels.has(address);
  }

  /** Delivers a reply to the address that is its routing key; false when that is no address in use. */
  deliver(message: Message): boolean {
    if (!message.routingKey.startsWith(ADDRESS_PREFIX)) return false;
    const channel = this.#channels.get(message.routingKey);
    if (channel === undefined) return false;
    if (this.#delivering) this.#waiting.push(message);
    else this.#deliverAll(channel, message);
    return true;
  }

  /** In a loop, so that requesters who answer each other from inside a delivery do not grow the stack. */
  #deliverAll(channel: Channel, message: Message): void {
    this.#delivering = true;
    channel.deliverReply(message);
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      this.#channels.get(next.routingKey)?.deliverReply(next);
    }
    this.#delivering = false;
  }
}
