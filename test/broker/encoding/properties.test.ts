import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AMQP_PROPERTIES, scanProperties } from '../../../broker/encoding/properties.ts';
import { ProtocolError } from '../../../broker/encoding/protocol-error.ts';
import type { FieldValue } from '../../../broker/fields.ts';
import {
  changeProperties,
  type MessageProperties,
  type PropertiesChange,
  Trait,
  traitsOf,
} from '../../../broker/message.ts';
import {
  decodeProperties as readBlock,
  typed,
  type Properties as WrittenProperties,
  encodeProperties as writeBlock,
} from '../../support/amqp-wire.ts';
import { runs } from '../../support/runs.ts';

const { decode, encode, rewrite } = AMQP_PROPERTIES;
const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const scan = (block: Uint8Array): number => scanProperties(block, 0, block.length);

const ALL: MessageProperties = {
  contentType: 'text/plain',
  contentEncoding: 'gzip',
  headers: { a: 1 },
  deliveryMode: 2,
  priority: 9,
  correlationId: 'c',
  replyTo: 'r',
  expiration: '1000',
  messageId: 'm',
  timestamp: 1_700_000_000,
  type: 't',
  userId: 'guest',
  appId: 'app',
  clusterId: '',
};

describe('property blocks, as octets', () => {
  it.each<[string, MessageProperties, string, number]>([
    ['none', {}, '0000', 0],
    ['content-type', { contentType: 'a' }, '8000 0161', 0],
    ['content-encoding', { contentEncoding: 'a' }, '4000 0161', 0],
    ['headers', { headers: { a: true } }, '2000 00000004 01617401', Trait.headers],
    ['empty headers', { headers: {} }, '2000 00000000', Trait.headers],
    ['CC', { headers: { CC: ['q'] } }, '2000 0000000e 024343 41 00000006 530000000171', Trait.headers | Trait.copies],
    ['delivery-mode 1', { deliveryMode: 1 }, '1000 01', 0],
    ['delivery-mode 2', { deliveryMode: 2 }, '1000 02', Trait.persistent],
    ['priority 0', { priority: 0 }, '0800 00', 0],
    ['priority', { priority: 255 }, '0800 ff', Trait.priority],
    ['correlation-id', { correlationId: 'a' }, '0400 0161', 0],
    ['reply-to', { replyTo: 'a' }, '0200 0161', Trait.replyTo],
    ['expiration', { expiration: '5' }, '0100 0135', Trait.expiration],
    ['message-id', { messageId: 'a' }, '0080 0161', 0],
    ['timestamp', { timestamp: 2 ** 32 + 1 }, '0040 0000000100000001', 0],
    ['type', { type: 'a' }, '0020 0161', 0],
    ['user-id', { userId: 'a' }, '0010 0161', Trait.userId],
    ['app-id', { appId: 'a' }, '0008 0161', 0],
    ['cluster-id', { clusterId: 'a' }, '0004 0161', 0],
  ])('%s', (_name, properties, block, traits) => {
    expect(hex(encode(properties))).toBe(block.replaceAll(' ', ''));
    expect(decode(bytes(block))).toEqual(properties);
    expect(scan(bytes(block))).toBe(traits);
  });

  it('all fourteen at once', () => {
    const block = encode(ALL);
    expect(hex(block.subarray(0, 2))).toBe('fffc');
    expect(decode(block)).toEqual(ALL);
    expect(scan(block)).toBe(traitsOf(ALL));
    expect(readBlock(Buffer.from(block))).toEqual(ALL);
  });

  it('where they lie in a larger chunk', () => {
    const chunk = Buffer.concat([bytes('ffff'), encode(ALL), bytes('ffff')]);
    expect(scanProperties(chunk, 2, chunk.length - 2)).toBe(traitsOf(ALL));
  });

  it('cuts and wraps what does not fit', () => {
    const decoded = decode(
      encode({ contentType: 'x'.repeat(300), priority: 257, timestamp: -5, messageId: 'é'.repeat(200) }),
    );
    expect(decoded).toEqual({ contentType: 'x'.repeat(255), priority: 1, timestamp: 0, messageId: 'é'.repeat(127) });
  });

  it('texts that are not UTF-8 pass the scan and decode with replacement characters', () => {
    const block = bytes('0400 02 ff41');
    expect(scan(block)).toBe(0);
    expect(decode(block)).toEqual({ correlationId: '\ufffdA' });
  });
});

describe('malformed blocks', () => {
  it.each([
    ['no flags', '00'],
    ['a continued flag word', '0001 0000'],
    ['the unused flag', '0002'],
    ['octets after the last property', '0000 00'],
    ['a flag without its text', '8000'],
    ['a text that is cut off', '8000 0561'],
    ['a text cut off before others', 'c000 ff61'],
    ['no octet', '1000'],
    ['a timestamp that is cut off', '0040 00000000000000'],
    ['a table that is cut off', '2000 00000004 016174'],
    ['a malformed table', '2000 00000003 016151'],
    ['a table size that is cut off', '2000 0000'],
  ])('%s', (_name, octets) => {
    // What follows in the chunk must not make it look complete.
    const chunk = Buffer.concat([bytes(octets), Buffer.alloc(64)]);
    expect(() => scanProperties(chunk, 0, bytes(octets).length)).toThrow(ProtocolError);
    expect(() => scan(bytes(octets))).toThrow(expect.objectContaining({ code: 502 }));
  });
});

describe('rewriting', () => {
  const written: WrittenProperties = {
    contentType: 'x',
    headers: { byte: typed('b', 5), keep: typed('u', 7), CC: ['a'], last: typed('f', 0.5) },
    replyTo: 'me',
    expiration: '10',
    timestamp: 7,
  };
  const block = writeBlock(written);

  it('leaves every untouched octet alone', () => {
    expect(hex(rewrite(block, {}))).toBe(hex(block));
    expect(hex(rewrite(block, { headers: {} }))).toBe(hex(block));
  });

  it('replaces, removes and adds headers; the others keep their types', () => {
    const changed = rewrite(block, { headers: { CC: undefined, byte: 'new', added: [1n] } });
    const headers = { byte: 'new', keep: typed('u', 7), last: typed('f', 0.5), added: [1n] };
    expect(hex(changed)).toBe(hex(writeBlock({ ...written, headers })));
  });

  it('adds headers where there were none, and makes none of nothing', () => {
    const plain = writeBlock({ contentType: 'x', replyTo: 'me' });
    expect(readBlock(Buffer.from(rewrite(plain, { headers: { a: 1 } })))).toEqual({
      contentType: 'x',
      headers: { a: 1 },
      replyTo: 'me',
    });
    expect(hex(rewrite(plain, { headers: { a: undefined } }))).toBe(hex(plain));
  });

  it('sets and removes expiration and reply-to', () => {
    const changed = readBlock(Buffer.from(rewrite(block, { expiration: undefined, replyTo: 'you' })));
    expect(changed).toEqual({ ...readBlock(block), expiration: undefined, replyTo: 'you' });
    const added = readBlock(Buffer.from(rewrite(writeBlock({ type: 't' }), { expiration: '5', replyTo: 'you' })));
    expect(added).toEqual({ type: 't', expiration: '5', replyTo: 'you' });
  });
});

const text = fc.string({ maxLength: 30, unit: 'grapheme' });
const header: fc.Arbitrary<FieldValue> = fc.oneof(fc.integer(), fc.string(), fc.boolean(), fc.constant(null));
const headerName = fc.oneof(fc.constantFrom('CC', 'BCC', 'x-delay', 'x-deliver-at'), text);
const properties: fc.Arbitrary<MessageProperties> = fc.record(
  {
    contentType: text,
    contentEncoding: text,
    headers: fc.dictionary(headerName, header, { maxKeys: 5 }),
    deliveryMode: fc.constantFrom(1, 2),
    priority: fc.nat(255),
    correlationId: text,
    replyTo: text,
    expiration: text,
    messageId: text,
    timestamp: fc.nat(2 ** 40),
    type: text,
    userId: text,
    appId: text,
    clusterId: text,
  },
  { requiredKeys: [] },
);

describe('any properties', () => {
  it('come back from their octets, with the traits that they have', () => {
    fc.assert(
      fc.property(properties, (original) => {
        const block = encode(original);
        expect(decode(block)).toEqual(original);
        expect(scan(block)).toBe(traitsOf(original));
      }),
      runs(100),
    );
  });

  it('rewritten as octets are what they are rewritten as an object', () => {
    const change: fc.Arbitrary<PropertiesChange> = fc.record(
      {
        headers: fc.dictionary(headerName, fc.option(header, { nil: undefined }), { maxKeys: 4 }),
        expiration: fc.option(text, { nil: undefined }),
        replyTo: fc.option(text, { nil: undefined }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(properties, change, (original, changes) => {
        const rewritten = decode(rewrite(encode(original), changes));
        const expected = changeProperties(original, changes);
        // Headers that are there but empty say the same as none.
        const settled = (result: MessageProperties): MessageProperties => ({
          ...result,
          headers: result.headers ?? {},
        });
        expect(settled(rewritten)).toEqual(settled(expected));
      }),
      runs(100),
    );
  });

  it('mutated, decode if they pass the scan', () => {
    fc.assert(
      fc.property(properties, fc.nat(), fc.nat(255), (original, position, octet) => {
        const block = Uint8Array.from(encode(original));
        block[position % block.length] = octet;
        try {
          scan(block);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
          return;
        }
        expect(traitsOf(decode(block))).toBe(scan(block));
      }),
      runs(100),
    );
  });

  it('of garbage, nothing but a ProtocolError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (block) => {
        for (const read of [() => scan(block), () => decode(block), () => rewrite(block, { headers: { a: 1 } })]) {
          try {
            read();
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolError);
          }
        }
      }),
      runs(100),
    );
  });
});
