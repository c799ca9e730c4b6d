/**
 * Exchange and routing key of a publish lie side by side on the wire, as two short strings, and repeat from message to
 * message. This cache knows them again by their octets and answers the same JavaScript strings without decoding, which
 * also makes comparing them cheap later on.
 */
import { decodeName } from './octets.ts';

/** Addresses remembered by each connection. */
export const ADDRESSES_MAX = 256;
/** Longer ones are decoded anew each time. */
export const ADDRESS_BYTES_MAX = 128;

/** Exchange and routing key as strings. */
export interface Address {
  readonly exchange: string;
  readonly routingKey: string;
}

interface CachedAddress extends Address {
  readonly octets: Uint8Array;
}

export class AddressCache {
  #last: CachedAddress | undefined;
  /** By hash; made when the second address turns up, since many connections publish to one address or none. */
  #slots: (CachedAddress | undefined)[] | undefined;

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
    if (end - start > ADDRESS_BYTES_MAX) return decodeAddress(octets, start, undefined);
    this.#slots ??= new Array(ADDRESSES_MAX);
    const slot = hash(octets, start, end) % ADDRESSES_MAX;
    let address = this.#slots[slot];
    if (address === undefined || !sameOctets(address.octets, octets, start, end)) {
      address = { ...decodeAddress(octets, start, this.#last), octets: new Uint8Array(octets.subarray(start, end)) };
      this.#slots[slot] = address;
    }
    this.#last = address;
    return address;
  }
}

function sameOctets(known: Uint8Array, octets: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let index = known.length - 1; index >= 0; index -= 1) {
    if (known[index] !== octets[start + index]) return false;
  }
  return true;
}

/** FNV-1a. */
function hash(octets: Uint8Array, start: number, end: number): number {
  let value = 0x811c9dc5;
  for (let at = start; at < end; at += 1) value = Math.imul(value ^ (octets[at] as number), 0x01000193);
  return (value ^ (value >>> 15)) >>> 0;
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
