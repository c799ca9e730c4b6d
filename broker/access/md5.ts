/**
 * MD5, for one purpose: users whose passwords RabbitMQ hashed before 3.6 can still log in after their definitions are
 * imported. Nothing new is hashed with it. The Web Crypto API, all that `broker/` may use, leaves it out. [RFC 1321]
 */

/** Octets of a block. */
const BLOCK_BYTES = 64;
/** Left rotations of the four rounds, four steps each in turn. */
const ROTATIONS = [
  [7, 12, 17, 22],
  [5, 9, 14, 20],
  [4, 11, 16, 23],
  [6, 10, 15, 21],
];
/** Of each round: word of the block at step `i` is `factor * i + offset`, modulo 16. */
const WORD_ORDER = [
  [1, 0],
  [5, 1],
  [3, 5],
  [7, 0],
];
const SINES = Array.from({ length: 64 }, (_, step) => Math.floor(Math.abs(Math.sin(step + 1)) * 2 ** 32));

/** The 16 octets of the digest of `data`. */
export function md5(data: Uint8Array): Uint8Array {
  const padded = pad(data);
  const words = new DataView(padded.buffer);
  const state = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
  for (let block = 0; block < padded.length; block += BLOCK_BYTES) addBlock(state, words, block);
  const digest = new DataView(new ArrayBuffer(16));
  for (const [index, word] of state.entries()) digest.setUint32(index * 4, word, true);
  return new Uint8Array(digest.buffer);
}

/** `data`, a one bit, zeros, and its length in bits: whole blocks. */
function pad(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const blocks = Math.ceil((data.length + 9) / BLOCK_BYTES);
  const padded = new Uint8Array(blocks * BLOCK_BYTES);
  padded.set(data);
  padded[data.length] = 0x80;
  new DataView(padded.buffer).setBigUint64(padded.length - 8, BigInt(data.length) * 8n, true);
  return padded;
}

function addBlock(state: number[], words: DataView, block: number): void {
  let [a = 0, b = 0, c = 0, d = 0] = state;
  const before = [a, b, c, d];
  for (let step = 0; step < 64; step += 1) {
    const round = step >> 4;
    const [factor = 1, offset = 0] = WORD_ORDER[round] ?? [];
    const word = words.getUint32(block + ((factor * step + offset) % 16) * 4, true);
    const sum = (a + mix(round, b, c, d) + word + (SINES[step] ?? 0)) | 0;
    const rotation = ROTATIONS[round]?.[step % 4] ?? 0;
    [a, b, c, d] = [d, (b + ((sum << rotation) | (sum >>> (32 - rotation)))) | 0, b, c];
  }
  for (const [index, word] of [a, b, c, d].entries()) state[index] = ((before[index] ?? 0) + word) | 0;
}

/** The functions F, G, H and I of RFC 1321. */
function mix(round: number, b: number, c: number, d: number): number {
  if (round === 0) return (b & c) | (~b & d);
  if (round === 1) return (b & d) | (c & ~d);
  return round === 2 ? b ^ c ^ d : c ^ (b | ~d);
}
