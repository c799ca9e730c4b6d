/**
 * Direct reply-to: a requester consumes from a pseudo queue, its requests carry an address that nobody can guess, and a
 * reply to that address goes straight to it without a queue in between. [RabbitMQ: direct reply-to]
 */
import type { Channel } from '../channel/channel.ts';
import type { Clock } from '../clock.ts';
import type { Message } from '../message.ts';
import type { ConsumerEvents } from '../port.ts';

/** The pseudo queue to consume from, and the `reply-to` that the broker replaces by an address. */
export const REPLY_TO = 'amq.rabbitmq.reply-to';

const ADDRESS_PREFIX = `${REPLY_TO}.`;

/** Octets of replies kept for a requester that is not reading; what comes beyond is not delivered. */
export const REPLY_BYTES_KEPT_MAX = 16 * 1024 * 1024;

/** What a reply takes besides its octets, so that empty ones count too. */
const REPLY_OVERHEAD_BYTES = 256;

/** A requester: the pseudo consumer of one channel. */
export class ReplyConsumer {
  readonly tag: string;
  readonly address: string;
  readonly events: ConsumerEvents;
  #kept: Message[] = [];
  #keptBytes = 0;

  constructor(tag: string, address: string, events: ConsumerEvents) {
    this.tag = tag;
    this.address = address;
    this.events = events;
  }

  /** Keeps a reply until the requester reads again; false when too much waits for that already. */
  keep(message: Message): boolean {
    const bytes = message.bodyEnd - message.propertiesStart + REPLY_OVERHEAD_BYTES;
    if (this.#keptBytes + bytes > REPLY_BYTES_KEPT_MAX) return false;
    this.#kept.push(message.compact());
    this.#keptBytes += bytes;
    return true;
  }

  /** Takes the replies kept, in order. */
  takeKept(): readonly Message[] {
    const kept = this.#kept;
    this.#kept = [];
    this.#keptBytes = 0;
    return kept;
  }
}

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

  /** Delivers a reply to the address that is its routing key; false when nobody there takes it. */
  deliver(message: Message): boolean {
    if (!message.routingKey.startsWith(ADDRESS_PREFIX)) return false;
    const channel = this.#channels.get(message.routingKey);
    if (channel === undefined) return false;
    if (!this.#delivering) return this.#deliverAll(channel, message);
    this.#waiting.push(message);
    return true;
  }

  /** In a loop, so that requesters who answer each other from inside a delivery do not grow the stack. */
  #deliverAll(channel: Channel, message: Message): boolean {
    this.#delivering = true;
    const taken = channel.deliverReply(message);
    for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) {
      this.#channels.get(next.routingKey)?.deliverReply(next);
    }
    this.#delivering = false;
    return taken;
  }
}
