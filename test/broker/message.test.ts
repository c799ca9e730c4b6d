import { describe, expect, it } from 'vitest';
import {
  changeProperties,
  createMessage,
  Message,
  type PropertiesCodec,
  Trait,
  traitsOf,
} from '../../broker/message.ts';
import { text } from '../support/core.ts';

const TEXT = { encode: new TextEncoder(), decode: new TextDecoder() };

/** An encoding of properties for these tests: JSON. Counts how often it decodes and encodes. */
function jsonCodec(): PropertiesCodec & { decoded: number; encoded: number } {
  const codec = {
    name: 'json',
    decoded: 0,
    encoded: 0,
    decode(block: Uint8Array) {
      codec.decoded++;
      return JSON.parse(TEXT.decode.decode(block));
    },
    encode(properties: object) {
      codec.encoded++;
      return TEXT.encode.encode(JSON.stringify(properties));
    },
    rewrite: (block: Uint8Array, change: object) =>
      TEXT.encode.encode(JSON.stringify(changeProperties(JSON.parse(TEXT.decode.decode(block)), change))),
  };
  return codec;
}

/** A message as a door makes it: a window on a chunk with other things around it. */
function windowOn(chunkBytes: number, properties: object, body: string, codec: PropertiesCodec = jsonCodec()): Message {
  const chunk = new Uint8Array(chunkBytes).fill(255);
  const block = TEXT.encode.encode(JSON.stringify(properties));
  const content = TEXT.encode.encode(body);
  const start = 10;
  chunk.set(block, start);
  // A door has a few octets of its own between the two.
  const bodyStart = start + block.length + 8;
  chunk.set(content, bodyStart);
  const traits = traitsOf(properties);
  const end = start + block.length;
  return new Message('x', 'k', chunk, start, end, bodyStart, bodyStart + content.length, codec, traits);
}

describe('a message', () => {
  it('of a program', () => {
    const message = createMessage({ exchange: 'x', routingKey: 'k', body: 'größer', properties: { type: 't' } });
    expect([message.exchange, message.routingKey, text(message), message.bodyBytes]).toEqual(['x', 'k', 'größer', 8]);
    expect(message.properties).toEqual({ type: 't' });
    expect(createMessage({})).toMatchObject({ exchange: '', routingKey: '', bodyBytes: 0, properties: {}, traits: 0 });
    const octets = new Uint8Array([1, 2]);
    expect(createMessage({ body: octets }).content).toBe(octets);
  });

  it.each([
    [{ deliveryMode: 2 }, Trait.persistent],
    [{ deliveryMode: 1 }, 0],
    [{ expiration: '0' }, Trait.expiration],
    [{ priority: 3 }, Trait.priority],
    [{ priority: 0 }, 0],
    [{ headers: {} }, Trait.headers],
    [{ headers: { BCC: [] } }, Trait.headers | Trait.copies],
    [{ headers: { CC: [] } }, Trait.headers | Trait.copies],
    [{ replyTo: '' }, Trait.replyTo],
    [{ userId: 'u' }, Trait.userId],
    [{ headers: { 'x-delay': 1 } }, Trait.headers | Trait.delay],
    [{ headers: { 'x-deliver-at': 1 } }, Trait.headers | Trait.delay],
  ])('%j has the traits %d', (properties, traits) => {
    expect(traitsOf(properties)).toBe(traits);
  });

  it('decodes its properties when it is asked for them, and once', () => {
    const codec = jsonCodec();
    const message = windowOn(100, { type: 't' }, 'body', codec);
    expect([text(message), message.bodyBytes, codec.decoded]).toEqual(['body', 4, 0]);
    expect(message.properties).toBe(message.properties);
    expect([message.properties, codec.decoded]).toEqual([{ type: 't' }, 1]);
  });

  it('passes its block through to its own encoding, and encodes once for another', () => {
    const [own, other] = [jsonCodec(), jsonCodec()];
    const message = windowOn(100, { type: 't' }, 'body', own);
    expect(TEXT.decode.decode(message.encodedProperties(own))).toBe('{"type":"t"}');
    expect(message.encodedProperties(other)).toBe(message.encodedProperties(other));
    expect([own.encoded, own.decoded, other.encoded]).toEqual([0, 1, 1]);
  });

  it.each<[string, () => Message]>([
    ['of a program', () => createMessage({ exchange: 'x', routingKey: 'k', body: 'body', properties: PROPERTIES })],
    ['of a door', () => windowOn(200, PROPERTIES, 'body')],
  ])('%s, with altered properties, is another; the first stays as it is', (_whose, make) => {
    const message = make();
    const change = { headers: { a: undefined, c: 3 }, expiration: undefined, replyTo: 'r' };
    const derived = message.derive(change, 'y');
    expect([derived.exchange, derived.routingKey, text(derived)]).toEqual(['y', 'k', 'body']);
    expect(derived.properties).toEqual({ type: 't', headers: { b: 2, c: 3 }, replyTo: 'r' });
    expect(derived.traits).toBe(Trait.headers | Trait.replyTo);
    expect([message.exchange, message.properties]).toEqual(['x', PROPERTIES]);
    expect(derived.derive({}).properties).toEqual(derived.properties);
  });

  it('a header may be called like a property of objects', () => {
    const headers = Object.assign(Object.create(null), { ['__proto__']: 1 });
    const changed = changeProperties({ headers }, { headers: { constructor: 2 } });
    expect(Object.keys(changed.headers ?? {}).sort()).toEqual(['__proto__', 'constructor']);
  });
});

const PROPERTIES = { type: 't', headers: { a: 1, b: 2 }, expiration: '5' };

describe('a message that is kept', () => {
  it('does without a chunk that is far larger, and is the same', () => {
    const message = windowOn(65_536, PROPERTIES, 'body');
    const kept = message.compact();
    expect(kept.content.buffer.byteLength).toBeLessThanOrEqual(4096);
    expect([kept.exchange, kept.routingKey, text(kept), kept.bodyBytes, kept.traits]).toEqual([
      'x',
      'k',
      'body',
      4,
      message.traits,
    ]);
    expect(kept.properties).toEqual(PROPERTIES);
    expect(message.compact()).toBe(kept);
    expect(kept.compact()).toBe(kept);
  });

  it('keeps a chunk of which it is a good part, and one that is small', () => {
    const large = windowOn(65_536, {}, 'x'.repeat(1024));
    expect(large.compact()).toBe(large);
    const small = windowOn(200, {}, 'body');
    expect(small.compact()).toBe(small);
  });

  it('many of them lie together without touching each other', () => {
    const kept = Array.from({ length: 1000 }, (_, number) =>
      windowOn(8192, { messageId: String(number) }, `body ${number}`).compact(),
    );
    expect(kept.map(text)).toEqual(kept.map((_, number) => `body ${number}`));
    expect(kept.map(({ properties }) => properties.messageId)).toEqual(kept.map((_, number) => String(number)));
    const slabs = new Set(kept.map(({ content }) => content.buffer));
    expect(slabs.size).toBeLessThan(30);
  });

  it('one larger than a slab has its own', () => {
    const message = windowOn(1_048_576, {}, 'x'.repeat(10_000));
    const kept = message.compact();
    expect([text(kept).length, kept.content.length]).toEqual([10_000, 10_000 + 2 + 8]);
  });
});
