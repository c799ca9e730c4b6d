/** The same things said in the same words on the command line and over XMPP. */
import type { Deed } from './posts.ts';

/** `anna`, `anna and ben`, `anna, ben and carla`; of more than `most`, `anna, ben and 9998 more`. */
export function andJoin(names: readonly string[], most = names.length): string {
  if (names.length > most) return `${names.slice(0, most).join(', ')} and ${names.length - most} more`;
  const last = names.at(-1) ?? '';
  return names.length <= 1 ? last : `${names.slice(0, -1).join(', ')} and ${last}`;
}

/** What a deed is to the one in whose inbox it is; `called` says what to call its doer. */
export function noticeOf(deed: Deed, called: string): string {
  return deed.deed === 'follow' ? `${called} decided to follow you.` : `${called} decided to stop following you.`;
}

/** `text` without what would make a terminal do things: control characters other than line feed and tab, and formats. */
export function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]|[\u{202a}-\u{202e}\u{2066}-\u{2069}]/gu, '\u{fffd}');
}
