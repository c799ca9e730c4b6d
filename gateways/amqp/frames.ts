/**
 * What arrives on the channels of one connection, frame by frame. `onFrame` is one half of the hot path:
 * `FrameInput.onData` > `onFrame` > broker `channel.publish`.
 *
 * A publish that lies in the chunk together with its header and its one body frame is taken in one pass, and its
 * message is a window on the chunk. Every other shape (cut anywhere, several body frames, frames of other channels in
 * between, empty bodies) goes through the content assembly of its channel, which also finds out what is wrong with it.
 */

import { AMQP_PROPERTIES, scanProperties } from '../../broker/encoding/properties.ts';
import { ProtocolError } from '../../broker/encoding/protocol-error.ts';
import { Message } from '../../broker/message.ts';
import type { Connection } from '../../broker/port.ts';
import type { Chunk } from '../chunk.ts';
import { AddressCache } from './address-cache.ts';
import { AmqpChannel, type ChannelHost } from './channel.ts';
import {
  CLASS_BASIC,
  CONTENT_HEADER_BYTES,
  FRAME_BODY,
  FRAME_END,
  FRAME_HEAD_BYTES,
  FRAME_HEADER,
  FRAME_METHOD,
  FRAME_OVERHEAD_BYTES,
  METHOD_BASIC_ACK,
  METHOD_BASIC_NACK,
  METHOD_BASIC_PUBLISH,
  METHOD_BASIC_REJECT,
} from './constants.ts';
import { type ContentAssembly, EXPECTS_BODY, EXPECTS_METHOD } from './content.ts';
import { ContentError, expectedMethod, readHeader, requireBody, unexpectedMethod } from './content-frames.ts';
import { CONTROL, type ControlMethod, isControlMethod } from './control.ts';
import { frameError, isSoft, octetsText, type Reply, ReplyError, replyTo, unexpectedFrame } from './errors.ts';
import { describeFrame } from './frame-text.ts';
import type { FrameHandler } from './input.ts';
import { decodeArguments, encodeMethod, methodName } from './methods.ts';

/** Smallest payload of a header frame: an empty property block. */
const HEADER_PAYLOAD_BYTES_MIN = CONTENT_HEADER_BYTES + 2;
/** Delivery tag and bits. */
const SETTLE_ARGUMENT_BYTES = 9;
const TWO_TO_32 = 2 ** 32;

/** The connection, as the frames on its channels need it. */
export interface FrameHost extends ChannelHost {
  /** The broker's side, once connection.open has been answered; undefined before, and when the connection is ending. */
  readonly connection: Connection | undefined;
  /** A publish is to be reported with `onPublishWhileHeld`, which halts the input. */
  readonly publishersHeld: boolean;
  onPublishWhileHeld(): void;
  /** A frame on channel 0, or any before the connection is open, or when it is ending. May throw as a method may. */
  onOwnFrame(type: number, channel: number, octets: Buffer, start: number, end: number): void;
  /** Halts the input until `verb` is settled; a rejection is a failure of that method on that channel. */
  awaitVerb(verb: Promise<void>, channel: AmqpChannel | undefined, methodId: number): void;
  /** Ends the connection with an error. */
  refuse(reply: Reply, methodId: number): void;
  /** The same, after which not even the end of the next frame is known. Drops all further input. */
  loseSync(reply: Reply): void;
  /** A defect of Warren, which is logged; the peer gets the reply that is returned. Throws a broken invariant on. */
  reportDefect(error: unknown): Reply;
}

export class Frames implements FrameHandler {
  readonly #host: FrameHost;
  readonly #addresses = new AddressCache();
  /** Undefined for numbers never used, null for those that were open once. */
  readonly #channels = new Map<number, AmqpChannel | null>();
  #openCount = 0;
  /** The channel of the frame before: it is mostly the same. */
  #current: AmqpChannel | undefined;
  #channelMax = 0;
  /** Largest payload of an incoming frame. */
  #payloadBytesMax: number;
  readonly #bodyBytesMax: number;
  /** Besides the message, what `#readPublish` and `#readContent` find out: its mandatory bit, and where it ends. */
  #mandatory = false;
  #contentEnd = 0;

  constructor(host: FrameHost, frameBytesMax: number, bodyBytesMax: number) {
    this.#host = host;
    this.#bodyBytesMax = bodyBytesMax;
    this.#payloadBytesMax = frameBytesMax;
  }

  /**
   * What tune-ok has settled; a frame limit of 0 leaves only that of the message. COMPAT: as in RabbitMQ, payloads may
   * be as large as frames should be, since many clients get that wrong by the 8 octets of head and end.
   */
  agree(channelMax: number, frameBytesMax: number): void {
    this.#channelMax = channelMax;
    this.#payloadBytesMax = frameBytesMax === 0 ? this.#bodyBytesMax : frameBytesMax;
  }

  onFrame(chunk: Chunk, at: number, end: number): number {
    if (end - at < FRAME_HEAD_BYTES) return at;
    const { octets, view } = chunk;
    const type = octets[at] as number;
    const number = view.getUint16(at + 1);
    const size = view.getUint32(at + 3);
    const start = at + FRAME_HEAD_BYTES;
    const next = start + size + 1;
    if (size > this.#payloadBytesMax) return this.#tooLarge(type, size, end);
    if (next > end) return at;
    if (octets[next - 1] !== FRAME_END) return this.#wrongEnd(type, octets, start, next - 1, end);
    const host = this.#host;
    if (host.traced) host.trace('<', describeFrame(octets, at));

    let channel: AmqpChannel | undefined;
    let method = 0;
    this.#contentEnd = next;
    try {
      if (number === 0 || host.connection === undefined) {
        chunk.keep();
        host.onOwnFrame(type, number, octets, start, next - 1);
        return next;
      }
      if (type === FRAME_METHOD && size >= 4) method = view.getUint32(start);
      channel = this.#channelOf(number);
      if (channel === undefined || !channel.open) {
        this.#onFrameWithoutChannel(channel, number, type, method, octets, start, next - 1);
        return next;
      }
      let message: Message | undefined;
      if (method === METHOD_BASIC_PUBLISH) message = this.#readPublish(channel, chunk, start, next, end);
      else if (type !== FRAME_METHOD) message = this.#readContent(channel, type, octets, view, start, next - 1);
      else this.#onMethod(channel, method, chunk, start, next - 1);
      if (message !== undefined) {
        method = METHOD_BASIC_PUBLISH;
        channel.broker.publish(message, this.#mandatory);
      }
    } catch (error) {
      this.fail(error, channel, method);
    }
    return this.#contentEnd;
  }

  /**
   * basic.publish. Answers the message if all of it is there and of the common shape, otherwise undefined: the channel
   * then expects its header.
   */
  #readPublish(channel: AmqpChannel, chunk: Chunk, start: number, next: number, end: number): Message | undefined {
    const { octets, view } = chunk;
    if (channel.content.expects !== EXPECTS_METHOD) throw unexpectedMethod(channel.content);
    // Class, method and the ticket stand before; exchange and routing key fill the rest but for an octet of bits.
    const addressStart = start + 6;
    const keyStart = addressStart + 1 + (octets[addressStart] as number);
    const addressEnd = keyStart + 1 + (octets[keyStart] as number);
    if (addressEnd + 2 !== next) throw cannotDecode(octets, start + 4, next - 1);
    const bits = octets[addressEnd] as number;
    if ((bits & 2) !== 0) throw new ReplyError(540, 'immediate=true');
    const address = this.#addresses.lookup(octets, addressStart, addressEnd);
    this.#mandatory = (bits & 1) !== 0;

    const { publishersHeld, traced } = this.#host;
    // The content is not looked at before that is over, so this very message is held back.
    if (publishersHeld) this.#host.onPublishWhileHeld();
    const header = next + FRAME_HEAD_BYTES;
    if (header + HEADER_PAYLOAD_BYTES_MIN < end && !publishersHeld && !traced) {
      const bodyBytes = view.getUint32(header + 8);
      const properties = header + CONTENT_HEADER_BYTES;
      const propertiesEnd = header + view.getUint32(next + 3);
      const body = propertiesEnd + 1 + FRAME_HEAD_BYTES;
      const bodyEnd = body + bodyBytes;
      if (
        bodyEnd < end &&
        octets[next] === FRAME_HEADER &&
        octets[propertiesEnd] === FRAME_END &&
        octets[propertiesEnd + 1] === FRAME_BODY &&
        octets[bodyEnd] === FRAME_END &&
        view.getUint16(next + 1) === channel.number &&
        view.getUint16(propertiesEnd + 2) === channel.number &&
        view.getUint32(propertiesEnd + 4) === bodyBytes &&
        view.getUint32(header) === CLASS_BASIC << 16 &&
        view.getUint32(header + 4) === 0 &&
        propertiesEnd >= properties + 2 &&
        propertiesEnd - header <= this.#payloadBytesMax &&
        bodyBytes <= this.#payloadBytesMax &&
        bodyBytes <= this.#bodyBytesMax
      ) {
        this.#contentEnd = bodyEnd + 1;
        const traits = scanProperties(octets, properties, propertiesEnd);
        const { exchange, routingKey } = address;
        return new Message(
          exchange,
          routingKey,
          octets,
          properties,
          propertiesEnd,
          body,
          bodyEnd,
          AMQP_PROPERTIES,
          traits,
          undefined,
          chunk.lend(bodyEnd - properties),
        );
      }
    }
    channel.content.begin(address, this.#mandatory);
    return undefined;
  }

  /** A header or body frame, or something that is no frame; answers the message when it is complete now. */
  #readContent(
    channel: AmqpChannel,
    type: number,
    octets: Buffer,
    view: DataView,
    start: number,
    end: number,
  ): Message | undefined {
    const { content } = channel;
    if (type === FRAME_BODY) {
      requireBody(content, end - start);
      content.append(octets, start, end);
    } else if (type === FRAME_HEADER) {
      readHeader(content, octets, view, start, end, this.#bodyBytesMax);
    } else if (type === 8 && end === start) {
      throw unexpectedFrame(type, octets.subarray(start, end));
    } else {
      throw frameError(type, octets.subarray(start, end), 'unknown_frame');
    }
    if (content.missingBytes > 0) return undefined;
    this.#mandatory = content.mandatory;
    return content.finish();
  }

  onBodyBegin(number: number, size: number): ContentAssembly | undefined {
    const host = this.#host;
    const channel = host.connection === undefined ? undefined : this.#channelOf(number);
    if (channel === undefined || !channel.open) {
      if (host.connection !== undefined && channel === undefined) this.fail(expectedMethod(), undefined, 0);
      return undefined;
    }
    try {
      requireBody(channel.content, size);
      return channel.content;
    } catch (error) {
      this.fail(error, channel, 0);
      return undefined;
    }
  }

  onBodyEnd(number: number, size: number, endOctet: number): void {
    const host = this.#host;
    if (endOctet !== FRAME_END) {
      this.#host.loseSync(frameError(FRAME_BODY, new Uint8Array(0), `{invalid_frame_end_marker,${endOctet}}`));
      return;
    }
    if (host.traced) host.trace('<', `${number} body, ${size} octets`);
    const channel = this.#channelOf(number);
    if (host.connection === undefined || !channel?.open) return;
    const { content } = channel;
    if (content.expects !== EXPECTS_BODY || content.missingBytes > 0) return;
    const { mandatory } = content;
    try {
      channel.broker.publish(content.finish(), mandatory);
    } catch (error) {
      this.fail(error, channel, METHOD_BASIC_PUBLISH);
    }
  }

  /** Any method but basic.publish, on an open channel. */
  #onMethod(channel: AmqpChannel, method: number, chunk: Chunk, start: number, end: number): void {
    const { octets, view } = chunk;
    const { content } = channel;
    if (end - start < 4) throw frameError(FRAME_METHOD, octets.subarray(start, end), 'unknown_frame');
    if (content.expects !== EXPECTS_METHOD) throw unexpectedMethod(content);
    if (method === METHOD_BASIC_ACK || method === METHOD_BASIC_NACK || method === METHOD_BASIC_REJECT) {
      if (end - start !== 4 + SETTLE_ARGUMENT_BYTES) throw cannotDecode(octets, start + 4, end);
      const deliveryTag = view.getUint32(start + 4) * TWO_TO_32 + view.getUint32(start + 8);
      settle(channel, method, deliveryTag, octets[start + 12] as number);
      return;
    }
    // Arguments may be windows on it.
    chunk.keep();
    const name = methodName(method);
    if (name !== undefined && isControlMethod(name)) this.#control(channel, name, method, octets, start + 4, end);
    else if (name === 'channel.close') this.#onClose(channel);
    else if (name === 'channel.open') throw new ReplyError(504, "second 'channel.open' seen");
    // A close-ok that answers nothing is ignored, as by RabbitMQ.
    else if (name !== 'channel.close-ok') throw new ReplyError(503, 'unimplemented method');
  }

  #control<M extends ControlMethod>(
    channel: AmqpChannel,
    name: M,
    method: number,
    octets: Buffer,
    start: number,
    end: number,
  ): void {
    const verb = CONTROL[name](channel, decodeArguments(name, octets, start, end));
    if (verb !== undefined) this.#host.awaitVerb(verb, channel, method);
  }

  #onClose(channel: AmqpChannel): void {
    channel.close();
    this.#forget(channel.number);
  }

  /** On a channel that is not open: closing (undefined channel: never opened, or closed long ago). */
  #onFrameWithoutChannel(
    channel: AmqpChannel | undefined,
    number: number,
    type: number,
    method: number,
    octets: Buffer,
    start: number,
    end: number,
  ): void {
    const name = methodName(method);
    if (channel !== undefined) {
      // [AMQP 1.5.2.5] Everything is dropped until the close-ok; a close that crosses ours is answered.
      if (name === 'channel.close-ok') this.#forget(number);
      else if (name === 'channel.close') this.#host.outbox.write(encodeMethod(number, 'channel.close-ok', {}));
      return;
    }
    if (type !== FRAME_METHOD) throw expectedMethod();
    if (name === 'channel.open') {
      decodeArguments(name, octets, start + 4, end);
      try {
        this.#open(number);
      } catch (error) {
        // As in RabbitMQ, a limit is not the fault of the method that ran into it.
        this.fail(error, undefined, 0);
      }
      return;
    }
    // An ack that was on its way when its channel was closed means nothing any more.
    const late = method === METHOD_BASIC_ACK || method === METHOD_BASIC_NACK || method === METHOD_BASIC_REJECT;
    if (late && this.#channels.has(number)) return;
    throw new ReplyError(504, "expected 'channel.open'");
  }

  #open(number: number): void {
    const { connection } = this.#host;
    if (connection === undefined) return;
    if (this.#openCount >= this.#channelMax) {
      const text = `number of channels opened (${this.#openCount}) has reached the negotiated channel_max`;
      throw new ReplyError(530, `${text} (${this.#channelMax})`);
    }
    const channel = new AmqpChannel(this.#host, connection, number);
    this.#openCount += 1;
    this.#channels.set(number, channel);
    channel.send('channel.open-ok', { channelId: '' });
  }

  #channelOf(number: number): AmqpChannel | undefined {
    const current = this.#current;
    if (current !== undefined && current.number === number) return current;
    const channel = this.#channels.get(number) ?? undefined;
    this.#current = channel;
    return channel;
  }

  #forget(number: number): void {
    this.#channels.set(number, null);
    this.#openCount -= 1;
    this.#current = undefined;
  }

  /**
   * Tells the peer that `method` has failed: ends the channel if the failure is its alone, otherwise the connection.
   * Throws only a broken invariant, which ends the process.
   */
  fail(error: unknown, channel: AmqpChannel | undefined, method: number): void {
    const inContent = error instanceof ContentError || (error instanceof ProtocolError && method === 0);
    const failed = inContent ? METHOD_BASIC_PUBLISH : method;
    const reply = replyTo(error) ?? this.#host.reportDefect(error);
    if (this.#host.connection === undefined) this.#host.refuse(reply, failed);
    else if (channel === undefined || !isSoft(reply.code)) this.#host.refuse(reply, failed);
    else if (channel.open) this.#refuseChannel(channel, reply, failed);
  }

  /** What goes wrong with it is this connection's misfortune, and nobody else's. */
  #refuseChannel(channel: AmqpChannel, reply: Reply, method: number): void {
    try {
      channel.refuse(reply, method);
    } catch (error) {
      this.#host.refuse(this.#host.reportDefect(error), method);
    }
  }

  #tooLarge(type: number, size: number, end: number): number {
    const limit = this.#payloadBytesMax - FRAME_OVERHEAD_BYTES;
    this.#host.loseSync(frameError(type, new Uint8Array(0), `{frame_too_large,${size},${limit}}`));
    return end;
  }

  #wrongEnd(type: number, octets: Buffer, start: number, at: number, end: number): number {
    const payload = octets.subarray(start, at);
    this.#host.loseSync(frameError(type, payload, `{invalid_frame_end_marker,${octets[at]}}`));
    return end;
  }

  /** Every channel that is open or closing. */
  *channels(): Iterable<AmqpChannel> {
    for (const channel of this.#channels.values()) if (channel !== null) yield channel;
  }
}

function settle(channel: AmqpChannel, method: number, deliveryTag: number, bits: number): void {
  const first = (bits & 1) !== 0;
  if (method === METHOD_BASIC_ACK) channel.broker.ack(deliveryTag, first);
  else if (method === METHOD_BASIC_REJECT) channel.broker.reject(deliveryTag, { requeue: first });
  else channel.broker.reject(deliveryTag, { multiple: first, requeue: (bits & 2) !== 0, returned: true });
}

/** 501 for arguments that end too early or too late. */
function cannotDecode(octets: Uint8Array, start: number, end: number): ReplyError {
  return new ReplyError(501, `cannot decode ${octetsText(octets.subarray(start, end))}`);
}
