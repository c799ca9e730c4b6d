/** When something was sent first, where it waited on its way [XEP-0203]. */
import { type Element, element } from './element.ts';
import { DELAY } from './namespaces.ts';

/** `atMs` is in milliseconds since 1970; `from` is who kept it. */
export function delayElement(from: string, atMs: number): Element {
  return element('delay', DELAY, { from, stamp: new Date(atMs).toISOString() });
}
