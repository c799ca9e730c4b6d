import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AMQP_PROPERTIES } from '../../../broker/encoding/properties.ts';
import { createMessage, Message } from '../../../broker/message.ts';
import { MessageCursor, MessageEncoder } from '../../../broker/storage/record/message-operations.ts';
import { LARGE_BYTES_MIN, RecordBuffer } from '../../../broker/storage/record/record-buffer.ts';
import { MalformedRecord } from '../../../broker/storage/record/record-cursor.ts';
import type { Custody } from '../../../broker/store.ts';

const text = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ minLength: 120, maxLength: 255 }),
  fc.string({ unit: 'grapheme', maxLength: 60 }),
);

const custody = fc.record({
  holder: fc.integer({ min: 1, max: 2 ** 40 }).map((id) => ({ id, deliveredThrough: 0, dirty: false })),
  position: fc.oneof(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })),
  priority: fc.nat({ max: 255 }),
  expiresAtMs: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 0, max: 2 ** 48 })),
  returnCount: fc.nat(),
  heldUntilMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2 ** 48 })),
  survives: fc.boolean(),
});

const stored = fc.record({
  exchange: text,
  routingKey: text,
  body: fc.oneof(
    fc.uint8Array({ maxLength: 100 }),
    fc.integer({ min: LARGE_BYTES_MIN - 2, max: LARGE_BYTES_MIN + 2 }).map((length) => new Uint8Array(length).fill(7)),
  ),
  isEncoded: fc.boolean(),
  gap: fc.nat({ max: 3 }),
  custodies: fc.array(custody, { minLength: 1, maxLength: 3 }),
});

const PROPERTIES = { deliveryMode: 2, messageId: 'm', headers: { a: 1 } };

function encode(all: readonly (typeof stored extends fc.Arbitrary<infer T> ? T : never)[]): Buffer {
  const out = new RecordBuffer();
  const encoder = new MessageEncoder(out);
  encoder.begin();
  for (const { exchange, routingKey, body, isEncoded, gap, custodies } of all) {
    if (gap > 0) encoder.gap(gap);
    let message = createMessage({ exchange, routingKey, body, properties: PROPERTIES });
    if (isEncoded) {
      // As a door has it: a window, with something between properties and body.
      const block = AMQP_PROPERTIES.encode(PROPERTIES);
      const content = Buffer.concat([Buffer.from('before'), block, Buffer.from('between'), body, Buffer.from('after')]);
      const start = 6 + block.length + 7;
      const end = start + body.length;
      message = new Message(
        exchange,
        routingKey,
        content,
        6,
        6 + block.length,
        start,
        end,
        AMQP_PROPERTIES,
        message.traits,
      );
    }
    encoder.message(message, custodies.length);
    for (const each of custodies) {
      const { survives, ...facts } = each;
      const custodyOf: Custody = { ...facts, record: undefined, slot: 0 };
      encoder.custody(custodyOf, survives, each.returnCount, each.heldUntilMs);
    }
    encoder.content(message);
  }
  return Buffer.concat(out.parts().map(({ octets, offset, length }) => octets.subarray(offset, offset + length)));
}

describe('operations of messages', () => {
  test('come back as they were written', () => {
    fc.assert(
      fc.property(fc.array(stored, { maxLength: 12 }), (all) => {
        const octets = encode(all);
        const cursor = new MessageCursor(octets, 0, octets.length, 1000);
        let slot = 1000;
        for (const { exchange, routingKey, body, gap, custodies } of all) {
          slot += gap;
          expect(cursor.nextMessage()).toBe(true);
          expect(cursor.custodyCount).toBe(custodies.length);
          for (const { holder, ...facts } of custodies) {
            expect(cursor.nextCustody()).toBe(true);
            const { position, priority, expiresAtMs, returnCount, heldUntilMs, survives } = cursor;
            expect({ position, priority, expiresAtMs, returnCount, heldUntilMs, survives }).toEqual(facts);
            expect(cursor.holder).toBe(holder.id);
            expect(cursor.slot).toBe(slot++);
          }
          expect(cursor.nextCustody()).toBe(false);
          const bodyStart = cursor.contentStart + cursor.propertyBytes;
          expect([cursor.exchange, cursor.routingKey]).toEqual(
            [exchange, routingKey].map((each) => Buffer.from(each).toString()),
          );
          expect(Buffer.compare(octets.subarray(bodyStart, bodyStart + cursor.bodyBytes), body)).toBe(0);
          const block = octets.subarray(cursor.contentStart, bodyStart);
          expect(AMQP_PROPERTIES.decode(block)).toEqual(PROPERTIES);
        }
        expect(cursor.nextMessage()).toBe(false);
        expect(cursor.slotEnd).toBe(slot);
      }),
      { numRuns: 150 },
    );
  });

  test('take few octets: 25 for a message of 16 in a row of such', () => {
    const one = createMessage({ routingKey: 'q', body: new Uint8Array(16), properties: { deliveryMode: 2 } });
    const out = new RecordBuffer();
    const encoder = new MessageEncoder(out);
    encoder.begin();
    for (let position = 1; position <= 1001; position++) {
      const holder = { id: 1, deliveredThrough: 0, dirty: false };
      const facts = {
        holder,
        position,
        priority: 0,
        expiresAtMs: Number.POSITIVE_INFINITY,
        returnCount: 0,
        heldUntilMs: 0,
      };
      encoder.message(one, 1);
      encoder.custody({ ...facts, record: undefined, slot: 0 }, true, 0, 0);
      encoder.content(one);
    }
    expect(out.length / 1001).toBeLessThan(25);
  });

  test('garbage never hangs, and throws nothing but MalformedRecord', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
        const cursor = new MessageCursor(Buffer.from(garbage), 0, garbage.length, 0);
        try {
          while (cursor.nextMessage()) {
            while (cursor.nextCustody()) expect(cursor.slot).toBeGreaterThanOrEqual(0);
            expect(cursor.exchange + cursor.routingKey).toBeTypeOf('string');
          }
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedRecord);
        }
      }),
      { numRuns: 500 },
    );
  });
});
