/**
 * The AMQP 0-9-1 frames that the load generator sends, encoded once and before the clock runs. Independent of the
 * broker's own codec on purpose: a generator that shares a bug with the broker measures nothing.
 *
 * frame = type(1) channel(2) size(4) payload(size) 0xCE [AMQP 4.2.3]
 */

export const FRAME_METHOD = 1;
const FRAME_HEADER = 2;
export const FRAME_BODY = 3;
export const FRAME_END = 0xce;
/** Octets of a frame around its payload. */
export const FRAME_OVERHEAD = 8;
/** What opens a connection [AMQP 4.2.2]. */
export const PROTOCOL_HEADER = Buffer.from('AMQP\x00\x00\x09\x01', 'latin1');

const BASIC_CLASS = 60;
const DELIVERY_MODE_FLAG = 0x1000;
const PERSISTENT = 2;

/** Class and method as one number: `class << 16 | method`, the first four octets of a method frame's payload. */
export const METHOD = {
  connectionStart: (10 << 16) | 10,
  connectionStartOk: (10 << 16) | 11,
  connectionTune: (10 << 16) | 30,
  connectionTuneOk: (10 << 16) | 31,
  connectionOpen: (10 << 16) | 40,
  connectionOpenOk: (10 << 16) | 41,
  connectionClose: (10 << 16) | 50,
  connectionCloseOk: (10 << 16) | 51,
  channelOpen: (20 << 16) | 10,
  channelOpenOk: (20 << 16) | 11,
  channelClose: (20 << 16) | 40,
  exchangeDeclare: (40 << 16) | 10,
  exchangeDeclareOk: (40 << 16) | 11,
  exchangeDelete: (40 << 16) | 20,
  exchangeDeleteOk: (40 << 16) | 21,
  queueDeclare: (50 << 16) | 10,
  queueDeclareOk: (50 << 16) | 11,
  queueBind: (50 << 16) | 20,
  queueBindOk: (50 << 16) | 21,
  queueDelete: (50 << 16) | 40,
  queueDeleteOk: (50 << 16) | 41,
  basicQos: (60 << 16) | 10,
  basicQosOk: (60 << 16) | 11,
  basicConsume: (60 << 16) | 20,
  basicConsumeOk: (60 << 16) | 21,
  basicPublish: (60 << 16) | 40,
  basicDeliver: (60 << 16) | 60,
  basicAck: (60 << 16) | 80,
  basicNack: (60 << 16) | 120,
  confirmSelect: (85 << 16) | 10,
  confirmSelectOk: (85 << 16) | 11,
} as const;

/** One octet. */
export function octet(value: number): Buffer {
  return Buffer.of(value);
}

/** 16 bits, unsigned. */
export function short(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

/** 32 bits, unsigned. */
export function long(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** At most 255 octets of UTF-8. */
export function shortString(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([octet(bytes.length), bytes]);
}

/** Octets behind a 32-bit length; an empty one is also the empty table. */
export function longString(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([long(bytes.length), bytes]);
}

/** A table with nothing in it. */
export const EMPTY_TABLE = long(0);

function frame(type: number, channel: number, payload: Buffer): Buffer {
  return Buffer.concat([octet(type), short(channel), long(payload.length), payload, octet(FRAME_END)]);
}

/** A method frame; `args` are the encoded arguments in their order. */
export function methodFrame(channel: number, method: number, ...args: Buffer[]): Buffer {
  return frame(FRAME_METHOD, channel, Buffer.concat([long(method), ...args]));
}

/** The three frames of one publish. The body has at least one octet and fits one frame. */
export function publishFrames(exchange: string, routingKey: string, body: Buffer, persistent = false): Buffer {
  const channel = 1;
  const bodySize = Buffer.alloc(8);
  bodySize.writeBigUInt64BE(BigInt(body.length));
  const properties = persistent ? [short(DELIVERY_MODE_FLAG), octet(PERSISTENT)] : [short(0)];
  return Buffer.concat([
    methodFrame(channel, METHOD.basicPublish, short(0), shortString(exchange), shortString(routingKey), octet(0)),
    frame(FRAME_HEADER, channel, Buffer.concat([short(BASIC_CLASS), short(0), bodySize, ...properties])),
    frame(FRAME_BODY, channel, body),
  ]);
}

const ACK_BYTES = 21;
const ACK_TAG_OFFSET = 11;
const ACK_TEMPLATE = methodFrame(1, METHOD.basicAck, Buffer.alloc(8), octet(0));

/** One ack for each delivery tag from `first` to `last`, packed into one buffer, which is the caller's. */
export function ackFrames(first: number, last: number): Buffer {
  const bytes = Buffer.allocUnsafe((last - first + 1) * ACK_BYTES);
  for (let tag = first, at = 0; tag <= last; tag++, at += ACK_BYTES) {
    ACK_TEMPLATE.copy(bytes, at);
    bytes.writeUInt32BE(Math.floor(tag / 2 ** 32), at + ACK_TAG_OFFSET);
    bytes.writeUInt32BE(tag >>> 0, at + ACK_TAG_OFFSET + 4);
  }
  return bytes;
}
