/**
 * Addresses [RFC 7622]: `local@domain/resource`, of which only the domain must be there.
 *
 * Local part and domain are folded as they are read (compatibility forms, lower case), so that two addresses are the same
 * when their texts are; the resource keeps its case.
 */

/** A valid address. Absent parts are ''. */
export interface Jid {
  readonly local: string;
  readonly domain: string;
  readonly resource: string;
}

/** Octets of each part in UTF-8. */
export const JID_PART_BYTES_MAX = 1023;

/** The text is no address. */
export class JidError extends Error {
  override readonly name = 'JidError';
}

/** What no local part may have: spaces, controls and `"&'/:<>@` [RFC 7622 §3.3.1]. */
const NOT_IN_LOCAL = /[\p{C}\p{Z}"&'/:<>@]/u;
const DOMAIN = /^(?:\[[0-9a-f:.]+\]|[\p{L}\p{M}\p{N}_](?:[\p{L}\p{M}\p{N}_.-]*[\p{L}\p{M}\p{N}_])?)$/u;

/** Reads an address. Throws JidError. */
export function parseJid(text: string): Jid {
  const slash = text.indexOf('/');
  const beforeSlash = slash < 0 ? text : text.slice(0, slash);
  const at = beforeSlash.indexOf('@');
  const local = at < 0 ? '' : fold(beforeSlash.slice(0, at));
  const domain = fold(beforeSlash.slice(at + 1)).replace(/\.$/, '');
  const resource = slash < 0 ? '' : text.slice(slash + 1).normalize('NFC');
  if ((at >= 0 && local === '') || NOT_IN_LOCAL.test(local)) throw new JidError(`bad local part in "${text}"`);
  if (!DOMAIN.test(domain) || domain.includes('..')) throw new JidError(`bad domain in "${text}"`);
  if ((slash >= 0 && resource === '') || /\p{C}/u.test(resource)) throw new JidError(`bad resource in "${text}"`);
  for (const part of [local, domain, resource]) {
    if (part.length * 3 > JID_PART_BYTES_MAX && Buffer.byteLength(part) > JID_PART_BYTES_MAX) {
      throw new JidError(`a part of an address has at most ${JID_PART_BYTES_MAX} octets`);
    }
  }
  return { local, domain, resource };
}

/** The same for what may be absent or wrong: undefined then. */
export function tryParseJid(text: string | undefined): Jid | undefined {
  if (text === undefined) return undefined;
  try {
    return parseJid(text);
  } catch (error) {
    if (error instanceof JidError) return undefined;
    throw error;
  }
}

/** How local parts and domains are compared. */
export function fold(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text.toLowerCase() : text.normalize('NFKC').toLowerCase().normalize('NFKC');
}

export function formatJid({ local, domain, resource }: Jid): string {
  return `${bareText({ local, domain })}${resource === '' ? '' : `/${resource}`}`;
}

/** `local@domain`, or the domain alone. */
export function bareText({ local, domain }: Pick<Jid, 'local' | 'domain'>): string {
  return local === '' ? domain : `${local}@${domain}`;
}
