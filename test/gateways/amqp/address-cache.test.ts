import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ProtocolError } from '../../../broker/encoding/protocol-error.ts';
import { ADDRESS_BYTES_MAX, AddressCache } from '../../../gateways/amqp/address-cache.ts';
import { Writer } from '../../support/amqp-wire.ts';
import { runs } from '../../support/runs.ts';

const octetsOf = (exchange: string, routingKey: string): Buffer =>
  Buffer.concat([
    Buffer.from('...'),
    new Writer().shortString(exchange).shortString(routingKey).octets(),
    Buffer.from('.'),
  ]);

function lookup(cache: AddressCache, exchange: string, routingKey: string): { exchange: string; routingKey: string } {
  const octets = octetsOf(exchange, routingKey);
  const { exchange: e, routingKey: k } = cache.lookup(octets, 3, octets.length - 1);
  return { exchange: e, routingKey: k };
}

const text = fc.string({ maxLength: 40, unit: 'grapheme' });

it('answers what the octets say, however many different ones there are', () => {
  const cache = new AddressCache();
  fc.assert(
    fc.property(text, text, (exchange, routingKey) => {
      expect(lookup(cache, exchange, routingKey)).toEqual({ exchange, routingKey });
    }),
    runs(1000),
  );
});

it('answers the same object for the same octets, from another chunk too, also after others came between', () => {
  const cache = new AddressCache();
  const octets = octetsOf('amq.topic', 'a.b');
  const first = cache.lookup(octets, 3, octets.length - 1);
  expect(cache.lookup(octetsOf('amq.topic', 'a.b'), 3, octets.length - 1)).toBe(first);
  lookup(cache, 'amq.topic', 'a.c');
  expect(cache.lookup(octetsOf('amq.topic', 'a.b'), 3, octets.length - 1)).toBe(first);
});

it('keeps nothing of the chunk it read from', () => {
  const cache = new AddressCache();
  const octets = octetsOf('x', 'key');
  cache.lookup(octets, 3, octets.length - 1);
  octets.fill(0);
  expect(lookup(cache, 'x', 'key')).toEqual({ exchange: 'x', routingKey: 'key' });
});

it('tells apart what differs only in where the exchange ends', () => {
  const cache = new AddressCache();
  expect(lookup(cache, 'ab', 'c')).toEqual({ exchange: 'ab', routingKey: 'c' });
  expect(lookup(cache, 'a', 'bc')).toEqual({ exchange: 'a', routingKey: 'bc' });
});

it('takes addresses too long to remember', () => {
  const cache = new AddressCache();
  const long = 'k'.repeat(ADDRESS_BYTES_MAX);
  expect(lookup(cache, 'x', long)).toEqual({ exchange: 'x', routingKey: long });
  expect(lookup(cache, '€'.repeat(85), long)).toEqual({ exchange: '€'.repeat(85), routingKey: long });
});

it('refuses names that are not UTF-8, every time', () => {
  const cache = new AddressCache();
  const octets = Buffer.from([1, 0x61, 2, 0x61, 0xff]);
  for (const _round of [1, 2]) expect(() => cache.lookup(octets, 0, octets.length)).toThrow(ProtocolError);
});
