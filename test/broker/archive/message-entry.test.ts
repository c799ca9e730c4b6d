import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ArchivedMessage,
  decodeEntry,
  EntryError,
  encodeEntry,
  hasMore,
  type JsonObject,
} from '../../../broker/archive/message-entry.ts';
import { AMQP_PROPERTIES, scanProperties } from '../../../broker/encoding/properties.ts';
import { Decimal } from '../../../broker/fields.ts';
import { createMessage, Message, type MessageProperties } from '../../../broker/message.ts';

const QUEUE = { vhost: '/', kind: 'queue', name: 'q' } as const;

function archived(message: Message, more: Partial<ArchivedMessage> = {}): ArchivedMessage {
  return { keeper: QUEUE, message, returnCount: 0, expiresInMs: Number.POSITIVE_INFINITY, heldForMs: 0, ...more };
}

function withBlock(block: Uint8Array, body = ''): Message {
  const content = Buffer.concat([block, Buffer.from(body)]);
  const traits = scanProperties(block, 0, block.length);
  return new Message('', 'q', content, 0, block.length, block.length, content.length, AMQP_PROPERTIES, traits);
}

function parsed(lines: Iterable<string>): JsonObject[] {
  return [...lines].map((line) => JSON.parse(line));
}

function there(message: ArchivedMessage, bodyBytesPerLine?: number): { json: JsonObject[]; back: ArchivedMessage } {
  const json = parsed(encodeEntry(message, bodyBytesPerLine));
  return { json, back: decodeEntry(json) };
}

function block(message: Message): string {
  return Buffer.from(message.encodedProperties(AMQP_PROPERTIES)).toString('hex');
}

describe('a message of an archive', () => {
  const properties: MessageProperties = {
    contentType: 'text/plain',
    contentEncoding: 'gzip',
    headers: {
      text: 'grüße',
      number: -7,
      double: 0.5,
      long: 2n ** 62n,
      bytes: new Uint8Array([0, 255]),
      when: new Date(1_700_000_000_000),
      price: new Decimal(2, -314),
      list: [1, 'two', null, { three: 3n }],
      table: { nested: { deeper: true } },
      ['__proto__']: 'a name like any other',
    },
    deliveryMode: 2,
    priority: 5,
    correlationId: 'c',
    replyTo: 'r',
    expiration: '60000',
    messageId: 'm',
    timestamp: 1_700_000_000,
    type: 't',
    userId: 'guest',
    appId: 'a',
    clusterId: 'cl',
  };

  it('has its address, properties and body in words', () => {
    const message = createMessage({ exchange: 'e', routingKey: 'r.k', body: 'hello', properties: { deliveryMode: 2 } });
    expect(parsed(encodeEntry(archived(message)))).toEqual([
      {
        vhost: '/',
        queue: 'q',
        exchange: 'e',
        routing_key: 'r.k',
        properties: { delivery_mode: 2 },
        body: 'aGVsbG8=',
      },
    ]);
  });

  it('comes back with every property, and all types of headers', () => {
    const message = createMessage({ exchange: 'e', routingKey: 'k', body: 'b', properties });
    const { json, back } = there(archived(message));
    expect(json[0]).not.toHaveProperty('property_block');
    expect(json[0]?.properties).toMatchObject({
      content_type: 'text/plain',
      headers: {
        number: -7,
        long: { long: '4611686018427387904' },
        bytes: { binary: 'AP8=' },
        when: { timestamp: 1_700_000_000 },
        price: { decimal: [2, -314] },
        list: [1, 'two', null, { table: { three: { long: '3' } } }],
      },
    });
    expect(block(back.message)).toBe(block(message));
    expect(back.message).toMatchObject({ exchange: 'e', routingKey: 'k', traits: message.traits });
    expect(Buffer.from(back.message.body).toString()).toBe('b');
  });

  it('comes back with what its queue knew of it', () => {
    const message = createMessage({ body: '' });
    const known = { returnCount: 3, expiresInMs: 4000, heldForMs: 50 };
    expect(there(archived(message, known)).back).toMatchObject({ keeper: QUEUE, ...known });
    const keeper = { vhost: 'v', kind: 'exchange', name: 'later' } as const;
    const { json, back } = there(archived(message, { keeper, expiresInMs: 0 }));
    expect(json[0]).toMatchObject({ vhost: 'v', delaying_exchange: 'later', expires_in_ms: 0 });
    expect(back).toMatchObject({ keeper, expiresInMs: 0, returnCount: 0, heldForMs: 0 });
  });

  it.each([
    ['a narrow integer', '2000' + '00000004' + '0161' + '6205'],
    ['an unsigned one', '2000' + '00000007' + '0161' + '6900000005'],
    ['a float', '2000' + '00000007' + '0161' + '663f800000'],
    ['a whole double', '2000' + '0000000b' + '0161' + '643ff0000000000000'],
    ['no number', '2000' + '0000000b' + '0161' + '647ff8000000000000'],
    ['octets that are no UTF-8', '2000' + '00000008' + '0161' + '5300000001ff'],
    ['one name twice', '2000' + '00000008' + '0161' + '7401' + '0161' + '7400'],
    ['a time beyond all dates', '0040' + 'ffffffffffffffff'],
  ])('keeps, to the octet, what JSON cannot say: %s', (_name, hex) => {
    const octets = Buffer.from(hex, 'hex');
    const { json, back } = there(archived(withBlock(octets)));
    expect(json[0]).toHaveProperty('property_block', octets.toString('base64'));
    expect(block(back.message)).toBe(hex);
  });

  it('takes more than one line when its body is long', () => {
    const message = createMessage({ body: '0123456789', properties: { appId: 'a' } });
    const { json, back } = there(archived(message), 3);
    expect(json.map((line) => [line.body, hasMore(line)])).toEqual([
      ['MDEy', true],
      ['MzQ1', true],
      ['Njc4', true],
      ['OQ==', false],
    ]);
    expect(Buffer.from(back.message.body).toString()).toBe('0123456789');
    expect(there(archived(message), 10).json).toHaveLength(1);
  });

  it('comes back to the octet, whatever block and body', () => {
    const value = fc.oneof(
      fc.boolean(),
      fc.integer(),
      fc.double(),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.string({ unit: 'binary' }),
      fc.uint8Array({ maxLength: 9 }),
      fc.constant(null),
    );
    const headers = fc.dictionary(fc.string({ unit: 'binary', maxLength: 20 }), fc.oneof(value, fc.array(value)));
    fc.assert(
      fc.property(headers, fc.uint8Array({ maxLength: 40 }), fc.nat(1000), (table, body, priority) => {
        const encoded = AMQP_PROPERTIES.encode({ headers: table, priority: priority % 256 });
        const message = withBlock(encoded, Buffer.from(body).toString('latin1'));
        const { back } = there(archived(message), 7);
        expect(block(back.message)).toBe(Buffer.from(encoded).toString('hex'));
        expect(back.message.traits).toBe(message.traits);
        expect(Buffer.compare(back.message.body, message.body)).toBe(0);
      }),
    );
  });
});

describe('a line that is none', () => {
  const good = { vhost: '/', queue: 'q', exchange: '', routing_key: 'q', properties: {}, body: '' };
  const deep = JSON.parse(`${'{"table":{"a":'.repeat(70)}1${'}}'.repeat(70)}`);

  it.each([
    [{ vhost: undefined }, 'vhost should be a string'],
    [{ queue: 1 }, 'queue should be a string'],
    [{ delaying_exchange: 'x' }, 'queue and delaying_exchange are both there'],
    [{ exchange: 'é'.repeat(128) }, 'exchange is longer than 255 octets'],
    [{ routing_key: null }, 'routing_key should be a string'],
    [{ body: undefined }, 'body should be a string'],
    [{ body: 'aGVsbG8' }, 'body should be base64'],
    [{ body: 'aGVs*G8=' }, 'body should be base64'],
    [{ properties: [] }, 'properties should be an object'],
    [{ properties: { contentType: 'x' } }, 'properties.contentType: there is no such property'],
    [{ properties: { priority: 256 } }, 'properties.priority should be a whole number from 0 to 255'],
    [{ properties: { headers: { a: {} } } }, 'properties.headers.a should be an object with one key: long, '],
    [{ properties: { headers: { a: { int: 1 } } } }, 'properties.headers.a should be an object with one key'],
    [{ properties: { headers: { a: { long: 1 } } } }, 'properties.headers.a.long should be a string'],
    [{ properties: { headers: { a: { long: '9223372036854775808' } } } }, 'should be a 64-bit integer'],
    [{ properties: { headers: { a: [{ decimal: [2] }] } } }, 'properties.headers.a[0].decimal[1] should be'],
    [{ properties: { headers: { a: deep } } }, 'is nested deeper than 64'],
    [{ property_block: 'gAA=' }, 'property_block is no property block'],
    [{ return_count: -1 }, 'return_count should be a whole number'],
    [{ expires_in_ms: 'soon' }, 'expires_in_ms should be a whole number'],
    [{ held_for_ms: 0.5 }, 'held_for_ms should be a whole number'],
  ])('is refused by the name of the key: %j', (change, text) => {
    expect(decodeEntry([good]).keeper.name).toBe('q');
    const broken = { ...good, ...change };
    expect(() => decodeEntry([broken])).toThrow(EntryError);
    expect(() => decodeEntry([broken])).toThrow(text);
  });
});
