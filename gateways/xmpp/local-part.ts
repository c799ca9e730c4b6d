/**
 * Any name as the local part of an address, by escapes [XEP-0106]: a backslash and two hexadecimal digits for each octet
 * of a character that cannot stand there. Beyond the ten characters of XEP-0106, any octet may be so written; a name with
 * such an escape is meant *exactly*, case included, and one without is meant whatever its case:
 *
 * ```
 * logs          the one name that is `logs` when folded (Logs, LOGS, …)
 * \4cogs        Logs, and no other
 * \6cogs        logs, and no other
 * a\40b         a@b, or A@B: @ is one of the ten
 * a+b           two names, a and b: `+` is a separator here; in a name it is written \2b
 * ```
 */
import { fold, JidError } from './jid.ts';

/** A name as read from an address. */
export interface SpelledName {
  readonly text: string;
  /** Case counts. */
  readonly exact: boolean;
}

/** The ten of XEP-0106 and the separator: their escapes do not make a name exact. */
const ORDINARY = new Set([...' "&\'/:<>@\\+'].map((character) => character.charCodeAt(0)));

const ESCAPE = /(?:\\[0-9a-f]{2})+/g;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads one name. Throws JidError for octets that are no UTF-8. */
export function decodeName(spelled: string): SpelledName {
  let exact = false;
  const text = spelled.replace(ESCAPE, (escapes) => {
    const octets = Buffer.from(escapes.replaceAll('\\', ''), 'hex');
    exact ||= octets.some((octet) => !ORDINARY.has(octet));
    try {
      return UTF8.decode(octets);
    } catch {
      throw new JidError(`the escapes in "${spelled}" are no UTF-8`);
    }
  });
  return { text, exact };
}

/** The parts of a local part between separators; `limit` of them at most, the last keeping what remains. */
export function splitLocal(local: string, limit: number): string[] {
  const parts = local.split('+');
  return parts.length <= limit ? parts : [...parts.slice(0, limit - 1), parts.slice(limit - 1).join('+')];
}

/** A spelling that means exactly `name`. */
export function encodeExactly(name: string): string {
  const spelled = encode(name);
  if (decodeName(spelled).exact) return spelled;
  // Nothing in it needed an escape that makes it exact; so its first letter gets one. What has none knows no case either.
  return spelled.replace(
    /^((?:\\[0-9a-f]{2})*)([^\\])/u,
    (_, escapes: string, letter: string) => escapes + escapeOctets(letter),
  );
}

/** A spelling that leads to `name` without any claim as to its case, as people write it; exact if it cannot be without. */
export function encodePlainly(name: string): string {
  const spelled = encode(fold(name));
  return decodeName(spelled).exact ? encodeExactly(name) : spelled;
}

/** A spelling that keeps case by escapes, and escapes nothing else that could stay. */
export function encode(name: string): string {
  let spelled = '';
  for (const character of name) {
    const stays = fold(character) === character && !/[\p{C}\p{Z}\p{M}"&'/:<>@\\+]/u.test(character);
    spelled += stays ? character : escapeOctets(character);
  }
  // What stays character by character may still change when its neighbours are there.
  return fold(spelled) === spelled ? spelled : [...name].map(escapeOctets).join('');
}

function escapeOctets(text: string): string {
  return [...Buffer.from(text)].map((octet) => `\\${octet.toString(16).padStart(2, '0')}`).join('');
}
