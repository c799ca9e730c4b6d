/**
 * How header names and values are escaped [STOMP 1.2 Value Encoding]:
 *
 * ```
 * 1.0               nothing is
 * 1.1   \n \c \\    line feed, colon, backslash; every other sequence ends the connection, \r included
 * 1.2   \r too      carriage return
 * ```
 *
 * CONNECT and CONNECTED are never escaped, in any version. Versions are numbers here: 10, 11, 12.
 */
import { BACKSLASH, decodeText } from './octets.ts';
import { ProtocolError } from './protocol-error.ts';

/** 0 = none yet: before CONNECT. */
export type Version = 0 | 10 | 11 | 12;

const LETTER_C = 0x63;
const LETTER_N = 0x6e;
const LETTER_R = 0x72;

const UNESCAPED: { readonly [sequence: string]: string } = { '\\n': '\n', '\\r': '\r', '\\c': ':', '\\\\': '\\' };
const ESCAPED: { readonly [character: string]: string } = { '\n': '\\n', '\r': '\\r', ':': '\\c', '\\': '\\\\' };

/** Throws `ProtocolError` bad-escape unless a sequence of `version` begins at the backslash at `at`. */
export function checkEscape(octets: Uint8Array, at: number, version: Version): void {
  const next = octets[at + 1];
  if (next === LETTER_C || next === LETTER_N || next === BACKSLASH) return;
  if (next === LETTER_R && version === 12) return;
  const shown =
    next !== undefined && next > 0x20 && next < 0x7f ? `\\${String.fromCharCode(next)}` : 'a lone backslash';
  throw new ProtocolError('bad-escape', `${shown} is no escape sequence of STOMP ${version / 10}`, at);
}

/** The text that `octets[start, end)`, which `checkEscape` has passed, stand for; in 1.0 they stand for themselves. */
export function unescapeOctets(octets: Uint8Array, start: number, end: number, version: Version): string {
  const text = decodeText(octets, start, end);
  if (version <= 10 || !text.includes('\\')) return text;
  return text.replace(/\\[\s\S]?/g, (sequence) => UNESCAPED[sequence] ?? sequence);
}

/** `text` as STOMP 1.2 writes it. NUL, which cannot be written, becomes U+FFFD. */
export function escapeText(text: string): string {
  if (!/[\n\r:\\\0]/.test(text)) return text;
  return text.replace(/[\n\r:\\]/g, (character) => ESCAPED[character] ?? character).replaceAll('\0', '\ufffd');
}

/**
 * Header lines written for 1.2 as `version` has them. 1.1 may have a carriage return in a value; 1.0 cannot have a line
 * feed in one and gets `\n`, and its colons stay escaped in names.
 */
export function linesFor(lines: string, version: Version): string {
  if (version === 12 || !lines.includes('\\')) return lines;
  if (version === 11) return lines.replace(/\\[\s\S]/g, (sequence) => (sequence === '\\r' ? '\r' : sequence));
  return lines.replace(/^([^:\n]*):(.*)$/gm, (_line, name: string, value: string) => {
    const plain = value.replace(/\\[\s\S]/g, (sequence) =>
      sequence === '\\n' ? sequence : (UNESCAPED[sequence] ?? sequence),
    );
    return `${name}:${plain}`;
  });
}
