/** Octets of the STOMP grammar, and the few things that are done with octets everywhere in this door. */

export const NUL = 0;
export const LF = 0x0a;
export const CR = 0x0d;
export const SPACE = 0x20;
export const COLON = 0x3a;
export const AT = 0x40;
export const BACKSLASH = 0x5c;
export const ZERO = 0x30;

const STRICT_UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Digits of the largest number that `putDecimal` writes. */
export const DECIMAL_BYTES_MAX = 16;

/** `octets[start, end)` as text; octets that are not UTF-8 become U+FFFD. Never throws. */
export function decodeText(octets: Uint8Array, start: number, end: number): string {
  const buffer = octets instanceof Buffer ? octets : Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength);
  return buffer.toString(isAscii(octets, start, end) ? 'latin1' : 'utf8', start, end);
}

/** Text that must be UTF-8, because it must mean the same octets again when it is sent on; undefined when it is not. */
export function decodeStrictly(octets: Uint8Array): string | undefined {
  try {
    return STRICT_UTF8.decode(octets);
  } catch {
    return undefined;
  }
}

function isAscii(octets: Uint8Array, start: number, end: number): boolean {
  for (let at = start; at < end; at += 1) if ((octets[at] as number) > 0x7f) return false;
  return true;
}

/** Whether `octets[start, end)` are those of `known`. */
export function sameOctets(known: Uint8Array, octets: Uint8Array, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  // The end first: what repeats from frame to frame mostly differs there.
  for (let index = known.length - 1; index >= 0; index -= 1) {
    if (known[index] !== octets[start + index]) return false;
  }
  return true;
}

/** Writes a whole number from 0 to 2^53 in decimal digits and answers the offset after them. */
export function putDecimal(octets: Uint8Array, at: number, value: number): number {
  let rest = value;
  let digits = 1;
  for (let limit = 10; limit <= value; limit *= 10) digits += 1;
  const end = at + digits;
  // Beyond 31 bits the remainder has to be a division of doubles.
  for (let to = end - 1; to >= at; to -= 1) {
    const tenth = rest <= 0x7fffffff ? (rest / 10) | 0 : Math.floor(rest / 10);
    octets[to] = ZERO + (rest - tenth * 10);
    rest = tenth;
  }
  return end;
}

/** The number that `octets[start, end)` write in decimal digits, at most 2^53; -1 when they do not. */
export function readDecimal(octets: Uint8Array, start: number, end: number): number {
  if (start >= end || end - start > DECIMAL_BYTES_MAX) return -1;
  let value = 0;
  for (let at = start; at < end; at += 1) {
    const digit = (octets[at] as number) - ZERO;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return Number.isSafeInteger(value) ? value : -1;
}
