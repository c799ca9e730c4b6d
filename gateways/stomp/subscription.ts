/**
 * One subscription: a consumer on a channel of its own, so that its delivery tags, its prefetch and its cumulative acks
 * are its own [STOMP 1.2 SUBSCRIBE ack]. `onDeliver` is one half of the hot path; it makes no object.
 *
 * ```
 * MESSAGE \n subscription:ID \n message-id:T_ID@@SESSION@@   TAG    `-- prefix --' once per subscription
 * \n ack:T_ID@@SESSION@@                                     TAG    1.2 with acks only
 * \n destination:/queue/a \n redelivered:false \n content-length:   BYTES   `-- middle --' per destination
 * \n property block \n body NUL
 * ```
 */
import type { Message } from '../../broker/message.ts';
import type { CancelReason, Channel, ConsumerEvents } from '../../broker/port.ts';
import { copyShort, type Outbox } from '../outbox.ts';
import { destinationOf } from './destinations.ts';
import { ReplyError } from './errors.ts';
import { escapeText, linesFor, unescapeOctets, type Version } from './escapes.ts';
import { BACKSLASH, DECIMAL_BYTES_MAX, decodeText, LF, NUL, putDecimal, sameOctets } from './octets.ts';
import { linesEnd, STOMP_PROPERTIES } from './properties.ts';
import type { Address } from './sends.ts';

export type AckMode = 'auto' | 'client' | 'client-individual';

/** What a subscription needs of its session. */
export interface SubscriptionHost {
  readonly outbox: Outbox;
  readonly version: Version;
  /**
   * Part of every message-id of one subscription, so that an ack from another connection, or for an earlier subscription
   * of the same id, is recognised as such.
   */
  nextSessionPart(): string;
  readonly topicExchange: string;
  readonly traced: boolean;
  trace(direction: '<' | '>', frame: string): void;
  /** Where a SEND to that destination would go; undefined when nowhere. */
  addressOf(destination: string): Address | undefined;
  onSubscriptionCancelled(subscription: Subscription, reason: CancelReason, explanation: string): void;
}

/** Longest id of a subscription, so that the head of a MESSAGE fits an output buffer. */
export const SUBSCRIPTION_ID_BYTES_MAX = 1024;
/** Messages up to this size get their room together with the head before them. */
const PACKED_CONTENT_BYTES_MAX = 4096;
const NOTHING = new Uint8Array(0);
const DESTINATION_LINE = Buffer.from('destination:');

/** What stands between delivery tag and body length, for one destination. */
interface Middle {
  readonly fresh: DataView;
  readonly redelivered: DataView;
}

export class Subscription implements ConsumerEvents {
  readonly keepsNothing = true;
  /** The id, or for a subscription without one its destination. */
  readonly id: string;
  readonly mode: AckMode;
  readonly channel: Channel;
  /** The octets of every message-id up to its tag, as this peer's version writes them. */
  readonly tagPrefix: Uint8Array;
  /** Set when the consumer is there. */
  consumerTag = '';
  /** The queue that goes with it when a durable subscription is deleted. */
  queue = '';
  /** False from UNSUBSCRIBE on; what is unacked can still be settled. */
  isActive = true;

  readonly #host: SubscriptionHost;
  readonly #prefix: DataView;
  readonly #ackPrefix: DataView | undefined;
  #lastTag = 0;
  /** With cumulative acks all up to here are settled; else how many are. */
  #settled = 0;
  #exchange: string | undefined;
  #routingKey = '';
  #middle: Middle;
  /** The line of an unusual destination seen last, and what it came to. */
  #unusual: Uint8Array = NOTHING;
  #unusualMiddle: Middle;

  /** `hasId` is false for a client of 1.0 that gave none; its messages carry no subscription header then. */
  constructor(host: SubscriptionHost, channel: Channel, options: { id: string; hasId: boolean; mode: AckMode }) {
    const { id, hasId, mode } = options;
    this.#host = host;
    this.channel = channel;
    this.id = id;
    this.mode = mode;
    const tagPrefix = `${hasId ? 'T' : 'Q'}_${id}@@${host.nextSessionPart()}@@`;
    // Version 1.0 escapes nothing, and an id that came in one of its headers has no line feed.
    const shown = (text: string): string => (host.version === 10 ? text : linesFor(escapeText(text), host.version));
    this.tagPrefix = Buffer.from(shown(tagPrefix));
    this.#prefix = viewOfText(`MESSAGE\n${hasId ? `subscription:${shown(id)}\n` : ''}message-id:${shown(tagPrefix)}`);
    this.#ackPrefix = host.version === 12 && mode !== 'auto' ? viewOfText(`\nack:${shown(tagPrefix)}`) : undefined;
    this.#middle = middleFor('', host.version);
    this.#unusualMiddle = this.#middle;
  }

  /** Deliveries that are not settled yet; 0 without acks. */
  get unackedCount(): number {
    return this.mode === 'auto' ? 0 : this.#lastTag - this.#settled;
  }

  onDeliver(message: Message, deliveryTag: number, redelivered: boolean): void {
    this.#lastTag = deliveryTag;
    const own = message.codec === STOMP_PROPERTIES;
    let lines = own ? message.content : message.encodedProperties(STOMP_PROPERTIES);
    let linesFrom = own ? message.propertiesStart : 0;
    let linesTo = own ? message.propertiesEnd : lines.length;
    if (message.routingKey !== this.#routingKey || message.exchange !== this.#exchange) this.#address(message);
    let middle = this.#middle;
    if (linesFrom !== linesTo) {
      if (lines[linesTo - 1] !== LF) linesTo = linesEnd(lines, linesFrom, linesTo);
      if (hasDestination(lines, linesFrom, linesTo)) {
        const to = lines.indexOf(LF, linesFrom) + 1;
        middle = this.#middleOfLine(message, lines, linesFrom + DESTINATION_LINE.length, to - 1);
        linesFrom = to;
      }
      if (this.#host.version !== 12 && lines.subarray(linesFrom, linesTo).includes(BACKSLASH)) {
        lines = Buffer.from(linesFor(decodeText(lines, linesFrom, linesTo), this.#host.version));
        linesFrom = 0;
        linesTo = lines.length;
      }
    }
    const between = redelivered ? middle.redelivered : middle.fresh;
    const { content, bodyStart, bodyEnd } = message;
    this.#write(deliveryTag, between, bodyEnd - bodyStart, linesTo - linesFrom);
    const { outbox } = this.#host;
    if (linesTo !== linesFrom) outbox.write(lines, linesFrom, linesTo);
    let at = outbox.reserve(1);
    outbox.octets[at] = LF;
    outbox.end = at + 1;
    if (bodyEnd !== bodyStart) outbox.write(content, bodyStart, bodyEnd);
    at = outbox.reserve(1);
    outbox.octets[at] = NUL;
    outbox.end = at + 1;
    if (this.#host.traced)
      this.#host.trace('>', `MESSAGE ${deliveryTag} to ${this.id} (${bodyEnd - bodyStart} octets)`);
  }

  /** Everything up to the property block. */
  #write(deliveryTag: number, between: DataView, bodyBytes: number, lineBytes: number): void {
    const { outbox } = this.#host;
    const prefix = this.#prefix;
    const ackPrefix = this.#ackPrefix;
    const contentBytes = bodyBytes + lineBytes;
    const head = prefix.byteLength + between.byteLength + (ackPrefix?.byteLength ?? 0) + 3 * DECIMAL_BYTES_MAX + 1;
    const start = outbox.reserve(head + (contentBytes <= PACKED_CONTENT_BYTES_MAX ? contentBytes + 2 : 0));
    const { octets, view } = outbox;
    copyShort(prefix, 0, prefix.byteLength, view, start);
    let at = putDecimal(octets, start + prefix.byteLength, deliveryTag);
    if (ackPrefix !== undefined) {
      copyShort(ackPrefix, 0, ackPrefix.byteLength, view, at);
      at = putDecimal(octets, at + ackPrefix.byteLength, deliveryTag);
    }
    copyShort(between, 0, between.byteLength, view, at);
    at = putDecimal(octets, at + between.byteLength, bodyBytes);
    octets[at] = LF;
    outbox.end = at + 1;
  }

  #address({ exchange, routingKey }: Message): void {
    this.#exchange = exchange;
    this.#routingKey = routingKey;
    this.#middle = middleFor(destinationOf(exchange, routingKey, this.#host.topicExchange), this.#host.version);
    this.#unusual = NOTHING;
  }

  /**
   * A SEND to an unusual destination gets that back in its MESSAGE [STOMP 1.2 MESSAGE], unless the message has moved on
   * since, to a dead-letter queue for one.
   */
  #middleOfLine(message: Message, lines: Uint8Array, start: number, end: number): Middle {
    if (sameOctets(this.#unusual, lines, start, end)) return this.#unusualMiddle;
    const destination = unescapeOctets(lines, start, end, 12);
    const address = this.#host.addressOf(destination);
    const isThere = address?.exchange === message.exchange && address.routingKey === message.routingKey;
    this.#unusual = new Uint8Array(lines.subarray(start, end));
    this.#unusualMiddle = isThere ? middleFor(destination, this.#host.version) : this.#middle;
    return this.#unusualMiddle;
  }

  onCancel(reason: CancelReason, explanation: string): void {
    this.#host.onSubscriptionCancelled(this, reason, explanation);
  }

  /**
   * Throws ReplyError unless the tag is one that can be settled. False when it is already, by a cumulative ack of a
   * later one: that is no mistake of a client which works on several messages at once.
   */
  requireTag(tag: number, messageId: string): boolean {
    if (this.mode === 'auto' || tag < 1 || tag > this.#lastTag) throw messageNotFound(messageId);
    return !(this.mode === 'client' && tag <= this.#settled);
  }

  /** ACK or NACK of a tag that `requireTag` has passed. Throws what the broker throws. */
  settle(tag: number, verdict: 'ack' | 'requeue' | 'discard'): void {
    const multiple = this.mode === 'client';
    if (multiple && tag <= this.#settled) return;
    if (verdict === 'ack') this.channel.ack(tag, multiple);
    else this.channel.reject(tag, { multiple, requeue: verdict === 'requeue', returned: true });
    this.#settled = multiple ? tag : this.#settled + 1;
  }
}

/** The refusal of an ack that names nothing of this session. */
export function messageNotFound(messageId: string): ReplyError {
  return new ReplyError('Message not found', `no delivery '${messageId}' of this session waits to be settled`, 404);
}

function hasDestination(lines: Uint8Array, start: number, end: number): boolean {
  const { length } = DESTINATION_LINE;
  if (lines[start] !== DESTINATION_LINE[0] || end - start < length) return false;
  for (let index = 1; index < length; index += 1) if (lines[start + index] !== DESTINATION_LINE[index]) return false;
  return true;
}

function middleFor(destination: string, version: Version): Middle {
  const line = linesFor(`destination:${escapeText(destination)}\n`, version);
  const text = (redelivered: boolean): string => `\n${line}redelivered:${redelivered}\ncontent-length:`;
  return { fresh: viewOfText(text(false)), redelivered: viewOfText(text(true)) };
}

/** The octets of a text in a buffer of their own, as a view that `copyShort` takes. */
function viewOfText(text: string): DataView {
  return new DataView(new TextEncoder().encode(text).buffer);
}
