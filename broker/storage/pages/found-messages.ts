/**
 * Messages found in octets that will be used for something else: copied out of them, close together, so that nothing but the
 * messages themselves stays in memory.
 */
import { AMQP_PROPERTIES } from '../../encoding/properties.ts';
import { Message } from '../../message.ts';
import type { Restored } from '../../store.ts';
import type { MessageCursor } from '../record/message-operations.ts';

/** Of what lies between the first and the last message, so large a part at least is theirs, or each is copied by itself. */
const SHARE_MIN = 1 / 2;

/** A message on its way back. */
export type Picked = { -readonly [key in keyof Restored]: Restored[key] };

/** Stands for the message until its octets have been copied. */
export const NO_MESSAGE = new Message('', '', new Uint8Array(0), 0, 0, 0, 0, AMQP_PROPERTIES, 0);

export class FoundMessages {
  /** Those who have a message, each to be added before `message` is called for it; in the order of the octets. */
  readonly picked: Picked[] = [];
  /** Of each message: how many of `picked` there are when it is complete, where it lies, and what it is. */
  readonly #ends: number[] = [];
  readonly #starts: number[] = [];
  readonly #propertyBytes: number[] = [];
  readonly #bodyBytes: number[] = [];
  readonly #traits: number[] = [];
  readonly #exchanges: string[] = [];
  readonly #routingKeys: string[] = [];
  #bytes = 0;

  /** All of `picked` that have no message yet have the one that the cursor is at; its custodies have all been read. */
  message(cursor: MessageCursor): void {
    this.#ends.push(this.picked.length);
    this.#starts.push(cursor.contentStart);
    this.#propertyBytes.push(cursor.propertyBytes);
    this.#bodyBytes.push(cursor.bodyBytes);
    this.#traits.push(cursor.traits);
    this.#exchanges.push(cursor.exchange);
    this.#routingKeys.push(cursor.routingKey);
    this.#bytes += cursor.propertyBytes + cursor.bodyBytes;
  }

  /** Copies the messages out of `octets`; to be called once, at the end. */
  copyOut(octets: Buffer): void {
    const last = this.#starts.length - 1;
    if (last < 0) return;
    const from = this.#starts[0] as number;
    const to =
      (this.#starts[last] as number) + (this.#propertyBytes[last] as number) + (this.#bodyBytes[last] as number);
    const isClose = this.#bytes >= SHARE_MIN * (to - from);
    const room = Buffer.allocUnsafeSlow(isClose ? to - from : this.#bytes);
    if (isClose) room.set(octets.subarray(from, to));
    let at = 0;
    let next = 0;
    for (let index = 0; index <= last; index++) {
      const start = this.#starts[index] as number;
      const propertyBytes = this.#propertyBytes[index] as number;
      const bytes = propertyBytes + (this.#bodyBytes[index] as number);
      if (isClose) at = start - from;
      else octets.copy(room, at, start, start + bytes);
      const body = at + propertyBytes;
      const exchange = this.#exchanges[index] as string;
      const routingKey = this.#routingKeys[index] as string;
      const traits = this.#traits[index] as number;
      const message = new Message(exchange, routingKey, room, at, body, body, at + bytes, AMQP_PROPERTIES, traits);
      for (; next < (this.#ends[index] as number); next++) (this.picked[next] as Picked).message = message;
      at += bytes;
    }
  }
}
