/**
 * Reading and writing the elementary values of AMQP 0-9-1 [AMQP 4.2.5]; all integers are big-endian. For control
 * methods, tables and properties; messages on their way from publisher to consumer do not come through here.
 */
import { ProtocolError } from './protocol-error.ts';

/** Longest short string, in octets. */
export const SHORT_STRING_BYTES_MAX = 255;

const STRICT_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const TO_UTF8 = new TextEncoder();

function asBuffer(octets: Uint8Array): Buffer {
  return octets instanceof Buffer ? octets : Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength);
}

/** `octets[start, end)` as text; octets that are not UTF-8 become U+FFFD. Never throws. */
export function decodeText(octets: Uint8Array, start: number, end: number): string {
  return asBuffer(octets).toString('utf8', start, end);
}

/**
 * The name of a thing: text that must be UTF-8, because it must mean the same octets again when it is sent on.
 * Throws `ProtocolError` 501 otherwise.
 */
export function decodeName(octets: Uint8Array, start: number, end: number): string {
  let at = start;
  while (at < end && (octets[at] as number) < 0x80) at += 1;
  if (at === end) return asBuffer(octets).toString('latin1', start, end);
  try {
    return STRICT_UTF8.decode(octets.subarray(start, end));
  } catch {
    throw new ProtocolError(501, 'Malformed UTF-8 in shortstr', start);
  }
}

/** `text` in UTF-8, cut to `bytesMax` octets at the boundary of a character. */
export function encodeText(text: string, bytesMax: number): Uint8Array {
  if (text.length * 3 <= bytesMax) return TO_UTF8.encode(text);
  const octets = new Uint8Array(Math.min(bytesMax, text.length * 3));
  return octets.subarray(0, TO_UTF8.encodeInto(text, octets).written);
}

/** Octets that end before, or after, they should. */
export class CutOff extends ProtocolError {}

/** Reads front to back; every method throws `CutOff` with code `code` where the octets end too early. */
export class OctetReader {
  readonly octets: Uint8Array;
  readonly end: number;
  at: number;
  readonly #code: 501 | 502;
  readonly #view: DataView;

  /** Reads `octets[start, end)`, which stay the caller's. */
  constructor(octets: Uint8Array, start: number, end: number, code: 501 | 502) {
    this.octets = octets;
    this.at = start;
    this.end = end;
    this.#code = code;
    this.#view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  }

  /** Moves on by `count` octets and answers where they begin. */
  take(count: number): number {
    const start = this.at;
    if (count > this.end - start) {
      throw new CutOff(this.#code, `${count} octets expected, ${this.end - start} left`, start);
    }
    this.at = start + count;
    return start;
  }

  octet(): number {
    return this.#view.getUint8(this.take(1));
  }

  short(): number {
    return this.#view.getUint16(this.take(2));
  }

  long(): number {
    return this.#view.getUint32(this.take(4));
  }

  /** 64 bits unsigned; above 2^53 rounded. */
  longLong(): number {
    const start = this.take(8);
    return this.#view.getUint32(start) * 2 ** 32 + this.#view.getUint32(start + 4);
  }

  /** A short string that is a name; see `decodeName`. */
  name(): string {
    const length = this.octet();
    const start = this.take(length);
    return decodeName(this.octets, start, this.at);
  }

  /** A short string of which only people read the text. */
  text(): string {
    const length = this.octet();
    const start = this.take(length);
    return decodeText(this.octets, start, this.at);
  }

  /** A long string: a view on the octets read, not a copy. */
  longString(): Uint8Array {
    const length = this.long();
    const start = this.take(length);
    return this.octets.subarray(start, this.at);
  }

  /** The signed reading of the integer of 1, 2, 4 octets. */
  signed(bytes: 1 | 2 | 4): number {
    const start = this.take(bytes);
    if (bytes === 1) return this.#view.getInt8(start);
    return bytes === 2 ? this.#view.getInt16(start) : this.#view.getInt32(start);
  }

  signedLongLong(): bigint {
    return this.#view.getBigInt64(this.take(8));
  }

  float(bytes: 4 | 8): number {
    const start = this.take(bytes);
    return bytes === 4 ? this.#view.getFloat32(start) : this.#view.getFloat64(start);
  }
}

/** What most methods fit in. */
const FIRST_WRITER_BYTES = 128;

/** Grows as it is written to. Never throws: what does not fit its field is cut or wrapped, as each method says. */
export class OctetWriter {
  #octets: Buffer = Buffer.allocUnsafeSlow(FIRST_WRITER_BYTES);
  #view = new DataView(this.#octets.buffer);
  #end = 0;

  get length(): number {
    return this.#end;
  }

  /** What has been written so far; a view that is valid until the next write. */
  get octets(): Uint8Array {
    return this.#octets.subarray(0, this.#end);
  }

  /** Makes room and answers where it begins. May replace `#octets` and `#view`: call it before naming either. */
  #grow(count: number): number {
    const start = this.#end;
    if (start + count > this.#octets.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.#octets.length * 2, start + count));
      larger.set(this.octets);
      this.#octets = larger;
      this.#view = new DataView(larger.buffer);
    }
    this.#end = start + count;
    return start;
  }

  octet(value: number): void {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
  }

  short(value: number): void {
    const at = this.#grow(2);
    this.#view.setUint16(at, value);
  }

  long(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value);
  }

  /** 64 bits unsigned, from a number of at most 2^53. */
  longLong(value: number): void {
    const start = this.#grow(8);
    this.#view.setUint32(start, Math.floor(value / 2 ** 32));
    this.#view.setUint32(start + 4, value >>> 0);
  }

  signedLongLong(value: bigint): void {
    const at = this.#grow(8);
    this.#view.setBigInt64(at, value);
  }

  double(value: number): void {
    const at = this.#grow(8);
    this.#view.setFloat64(at, value);
  }

  /** Cut to 255 octets. */
  shortString(value: string): void {
    const bytesMax = Math.min(SHORT_STRING_BYTES_MAX, value.length * 3);
    const start = this.#grow(1 + bytesMax);
    // Writes whole characters only.
    const bytes = this.#octets.write(value, start + 1, bytesMax, 'utf8');
    this.#octets[start] = bytes;
    this.#end = start + 1 + bytes;
  }

  longString(value: string | Uint8Array): void {
    const start = this.#grow(4 + (typeof value === 'string' ? value.length * 3 : value.length));
    if (typeof value === 'string') this.#end = start + 4 + this.#octets.write(value, start + 4, 'utf8');
    else this.#octets.set(value, start + 4);
    this.#view.setUint32(start, this.#end - start - 4);
  }

  raw(octets: Uint8Array): void {
    const start = this.#grow(octets.length);
    this.#octets.set(octets, start);
  }

  /** Leaves room for a 32-bit length; `endLength` fills in how many octets were written since. */
  beginLength(): number {
    return this.#grow(4);
  }

  endLength(begin: number): void {
    this.#view.setUint32(begin, this.#end - begin - 4);
  }

  /** Overwrites what was written at `at`. */
  patchShort(at: number, value: number): void {
    this.#view.setUint16(at, value);
  }
}
