/** Chats that wait for their receiver in his inbox: each a message whose body is the stanza as it is [XEP-0160]. */
import { type Element, EXPANSION_MAX } from './element.ts';
import { CLIENT } from './namespaces.ts';
import { parseElement } from './stream-parser.ts';

/** Content type of a stanza that is kept as it is. */
export const STANZA_TYPE = 'application/xmpp+xml';

/** The stanza in the body of a kept message; undefined when there is none. */
export function keptStanza(body: Uint8Array, bytesMax: number): Element | undefined {
  try {
    // It was no larger when it came; with every escape written out it may be.
    const limits = { stanzaBytesMax: bytesMax * EXPANSION_MAX };
    const stanza = parseElement(new TextDecoder('utf-8', { fatal: true }).decode(body), limits);
    return stanza.is('message', CLIENT) ? stanza : undefined;
  } catch {
    return undefined;
  }
}
