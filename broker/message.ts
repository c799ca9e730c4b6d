/**
 * The immutable message: an address (exchange, routing key), the 14 basic properties of AMQP 0-9-1 and a body.
 *
 * Properties and body stay in the octets in which they came: a message is a window on the `content` it was received in,
 * and its encoded property block is decoded only when somebody asks. Between two peers of one protocol the block passes
 * through untouched; what the model itself must know of it is told by `traits`, computed once by the door that read it.
 *
 * Ownership: whoever creates a message gives `content` away, and nobody writes to it afterwards; or lends it, and gets it
 * back when the model knows that nobody looks at the message any more: it was handed over at once, or acked by the only
 * one who held it, and whoever it went to keeps nothing of it (`ConsumerEvents.keepsNothing`). In every other case (copies
 * in several queues, dead letters, observers, basic.get) the lender never hears of it again.
 */
import type { FieldTable, FieldValue } from './fields.ts';

/** The 14 basic properties [AMQP 1.8.2]; each absent unless set. `timestamp` is in seconds since 1970. */
export interface MessageProperties {
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly headers?: FieldTable;
  /** 1 = transient, 2 = persistent; absent means transient. */
  readonly deliveryMode?: number;
  /** 0 to 255; absent means 0. */
  readonly priority?: number;
  readonly correlationId?: string;
  readonly replyTo?: string;
  /** Time to live in milliseconds as a decimal string. */
  readonly expiration?: string;
  readonly messageId?: string;
  readonly timestamp?: number;
  readonly type?: string;
  readonly userId?: string;
  readonly appId?: string;
  readonly clusterId?: string;
}

/** What to alter in the properties of a message; `undefined` as a value removes, an absent key leaves alone. */
export interface PropertiesChange {
  readonly headers?: { readonly [name: string]: FieldValue | undefined };
  readonly expiration?: string | undefined;
  readonly replyTo?: string | undefined;
}

/**
 * Reads and writes one encoding of the property block. Gateways provide theirs; the broker never looks inside a block.
 * Methods throw on a malformed block, which cannot happen for a block the same codec has checked on receipt.
 */
export interface PropertiesCodec {
  /** Name of the encoding, as the store writes it down. */
  readonly name: string;
  decode(block: Uint8Array): MessageProperties;
  encode(properties: MessageProperties): Uint8Array;
  /** A new block with `change` applied; every untouched property and header keeps its octets and thereby its type. */
  rewrite(block: Uint8Array, change: PropertiesChange): Uint8Array;
}

/** Who has lent the octets of messages and would use them again, such as a door with what it reads into. */
export interface Lender {
  /** One message is done with: nobody looks at its octets any more. */
  giveBack(): void;
}

/** Bits of `Message.traits`: the properties at which routing and queueing must look. */
export const Trait = {
  /** delivery-mode is 2 */
  persistent: 1,
  /** expiration is present */
  expiration: 2,
  /** priority is present and not 0 */
  priority: 4,
  /** headers are present (maybe empty) */
  headers: 8,
  /** headers contain CC or BCC */
  copies: 16,
  /** reply-to is present */
  replyTo: 32,
  /** user-id is present */
  userId: 64,
  /** headers contain x-delay or x-deliver-at */
  delay: 128,
} as const;

/** The traits of decoded properties; see `Trait`. */
export function traitsOf(properties: MessageProperties): number {
  const headers = properties.headers;
  return (
    (properties.deliveryMode === 2 ? Trait.persistent : 0) |
    (properties.expiration !== undefined ? Trait.expiration : 0) |
    (properties.priority ? Trait.priority : 0) |
    (properties.replyTo !== undefined ? Trait.replyTo : 0) |
    (properties.userId !== undefined ? Trait.userId : 0) |
    (headers === undefined ? 0 : Trait.headers) |
    (headers !== undefined && ('CC' in headers || 'BCC' in headers) ? Trait.copies : 0) |
    (headers !== undefined && ('x-delay' in headers || 'x-deliver-at' in headers) ? Trait.delay : 0)
  );
}

/** Properties kept as an object: the encoding of messages that never were octets. */
const OBJECT_PROPERTIES: PropertiesCodec = {
  name: 'object',
  decode: () => ({}),
  encode: () => new Uint8Array(0),
  rewrite: (block) => block,
};

/**
 * A message with a larger share than one in so many of its chunk keeps the chunk: from 1 KB in 64 KB on, copying every
 * message of a backlog that lasts some milliseconds would cost as much as delivering it.
 */
const COMPACT_SHARE_MIN = 64;

/** Messages copied for keeping lie together in slabs of this size: so much the last of them may hold in vain. */
const SLAB_BYTES = 4096;
let slab = new Uint8Array(0);
let slabEnd = 0;

export class Message {
  readonly exchange: string;
  readonly routingKey: string;
  /** The octets in which property block and body lie, at the positions below; usually far more than this message. */
  readonly content: Uint8Array;
  readonly propertiesStart: number;
  readonly propertiesEnd: number;
  readonly bodyStart: number;
  readonly bodyEnd: number;
  /** Encoding of the property block. */
  readonly codec: PropertiesCodec;
  /** A set of `Trait` bits. */
  readonly traits: number;
  /** Undefined: the octets are the message's for good. */
  #lender: Lender | undefined;
  #properties: MessageProperties | undefined;
  #compact: Message | undefined;
  #encodedBy: PropertiesCodec | undefined;
  #encoded: Uint8Array | undefined;

  /**
   * For doors on their hot path; programs use `createMessage`. Offsets are into `content`, ends exclusive; the property
   * block lies before the body, with next to nothing between them. With a `lender`, they are lent.
   */
  constructor(
    exchange: string,
    routingKey: string,
    content: Uint8Array,
    propertiesStart: number,
    propertiesEnd: number,
    bodyStart: number,
    bodyEnd: number,
    codec: PropertiesCodec,
    traits: number,
    properties?: MessageProperties,
    lender?: Lender,
  ) {
    this.exchange = exchange;
    this.routingKey = routingKey;
    this.content = content;
    this.propertiesStart = propertiesStart;
    this.propertiesEnd = propertiesEnd;
    this.bodyStart = bodyStart;
    this.bodyEnd = bodyEnd;
    this.codec = codec;
    this.traits = traits;
    this.#lender = lender;
    this.#properties = properties;
    this.#compact = undefined;
    this.#encodedBy = undefined;
    this.#encoded = undefined;
  }

  /** Somebody may look at the message for as long as he likes: if it was lent, that is over. */
  keep(): void {
    this.#lender = undefined;
  }

  /** Nobody looks at the message any more: what was lent goes back, unless somebody was to `keep` it. */
  giveBack(): void {
    const lender = this.#lender;
    if (lender === undefined) return;
    this.#lender = undefined;
    lender.giveBack();
  }

  /** Octets in the body. */
  get bodyBytes(): number {
    return this.bodyEnd - this.bodyStart;
  }

  /** The body: a view, valid for as long as it is held, not to be written to. */
  get body(): Uint8Array {
    return this.content.subarray(this.bodyStart, this.bodyEnd);
  }

  get persistent(): boolean {
    return (this.traits & Trait.persistent) !== 0;
  }

  /** The decoded properties; decoded at the first call, the same object afterwards. */
  get properties(): MessageProperties {
    this.#properties ??= this.codec.decode(this.content.subarray(this.propertiesStart, this.propertiesEnd));
    return this.#properties;
  }

  /** The property block as `codec` writes it; encoded at most once per codec in a row. */
  encodedProperties(codec: PropertiesCodec): Uint8Array {
    if (codec === this.codec) return this.content.subarray(this.propertiesStart, this.propertiesEnd);
    if (this.#encodedBy !== codec || this.#encoded === undefined) {
      this.#encoded = codec.encode(this.properties);
      this.#encodedBy = codec;
    }
    return this.#encoded;
  }

  /** A message with the same body and another address and/or altered properties; the body of an encoded one is copied. */
  derive(change: PropertiesChange, exchange = this.exchange, routingKey = this.routingKey): Message {
    if (this.codec === OBJECT_PROPERTIES) {
      const { content, bodyStart, bodyEnd } = this;
      const properties = changeProperties(this.properties, change);
      const traits = traitsOf(properties);
      return new Message(exchange, routingKey, content, 0, 0, bodyStart, bodyEnd, this.codec, traits, properties);
    }
    const block = this.codec.rewrite(this.content.subarray(this.propertiesStart, this.propertiesEnd), change);
    const properties = this.codec.decode(block);
    const content = new Uint8Array(block.length + this.bodyBytes);
    content.set(block);
    content.set(this.body, block.length);
    const traits = traitsOf(properties);
    const end = content.length;
    return new Message(
      exchange,
      routingKey,
      content,
      0,
      block.length,
      block.length,
      end,
      this.codec,
      traits,
      properties,
    );
  }

  /**
   * The same message for keeping: without the chunk it came in, if that is far larger than the message. Always the same
   * answer, so that queues which keep one message share it.
   */
  compact(): Message {
    const bytes = this.bodyEnd - this.propertiesStart;
    if (this.content.length <= SLAB_BYTES || bytes * COMPACT_SHARE_MIN > this.content.length) return this;
    this.#compact ??= this.#copy(bytes);
    return this.#compact;
  }

  /** Property block and body lie close together in that order, so that one copy takes both. */
  #copy(bytes: number): Message {
    if (slab.length - slabEnd < bytes) {
      slab = new Uint8Array(Math.max(SLAB_BYTES, bytes));
      slabEnd = 0;
    }
    const { exchange, routingKey, codec, traits, propertiesStart, propertiesEnd, bodyStart, bodyEnd } = this;
    const moved = slabEnd - propertiesStart;
    slab.set(this.content.subarray(propertiesStart, bodyEnd), slabEnd);
    slabEnd += bytes;
    return new Message(
      exchange,
      routingKey,
      slab,
      propertiesStart + moved,
      propertiesEnd + moved,
      bodyStart + moved,
      bodyEnd + moved,
      codec,
      traits,
      this.#properties,
    );
  }
}

/** `properties` with `change` applied; a new object. */
export function changeProperties(properties: MessageProperties, change: PropertiesChange): MessageProperties {
  const result: Record<string, unknown> = { ...properties };
  if ('expiration' in change) assign(result, 'expiration', change.expiration);
  if ('replyTo' in change) assign(result, 'replyTo', change.replyTo);
  if (change.headers) {
    const headers: Record<string, FieldValue> = Object.assign(Object.create(null), properties.headers);
    for (const [name, value] of Object.entries(change.headers)) assign(headers, name, value);
    result.headers = headers;
  }
  return result;
}

function assign(target: Record<string, unknown>, key: string, value: unknown): void {
  if (value === undefined) delete target[key];
  else target[key] = value;
}

const TEXT = new TextEncoder();

/**
 * A message made by a program. `exchange` '' is the default exchange, which routes to the queue named by `routingKey`.
 * A string body becomes UTF-8; an array is taken over, not copied: do not write to it afterwards.
 */
export function createMessage(message: {
  readonly exchange?: string;
  readonly routingKey?: string;
  readonly body?: Uint8Array | string;
  readonly properties?: MessageProperties;
}): Message {
  const { exchange = '', routingKey = '', body = '', properties = {} } = message;
  const content = typeof body === 'string' ? TEXT.encode(body) : body;
  const traits = traitsOf(properties);
  return new Message(exchange, routingKey, content, 0, 0, 0, content.length, OBJECT_PROPERTIES, traits, properties);
}
