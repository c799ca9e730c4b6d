/** The load generator counts rightly: its figures are worth nothing otherwise. */
import { describe, expect, test } from 'vitest';
import { ConfirmCounter } from '../../bench/generator/confirm-counter.ts';
import { ackFrames, METHOD, methodFrame, octet, publishFrames, shortString } from '../../bench/generator/frames.ts';
import { FrameScanner } from '../../bench/generator/scanner.ts';
import { COUNTER, MessageRing } from '../../bench/generator/source.ts';
import { SCENARIOS, selectScenarios } from '../../bench/scenarios/all.ts';

/** What a broker sends for one delivery: the method is not publish but deliver, header and body are the publisher's. */
function deliveryFrames(body: Buffer): Buffer {
  const published = publishFrames('', 'q', body);
  const content = published.subarray(published.readUInt32BE(3) + 8);
  const args = [shortString('c'), Buffer.alloc(8), octet(0), shortString(''), shortString('q')];
  return Buffer.concat([methodFrame(1, METHOD.basicDeliver, ...args), content]);
}

describe('scanner', () => {
  const stream = Buffer.concat([
    deliveryFrames(Buffer.from('first')),
    methodFrame(1, METHOD.queueDeclareOk, shortString('q'), Buffer.alloc(8)),
    deliveryFrames(Buffer.alloc(1000, 'x')),
    ackFrames(1, 3),
  ]);

  test('counts deliveries and confirms, and passes other methods on, however the stream is cut', () => {
    for (let cut = 0; cut <= stream.length; cut++) {
      const methods: string[] = [];
      const bodies: number[] = [];
      const scanner = new FrameScanner((method, payload) => methods.push(`${method} ${payload.length}`));
      scanner.onBody = (chunk, at) => bodies.push(chunk.readUInt8(at));
      for (const chunk of [stream.subarray(0, cut), stream.subarray(cut)]) scanner.scan(chunk, chunk.length);
      const counts = [scanner.tally.deliveries, scanner.confirms.confirmed, methods, bodies];
      expect(counts, `cut at ${cut}`).toEqual([2, 3, [`${METHOD.queueDeclareOk} 10`], [0x66, 0x78]]);
    }
  });

  test('counts the same when octets come one by one', () => {
    const scanner = new FrameScanner(() => {});
    for (const byte of stream) scanner.scan(Buffer.of(byte), 1);
    expect([scanner.tally.deliveries, scanner.confirms.confirmed]).toEqual([2, 3]);
  });

  test('refuses what is not a frame, and a refused publish', () => {
    const broken = Buffer.from(stream);
    broken[broken.readUInt32BE(3) + 7] = 0;
    expect(() => new FrameScanner(() => {}).scan(broken, broken.length)).toThrow('end octet');
    const nack = methodFrame(1, METHOD.basicNack, Buffer.alloc(8), octet(0));
    expect(() => new FrameScanner(() => {}).scan(nack, nack.length)).toThrow('refused');
  });
});

test('a confirm counts once, whatever the order and whether alone or with all before it', () => {
  const counter = new ConfirmCounter();
  const seen = [3, 1].map((sequence) => [sequence, false] as const);
  for (const [sequence, multiple] of [...seen, [3, false], [2, true], [2, true], [6, true], [4, false]] as const) {
    counter.settle(sequence, multiple);
  }
  expect(counter.confirmed).toBe(6);
});

describe('message ring', () => {
  test('hands out whole messages, as many as asked for at most, round and round', () => {
    const ring = new MessageRing(['a', 'b', 'c'].map((text) => Buffer.from(text.repeat(20_000))));
    expect(ring.batch).toBe(3);
    const taken = Array.from({ length: 4 }, () => ring.take(2).toString());
    expect(taken.map((text) => text.replaceAll(/(.)\1+/g, '$1'))).toEqual(['ab', 'c', 'ab', 'c']);
  });

  test('with fresh keys no message comes twice', () => {
    const templates = [`x${COUNTER}`, `${COUNTER}y`].map((text) => Buffer.from(text));
    const ring = new MessageRing(templates, { freshKeys: { slotsMin: 10_000 } });
    const keys = new Set<string>();
    for (let count = 0; count < 25_000; ) {
      const bytes = ring.take(7);
      for (let at = 0; at < bytes.length; at += ring.messageBytes, count++) {
        keys.add(bytes.toString('latin1', at, at + ring.messageBytes));
      }
      expect(keys.size).toBe(count);
    }
    expect(keys.has('x000000999')).toBe(true);
  });
});

test('scenarios are chosen by letter or id', () => {
  expect(selectScenarios(['d', 'a-16']).map(({ id }) => id)).toEqual(['a-16', 'd-repeating', 'd-new']);
  expect(new Set(SCENARIOS.map(({ id }) => id)).size).toBe(SCENARIOS.length);
  expect(() => selectScenarios(['z'])).toThrow("no scenario 'z'");
});
