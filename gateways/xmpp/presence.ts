/** Presence stanzas, made and read. */
import { type Element, element } from './element.ts';
import { CLIENT } from './namespaces.ts';

export function presenceElement(type: string | undefined, from: string, to: string): Element {
  return element('presence', CLIENT, { type, from, to });
}

/** -128 to 127; 0 when it is none [RFC 6121 §4.7.2.3]. */
export function priorityOf(presence: Element): number {
  const priority = Number(presence.child('priority')?.text.trim() || 0);
  return Number.isInteger(priority) && priority >= -128 && priority <= 127 ? priority : 0;
}
