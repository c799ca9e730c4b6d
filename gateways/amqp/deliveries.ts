/**
 * Messages on their way out: header and body frames, and whatever method stands before them, packed straight into the
 * outbox. `AmqpConsumer.onDeliver` is one half of the hot path; it makes no object.
 *
 * ```
 * deliver   1 channel size | 60 60 consumer-tag | delivery-tag(8) redelivered(1) exchange routing-key | 0xCE
 *           `------------ prefix -------------'
 * header    2 channel size | 60 0 body-size(8) | property block | 0xCE
 * body      3 channel size | at most frame_max - 8 octets | 0xCE        (as many as it takes, none for an empty body)
 * ```
 */

import { SHORT_STRING_BYTES_MAX } from '../../broker/encoding/octets.ts';
import { AMQP_PROPERTIES } from '../../broker/encoding/properties.ts';
import type { Message } from '../../broker/message.ts';
import type { CancelReason, ConsumerEvents, Got } from '../../broker/port.ts';
import { copyShort, type Outbox } from '../outbox.ts';
import type { AmqpChannel } from './channel.ts';
import {
  CLASS_BASIC,
  CONTENT_HEADER_BYTES,
  FRAME_BODY,
  FRAME_END,
  FRAME_HEAD_BYTES,
  FRAME_HEADER,
  FRAME_METHOD,
  METHOD_BASIC_DELIVER,
  REPLY_NAMES,
} from './constants.ts';

/** Delivery tag, redelivered bit, two short strings and an end octet. */
const DELIVER_TAIL_BYTES_MAX = 8 + 1 + 2 * (SHORT_STRING_BYTES_MAX + 1) + 1;
const HEADER_FRAME_HEAD_BYTES = FRAME_HEAD_BYTES + CONTENT_HEADER_BYTES;
/** Contents up to this size get their room together with the method before them. */
const PACKED_CONTENT_BYTES_MAX = 4096;

const EMPTY = new DataView(new ArrayBuffer(0));

/** One consumer of an AMQP channel. */
export class AmqpConsumer implements ConsumerEvents {
  readonly keepsNothing = true;
  readonly #channel: AmqpChannel;
  readonly #outbox: Outbox;
  #tag = '';
  #prefix = EMPTY;

  constructor(channel: AmqpChannel) {
    this.#channel = channel;
    this.#outbox = channel.outbox;
  }

  /** To be set before the first delivery. */
  set tag(tag: string) {
    this.#tag = tag;
    const octets = Buffer.alloc(FRAME_HEAD_BYTES + 4 + 1 + SHORT_STRING_BYTES_MAX);
    octets[0] = FRAME_METHOD;
    octets.writeUInt16BE(this.#channel.number, 1);
    octets.writeUInt32BE(METHOD_BASIC_DELIVER, FRAME_HEAD_BYTES);
    const end = putShortString(octets, FRAME_HEAD_BYTES + 4, tag);
    this.#prefix = new DataView(new Uint8Array(octets.subarray(0, end)).buffer);
  }

  onDeliver(message: Message, deliveryTag: number, redelivered: boolean): void {
    if (!this.#channel.open) return;
    const outbox = this.#outbox;
    const prefix = this.#prefix;
    const prefixBytes = prefix.byteLength;
    const contentBytes = message.bodyEnd - message.bodyStart + message.propertiesEnd - message.propertiesStart;
    const packed = contentBytes <= PACKED_CONTENT_BYTES_MAX ? contentBytes + 2 * FRAME_HEAD_BYTES : 0;
    const start = outbox.reserve(prefixBytes + DELIVER_TAIL_BYTES_MAX + HEADER_FRAME_HEAD_BYTES + packed);
    const { octets, view } = outbox;
    copyShort(prefix, 0, prefixBytes, view, start);
    let at = start + prefixBytes;
    view.setUint32(at, deliveryTag / 0x100000000);
    view.setUint32(at + 4, deliveryTag);
    octets[at + 8] = redelivered ? 1 : 0;
    at = putShortString(octets, at + 9, message.exchange);
    at = putShortString(octets, at, message.routingKey);
    octets[at] = FRAME_END;
    view.setUint32(start + 3, at - start - FRAME_HEAD_BYTES);
    outbox.end = at + 1;
    writeContent(outbox, this.#channel, message);
    if (this.#channel.traced) this.#channel.trace('>', `basic.deliver tag=${deliveryTag} to ${this.#tag}`, message);
  }

  onCancel(reason: CancelReason, explanation: string): void {
    this.#channel.consumerCancelled(this.#tag, reason, explanation);
  }
}

/** Header and body frames of `message`, as many of the latter as `channel.payloadBytesMax` makes necessary. */
function writeContent(outbox: Outbox, channel: AmqpChannel, message: Message): void {
  const own = message.codec === AMQP_PROPERTIES;
  const properties = own ? message.content : message.encodedProperties(AMQP_PROPERTIES);
  const propertiesStart = own ? message.propertiesStart : 0;
  const propertiesEnd = own ? message.propertiesEnd : properties.length;
  const { content, bodyEnd } = message;
  let from = message.bodyStart;

  let at = outbox.reserve(HEADER_FRAME_HEAD_BYTES);
  const size = CONTENT_HEADER_BYTES + propertiesEnd - propertiesStart;
  putFrameHead(outbox.octets, outbox.view, at, FRAME_HEADER, channel.number, size);
  const { view } = outbox;
  view.setUint32(at + 7, CLASS_BASIC << 16);
  view.setUint32(at + 11, 0);
  view.setUint32(at + 15, bodyEnd - from);
  outbox.end = at + HEADER_FRAME_HEAD_BYTES;
  outbox.write(properties, propertiesStart, propertiesEnd);

  const { payloadBytesMax } = channel;
  while (from < bodyEnd) {
    const to = bodyEnd - from > payloadBytesMax ? from + payloadBytesMax : bodyEnd;
    at = outbox.reserve(1 + FRAME_HEAD_BYTES);
    outbox.octets[at] = FRAME_END;
    putFrameHead(outbox.octets, outbox.view, at + 1, FRAME_BODY, channel.number, to - from);
    outbox.end = at + 1 + FRAME_HEAD_BYTES;
    outbox.write(content, from, to);
    from = to;
  }
  at = outbox.reserve(1);
  outbox.octets[at] = FRAME_END;
  outbox.end = at + 1;
}

/** `basic.return` of a message that no queue wanted; nothing when the channel is not open any more. */
export function writeReturn(channel: AmqpChannel, message: Message): void {
  if (!channel.open) return;
  const { exchange, routingKey } = message;
  channel.send('basic.return', { replyCode: 312, replyText: REPLY_NAMES[312], exchange, routingKey });
  writeContent(channel.outbox, channel, message);
}

/** `basic.get-ok`; nothing when the channel is not open any more. */
export function writeGot(channel: AmqpChannel, got: Got): void {
  if (!channel.open) return;
  const { message, deliveryTag, redelivered, messageCount } = got;
  const { exchange, routingKey } = message;
  channel.send('basic.get-ok', { deliveryTag, redelivered, exchange, routingKey, messageCount });
  writeContent(channel.outbox, channel, message);
}

/** Type, channel and size; the view is on the same octets. */
function putFrameHead(octets: Buffer, view: DataView, at: number, type: number, channel: number, size: number): void {
  octets[at] = type;
  view.setUint16(at + 1, channel);
  view.setUint32(at + 3, size);
}

/** Writes a short string, cut to 255 octets, and answers the offset after it. */
function putShortString(octets: Buffer, at: number, text: string): number {
  const { length } = text;
  if (length > SHORT_STRING_BYTES_MAX) return putLongerText(octets, at, text);
  const start = at + 1;
  for (let index = 0; index < length; index += 1) {
    const code = text.charCodeAt(index);
    if (code > 0x7f) return putLongerText(octets, at, text);
    octets[start + index] = code;
  }
  octets[at] = length;
  return start + length;
}

function putLongerText(octets: Buffer, at: number, text: string): number {
  const written = octets.write(text, at + 1, SHORT_STRING_BYTES_MAX, 'utf8');
  octets[at] = written;
  return at + 1 + written;
}
