/**
 * A message that arrives in pieces: publish, header and body frames in several chunks, several body frames, frames of
 * other channels in between. One assembly per channel, reused from message to message. (A small message that lies in
 * one chunk as a whole never comes here.)
 *
 * Memory follows what has arrived, not what has been announced: the buffer doubles as it fills, and ends at exactly the
 * size of the message. So each octet of a large body is copied once, and once more on average by the doubling.
 */

import { AMQP_PROPERTIES } from '../../broker/encoding/properties.ts';
import { Message } from '../../broker/message.ts';
import type { Address } from './address-cache.ts';

/** The first buffer of a content, unless less is needed. */
const FIRST_BUFFER_BYTES = 4096;

export const EXPECTS_METHOD = 0;
export const EXPECTS_HEADER = 1;
export const EXPECTS_BODY = 2;

const NOWHERE: Address = { exchange: '', routingKey: '' };
const NOTHING = Buffer.alloc(0);

export class ContentAssembly {
  /** Which kind of frame must come next on this channel: one of the three constants above. */
  expects = EXPECTS_METHOD;
  mandatory = false;

  #address = NOWHERE;
  #traits = 0;
  #propertiesEnd = 0;
  /** Property block and body, as far as they have come. */
  #octets = NOTHING;
  #filled = 0;
  #total = 0;

  /** Octets of the body that are still to come. */
  get missingBytes(): number {
    return this.#total - this.#filled;
  }

  /** A publish has come; its header must follow. */
  begin(address: Address, mandatory: boolean): void {
    this.#address = address;
    this.mandatory = mandatory;
    this.expects = EXPECTS_HEADER;
  }

  /** The header has come: properties in `octets[start, end)`, already checked, and the size of the body. */
  beginBody(octets: Uint8Array, start: number, end: number, bodyBytes: number, traits: number): void {
    this.#traits = traits;
    this.#propertiesEnd = end - start;
    this.#total = end - start + bodyBytes;
    this.append(octets, start, end);
    this.expects = EXPECTS_BODY;
  }

  /** Takes over (copies) more of the content; the caller has checked that so much is missing. */
  append(octets: Uint8Array, start: number, end: number): void {
    const filled = this.#filled + end - start;
    if (filled > this.#octets.length) {
      const larger = Buffer.allocUnsafe(Math.min(this.#total, Math.max(filled * 2, FIRST_BUFFER_BYTES)));
      larger.set(this.#octets.subarray(0, this.#filled));
      this.#octets = larger;
    }
    this.#octets.set(octets.subarray(start, end), this.#filled);
    this.#filled = filled;
  }

  /** The message, when nothing is missing any more; the assembly is ready for the next one. */
  finish(): Message {
    const { exchange, routingKey } = this.#address;
    const split = this.#propertiesEnd;
    const content = this.#octets;
    const message = new Message(
      exchange,
      routingKey,
      content,
      0,
      split,
      split,
      this.#filled,
      AMQP_PROPERTIES,
      this.#traits,
    );
    this.reset();
    return message;
  }

  /** Forgets what has come so far. */
  reset(): void {
    this.expects = EXPECTS_METHOD;
    this.#address = NOWHERE;
    this.#octets = NOTHING;
    this.#filled = 0;
    this.#total = 0;
  }
}
