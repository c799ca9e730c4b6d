/**
 * Exchange and routing key of a publish lie side by side on the wire, as two short strings, and repeat from message to
 * message. This cache knows them again by their octets and answers the same JavaScript strings without decoding, which
 * also makes comparing them cheap later on.
 */
import { decodeName } from '../../broker/encoding/octets.ts';

/** Addresses that a connection remembers at first, and at the most; both powers of two. */
const ADDRESSES_MIN = 64;
const ADDRESSES_MAX = 8192;
/** Longer ones are decoded anew each time. */
export const ADDRESS_BYTES_MAX = 128;

/** Exchange and routing key as strings. */
export interface Address {
  readonly exchange: string;
  readonly routingKey: string;
}

interface CachedAddress extends Address {
  readonly octets: Uint8Array;
  readonly hash: number;
}

export class AddressCache {
  #last: CachedAddress | undefined;
  /** By hash; made when the second address turns up, since many connections publish to one address or none. */
  #slots: (CachedAddress | undefined)[] = [];
  /** The hash that came by each slot last: an address is remembered when it comes a second time, not for coming once. */
  #seen = new Int32Array(0);
  #count = 0;

  /**
   * The address in `octets[start, end)`: two short strings that fill it exactly, which the caller has checked. Throws
   * `ProtocolError` 501 when one is not UTF-8.
   */
  lookup(octets: Uint8Array, start: number, end: number): Address {
    const last = this.#last;
    if (last !== undefined && sameOctets(last.octets, octets, start, end)) return last;
    return this.#lookupSlot(octets, start, end);
  }

  #lookupSlot(octets: Uint8Array, start: number, end: number): Address {
    if (end - start > ADDRESS_BYTES_MAX) return decodeAddress(octets, start, this.#last);
    const hash = hashOf(octets, start, end);
    if (this.#slots.length === 0) this.#resize(ADDRESSES_MIN);
    const slot = hash & (this.#slots.length - 1);
    const known = this.#slots[slot];
    if (known !== undefined && known.hash === hash && sameOctets(known.octets, octets, start, end)) {
      this.#last = known;
      return known;
    }
    const decoded = decodeAddress(octets, start, this.#last);
    if (this.#last !== undefined && this.#seen[slot] !== hash) {
      this.#seen[slot] = hash;
      return decoded;
    }
    const address = { ...decoded, octets: new Uint8Array(octets.subarray(start, end)), hash };
    this.#last = address;
    this.#remember(address, slot);
    return address;
  }

  #remember(address: CachedAddress, slot: number): void {
    const taken = this.#slots[slot] !== undefined;
    this.#slots[slot] = address;
    if (!taken) this.#count += 1;
    else if (this.#count * 2 > this.#slots.length && this.#slots.length < ADDRESSES_MAX) {
      this.#resize(this.#slots.length * 4);
    }
  }

  #resize(length: number): void {
    const addresses = this.#slots;
    this.#slots = new Array<CachedAddress | undefined>(length).fill(undefined);
    this.#seen = new Int32Array(length);
    this.#count = 0;
    for (const address of addresses) {
      if (address === undefined) continue;
      const slot = address.hash & (length - 1);
      if (this.#slots[slot] === undefined) this.#count += 1;
      this.#slots[slot] = address;
    }
  }
}

function sameOctets(known: Uint8Array, octets: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let index = known.length - 1; index >= 0; index -= 1) {
    if (known[index] !== octets[start + index]) return false;
  }
  return true;
}

/** FNV-1a, as a signed 32-bit integer. */
function hashOf(octets: Uint8Array, start: number, end: number): number {
  let value = 0x811c9dc5;
  for (let at = start; at < end; at += 1) value = Math.imul(value ^ (octets[at] as number), 0x01000193);
  return value ^ (value >>> 15);
}

function decodeAddress(octets: Uint8Array, start: number, last: CachedAddress | undefined): Address {
  const exchangeBytes = octets[start] as number;
  const keyStart = start + 1 + exchangeBytes;
  const keyEnd = keyStart + 1 + (octets[keyStart] as number);
  const sameExchange =
    last !== undefined && sameOctets(last.octets.subarray(0, exchangeBytes + 1), octets, start, keyStart);
  return {
    exchange: sameExchange ? last.exchange : decodeName(octets, start + 1, keyStart),
    routingKey: decodeName(octets, keyStart + 1, keyEnd),
  };
}
