/** PROXY protocol version 2 headers for tests, right and wrong ones alike. */

/** `parts` are the octets that follow the fixed sixteen; their length is written as it is. */
export function proxyV2(versionAndCommand: number, familyAndTransport: number, ...parts: readonly Buffer[]): Buffer {
  const rest = Buffer.concat(parts);
  const fixed = Buffer.from('0d0a0d0a000d0a515549540a00000000', 'hex');
  fixed.writeUInt8(versionAndCommand, 12);
  fixed.writeUInt8(familyAndTransport, 13);
  fixed.writeUInt16BE(rest.length, 14);
  return Buffer.concat([fixed, rest]);
}
