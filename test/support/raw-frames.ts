/** Frames to methods and contents, strictly: what the broker sends out of order or malformed is an error. */
import {
  type Arguments,
  type DecodedMethod,
  decodeMethod,
  decodeProperties,
  encodeMethod,
  type Properties,
  type Table,
} from './amqp-wire.ts';

export interface Content {
  readonly properties: Properties;
  /** The property block as it came: flags and values. */
  readonly propertyBytes: Buffer;
  readonly body: Buffer;
  /** Payload sizes of the body frames. */
  readonly bodyFrames: readonly number[];
}

/** A method from the broker, with its content if it has one. */
export class Incoming {
  readonly channel: number;
  readonly name: string;
  readonly classId: number;
  readonly methodId: number;
  readonly args: Record<string, unknown>;
  readonly content: Content | undefined;

  constructor(channel: number, method: DecodedMethod, content?: Content) {
    this.channel = channel;
    this.name = method.name;
    this.classId = method.classId;
    this.methodId = method.methodId;
    this.args = method.args;
    this.content = content;
  }

  /** Delivery tag of deliver and get-ok, sequence number of ack and nack. */
  get tag(): number {
    return this.args.deliveryTag as number;
  }

  get redelivered(): boolean {
    return this.args.redelivered as boolean;
  }

  /** Body as UTF-8. */
  get text(): string {
    return this.content?.body.toString('utf8') ?? '';
  }

  get properties(): Properties {
    if (this.content === undefined) throw new Error(`${this.name} has no content`);
    return this.content.properties;
  }

  /** Message headers; an empty table when there are none. */
  get headers(): Table {
    return this.properties.headers ?? {};
  }
}

interface FrameEvents {
  onMethod(incoming: Incoming): void;
  onHeartbeat(): void;
  onProtocolHeader(octets: Buffer): void;
}

interface PartialContent {
  readonly method: DecodedMethod;
  propertyBytes?: Buffer;
  bodySize: number;
  readonly body: Buffer[];
}

export class FrameReader {
  readonly #events: FrameEvents;
  readonly #partial = new Map<number, PartialContent>();
  #buffer = Buffer.alloc(0);

  constructor(events: FrameEvents) {
    this.#events = events;
  }

  /** Throws when the octets are no frames, or frames in an impossible order. */
  push(chunk: Buffer): void {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    for (;;) {
      if (this.#buffer.length >= 8 && this.#buffer.toString('latin1', 0, 4) === 'AMQP') {
        this.#events.onProtocolHeader(this.#buffer.subarray(0, 8));
        this.#buffer = this.#buffer.subarray(8);
      }
      if (this.#buffer.length < 7) return;
      const size = this.#buffer.readUInt32BE(3);
      if (this.#buffer.length < size + 8) return;
      if (this.#buffer[size + 7] !== 0xce) throw new Error('the broker sent a frame without its end octet');
      const type = this.#buffer.readUInt8(0);
      const channel = this.#buffer.readUInt16BE(1);
      const payload = this.#buffer.subarray(7, size + 7);
      this.#buffer = this.#buffer.subarray(size + 8);
      this.#onFrame(type, channel, payload);
    }
  }

  #onFrame(type: number, channel: number, payload: Buffer): void {
    if (type === 8) {
      if (channel !== 0 || payload.length > 0) throw new Error('the broker sent a malformed heartbeat');
      this.#events.onHeartbeat();
      return;
    }
    const partial = this.#partial.get(channel);
    if (type === 1) {
      if (partial !== undefined)
        throw new Error(`the broker sent a method inside the content of ${partial.method.name}`);
      const method = decodeMethod(payload);
      if (method.hasContent) this.#partial.set(channel, { method, bodySize: 0, body: [] });
      else this.#events.onMethod(new Incoming(channel, method));
      return;
    }
    if (partial === undefined) throw new Error(`the broker sent a frame of type ${type} outside any content`);
    if (type === 2 && partial.propertyBytes === undefined) {
      if (payload.readUInt16BE(0) !== 60 || payload.readUInt16BE(2) !== 0) throw new Error('a wrong content header');
      partial.bodySize = Number(payload.readBigUInt64BE(4));
      partial.propertyBytes = Buffer.from(payload.subarray(12));
    } else if (type === 3 && partial.propertyBytes !== undefined && payload.length > 0) {
      partial.body.push(payload);
    } else {
      throw new Error(`the broker sent a frame of type ${type} out of order`);
    }
    this.#completeContent(channel, partial);
  }

  #completeContent(channel: number, partial: PartialContent): void {
    const { method, propertyBytes, body } = partial;
    if (propertyBytes === undefined) return;
    const bodyFrames = body.map((part) => part.length);
    const received = bodyFrames.reduce((sum, length) => sum + length, 0);
    if (received > partial.bodySize) throw new Error('the broker sent more body than it had announced');
    if (received < partial.bodySize) return;
    this.#partial.delete(channel);
    const properties = decodeProperties(propertyBytes);
    const content = { properties, propertyBytes, body: Buffer.concat(body), bodyFrames };
    this.#events.onMethod(new Incoming(channel, method, content));
  }
}

/** The octets of one frame. */
export function frame(type: number, channel: number, payload: Uint8Array): Buffer {
  const octets = Buffer.alloc(payload.length + 8);
  octets.writeUInt8(type, 0);
  octets.writeUInt16BE(channel, 1);
  octets.writeUInt32BE(payload.length, 3);
  octets.set(payload, 7);
  octets.writeUInt8(0xce, payload.length + 7);
  return octets;
}

/** The octets of a method frame. */
export function methodFrame(channel: number, method: string, args?: Arguments): Buffer {
  return frame(1, channel, encodeMethod(method, args));
}

/** The octets of a content header frame. `bodySize` may lie. */
export function headerFrame(
  channel: number,
  bodySize: number | bigint,
  block: Uint8Array = Buffer.alloc(2),
  classId = 60,
): Buffer {
  const payload = Buffer.alloc(12 + block.length);
  payload.writeUInt16BE(classId, 0);
  payload.writeBigUInt64BE(BigInt(bodySize), 4);
  payload.set(block, 12);
  return frame(2, channel, payload);
}
