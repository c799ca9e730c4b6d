import { Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  announce,
  OUTPUT_BUFFER_BYTES,
  Outbox,
  type OutboxEvents,
  type OutboxOptions,
  REFERENCED_BYTES_MIN,
} from '../../../gateways/outbox.ts';

function announceAll(octets: Uint8Array): void {
  announce(octets, new DataView(octets.buffer, octets.byteOffset, octets.byteLength));
}

/** The other end: what arrived, in how many writes; takes nothing while `blocked`. */
class Sink extends Writable {
  readonly chunks: Buffer[] = [];
  writes = 0;
  blocked = false;
  #waiting: (() => void) | undefined;

  constructor() {
    super({ highWaterMark: 2 ** 30 });
  }

  get octets(): Buffer {
    return Buffer.concat(this.chunks);
  }

  unblock(): void {
    this.blocked = false;
    const go = this.#waiting;
    this.#waiting = undefined;
    go?.();
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#take([chunk], done);
  }

  override _writev(parts: { chunk: Buffer }[], done: () => void): void {
    this.#take(
      parts.map((part) => part.chunk),
      done,
    );
  }

  #take(chunks: Buffer[], done: () => void): void {
    this.writes += 1;
    // A copy, as a kernel makes one: afterwards the buffer may be used again.
    for (const chunk of chunks) this.chunks.push(Buffer.from(chunk));
    if (this.blocked) this.#waiting = done;
    else done();
  }
}

class Recorder implements OutboxEvents {
  readonly events: string[] = [];
  held: (() => void) | undefined;

  beforeFlush(): void {
    this.held?.();
    this.held = undefined;
  }

  onFull(): void {
    this.events.push('full');
  }

  onStuck(): void {
    this.events.push('stuck');
  }

  onDrain(): void {
    this.events.push('drain');
  }
}

function open(options?: OutboxOptions): { sink: Sink; recorder: Recorder; outbox: Outbox } {
  const sink = new Sink();
  const recorder = new Recorder();
  return { sink, recorder, outbox: new Outbox(sink as never, recorder, options) };
}

const pattern = (length: number, first = 0): Buffer =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => (i + first) % 251));

describe('outbox', () => {
  it('sends what was written in one turn in one write, at its end', async () => {
    const { sink, outbox } = open();
    for (let i = 0; i < 100; i += 1) outbox.write(Buffer.from(`${i},`));
    expect(sink.writes).toBe(0);
    await turn();
    expect(sink.writes).toBe(1);
    expect(sink.octets.toString()).toBe(Array.from({ length: 100 }, (_, i) => `${i},`).join(''));
  });

  it('keeps the order of reserved, copied and referenced pieces of every size', async () => {
    const { sink, outbox } = open();
    const expected: Buffer[] = [];
    let seed = 7;
    for (let i = 0; i < 400; i += 1) {
      seed = (seed * 1103515245 + 12345) % 2 ** 31;
      const length =
        [0, 1, 5, 40, 48, 49, 300, 5000, REFERENCED_BYTES_MIN - 1, REFERENCED_BYTES_MIN, 100_000][seed % 11] ?? 0;
      const piece = pattern(length + 6, i).subarray(3, 3 + length);
      expected.push(piece);
      if (seed % 3 === 0 && length <= OUTPUT_BUFFER_BYTES) {
        const at = outbox.reserve(length);
        piece.copy(outbox.octets, at);
        outbox.end = at + length;
      } else {
        if (seed % 2 === 0) announceAll(piece);
        outbox.write(piece);
      }
      if (i % 50 === 49) await turn();
    }
    await turn();
    expect(sink.octets.equals(Buffer.concat(expected))).toBe(true);
  });

  it('writes a part of a larger array, word by word or not', async () => {
    const { sink, outbox } = open();
    const octets = pattern(200);
    for (const length of [1, 3, 4, 7, 47, 48, 49, 100]) {
      announceAll(octets);
      outbox.write(octets, 10, 10 + length);
      announceAll(new Uint8Array(1));
      outbox.write(octets, 10, 10 + length);
    }
    await turn();
    const expected = [1, 3, 4, 7, 47, 48, 49, 100].flatMap((length) => [
      octets.subarray(10, 10 + length),
      octets.subarray(10, 10 + length),
    ]);
    expect(sink.octets.equals(Buffer.concat(expected))).toBe(true);
  });

  it('sends a full buffer at once, and large pieces without copying them', async () => {
    const { sink, outbox } = open();
    for (let i = 0; i <= OUTPUT_BUFFER_BYTES / 4096; i += 1) outbox.write(pattern(4096));
    expect(sink.octets.length).toBe(OUTPUT_BUFFER_BYTES);
    const large = Buffer.alloc(REFERENCED_BYTES_MIN, 1);
    outbox.write(large);
    large.fill(2);
    await turn();
    expect(sink.octets.subarray(-large.length).every((octet) => octet === 2)).toBe(true);
  });

  it('asks for what was held back just before it flushes', async () => {
    const { sink, recorder, outbox } = open();
    recorder.held = () => outbox.write(Buffer.from('held'));
    outbox.requestFlush();
    await turn();
    expect(sink.octets.toString()).toBe('held');
  });

  it('holds no buffer when it has nothing to say', async () => {
    const { outbox } = open();
    outbox.write(Buffer.from('x'));
    expect(outbox.octets.length).toBe(OUTPUT_BUFFER_BYTES);
    await turn();
    expect(outbox.octets.length).toBe(0);
  });

  it('does not touch a buffer that the socket still has', async () => {
    const { sink, outbox } = open();
    sink.blocked = true;
    const expected: Buffer[] = [];
    for (let i = 0; i < 20; i += 1) {
      const piece = pattern(1000, i);
      expected.push(piece);
      outbox.write(piece);
      await turn();
      if (i % 5 === 4) {
        sink.unblock();
        sink.blocked = true;
      }
    }
    sink.unblock();
    await turn();
    expect(sink.octets.equals(Buffer.concat(expected))).toBe(true);
  });

  it('tells when it is full, when it is stuck, and once when both are over', async () => {
    const { sink, recorder, outbox } = open({ highWaterBytes: 10_000, stuckBytes: 50_000 });
    sink.blocked = true;
    for (let i = 0; i < 10; i += 1) {
      outbox.write(pattern(1500));
      outbox.flush();
    }
    expect(recorder.events).toEqual(['full']);
    expect(outbox.full).toBe(true);
    for (let i = 0; i < 30; i += 1) {
      outbox.write(pattern(1500));
      outbox.flush();
    }
    expect(recorder.events).toEqual(['full', 'stuck']);
    expect(outbox.pendingBytes).toBe(60_000);
    sink.unblock();
    await turn();
    await turn();
    expect(recorder.events).toEqual(['full', 'stuck', 'drain']);
    expect(outbox.full).toBe(false);
    expect(outbox.pendingBytes).toBe(0);
  });

  it('drains in another turn than the write that ended, so that the others have theirs', async () => {
    const { sink, recorder, outbox } = open({ highWaterBytes: 1000 });
    outbox.write(pattern(2000));
    outbox.flush();
    expect(recorder.events).toEqual(['full']);
    await Promise.resolve();
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect(recorder.events).toEqual(['full']);
    await turn();
    expect(recorder.events).toEqual(['full', 'drain']);
    expect(sink.octets.length).toBe(2000);
  });

  it('once closed, takes everything and sends nothing', async () => {
    const { sink, recorder, outbox } = open({ highWaterBytes: 1000 });
    outbox.write(Buffer.from('lost'));
    outbox.close();
    outbox.write(pattern(100));
    outbox.write(pattern(100_000));
    outbox.reserve(5000);
    outbox.end += 5000;
    await turn();
    await turn();
    expect(sink.octets.length).toBe(0);
    expect(recorder.events).toEqual([]);
    expect(outbox.octets.length).toBe(0);
  });
});
