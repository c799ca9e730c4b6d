/** SASLprep [RFC 4013]: one spelling for passwords that look the same, whatever keyboard they come from. */

/** Mapped to a space: the spaces that are not ASCII [RFC 3454 C.1.2]. */
const OTHER_SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/g;
/** Mapped to nothing [RFC 3454 B.1]. */
const NOTHING = /\p{Variation_Selector}|\u034f|\u200d|[\u00ad\u1806\u200b\u200c\u2060\ufeff]/gu;
/** Control, private use, surrogate and unassigned code points, and those that change how text is displayed [RFC 3454 C]. */
const PROHIBITED =
  /\u0340|\u0341|[\p{Cc}\p{Co}\p{Cs}\p{Cn}\u200e\u200f\u2028-\u202e\u206a-\u206f\ufff9-\ufffd\u2ff0-\u2ffb]/u;

/** The prepared text; undefined when it has something that is not allowed. */
export function saslprep(text: string): string | undefined {
  if (/^[\x20-\x7e]*$/.test(text)) return text;
  const prepared = text.replace(OTHER_SPACES, ' ').replace(NOTHING, '').normalize('NFKC');
  return PROHIBITED.test(prepared) ? undefined : prepared;
}
