/**
 * Where SENDs go: the destinations of one connection, known again by their octets, with what has to be there before a
 * message is sent: the queue of `/queue/` is declared once per session [RabbitMQ: Queue Destinations].
 */
import type { FieldTable } from '../../broker/fields.ts';
import { BrokerError, type Channel } from '../../broker/port.ts';
import { DESTINATION_FORMS, type Destination, destinationOf, kindOf, parseDestination } from './destinations.ts';
import { ReplyError } from './errors.ts';
import type { Version } from './escapes.ts';
import { unescapeOctets } from './escapes.ts';
import { sameOctets } from './octets.ts';
import type { Address } from './sends.ts';

/** Destinations remembered per connection; beyond, all are forgotten, and queues looked up anew. */
const TARGETS_MAX = 4096;
/** Of an exchange, queue or routing key: as long as AMQP can say. */
export const NAME_BYTES_MAX = 255;

/** One destination to send to. */
export class Target implements Address {
  readonly exchange: string;
  readonly routingKey: string;
  readonly isUnusual: boolean;
  readonly destination: Destination;
  /** Whether a message may be published to it without more ado. */
  isReady: boolean;

  constructor(text: string, destination: Destination, topicExchange: string) {
    const { kind, name, key = '' } = destination;
    this.destination = destination;
    this.exchange = kind === 'exchange' ? name : kind === 'topic' ? topicExchange : '';
    this.routingKey = kind === 'exchange' ? key : name;
    this.isUnusual = text !== destinationOf(this.exchange, this.routingKey, topicExchange);
    this.isReady = kind !== 'queue' && kind !== 'warren';
  }
}

export class Targets {
  readonly #topicExchange: string;
  readonly #known = new Map<string, Target>();
  #lastOctets: Uint8Array = new Uint8Array(0);
  #last: Target | undefined;

  constructor(topicExchange: string) {
    this.#topicExchange = topicExchange;
  }

  /** The target whose destination header is `octets[start, end)`. Throws ReplyError for one that is none. */
  lookup(octets: Uint8Array, start: number, end: number, version: Version): Target {
    if (this.#last !== undefined && sameOctets(this.#lastOctets, octets, start, end)) return this.#last;
    const target = this.of(unescapeOctets(octets, start, end, version));
    this.#lastOctets = new Uint8Array(octets.subarray(start, end));
    this.#last = target;
    return target;
  }

  /** The target that `text` names. Throws ReplyError for one that is none, or that cannot be sent to. */
  of(text: string): Target {
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    const destination = requireDestination(text);
    if (destination.kind === 'temp-queue') {
      throw new ReplyError('Invalid destination', `'${text}' is for the header reply-to only`);
    }
    const target = new Target(text, destination, this.#topicExchange);
    if (this.#known.size >= TARGETS_MAX) this.#known.clear();
    this.#known.set(text, target);
    return target;
  }
}

/** The destination that `text` writes. Throws ReplyError for none, in RabbitMQ's words. */
export function requireDestination(text: string | undefined): Destination {
  if (text === undefined || text === '') {
    throw new ReplyError('Missing destination', "the header 'destination' must be there");
  }
  const destination = parseDestination(text);
  if (destination === undefined) {
    const kind = kindOf(text);
    if (kind !== undefined) {
      throw new ReplyError(
        'Invalid destination',
        `'${text.slice(kind.length + 1)}' is not a valid ${kind} destination\n`,
      );
    }
    throw new ReplyError(
      'Unknown destination',
      `'${text}' is not a valid destination.\nValid destinations are ${DESTINATION_FORMS}.\n`,
    );
  }
  for (const name of [destination.name, destination.key ?? '']) {
    if (Buffer.byteLength(name) > NAME_BYTES_MAX) {
      throw new ReplyError('Invalid destination', `names are at most ${NAME_BYTES_MAX} octets long`);
    }
  }
  return destination;
}

/** How a queue is declared. */
export interface QueueWish {
  readonly durable: boolean;
  readonly exclusive: boolean;
  readonly autoDelete: boolean;
  readonly arguments: FieldTable | undefined;
  /** The frame says something of this itself, so a queue that is there already has to agree. */
  readonly isExplicit: boolean;
}

/**
 * Sees to it that the queue of `/queue/NAME` is there. One that is there already is taken as it is, unless the frame says
 * how it should be: then the broker compares. Rejects with BrokerError.
 */
export async function ensureQueue(channel: Channel, queue: string, wish: QueueWish): Promise<void> {
  if (!wish.isExplicit) {
    try {
      await channel.declareQueue({ queue, passive: true });
      return;
    } catch (error) {
      if (!(error instanceof BrokerError) || error.kind !== 'not-found') throw error;
    }
  }
  const { durable, exclusive, autoDelete, arguments: args } = wish;
  await channel.declareQueue({ queue, durable, exclusive, autoDelete, ...(args && { arguments: args }) });
}
