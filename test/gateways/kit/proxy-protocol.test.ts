import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeProxyHeader,
  type ProxiedAddress,
  ProxyProtocolError,
  V2_BYTES_MAX,
} from '../../../gateways/proxy-protocol.ts';
import { proxyV2 } from '../../support/proxy-header.ts';
import { runs } from '../../support/runs.ts';

const ipv4 = Buffer.from([192, 0, 2, 7, 10, 0, 0, 1, 0x9d, 0x14, 0x16, 0x28]);
const ipv6 = Buffer.concat([
  Buffer.from('20010db8000000000000000000000007', 'hex'),
  Buffer.from('20010db8000000000000000000000001', 'hex'),
  Buffer.from([0x9d, 0x14, 0x16, 0x28]),
]);
const from4: ProxiedAddress = {
  remoteAddress: '192.0.2.7',
  remotePort: 40212,
  localAddress: '10.0.0.1',
  localPort: 5672,
};
const from6: ProxiedAddress = { ...from4, remoteAddress: '2001:db8::7', localAddress: '2001:db8::1' };
const tlv = Buffer.from([0x05, 0, 3, 1, 2, 3]);

/** Every form of header that is taken, and what it says. */
const HEADERS: readonly [string, Buffer, ProxiedAddress | undefined][] = [
  ['v1 TCP4', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 40212 5672\r\n'), from4],
  ['v1 TCP6', Buffer.from('PROXY TCP6 2001:db8:0::7 2001:db8::1 40212 5672\r\n'), from6],
  ['v1 UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n'), undefined],
  ['v1 UNKNOWN with addresses', Buffer.from('PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n'), undefined],
  ['v2 TCP4', proxyV2(0x21, 0x11, ipv4), from4],
  ['v2 TCP4 with TLVs', proxyV2(0x21, 0x11, ipv4, tlv), from4],
  ['v2 TCP6', proxyV2(0x21, 0x21, ipv6), from6],
  ['v2 TCP6 with TLVs', proxyV2(0x21, 0x21, ipv6, tlv), from6],
  ['v2 UNSPEC', proxyV2(0x21, 0x00, Buffer.alloc(0)), undefined],
  ['v2 UNIX', proxyV2(0x21, 0x31, Buffer.alloc(216)), undefined],
  ['v2 LOCAL', proxyV2(0x20, 0x00, Buffer.alloc(0)), undefined],
  ['v2 LOCAL with addresses', proxyV2(0x20, 0x11, ipv4), undefined],
  ['v2 of the largest size', proxyV2(0x21, 0x11, ipv4, Buffer.alloc(V2_BYTES_MAX - 28)), from4],
];

describe('the PROXY protocol', () => {
  it.each(HEADERS)('%s: reads the whole header, and nothing after it', (_name, header, proxied) => {
    const result = decodeProxyHeader(Buffer.concat([header, Buffer.from('AMQP\0\0\t\x01')]));
    expect(result).toEqual({ byteLength: header.length, ...(proxied && { proxied }) });
  });

  it.each(HEADERS)('%s: asks for more wherever it is cut', (_name, header) => {
    for (let length = 0; length < header.length; length += 1) {
      expect(decodeProxyHeader(header.subarray(0, length)), `after ${length} octets`).toBeUndefined();
    }
  });

  it.each([
    ['no header at all', Buffer.from('AMQP\0\0\t\x01'), 0],
    ['the wrong case', Buffer.from('proxy TCP4 192.0.2.7 10.0.0.1 40212 5672\r\n'), 0],
    ['a v1 protocol that is none', Buffer.from('PROXY UDP4 192.0.2.7 10.0.0.1 40212 5672\r\n'), 6],
    ['a v1 address that is none', Buffer.from('PROXY TCP4 192.0.2.700 10.0.0.1 40212 5672\r\n'), 11],
    ['a v1 address of the other family', Buffer.from('PROXY TCP4 ::1 10.0.0.1 40212 5672\r\n'), 11],
    ['a v1 port beyond 65535', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 65536 5672\r\n'), 11],
    ['a v1 port with a leading zero', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 07 5672\r\n'), 11],
    ['too few v1 fields', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 7\r\n'), 11],
    ['too many v1 fields', Buffer.from('PROXY TCP4 192.0.2.7 10.0.0.1 7 7 7\r\n'), 11],
    ['two spaces', Buffer.from('PROXY TCP4  192.0.2.7 10.0.0.1 7 7\r\n'), 11],
    ['a v1 header of 108 octets', Buffer.from(`PROXY UNKNOWN ${'x'.repeat(92)}\r\n`), 107],
    ['a v1 header without end', Buffer.from(`PROXY UNKNOWN ${'x'.repeat(500)}`), 107],
    ['a v2 version that is none', proxyV2(0x11, 0x11, ipv4), 12],
    ['a v2 command that is none', proxyV2(0x22, 0x11, ipv4), 12],
    ['a v2 family that is none', proxyV2(0x21, 0x41, ipv4), 13],
    ['a v2 transport that is none', proxyV2(0x21, 0x13, ipv4), 13],
    ['v2 addresses cut short', proxyV2(0x21, 0x11, ipv4.subarray(0, 11)), 14],
    ['a v2 header over the limit', proxyV2(0x21, 0x11, ipv4, Buffer.alloc(V2_BYTES_MAX - 27)), 14],
  ])('refuses %s', (_name, bytes, offset) => {
    expect(() => decodeProxyHeader(bytes)).toThrow(expect.objectContaining({ name: 'ProxyProtocolError', offset }));
  });

  it('throws nothing but its own error, whatever the octets', () => {
    const start = fc.constantFrom(
      '',
      'PROXY TCP4 ',
      'PROXY TCP6 ::1 ',
      '\r\n\r\n\0\r\nQUIT\n',
      '\r\n\r\n\0\r\nQUIT\n!\x11',
    );
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 300 }), (prefix, rest) => {
        try {
          decodeProxyHeader(Buffer.concat([Buffer.from(prefix, 'latin1'), rest]));
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyProtocolError);
        }
      }),
      runs(100),
    );
  });
});
