/** The operations of messages: see operations.ts for their octets. This is the hot path of the store. */
import { AMQP_PROPERTIES } from '../../encoding/properties.ts';
import { Message } from '../../message.ts';
import type { Custody } from '../../store.ts';
import type { RecordBuffer } from './record-buffer.ts';
import { MalformedRecord, RecordCursor } from './record-cursor.ts';

/** First octet: the operation in the lower bits, flags of a message above. */
const OPERATION_BITS = 7;
const MESSAGE = 1;
const GAP = 2;
/** Exchange and routing key are those of the message before in the record. */
const SAME_ADDRESS = 8;
/** It has one custody; otherwise their number follows. */
const ONE_CUSTODY = 16;

/** Flags of a custody. */
const SURVIVES = 1;
/** The holder is that of the custody before in the record. */
const SAME_HOLDER = 2;
/** The position is the one after that of the custody before in the record. */
const NEXT_POSITION = 4;
const HAS_PRIORITY = 8;
const EXPIRES = 16;
const RETURNED = 32;
const HELD = 64;

/** A time as a record can hold it: whole milliseconds, at least 0; undefined for never. */
function timeOf(ms: number): number | undefined {
  if (ms === Number.POSITIVE_INFINITY) return undefined;
  return Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Math.floor(ms)));
}

/** Writes messages and custodies, in the order of their slots: each message, then all of its custodies, then its octets. */
export class MessageEncoder {
  readonly #out: RecordBuffer;
  #exchange: string | undefined;
  #routingKey: string | undefined;
  #holder = -1;
  #position = 0;

  constructor(out: RecordBuffer) {
    this.#out = out;
  }

  /** A record begins. */
  begin(): void {
    this.#exchange = undefined;
    this.#routingKey = undefined;
    this.#holder = -1;
    this.#position = 0;
  }

  /** What follows can be read from here on, and behind anything. */
  beginAnywhere(): void {
    this.begin();
    this.#position = Number.NaN;
  }

  /** `custodyCount` calls of `custody` and one of `content` must follow. */
  message(message: Message, custodyCount: number): void {
    const out = this.#out;
    const { exchange, routingKey } = message;
    const isSame = exchange === this.#exchange && routingKey === this.#routingKey;
    out.octet(MESSAGE | (isSame ? SAME_ADDRESS : 0) | (custodyCount === 1 ? ONE_CUSTODY : 0));
    if (!isSame) {
      out.text(exchange);
      out.text(routingKey);
      this.#exchange = exchange;
      this.#routingKey = routingKey;
    }
    out.integer(message.traits);
    out.integer(propertyBytesOf(message));
    out.integer(message.bodyEnd - message.bodyStart);
    if (custodyCount !== 1) out.integer(custodyCount);
  }

  custody(custody: Custody, survives: boolean, returnCount: number, heldUntilMs: number): void {
    const out = this.#out;
    const { position, priority } = custody;
    const holder = custody.holder.id;
    const expiresAtMs = timeOf(custody.expiresAtMs);
    const isSame = holder === this.#holder;
    const isNext = position === this.#position + 1;
    out.octet(
      (survives ? SURVIVES : 0) |
        (isSame ? SAME_HOLDER : 0) |
        (isNext ? NEXT_POSITION : 0) |
        (priority !== 0 ? HAS_PRIORITY : 0) |
        (expiresAtMs !== undefined ? EXPIRES : 0) |
        (returnCount !== 0 ? RETURNED : 0) |
        (heldUntilMs > 0 ? HELD : 0),
    );
    if (!isSame) out.integer(holder);
    if (!isNext) out.integer(position);
    if (priority !== 0) out.octet(priority);
    if (expiresAtMs !== undefined) out.integer(expiresAtMs);
    if (returnCount !== 0) out.integer(returnCount);
    if (heldUntilMs > 0) out.integer(timeOf(heldUntilMs) ?? Number.MAX_SAFE_INTEGER);
    this.#holder = holder;
    this.#position = position;
  }

  content(message: Message): void {
    const out = this.#out;
    if (message.codec === AMQP_PROPERTIES) out.copy(message.content, message.propertiesStart, message.propertiesEnd);
    else {
      const block = message.encodedProperties(AMQP_PROPERTIES);
      out.copy(block, 0, block.length);
    }
    out.body(message.content, message.bodyStart, message.bodyEnd);
  }

  /** The next `count` slots stay empty. */
  gap(count: number): void {
    this.#out.octet(GAP);
    this.#out.integer(count);
  }
}

function propertyBytesOf(message: Message): number {
  return message.codec === AMQP_PROPERTIES
    ? message.propertiesEnd - message.propertiesStart
    : message.encodedProperties(AMQP_PROPERTIES).length;
}

/**
 * Reads the messages of a record, one after the other, into its own fields: after `nextMessage` those of the message,
 * after `nextCustody` those of one of its custodies. Everything throws `MalformedRecord`.
 */
export class MessageCursor {
  readonly #cursor: RecordCursor;
  /** Slot of the next custody. */
  #nextSlot: number;
  #custodiesLeft = 0;
  #addressStart = -1;
  #textsOf = -1;
  #exchange = '';
  #routingKey = '';

  traits = 0;
  propertyBytes = 0;
  bodyBytes = 0;
  custodyCount = 0;
  /** Where properties and body lie; valid when all custodies have been read. */
  contentStart = 0;

  slot = 0;
  holder = -1;
  position = 0;
  priority = 0;
  expiresAtMs = 0;
  returnCount = 0;
  heldUntilMs = 0;
  survives = false;

  /** Reads `octets[start, end)`, in which the first slot is `firstSlot`. */
  constructor(octets: Buffer, start: number, end: number, firstSlot: number) {
    this.#cursor = new RecordCursor(octets, start, end);
    this.#nextSlot = firstSlot;
  }

  get octets(): Buffer {
    return this.#cursor.octets;
  }

  /** The slot that comes next; after the last message, the one after the last of the record. */
  get slotEnd(): number {
    return this.#nextSlot;
  }

  /** Moves on to the next message; all custodies of the one before must have been read. False at the end. */
  nextMessage(): boolean {
    const cursor = this.#cursor;
    while (!cursor.isAtEnd) {
      const first = cursor.octet();
      const operation = first & OPERATION_BITS;
      if (operation === GAP) {
        this.#nextSlot += cursor.integer();
        continue;
      }
      if (operation !== MESSAGE) throw new MalformedRecord(`an unknown operation ${first}`);
      if ((first & SAME_ADDRESS) === 0) {
        this.#addressStart = cursor.at;
        cursor.sized();
        cursor.sized();
      } else if (this.#addressStart < 0) throw new MalformedRecord('a message without address');
      this.traits = cursor.integer();
      this.propertyBytes = cursor.integer();
      this.bodyBytes = cursor.integer();
      this.custodyCount = (first & ONE_CUSTODY) !== 0 ? 1 : cursor.integer();
      this.#custodiesLeft = this.custodyCount;
      if (this.custodyCount === 0) this.#endCustodies();
      return true;
    }
    return false;
  }

  /** Moves on to the next custody of the message; false when there is none left. */
  nextCustody(): boolean {
    if (this.#custodiesLeft === 0) return false;
    const cursor = this.#cursor;
    const flags = cursor.octet();
    if ((flags & SAME_HOLDER) === 0) this.holder = cursor.integer();
    this.position = (flags & NEXT_POSITION) !== 0 ? this.position + 1 : cursor.integer();
    this.priority = (flags & HAS_PRIORITY) !== 0 ? cursor.octet() : 0;
    this.expiresAtMs = (flags & EXPIRES) !== 0 ? cursor.integer() : Number.POSITIVE_INFINITY;
    this.returnCount = (flags & RETURNED) !== 0 ? cursor.integer() : 0;
    this.heldUntilMs = (flags & HELD) !== 0 ? cursor.integer() : 0;
    this.survives = (flags & SURVIVES) !== 0;
    this.slot = this.#nextSlot++;
    this.#custodiesLeft--;
    if (this.#custodiesLeft === 0) this.#endCustodies();
    return true;
  }

  #endCustodies(): void {
    this.contentStart = this.#cursor.take(this.propertyBytes + this.bodyBytes);
  }

  /** Exchange of the message; its routing key is read with it. */
  get exchange(): string {
    this.#readAddress();
    return this.#exchange;
  }

  get routingKey(): string {
    this.#readAddress();
    return this.#routingKey;
  }

  /** The message, as a window on the octets that are read; its custodies have all been read. */
  message(): Message {
    const { octets, contentStart, propertyBytes, bodyBytes, exchange, routingKey, traits } = this;
    const body = contentStart + propertyBytes;
    const end = body + bodyBytes;
    return new Message(exchange, routingKey, octets, contentStart, body, body, end, AMQP_PROPERTIES, traits);
  }

  #readAddress(): void {
    if (this.#textsOf === this.#addressStart) return;
    const cursor = new RecordCursor(this.#cursor.octets, this.#addressStart, this.#cursor.end);
    this.#exchange = cursor.text();
    this.#routingKey = cursor.text();
    this.#textsOf = this.#addressStart;
  }
}
