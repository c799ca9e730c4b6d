import { describe, expect, it } from 'vitest';
import { AddressRanges, isLoopback, normaliseAddress } from '../../../gateways/addresses.ts';
import { hostPort } from '../../../gateways/gateway.ts';

describe('addresses', () => {
  it.each([
    ['127.0.0.1', '127.0.0.1'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::FFFF:10.1.2.3', '10.1.2.3'],
    ['2001:0db8:0000:0000:0000:0000:0000:0001', '2001:db8::1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['not an address', 'not an address'],
    ['', ''],
  ])('shows %s as %s', (address, normal) => {
    expect(normaliseAddress(address)).toBe(normal);
  });

  it.each(['127.0.0.1', '127.255.3.4', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1'])(
    '%s is this machine',
    (address) => {
      expect(isLoopback(address)).toBe(true);
    },
  );

  it.each(['128.0.0.1', '10.0.0.1', '::2', '::ffff:10.0.0.1', '', '127.evil.example'])('%s is not', (address) => {
    expect(isLoopback(address)).toBe(false);
  });

  it('knows what lies in a list of ranges', () => {
    const ranges = new AddressRanges(['10.0.0.0/8', '2001:db8::/32', '192.0.2.7']);
    for (const inside of ['10.255.0.1', '::ffff:10.0.0.1', '2001:db8:1::1', '192.0.2.7']) {
      expect(ranges.includes(inside), inside).toBe(true);
    }
    for (const outside of ['11.0.0.1', '2001:db9::1', '192.0.2.8', '', 'localhost']) {
      expect(ranges.includes(outside), outside).toBe(false);
    }
    expect(new AddressRanges([]).includes('127.0.0.1')).toBe(false);
    expect(new AddressRanges(['0.0.0.0/0']).includes('203.0.113.9')).toBe(true);
  });

  it.each(['10.0.0.0/33', 'fe80::/129', 'example.com', '10.0.0', '10.0.0.0/', ''])(
    'names the range "%s" as none',
    (range) => {
      expect(() => new AddressRanges([range])).toThrow(`"${range}" is no address range`);
    },
  );

  it('puts an IPv6 address into brackets before a port', () => {
    expect(hostPort('127.0.0.1', 5672)).toBe('127.0.0.1:5672');
    expect(hostPort('::1', 5672)).toBe('[::1]:5672');
  });
});
