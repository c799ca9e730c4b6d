import { connect, createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CHUNK_BYTES,
  CHUNK_FILLED_BYTES_MIN,
  Chunk,
  ChunkReader,
  type ChunkSink,
  readingBy,
} from '../../../gateways/chunk.ts';
import { REFERENCED_BYTES_MIN } from '../../../gateways/outbox.ts';
import { eventually } from '../../support/eventually.ts';
import { runs } from '../../support/runs.ts';

/** A reader, with what a socket does to it. */
function readerInto(sink: ChunkSink) {
  const reader = new ChunkReader();
  reader.sink = sink;
  return (bytes: number, fill = 0x61): Buffer => {
    const octets = reader.buffer();
    octets.fill(fill, 0, bytes);
    reader.onRead(bytes);
    return octets;
  };
}

describe('a reader', () => {
  it('reads into the same chunk as long as nothing in it is in use', () => {
    const read = readerInto(() => {});
    read(CHUNK_BYTES);
    const second = read(CHUNK_BYTES);
    expect(read(CHUNK_BYTES)).toBe(second);
  });

  it('reads into another one while a message lies in it, and comes back to it later', () => {
    const lent: (() => void)[] = [];
    let lends = true;
    const read = readerInto((chunk) => {
      const lender = lends ? chunk.lend(10) : undefined;
      if (lender !== undefined) lent.push(() => lender.giveBack());
    });
    read(CHUNK_BYTES);
    lends = false;
    const used = lent.length;
    const other = read(CHUNK_BYTES);
    expect(read(CHUNK_BYTES)).toBe(other);
    for (const giveBack of lent) giveBack();
    expect(used).toBe(1);
    // The one that came back last is taken first, by whoever asks first: another reader.
    const landed: Buffer[] = [];
    const another = readerInto((chunk) => landed.push(chunk.octets));
    another(CHUNK_BYTES);
    expect(landed[0]).not.toBe(other);
  });

  it('never reads again into a chunk in which something is kept', () => {
    const kept = new Set<Buffer>();
    const read = readerInto((chunk) => {
      expect(kept.has(chunk.octets)).toBe(false);
      kept.add(chunk.octets);
      chunk.keep();
    });
    for (let count = 0; count < 20; count += 1) read(CHUNK_BYTES);
    expect(kept.size).toBe(20);
  });

  it('copies few octets into a buffer of their size, which is nobody else`s', () => {
    const landed: Chunk[] = [];
    const read = readerInto((chunk) => void landed.push(chunk));
    read(CHUNK_FILLED_BYTES_MIN - 1, 0x61);
    read(3, 0x62);
    expect(landed.map(({ octets }) => octets.length)).toEqual([CHUNK_FILLED_BYTES_MIN - 1, 3]);
    expect(landed[0]?.octets.every((octet) => octet === 0x61)).toBe(true);
    expect(landed[0]?.lend(10)).toBeUndefined();
  });

  it('lends no message that an outbox would reference', () => {
    const lenders: unknown[] = [];
    const read = readerInto((chunk) => {
      lenders.push(chunk.lend(REFERENCED_BYTES_MIN), chunk.lend(REFERENCED_BYTES_MIN - 1));
    });
    read(CHUNK_FILLED_BYTES_MIN);
    expect(lenders[0]).toBeUndefined();
    expect(lenders[1]).toBeInstanceOf(Chunk);
  });

  it('leaves every message as it is until that has been given back, whatever order they go in', () => {
    const step = fc.record({
      bytes: fc.integer({ min: 1, max: CHUNK_BYTES }),
      lends: fc.integer({ min: 0, max: 4 }),
      back: fc.array(fc.nat(50), { maxLength: 6 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const held: { octets: Buffer; fill: number; giveBack: () => void }[] = [];
        let number = 0;
        let lends = 0;
        const read = readerInto((chunk, start, end) => {
          for (let count = 0; count < lends; count += 1) {
            const lender = chunk.lend(end - start > 100 ? 100 : 1);
            const octets = chunk.octets.subarray(start, end);
            held.push({ octets, fill: number, giveBack: () => lender?.giveBack() });
          }
        });
        for (const { bytes, lends: count, back } of steps) {
          number = (number + 1) % 256;
          lends = count;
          read(bytes, number);
          for (const index of back) for (const { giveBack } of held.splice(index, 1)) giveBack();
          for (const { octets, fill } of held) expect(octets[0] === fill && octets.at(-1) === fill).toBe(true);
        }
        for (const { giveBack } of held) giveBack();
      }),
      runs(200),
    );
  });
});

describe('a connection that changes hands', () => {
  it('goes on with a socket that reads, pauses, resumes, ends and is known by the same addresses', async () => {
    const reader = new ChunkReader();
    let text = '';
    let ended = false;
    reader.sink = ({ octets }, start, end) => {
      text += octets.toString('latin1', start, end);
    };
    let socket: Socket | undefined;
    const server = createServer((accepted) => {
      const { remotePort } = accepted;
      socket = readingBy(reader, accepted);
      expect(socket?.remotePort).toBe(remotePort);
      socket?.on('end', () => {
        ended = true;
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const peer = connect(typeof address === 'object' && address !== null ? address.port : 0, '127.0.0.1');
    peer.write('one ');
    await eventually(() => expect(text).toBe('one '));
    socket?.pause();
    peer.write('two ');
    let answer = '';
    peer.on('data', (octets: Buffer) => {
      answer += octets.toString();
    });
    socket?.write('answer');
    await eventually(() => expect(answer).toBe('answer'));
    expect(text).toBe('one ');
    socket?.resume();
    await eventually(() => expect(text).toBe('one two '));
    peer.end('three');
    await eventually(() => expect([text, ended]).toEqual(['one two three', true]));
    await new Promise((resolve) => server.close(resolve));
  });
});
