/**
 * The buffer that a record is put together in: grows as it is written to, is used again for the next record, and refers
 * to large bodies instead of copying them.
 *
 * Integers are variable-length: seven bits an octet, the lowest first, the highest bit set on all but the last; up to
 * 2^53 - 1. Texts are their length in octets and UTF-8.
 */
import { crc32 } from 'node:zlib';

/** A body of so many octets is written from where it lies. */
export const LARGE_BYTES_MIN = 128 * 1024;

/** The buffer is not kept for the next record when it has grown beyond this; octets. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

const FIRST_BYTES = 256 * 1024;

/** The checksum is brought up to date after so many octets, while they are still in the processor's cache. */
const CHECKED_BYTES = 64 * 1024;

/** Below this, a loop copies faster than a call. */
const LOOP_BYTES_MAX = 48;

/** Octets somewhere in memory. */
export interface Part {
  readonly octets: Uint8Array;
  readonly offset: number;
  readonly length: number;
}

export class RecordBuffer {
  #octets: Buffer;
  #at = 0;
  /** Where in `#octets` the large bodies belong, and those. */
  #largeAt: number[] = [];
  #large: Uint8Array[] = [];
  #largeBytes = 0;
  /** CRC-32 of what lies before `#checkedAt`. */
  #crc = 0;
  #checkedAt = 0;

  /** `firstBytes`: room at first. */
  constructor(firstBytes = FIRST_BYTES) {
    this.#octets = Buffer.allocUnsafeSlow(firstBytes);
  }

  /** Octets so far, large bodies included. */
  get length(): number {
    return this.#at + this.#largeBytes;
  }

  /** Begins anew. What `parts` has answered is not valid any more. */
  clear(): void {
    if (this.#octets.length > KEPT_BYTES_MAX) this.#octets = Buffer.allocUnsafeSlow(FIRST_BYTES);
    this.#at = 0;
    this.#crc = 0;
    this.#checkedAt = 0;
    if (this.#large.length > 0) {
      this.#largeAt = [];
      this.#large = [];
      this.#largeBytes = 0;
    }
  }

  #reserve(count: number): void {
    if (this.#at + count <= this.#octets.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#octets.length * 2, this.#at + count));
    larger.set(this.#octets.subarray(0, this.#at));
    this.#octets = larger;
  }

  /** Leaves room for `count` octets, to be filled in with `patch`; answers where. Nothing large may lie before it. */
  skip(count: number): number {
    this.#reserve(count);
    const start = this.#at;
    this.#at += count;
    return start;
  }

  /** The octets at `start`, to be written to at once. */
  patch(start: number, count: number): Buffer {
    return this.#octets.subarray(start, start + count);
  }

  octet(value: number): void {
    this.#reserve(1);
    this.#octets[this.#at++] = value;
  }

  integer(value: number): void {
    this.#reserve(8);
    const octets = this.#octets;
    let at = this.#at;
    while (value >= 0x80000000) {
      octets[at++] = (value % 128) | 128;
      value = Math.floor(value / 128);
    }
    while (value >= 128) {
      octets[at++] = (value & 127) | 128;
      value >>>= 7;
    }
    octets[at++] = value;
    this.#at = at;
  }

  text(text: string): void {
    const length = text.length;
    if (length < 128) {
      this.#reserve(1 + length);
      const octets = this.#octets;
      let at = this.#at;
      octets[at++] = length;
      let index = 0;
      for (; index < length; index++) {
        const code = text.charCodeAt(index);
        if (code >= 128) break;
        octets[at++] = code;
      }
      if (index === length) {
        this.#at = at;
        return;
      }
    }
    const bytes = Buffer.byteLength(text, 'utf8');
    this.integer(bytes);
    this.#reserve(bytes);
    this.#octets.write(text, this.#at, bytes, 'utf8');
    this.#at += bytes;
  }

  /** Copies `source[start, end)`. */
  copy(source: Uint8Array, start: number, end: number): void {
    const count = end - start;
    this.#reserve(count);
    const octets = this.#octets;
    if (count <= LOOP_BYTES_MAX) {
      let at = this.#at;
      for (let index = start; index < end; index++) octets[at++] = source[index] as number;
      this.#at = at;
      return;
    }
    octets.set(start === 0 && end === source.length ? source : source.subarray(start, end), this.#at);
    this.#at += count;
  }

  /** Takes in `source[start, end)`, which must not change until the record has been written. */
  body(source: Uint8Array, start: number, end: number): void {
    if (end - start < LARGE_BYTES_MIN) {
      this.copy(source, start, end);
      if (this.#at - this.#checkedAt >= CHECKED_BYTES) this.#check();
      return;
    }
    this.#check();
    const large = source.subarray(start, end);
    this.#crc = crc32(large, this.#crc);
    this.#largeAt.push(this.#at);
    this.#large.push(large);
    this.#largeBytes += end - start;
  }

  #check(): void {
    this.#crc = crc32(this.#octets.subarray(this.#checkedAt, this.#at), this.#crc);
    this.#checkedAt = this.#at;
  }

  /** The checksum does not include what has been written until now; nothing large may be among it. */
  startChecksum(): void {
    this.#crc = 0;
    this.#checkedAt = this.#at;
  }

  /** CRC-32 of what has been written since `startChecksum`. */
  get checksum(): number {
    this.#check();
    return this.#crc;
  }

  /** What has been written, in pieces; valid until `clear`. */
  parts(): Part[] {
    const parts: Part[] = [];
    let from = 0;
    for (let index = 0; index < this.#large.length; index++) {
      const at = this.#largeAt[index] as number;
      const large = this.#large[index] as Uint8Array;
      if (at > from) parts.push({ octets: this.#octets, offset: from, length: at - from });
      parts.push({ octets: large, offset: 0, length: large.length });
      from = at;
    }
    if (this.#at > from) parts.push({ octets: this.#octets, offset: from, length: this.#at - from });
    return parts;
  }
}
