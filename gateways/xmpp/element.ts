/**
 * XML as XMPP uses it: elements with a namespace, attributes and children, and their text form.
 *
 * ```
 * element  = name, namespace, attributes, children (elements and texts, in order)
 * ```
 *
 * Written without prefixes, each element that is in another namespace than its parent declaring its own, but for
 * `stream:`, which clients look for by its prefix. What XML cannot carry (most control characters) is written as U+FFFD.
 */
import { CLIENT, STREAMS } from './namespaces.ts';

export type Node = Element | string;

/** Names to values; absent ones may be given as undefined. A name in a namespace is written `{namespace}name`. */
export type Attributes = { readonly [name: string]: string | undefined };

const XML_NAMESPACE = 'http://www.w3.org/XML/1998/namespace';

/** Immutable once it is on its way; the parser alone fills one. */
export class Element {
  readonly name: string;
  readonly xmlns: string;
  readonly attributes: Attributes;
  readonly children: readonly Node[];

  constructor(name: string, xmlns: string, attributes: Attributes, children: readonly Node[]) {
    this.name = name;
    this.xmlns = xmlns;
    this.attributes = attributes;
    this.children = children;
  }

  is(name: string, xmlns: string): boolean {
    return this.name === name && this.xmlns === xmlns;
  }

  /** Child elements, in order. */
  get elements(): readonly Element[] {
    return this.children.filter((child) => child instanceof Element);
  }

  /** The first child of that name, by default in the namespace of this element. */
  child(name: string, xmlns: string = this.xmlns): Element | undefined {
    return this.elements.find((element) => element.is(name, xmlns));
  }

  /** The texts directly in it. */
  get text(): string {
    return this.children.filter((child) => typeof child === 'string').join('');
  }

  /** The same with other attributes; undefined removes one. */
  with(attributes: Attributes): Element {
    return new Element(this.name, this.xmlns, { ...this.attributes, ...attributes }, this.children);
  }

  /** The same with more children at the end. */
  plus(...children: readonly Node[]): Element {
    return new Element(this.name, this.xmlns, this.attributes, [...this.children, ...children]);
  }

  /** The same without the children for which `unwanted` holds. */
  without(unwanted: (child: Element) => boolean): Element {
    const kept = this.children.filter((child) => !(child instanceof Element && unwanted(child)));
    return new Element(this.name, this.xmlns, this.attributes, kept);
  }

  /** See `serialise`. */
  toString(): string {
    return serialise(this);
  }
}

/** Makes an element; children that are undefined are left out. */
export function element(
  name: string,
  xmlns: string,
  attributes: Attributes = {},
  ...children: readonly (Node | undefined)[]
): Element {
  return new Element(
    name,
    xmlns,
    attributes,
    children.filter((child) => child !== undefined),
  );
}

/**
 * The text of `root` where `around` is the namespace in force. Stanzas, at the top, take on that of their stream: on a
 * component's stream, `jabber:client` is left out too.
 */
export function serialise(root: Element, around = ''): string {
  const own = root.xmlns === CLIENT && around !== '' ? around : root.xmlns;
  return write(root, own, around);
}

function write({ name, xmlns, attributes, children }: Element, own: string, around: string): string {
  const isStream = xmlns === STREAMS;
  const tag = isStream ? `stream:${name}` : name;
  let head = tag;
  // Over TCP the header of the stream has declared the prefix; around a WebSocket message nothing is in force.
  if (isStream && around === '') head += ` xmlns:stream="${STREAMS}"`;
  if (!isStream && own !== around) head += ` xmlns="${escapeAttribute(own)}"`;
  let prefixes = 0;
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    const [, namespace, local = key] = /^\{(.*)\}(.*)$/.exec(key) ?? [];
    if (namespace === undefined) head += ` ${key}="${escapeAttribute(value)}"`;
    else if (namespace === XML_NAMESPACE) head += ` xml:${local}="${escapeAttribute(value)}"`;
    else {
      prefixes += 1;
      head += ` xmlns:a${prefixes}="${escapeAttribute(namespace)}" a${prefixes}:${local}="${escapeAttribute(value)}"`;
    }
  }
  if (children.length === 0) return `<${head}/>`;
  const inside = isStream ? around : own;
  // Children in the namespace of stanzas mean their stream's only where the parent itself is such a stanza.
  const isStanza = xmlns === CLIENT && own !== CLIENT;
  let body = '';
  for (const child of children) {
    if (typeof child === 'string') body += escapeText(child);
    else body += write(child, isStanza && child.xmlns === CLIENT ? own : child.xmlns, inside);
  }
  return `<${head}>${body}</${tag}>`;
}

/**
 * Characters of an element with all that is in it, before anything is escaped: about what it takes in memory. Written, it
 * has at most six times as many octets.
 */
export function weightOf({ name, xmlns, attributes, children }: Element): number {
  // Brackets, the name twice, ` xmlns=""`.
  let weight = 2 * name.length + xmlns.length + 14;
  for (const [key, value = ''] of Object.entries(attributes)) weight += 2 * key.length + value.length + 16;
  for (const child of children) weight += typeof child === 'string' ? child.length : weightOf(child);
  return weight;
}

/** Does it take more than `max` octets when it is written? */
export function isLarger(root: Element, max: number): boolean {
  return weightOf(root) * EXPANSION_MAX > max && Buffer.byteLength(serialise(root)) > max;
}

/** Octets that one character becomes at most when it is written: `&quot;`. */
export const EXPANSION_MAX = 6;

/** What is no character of XML 1.0 [XML 2.2], lone surrogates included. */
const NO_XML = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu;

/** Can XML carry every character of `text`? */
export function isXmlText(text: string): boolean {
  NO_XML.lastIndex = 0;
  return !NO_XML.test(text);
}

const REPLACEMENTS: { readonly [character: string]: string } = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
  // A parser would make line feeds and spaces of them [XML 2.11, 3.3.3].
  '\r': '&#13;',
  '\n': '&#10;',
  '\t': '&#9;',
};

function escapeText(text: string): string {
  return text.replace(NO_XML, '\ufffd').replace(/[&<>\r]/g, (character) => REPLACEMENTS[character] ?? '');
}

/** For an attribute between either kind of quotes. */
export function escapeAttribute(text: string): string {
  return text.replace(NO_XML, '\ufffd').replace(/[&<>"'\r\n\t]/g, (character) => REPLACEMENTS[character] ?? '');
}
