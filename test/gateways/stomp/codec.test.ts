/** The codec by itself: heads, escapes, destinations, the property block; tables, cuts, properties and garbage. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { Decimal, type FieldTable, type FieldValue } from '../../../broker/fields.ts';
import type { MessageProperties, PropertiesChange } from '../../../broker/message.ts';
import { changeProperties } from '../../../broker/message.ts';
import { destinationOf, escapeName, parseDestination } from '../../../gateways/stomp/destinations.ts';
import { checkEscape, escapeText, unescapeOctets, type Version } from '../../../gateways/stomp/escapes.ts';
import { commandName, FrameHead } from '../../../gateways/stomp/frame-head.ts';
import { describeFrame } from '../../../gateways/stomp/frame-text.ts';
import { headerId, headerName, identify } from '../../../gateways/stomp/header-names.ts';
import { putDecimal, readDecimal } from '../../../gateways/stomp/octets.ts';
import { STOMP_PROPERTIES } from '../../../gateways/stomp/properties.ts';
import { ProtocolError } from '../../../gateways/stomp/protocol-error.ts';
import { readMessage } from '../../../gateways/stomp/sends.ts';
import { runs } from '../../support/runs.ts';

function read(text: string, version: Version = 12): FrameHead {
  const octets = Buffer.from(text);
  const head = new FrameHead();
  expect(head.read(octets, 0, octets.length, version)).toBe(true);
  return head;
}

function faultOf(attempt: () => unknown): ProtocolError {
  try {
    attempt();
  } catch (error) {
    if (error instanceof ProtocolError) return error;
    throw error;
  }
  throw new Error('nothing was wrong');
}

const text = fc.string({ unit: 'grapheme', maxLength: 20 });

describe('a head', () => {
  it('gives command, headers and where the body begins', () => {
    const head = read('SEND\ndestination:/queue/a\nfoo:bar\\cbaz\nfoo:second\n\nbody');
    expect(commandName(head.command)).toBe('SEND');
    expect([...head.table()]).toEqual([
      ['destination', '/queue/a'],
      ['foo', 'bar:baz'],
    ]);
    expect(head.text(headerId('destination'))).toBe('/queue/a');
    expect(head.text(headerId('receipt'))).toBeUndefined();
    expect(head.bodyStart).toBe(Buffer.from('SEND\ndestination:/queue/a\nfoo:bar\\cbaz\nfoo:second\n\n').length);
  });

  it('is the same with carriage returns', () => {
    const head = read('SEND\r\ndestination:/queue/a\r\nfoo:bar\r\n\r\nbody');
    expect([...head.table()]).toEqual([
      ['destination', '/queue/a'],
      ['foo', 'bar'],
    ]);
  });

  it.each(['SEND\ndestination:/queue/a\nfoo:b\\cr\r\nlonger-name:with a value\n\n', 'ACK\nid:1\n\n', 'BEGIN\n\n'])(
    'that ends at any position is incomplete, and never an error: %j',
    (frame) => {
      const octets = Buffer.from(frame);
      for (let end = 0; end < octets.length; end += 1) expect(new FrameHead().read(octets, 0, end, 12)).toBe(false);
      expect(new FrameHead().read(octets, 0, octets.length, 12)).toBe(true);
    },
  );

  it('is read where it lies', () => {
    const octets = Buffer.from('xxxACK\nid:7\n\n\0yyy');
    const head = new FrameHead();
    expect(head.read(octets, 3, octets.length, 12)).toBe(true);
    expect(head.text(headerId('id'))).toBe('7');
  });

  it('of the frame before is forgotten', () => {
    const head = new FrameHead();
    for (const [frame, receipt] of [
      ['ACK\nreceipt:1\n\n', '1'],
      ['ACK\nid:2\n\n', undefined],
    ] as const) {
      const octets = Buffer.from(frame);
      head.read(octets, 0, octets.length, 12);
      expect(head.text(headerId('receipt'))).toBe(receipt);
    }
  });

  it.each([
    ['SEND\nno colon\n\n', 'bad-header', 5],
    ['SEND\n:x\n\n', 'bad-header', 5],
    ['SEND\na:b\0\n\n', 'bad-header', 8],
    ['SEND\na:\\t\n\n', 'bad-escape', 7],
    ['NO\n\n', 'unknown-command', 0],
  ])('%j is %s at octet %i', (frame, code, offset) => {
    const octets = Buffer.from(frame);
    const fault = faultOf(() => new FrameHead().read(octets, 0, octets.length, 12));
    expect([fault.code, fault.offset]).toEqual([code, offset]);
  });

  test('garbage throws nothing but ProtocolError, and ends', () => {
    const alphabet = fc.constantFrom(
      'SEND\n',
      'ACK\n',
      'a',
      ':',
      '\\',
      '\\n',
      '\n',
      '\r',
      '\0',
      'ü',
      '\r\n',
      'destination:',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(alphabet, { maxLength: 30 }), fc.constantFrom<Version>(0, 10, 11, 12), (parts, version) => {
        const octets = Buffer.from(parts.join(''));
        try {
          new FrameHead().read(octets, 0, octets.length, version);
        } catch (error) {
          expect(error).toBeInstanceOf(ProtocolError);
        }
      }),
      runs(2000),
    );
  });

  test('what is escaped comes back', () => {
    fc.assert(
      fc.property(
        text.filter((name) => name !== '' && !name.includes('\0')),
        text,
        (name, value) => {
          const head = read(`SEND\n${escapeText(name)}:${escapeText(value.replaceAll('\0', ''))}\n\n`);
          expect([...head.table()]).toEqual([[name, value.replaceAll('\0', '')]]);
        },
      ),
      runs(500),
    );
  });
});

test('a lone backslash is no escape, and 1.0 has none', () => {
  expect(faultOf(() => checkEscape(Buffer.from('\\'), 0, 12)).code).toBe('bad-escape');
  const octets = Buffer.from('a\\nb');
  expect([unescapeOctets(octets, 0, 4, 10), unescapeOctets(octets, 0, 4, 12)]).toEqual(['a\\nb', 'a\nb']);
});

test('every known name is known by its number, and no other is', () => {
  for (let id = 1; headerName(id) !== undefined; id += 1) {
    const octets = Buffer.from(headerName(id) ?? '');
    expect(identify(octets, 0, octets.length)).toBe(id);
    octets[0] = (octets[0] ?? 0) ^ 1;
    expect(identify(octets, 0, octets.length)).toBe(0);
  }
});

test('decimals', () => {
  const octets = Buffer.alloc(20);
  fc.assert(
    fc.property(fc.maxSafeNat(), (value) => {
      const end = putDecimal(octets, 2, value);
      expect(octets.toString('latin1', 2, end)).toBe(String(value));
      expect(readDecimal(octets, 2, end)).toBe(value);
    }),
    runs(500),
  );
  for (const wrong of ['', '-1', '1x', ' 1', '99999999999999999']) {
    expect(readDecimal(Buffer.from(wrong), 0, wrong.length)).toBe(-1);
  }
});

test('the trace shows a frame in a line, and no passcode', () => {
  const head = read('CONNECT\nlogin:guest\npasscode:secret\n\n');
  expect(describeFrame(head, 0)).toBe('CONNECT login="guest" passcode=***');
});

describe('destinations', () => {
  it.each([
    ['/queue/a', { kind: 'queue', name: 'a' }],
    ['a', { kind: 'queue', name: 'a' }],
    ['/queue/a%2Fb', { kind: 'queue', name: 'a/b' }],
    ['/queue/50%', { kind: 'queue', name: '50%' }],
    ['/queue/%zz', { kind: 'queue', name: '%zz' }],
    ['/amq/queue/a', { kind: 'amq-queue', name: 'a' }],
    ['/topic/a.#', { kind: 'topic', name: 'a.#' }],
    ['/exchange/x', { kind: 'exchange', name: 'x' }],
    ['/exchange/x/', { kind: 'exchange', name: 'x', key: '' }],
    ['/exchange/x/k', { kind: 'exchange', name: 'x', key: 'k' }],
    ['/temp-queue/a', { kind: 'temp-queue', name: 'a' }],
    ['/reply-queue/a/b%2F', { kind: 'reply-queue', name: 'a/b%2F' }],
    ['/warren/declare', { kind: 'warren', name: 'declare' }],
  ])('%s', (written, destination) => expect(parseDestination(written)).toEqual(destination));

  it.each([
    '',
    '/',
    '/queue',
    '/queue/',
    '/queue/a/b',
    '/exchange/',
    '/exchange//k',
    '/exchange/a/b/c',
    '/other/x',
    '/queue/%FF',
  ])('“%s” is none', (written) => expect(parseDestination(written)).toBeUndefined());

  test('names come back from their escaped form, which is printable ASCII', () => {
    fc.assert(
      fc.property(
        text.filter((name) => name !== ''),
        (name) => {
          expect(escapeName(name)).toMatch(/^[ -.0-\x7f]*$/);
          expect(parseDestination(`/queue/${escapeName(name)}`)).toEqual({ kind: 'queue', name });
        },
      ),
      runs(500),
    );
  });

  it.each([
    ['', 'a/b', '/queue/a%2Fb'],
    ['amq.topic', 'a.b', '/topic/a.b'],
    ['x', '', '/exchange/x/'],
    ['x', '%', '/exchange/x/%25'],
  ])('exchange “%s” with key “%s” is %s', (exchange, key, destination) => {
    expect(destinationOf(exchange, key, 'amq.topic')).toBe(destination);
  });
});

describe('the property block', () => {
  const { decode, encode, rewrite } = STOMP_PROPERTIES;

  const scalar = fc.oneof(
    text,
    fc.boolean(),
    fc.integer(),
    fc.double({ noNaN: true }),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    fc.constant(null),
    fc.uint8Array({ maxLength: 10 }).map((octets) => new Uint8Array(octets)),
    fc.integer({ min: 0, max: 2 ** 31 }).map((seconds) => new Date(seconds * 1000)),
    fc.tuple(fc.nat(255), fc.integer()).map(([scale, unscaled]) => new Decimal(scale, unscaled)),
  );
  const name = fc.oneof(text, fc.constantFrom('persistent', 'destination', 'content-type', 'x-death', '__proto__', ''));
  function table(values: fc.Arbitrary<FieldValue>): fc.Arbitrary<FieldTable> {
    return fc
      .array(fc.tuple(name, values), { maxLength: 5 })
      .map((entries) => Object.assign(Object.create(null), Object.fromEntries(entries)));
  }
  const nested = fc.oneof(scalar, fc.array(scalar, { maxLength: 3 }), table(scalar));
  const headers = table(nested);
  const properties: fc.Arbitrary<MessageProperties> = fc.record(
    {
      contentType: text,
      contentEncoding: text,
      headers,
      deliveryMode: fc.nat(255),
      priority: fc.nat(255),
      correlationId: text,
      replyTo: fc.oneof(text, fc.constant('/reply-queue/q')),
      expiration: text,
      messageId: text,
      timestamp: fc.nat(),
      type: text,
      userId: text,
      appId: text,
      clusterId: text,
    },
    { requiredKeys: [] },
  );

  test('gives back what was put in, types and all', () => {
    fc.assert(
      fc.property(properties, (before) => {
        expect(decode(encode(before))).toEqual(before);
      }),
      runs(1000),
    );
  });

  test('rewritten means the same as changed', () => {
    const change: fc.Arbitrary<PropertiesChange> = fc.record(
      {
        headers: table(nested),
        expiration: fc.option(text, { nil: undefined }),
        replyTo: fc.option(text, { nil: undefined }),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(properties, change, (before, altered) => {
        const { headers: expected = {}, ...rest } = changeProperties(before, altered);
        const { headers: got = {}, ...others } = decode(rewrite(encode(before), altered));
        expect({ headers: { ...got }, ...others }).toEqual({ headers: { ...expected }, ...rest });
      }),
      runs(1000),
    );
  });

  test('of a SEND decodes to what the SEND said', () => {
    const frame = 'SEND\nreceipt:1\nfoo:b\\cr\ndestination:/queue/a\npersistent:true\npriority:3\nx-arg-y:1\n\nhi\0';
    const octets = Buffer.from(frame);
    const head = new FrameHead();
    head.read(octets, 0, octets.length, 12);
    const message = readMessage(head, octets.length - 1, { exchange: '', routingKey: 'a', isUnusual: false });
    expect(message.properties).toEqual({ deliveryMode: 2, priority: 3, headers: { foo: 'b:r' } });
    expect(Buffer.from(message.body).toString()).toBe('hi');
    expect(message.content).toBe(octets);
    expect(Buffer.from(message.encodedProperties(STOMP_PROPERTIES)).toString()).toBe(
      'foo:b\\cr\npersistent:true\npriority:3\n',
    );
  });

  test('made where it lies is the one that the general path makes', () => {
    const line = fc.constantFrom(
      'receipt:1',
      'a:b',
      'persistent:true',
      'persistent:no',
      'priority:7',
      'x\\cy:z',
      'a:c',
      'type:t',
      'x-max-length:5',
      'x-arg-z:1',
      'content-length:2',
      'user-id:guest',
      'x-delay:5',
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), fc.boolean(), (lines, isUnusual) => {
        const address = { exchange: '', routingKey: 'a', isUnusual };
        const made = ['destination:a', 'expires:0\ndestination:a'].map((first) => {
          const octets = Buffer.from(`SEND\n${first}\n${lines.map((one) => `${one}\n`).join('')}\nhi\0`);
          const head = new FrameHead();
          head.read(octets, 0, octets.length, 12);
          const { properties: found, traits, body } = readMessage(head, octets.length - 1, address);
          return { found, traits, body: Buffer.from(body).toString() };
        });
        expect(made[0]).toEqual(made[1]);
      }),
      runs(500),
    );
  });
});
