/**
 * From octets to the elements of one stream, strictly: what RFC 6120 §11.1 forbids (comments, processing instructions,
 * DOCTYPE, entities of one's own) and what is no XML ends in a StreamError, and so does an element that is too large,
 * too deep or has too many attributes, while it comes, not when it is complete.
 *
 * ```
 * <stream:stream …>          onStreamOpen
 *   <element>…</element>     onElement, for each child of the stream; white space between them is keep-alive
 * </stream:stream>           onStreamClose
 * ```
 *
 * One parser reads one stream from its header on; after STARTTLS and SASL comes a new one.
 */
import { type SaxesAttributeNS, SaxesParser, type SaxesTagNS } from 'saxes';
import { type Attributes, Element, type Node } from './element.ts';
import { CLIENT, COMPONENT } from './namespaces.ts';
import { StreamError } from './stream-error.ts';

export interface StreamLimits {
  /** Characters (octets, where they are ASCII) of a child of the stream, its tags included. */
  readonly stanzaBytesMax: number;
}

/** Elements in elements, the stream itself not counted. */
export const DEPTH_MAX = 64;
/** Attributes of one element, namespace declarations included. */
export const ATTRIBUTES_MAX = 64;

/** Called from inside `write`; what they throw comes out of it. */
export interface StreamEvents {
  /** The header: the root element without children. */
  onStreamOpen(header: Element): void;
  onElement(element: Element): void;
  onStreamClose(): void;
}

/** An element while it is being filled. */
interface Growing {
  readonly name: string;
  readonly xmlns: string;
  readonly attributes: Attributes;
  readonly children: Node[];
}

export class StreamParser {
  readonly #saxes = new SaxesParser({ xmlns: true, position: false });
  readonly #decoder = new TextDecoder('utf-8', { fatal: true });
  readonly #events: StreamEvents;
  #stanzaBytesMax: number;
  /** From the stream's child inwards. */
  #open: Growing[] = [];
  #depth = 0;
  #attributeCount = 0;
  #stanzaStart = 0;
  /** Characters taken so far. The position that `saxes` tells is right only while it reads. */
  #taken = 0;
  /** Complete, but that its closing tag has the right name is known only when `saxes` goes on. */
  #complete: Element | undefined;
  #stopped = false;

  constructor(limits: StreamLimits, events: StreamEvents) {
    this.#events = events;
    this.#stanzaBytesMax = limits.stanzaBytesMax;
    const parser = this.#saxes;
    parser.on('error', (error) => {
      // What was complete before the fault counts; an element that its closing tag does not fit was not.
      if (!/unexpected close tag/.test(error.message)) this.#deliver();
      throw malformed(error.message);
    });
    parser.on('xmldecl', ({ encoding, version }) => {
      if (version !== undefined && version !== '1.0') throw new StreamError('not-well-formed', 'XML 1.0 only');
      if (encoding !== undefined && encoding.toLowerCase() !== 'utf-8') {
        throw new StreamError('unsupported-encoding', 'UTF-8 only');
      }
    });
    parser.on('doctype', () => this.#refuse('a DOCTYPE'));
    parser.on('comment', () => this.#refuse('a comment'));
    parser.on('processinginstruction', () => this.#refuse('a processing instruction'));
    parser.on('opentagstart', () => {
      this.#deliver();
      this.#attributeCount = 0;
      if (this.#depth > DEPTH_MAX) throw new StreamError('policy-violation', `deeper than ${DEPTH_MAX} elements`);
    });
    parser.on('attribute', () => {
      this.#attributeCount += 1;
      if (this.#attributeCount > ATTRIBUTES_MAX) {
        throw new StreamError('policy-violation', `more than ${ATTRIBUTES_MAX} attributes`);
      }
    });
    parser.on('opentag', (tag) => this.#onOpen(tag));
    parser.on('closetag', () => this.#onClose());
    parser.on('text', (text) => this.#onText(text));
    parser.on('cdata', (text) => this.#onText(text));
  }

  /** For the elements that come from now on. */
  set stanzaBytesMax(stanzaBytesMax: number) {
    this.#stanzaBytesMax = stanzaBytesMax;
  }

  /** Takes nothing more, not even what is left of the chunk that is being read. */
  stop(): void {
    this.#stopped = true;
  }

  /** Takes the next octets, or text. Throws StreamError; the parser is of no use then. */
  write(chunk: Uint8Array | string): void {
    if (this.#stopped) return;
    let text: string;
    try {
      text = typeof chunk === 'string' ? chunk : this.#decoder.decode(chunk, { stream: true });
    } catch {
      throw new StreamError('not-well-formed', 'not UTF-8');
    }
    this.#taken += text.length;
    try {
      this.#saxes.write(text);
      this.#deliver();
    } catch (error) {
      if (error instanceof StopSignal) return;
      throw error;
    }
    this.#checkSize(this.#taken);
  }

  #checkSize(position: number): void {
    if (position - this.#stanzaStart > this.#stanzaBytesMax) {
      throw new StreamError('policy-violation', `an element larger than ${this.#stanzaBytesMax} octets`);
    }
  }

  /** Hands over what is complete, before anything else happens. */
  #deliver(): void {
    const element = this.#complete;
    if (element !== undefined) {
      this.#complete = undefined;
      this.#events.onElement(element);
    }
    if (this.#stopped) throw new StopSignal();
  }

  #refuse(what: string): never {
    this.#deliver();
    throw new StreamError('restricted-xml', `${what} is not allowed in a stream`);
  }

  #onOpen(tag: SaxesTagNS): void {
    this.#deliver();
    const growing = {
      name: tag.local,
      xmlns: tag.uri === COMPONENT ? CLIENT : tag.uri,
      attributes: attributesOf(tag),
      children: [],
    };
    this.#depth += 1;
    if (this.#depth === 1) {
      this.#stanzaStart = this.#saxes.position;
      this.#events.onStreamOpen(new Element(growing.name, tag.uri, { ...growing.attributes, xmlns: tag.ns[''] }, []));
    } else this.#open.push(growing);
  }

  #onClose(): void {
    this.#deliver();
    this.#depth -= 1;
    const closed = this.#open.pop();
    if (closed === undefined) {
      this.#events.onStreamClose();
      return;
    }
    const made = new Element(closed.name, closed.xmlns, closed.attributes, closed.children);
    const parent = this.#open.at(-1);
    if (parent !== undefined) {
      parent.children.push(made);
      return;
    }
    this.#checkSize(this.#saxes.position);
    this.#stanzaStart = this.#saxes.position;
    this.#complete = made;
  }

  #onText(text: string): void {
    this.#deliver();
    const parent = this.#open.at(-1);
    if (parent !== undefined) parent.children.push(text);
    else if (/[^ \t\r\n]/.test(text)) throw new StreamError('bad-format', 'text between stanzas');
    else this.#stanzaStart = this.#saxes.position;
  }
}

/** Leaves `saxes` in the middle of a chunk. */
class StopSignal extends Error {}

function malformed(message: string): StreamError {
  const isForbidden = /undefined entity|doctype/.test(message);
  return new StreamError(isForbidden ? 'restricted-xml' : 'not-well-formed', message);
}

/** Without namespace declarations. */
function attributesOf(tag: SaxesTagNS): Attributes {
  const attributes: Record<string, string> = Object.create(null);
  for (const { local, uri, prefix, value } of Object.values(tag.attributes) as SaxesAttributeNS[]) {
    if (prefix === 'xmlns' || (prefix === '' && local === 'xmlns')) continue;
    attributes[uri === '' ? local : `{${uri}}${local}`] = value;
  }
  return attributes;
}

/** The one element that `text` is; for stored stanzas and bodies of messages. Throws StreamError. */
export function parseElement(text: string, limits: StreamLimits): Element {
  let found: Element | undefined;
  const parser = new StreamParser(limits, {
    onStreamOpen() {},
    onElement(element) {
      if (found !== undefined) throw new StreamError('bad-format', 'more than one element');
      found = element;
    },
    onStreamClose() {},
  });
  parser.write('<x>');
  parser.write(text);
  parser.write('</x>');
  if (found === undefined) throw new StreamError('bad-format', 'no element');
  return found;
}
