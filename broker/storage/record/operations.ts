/**
 * What a payload is made of. First the operations on the state:
 *
 * ```
 * checkpoint  last holder, segments: (number, octets, slots) each      forgets all before; stands first
 * holders     last holder
 * define      kind, key: names, value             undefine    kind, key: names
 * settled     segment, runs: (slots between, slots in a row) each
 * slots       segment, settled slots (slot-table.ts)                   after a checkpoint
 * amended     segment, slot, returns, held until ms
 * delivered   holder, delivered through, returned through
 * ```
 *
 * then those of messages, which take the slots of the record in their order:
 *
 * ```
 * message     flags; exchange, routing key; traits; octets of properties; octets of body; custodies; properties, body
 *   custody   flags; holder; position; priority; expires at ms; returns; held until ms
 * gap         slots that nothing is in
 * ```
 *
 * What flags say to be as before, or absent, is left out. Texts, integers: record-buffer.ts.
 */
import type { DefinitionChange } from '../log/definition-table.ts';
import type { Amendment, Segment } from '../log/segment.ts';
import type { StoredHolder } from '../log/stored-holder.ts';
import type { RecordBuffer } from './record-buffer.ts';
import { MalformedRecord, type RecordCursor } from './record-cursor.ts';

/** First octet of an operation on the state. */
const Operation = {
  checkpoint: 1,
  holders: 2,
  define: 3,
  undefine: 4,
  settled: 5,
  slots: 6,
  amended: 7,
  delivered: 8,
} as const;

/** A segment as a checkpoint lists it. */
export interface ListedSegment {
  readonly id: number;
  readonly bytes: number;
  readonly slotCount: number;
}

/** What happens to the state, as `decodeState` reads it. Any of these may throw `MalformedRecord`. */
export interface StateSink {
  onCheckpoint(lastHolder: number, segments: readonly ListedSegment[]): void;
  onHolders(lastHolder: number): void;
  onDefinition(change: DefinitionChange): void;
  onSettled(segment: number, slot: number, count: number): void;
  /** The sink moves `cursor` on. */
  onSlots(segment: number, cursor: RecordCursor): void;
  onAmended(segment: number, slot: number, amendment: Amendment): void;
  onDelivered(holder: number, deliveredThrough: number, returnedThrough: number): void;
}

export function encodeCheckpoint(out: RecordBuffer, lastHolder: number, segments: readonly Segment[]): void {
  out.octet(Operation.checkpoint);
  out.integer(lastHolder);
  out.integer(segments.length);
  for (const { id, bytes, slots } of segments) {
    out.integer(id);
    out.integer(bytes);
    out.integer(slots.count);
  }
}

export function encodeHolders(out: RecordBuffer, lastHolder: number): void {
  out.octet(Operation.holders);
  out.integer(lastHolder);
}

export function encodeDefinition(out: RecordBuffer, { kind, key, octets }: DefinitionChange): void {
  out.octet(octets === undefined ? Operation.undefine : Operation.define);
  out.text(kind);
  out.integer(key.length);
  for (const name of key) out.text(name);
  if (octets === undefined) return;
  out.integer(octets.length);
  out.copy(octets, 0, octets.length);
}

/** `slots`: at least one, rising, none twice. */
export function encodeSettled(out: RecordBuffer, segment: number, slots: ArrayLike<number>): void {
  let runs = 1;
  for (let index = 1; index < slots.length; index++) {
    if (slots[index] !== (slots[index - 1] as number) + 1) runs++;
  }
  out.octet(Operation.settled);
  out.integer(segment);
  out.integer(runs);
  let before = 0;
  for (let index = 0; index < slots.length; ) {
    const first = slots[index] as number;
    let end = first;
    while (index < slots.length && slots[index] === end) {
      end++;
      index++;
    }
    out.integer(first - before);
    out.integer(end - first);
    before = end;
  }
}

/** Which slots of a segment are settled, and what has been amended. */
export function encodeSlots(out: RecordBuffer, segment: Segment, scratch: RecordBuffer): void {
  out.octet(Operation.slots);
  out.integer(segment.id);
  segment.slots.encodeSettled(out, scratch);
  if (segment.amendments === undefined) return;
  for (const [slot, amendment] of segment.amendments) {
    if (segment.slots.isLive(slot)) encodeAmended(out, segment.id, slot, amendment);
  }
}

export function encodeAmended(out: RecordBuffer, segment: number, slot: number, amendment: Amendment): void {
  out.octet(Operation.amended);
  out.integer(segment);
  out.integer(slot);
  out.integer(amendment.returnCount);
  out.integer(amendment.heldUntilMs);
}

export function encodeDelivered(out: RecordBuffer, holder: StoredHolder): void {
  out.octet(Operation.delivered);
  out.integer(holder.id);
  out.integer(holder.deliveredThrough);
  out.integer(holder.returnedThrough);
}

/** Tells `sink` of the operations on the state between `cursor.at` and its end. Throws `MalformedRecord`. */
export function decodeState(cursor: RecordCursor, sink: StateSink): void {
  while (!cursor.isAtEnd) {
    const operation = cursor.octet();
    switch (operation) {
      case Operation.checkpoint:
        decodeCheckpoint(cursor, sink);
        break;
      case Operation.holders:
        sink.onHolders(cursor.integer());
        break;
      case Operation.define:
      case Operation.undefine:
        decodeDefinition(cursor, sink, operation === Operation.define);
        break;
      case Operation.settled:
        decodeSettled(cursor, sink);
        break;
      case Operation.slots:
        sink.onSlots(cursor.integer(), cursor);
        break;
      case Operation.amended:
        sink.onAmended(cursor.integer(), cursor.integer(), decodeAmendment(cursor));
        break;
      case Operation.delivered:
        sink.onDelivered(cursor.integer(), cursor.integer(), cursor.integer());
        break;
      default:
        throw new MalformedRecord(`an unknown operation ${operation}`);
    }
  }
}

/** Whether a payload begins with a checkpoint. */
export function hasCheckpoint(octets: Buffer, start: number, stateBytes: number): boolean {
  return stateBytes > 0 && octets[start] === Operation.checkpoint;
}

function decodeCheckpoint(cursor: RecordCursor, sink: StateSink): void {
  const lastHolder = cursor.integer();
  const count = cursor.integer();
  const segments: ListedSegment[] = [];
  for (let index = 0; index < count; index++) {
    segments.push({ id: cursor.integer(), bytes: cursor.integer(), slotCount: cursor.integer() });
  }
  sink.onCheckpoint(lastHolder, segments);
}

function decodeDefinition(cursor: RecordCursor, sink: StateSink, isMade: boolean): void {
  const kind = cursor.text();
  const count = cursor.integer();
  const key: string[] = [];
  for (let index = 0; index < count; index++) key.push(cursor.text());
  if (!isMade) {
    sink.onDefinition({ kind, key, octets: undefined });
    return;
  }
  const start = cursor.sized();
  sink.onDefinition({ kind, key, octets: Uint8Array.prototype.slice.call(cursor.octets, start, cursor.at) });
}

function decodeSettled(cursor: RecordCursor, sink: StateSink): void {
  const segment = cursor.integer();
  const runs = cursor.integer();
  let slot = 0;
  for (let index = 0; index < runs; index++) {
    slot += cursor.integer();
    const count = cursor.integer();
    sink.onSettled(segment, slot, count);
    slot += count;
  }
}

function decodeAmendment(cursor: RecordCursor): Amendment {
  return { returnCount: cursor.integer(), heldUntilMs: cursor.integer() };
}
