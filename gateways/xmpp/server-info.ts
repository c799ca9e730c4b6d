/** What every address of ours answers about itself, whatever it stands for: ping, version, time, disco. */
import { type Element, element } from './element.ts';
import { DISCO_INFO, DISCO_ITEMS, PING, TIME, VERSION } from './namespaces.ts';
import { resultReply } from './stanza-error.ts';

export interface Identity {
  readonly category: string;
  readonly type: string;
  readonly name?: string;
}

export interface Item {
  readonly jid: string;
  readonly node?: string;
  readonly name?: string;
}

/** Features of everything that `serveInfo` answers for. */
const INFO_FEATURES = [DISCO_INFO, DISCO_ITEMS, PING, VERSION, TIME];

/** The answer to a ping, a question for version or time; undefined when `iq` asks something else. */
export function serveInfo(iq: Element, version: string): Element | undefined {
  if (iq.attributes.type !== 'get') return undefined;
  const [payload] = iq.elements;
  if (payload?.is('ping', PING)) return resultReply(iq);
  if (payload?.is('query', VERSION)) {
    const fields = [element('name', VERSION, {}, 'Warren'), element('version', VERSION, {}, version)];
    return resultReply(iq, element('query', VERSION, {}, ...fields));
  }
  if (payload?.is('time', TIME)) {
    const utc = new Date().toISOString().replace(/\.\d+Z$/, 'Z');
    return resultReply(iq, element('time', TIME, {}, element('tzo', TIME, {}, 'Z'), element('utc', TIME, {}, utc)));
  }
  return undefined;
}

/** The node that a disco#info asks about ('' = none); undefined when `iq` is no such question. */
export function infoNode(iq: Element): string | undefined {
  return nodeOf(iq, DISCO_INFO);
}

/** The same for disco#items. */
export function itemsNode(iq: Element): string | undefined {
  return nodeOf(iq, DISCO_ITEMS);
}

function nodeOf(iq: Element, xmlns: string): string | undefined {
  const query = iq.attributes.type === 'get' ? iq.child('query', xmlns) : undefined;
  return query && (query.attributes.node ?? '');
}

/** The answer to a disco#info [XEP-0030]; `more` goes in at the end. */
export function infoReply(
  iq: Element,
  identities: readonly Identity[],
  features: readonly string[],
  ...more: readonly Element[]
): Element {
  const node = iq.child('query', DISCO_INFO)?.attributes.node;
  const all = [...new Set([...INFO_FEATURES, ...features])];
  return resultReply(
    iq,
    element(
      'query',
      DISCO_INFO,
      { node },
      ...identities.map(({ category, type, name }) => element('identity', DISCO_INFO, { category, type, name })),
      ...all.map((feature) => element('feature', DISCO_INFO, { var: feature })),
      ...more,
    ),
  );
}

/** The answer to a disco#items. */
export function itemsReply(iq: Element, items: readonly Item[]): Element {
  const node = iq.child('query', DISCO_ITEMS)?.attributes.node;
  return resultReply(
    iq,
    element('query', DISCO_ITEMS, { node }, ...items.map((item) => element('item', DISCO_ITEMS, { ...item }))),
  );
}
