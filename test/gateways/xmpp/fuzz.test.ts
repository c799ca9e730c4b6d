/** Anything at all for the stream parser: it ends in elements or in a StreamError, soon, and in nothing else. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Element, element, serialise } from '../../../gateways/xmpp/element.ts';
import { StreamError } from '../../../gateways/xmpp/stream-error.ts';
import { parseElement, StreamParser } from '../../../gateways/xmpp/stream-parser.ts';
import { useXmpp } from './scene.ts';

const LIMITS = { stanzaBytesMax: 10_000 };
const FUZZ_MS = 1500;

const HEADER = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
const STANZAS =
  "<message to='a@b' id='1'><body>h&amp;llo &#x263a;</body><x xmlns='y' z:q='1' xmlns:z='u'/></message> <presence/>" +
  "<iq type='get' id='é'><query xmlns='jabber:iq:roster'><![CDATA[<raw>]]></query></iq></stream:stream>";
const PIECES = [
  '<',
  '>',
  '/>',
  '</',
  '&',
  ';',
  '&lt;',
  '&#x0;',
  '&#xD800;',
  '<!--',
  '-->',
  '<![CDATA[',
  ']]>',
  '<?',
  '?>',
  '<!DOCTYPE',
  "'",
  '"',
  '=',
  ' ',
  '\0',
  '\ud800',
  '\ufffe',
  'xmlns',
  ':',
  'xml',
  '<message>',
  '</message>',
  '</stream:stream>',
  HEADER,
];

/** What comes of it: elements, in order, or a StreamError; whatever else is thrown fails the test. */
function read(chunks: readonly Uint8Array[]): { elements: string[]; error: StreamError | undefined } {
  const elements: string[] = [];
  const parser = new StreamParser(LIMITS, {
    onStreamOpen() {},
    onElement: (one) => elements.push(serialise(one)),
    onStreamClose() {},
  });
  try {
    for (const chunk of chunks) parser.write(chunk);
  } catch (error) {
    if (!(error instanceof StreamError)) throw error;
    return { elements, error };
  }
  return { elements, error: undefined };
}

function cutAt(octets: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const places = [...new Set([0, ...cuts.map((cut) => cut % (octets.length + 1)), octets.length])].sort(
    (a, b) => a - b,
  );
  return places.slice(1).map((end, index) => octets.subarray(places[index], end));
}

describe('the stream parser', () => {
  it('reads the same wherever the octets are cut', () => {
    const octets = Buffer.from(HEADER + STANZAS);
    const whole = read([octets]);
    expect(whole.elements).toHaveLength(3);
    for (let at = 0; at <= octets.length; at += 1) {
      expect(read([octets.subarray(0, at), octets.subarray(at)])).toEqual(whole);
    }
    expect(read(Array.from(octets, (octet) => Uint8Array.of(octet)))).toEqual(whole);
  });

  it('of mutilated streams throws nothing but StreamError, and does not depend on cuts', () => {
    const source = Buffer.from(HEADER + STANZAS);
    const mutation = fc.tuple(
      fc.nat(source.length),
      fc.nat(20),
      fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: 'binary' })),
    );
    fc.assert(
      fc.property(fc.array(mutation, { maxLength: 6 }), fc.array(fc.nat(), { maxLength: 5 }), (mutations, cuts) => {
        let octets: Buffer = source;
        for (const [at, removed, inserted] of mutations) {
          octets = Buffer.concat([octets.subarray(0, at), Buffer.from(inserted), octets.subarray(at + removed)]);
        }
        const [whole, pieces] = [read([octets]), read(cutAt(octets, cuts))];
        // A chunk with octets that are no UTF-8 is refused as a whole, and with it what stands before them in it.
        const count = whole.error === undefined ? pieces.elements.length : whole.elements.length;
        expect(pieces.elements.slice(0, count)).toEqual(whole.elements);
        expect(pieces.error === undefined).toBe(whole.error === undefined);
      }),
      { interruptAfterTimeLimit: FUZZ_MS, numRuns: 100_000, markInterruptAsFailure: false },
    );
  });

  it('of any octets throws nothing but StreamError', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.uint8Array(),
            fc.constantFrom(...PIECES).map((piece) => Buffer.from(piece)),
          ),
        ),
        (chunks) => {
          read(chunks);
        },
      ),
      { interruptAfterTimeLimit: FUZZ_MS, numRuns: 100_000, markInterruptAsFailure: false },
    );
  });

  it('takes all that is within its bounds, however much of it comes at once', () => {
    for (const chunkBytes of [1, 7, 100, 1000, 100_000]) {
      let count = 0;
      const onElement = (): void => {
        count += 1;
      };
      const parser = new StreamParser(LIMITS, { onStreamOpen() {}, onElement, onStreamClose() {} });
      const around = '<message><body></body></message>'.length;
      const stanza = `<message><body>${'x'.repeat(LIMITS.stanzaBytesMax - around)}</body></message>`;
      const text = `${HEADER}${stanza.repeat(4)}`;
      for (let at = 0; at < text.length; at += chunkBytes) parser.write(text.slice(at, at + chunkBytes));
      expect(count).toBe(4);
    }
  });

  it('holds to its bounds however slowly something grows', () => {
    const parser = new StreamParser(LIMITS, { onStreamOpen() {}, onElement() {}, onStreamClose() {} });
    parser.write(`${HEADER}<message><body>`);
    expect(() => {
      for (let octet = 0; octet <= LIMITS.stanzaBytesMax; octet += 1) parser.write('x');
    }).toThrow(StreamError);
  });
});

describe('what is written is what is read', () => {
  // What XML has: no control characters but tab and line ends, no half of a surrogate pair.
  const text = fc.string({
    unit: fc.constantFrom('a', 'é', '日', '😀', '<', '>', '&', '"', "'", ' ', '\t', '\n', '\r', ']]>'),
  });
  const name = fc.constantFrom('a', 'body', 'x-1', '_y', 'é');
  const { tree } = fc.letrec<{ tree: Element; node: Element | string }>((tie) => ({
    tree: fc
      .tuple(
        name,
        fc.constantFrom('jabber:client', 'u:1', 'u:2'),
        fc.dictionary(name, text, { maxKeys: 3 }),
        fc.array(tie('node'), { maxLength: 3 }),
      )
      .map(([tag, xmlns, attributes, children]) => element(tag, xmlns, attributes, ...merged(children))),
    node: fc.oneof(
      { maxDepth: 4 },
      text.filter((one) => one !== ''),
      tie('tree'),
    ),
  }));

  /** Neighbouring texts are one when they are read. */
  function merged(children: readonly (Element | string)[]): (Element | string)[] {
    const result: (Element | string)[] = [];
    for (const child of children) {
      const last = result.at(-1);
      if (typeof child === 'string' && typeof last === 'string') result[result.length - 1] = last + child;
      else result.push(child);
    }
    return result;
  }

  it.each(['', 'jabber:client'])('in the namespace "%s"', (around) => {
    fc.assert(
      fc.property(tree, (one) => {
        const wrapped = around === '' ? serialise(one) : `<x xmlns='${around}'>${serialise(one, around)}</x>`;
        const back = parseElement(wrapped, { stanzaBytesMax: 1_000_000 });
        const read = around === '' ? back : back.elements[0];
        expect(String(read)).toBe(String(one));
      }),
      { numRuns: 300 },
    );
  });

  it('what XML cannot carry becomes U+FFFD', () => {
    const { text: back } = parseElement(serialise(element('a', 'x', {}, 'a\0b\ud800c\uffff')), LIMITS);
    expect(back).toBe('a\ufffdb\ufffdc\ufffd');
  });
});

describe('the client port', () => {
  const scene = useXmpp();

  it('stays whole whatever is thrown at it', async () => {
    const sample = fc.sample(
      fc.tuple(
        fc.constantFrom(HEADER, ''),
        fc.array(fc.oneof(fc.constantFrom(...PIECES), fc.string({ unit: 'binary' }))),
      ),
      60,
    );
    for (const [head, pieces] of sample) {
      const raw = await scene.raw();
      raw.say(head + pieces.join(''));
      raw.socket.end();
      await raw.ended();
    }
    await (await scene.login('after')).settled();
  });
});
