/** Encodes a batch as one record: its octets, and the slots that its custodies get. */
import { crc32 } from 'node:zlib';
import { assert } from '../../assert.ts';
import { MessageEncoder } from '../record/message-operations.ts';
import { HEADER_BYTES, otherSeal, type RecordHeader, writeHeader } from '../record/record.ts';
import { type Part, RecordBuffer } from '../record/record-buffer.ts';
import type { Batch } from './batch.ts';
import type { LogState, StateChange } from './log-state.ts';
import type { Segment } from './segment.ts';

/** What a message takes in a record besides properties and body, about; octets. */
const MESSAGE_OVERHEAD_BYTES = 16;

export class RecordWriter {
  /** Octets of the operations on the state of the record encoded last. */
  stateBytes = 0;
  readonly #state: LogState;
  readonly #buffer = new RecordBuffer();
  readonly #messages = new MessageEncoder(this.#buffer);
  /** Of the record encoded last. */
  #header: RecordHeader | undefined;

  constructor(state: LogState) {
    this.#state = state;
  }

  /**
   * The record that `batch` is in `segment`, in pieces that are valid until the next one is encoded. Without `change` it
   * is the first of the segment and begins with a checkpoint.
   */
  encode(batch: Batch, segment: Segment, sequence: number, change: StateChange | undefined): readonly Part[] {
    const buffer = this.#buffer;
    buffer.clear();
    buffer.skip(HEADER_BYTES);
    buffer.startChecksum();
    if (change === undefined) this.#state.encodeAll(buffer);
    else this.#state.encodeChange(buffer, batch, change);
    this.stateBytes = buffer.length - HEADER_BYTES;
    const firstSlot = segment.slots.count;
    batch.place(segment, firstSlot);
    this.#encodeMessages(batch, segment);
    for (const stowed of batch.stowed) stowed.encode(buffer, segment.slots);
    const payloadBytes = buffer.length - HEADER_BYTES;
    const header: RecordHeader = {
      segment: segment.id,
      seal: segment.seal,
      sequence,
      payloadBytes,
      payloadCrc: buffer.checksum,
      stateBytes: this.stateBytes,
      firstSlot,
      slotCount: segment.slots.count - firstSlot,
      settledCount: change === undefined ? batch.settledCount : settledIn(change),
      definitionCount: change === undefined ? this.#state.definitions.count : batch.definitions.length,
    };
    writeHeader(buffer.patch(0, HEADER_BYTES), header);
    this.#header = header;
    return buffer.parts();
  }

  /**
   * What the record encoded last says besides messages, as a record for the second copy (state-copy.ts); in pieces that
   * are valid until the next one is encoded.
   */
  encodeCopy(): readonly Part[] {
    const { stateBytes } = this;
    const header = this.#header;
    assert(header !== undefined, 'a record has been encoded');
    const state = this.#buffer.patch(HEADER_BYTES, stateBytes);
    const octets = Buffer.allocUnsafe(HEADER_BYTES);
    const seal = otherSeal(header.seal);
    writeHeader(octets, { ...header, seal, payloadBytes: stateBytes, payloadCrc: crc32(state) });
    return [
      { octets, offset: 0, length: HEADER_BYTES },
      { octets: state, offset: 0, length: stateBytes },
    ];
  }

  #encodeMessages(batch: Batch, segment: Segment): void {
    const { custodies, messages, survives, moved, stowed } = batch;
    const { slots } = segment;
    const encoder = this.#messages;
    encoder.begin();
    if (batch.begunCount === 0 && moved.length === 0) return;
    let gap = 0;
    for (let index = 0; index < custodies.length; ) {
      const message = messages[index];
      if (message === undefined) {
        gap++;
        index++;
        continue;
      }
      if (gap > 0) this.#gap(segment, gap);
      gap = 0;
      let end = index + 1;
      while (messages[end] === message) end++;
      const bytes = (message.bodyEnd - message.propertiesStart + MESSAGE_OVERHEAD_BYTES) / (end - index);
      encoder.message(message, end - index);
      for (; index < end; index++) {
        const custody = custodies[index];
        if (custody === undefined) continue;
        encoder.custody(custody, survives[index] === true, custody.returnCount, custody.heldUntilMs);
        slots.add(bytes);
      }
      encoder.content(message);
    }
    if (moved.length === 0 && stowed.length === 0) return;
    if (gap > 0) this.#gap(segment, gap);
    this.#encodeMoved(batch, segment);
  }

  #gap(segment: Segment, count: number): void {
    this.#messages.gap(count);
    segment.slots.addSettled(segment.slots.count + count);
  }

  #encodeMoved({ moved }: Batch, { slots }: Segment): void {
    const encoder = this.#messages;
    for (let start = 0; start < moved.length; ) {
      const { message } = moved[start] as Batch['moved'][number];
      let end = start + 1;
      while (moved[end]?.message === message) end++;
      const bytes = (message.bodyEnd - message.propertiesStart + MESSAGE_OVERHEAD_BYTES) / (end - start);
      encoder.message(message, end - start);
      for (const { custody, survives } of moved.slice(start, end)) {
        encoder.custody(custody, survives, custody.returnCount, custody.heldUntilMs);
        slots.add(bytes);
      }
      encoder.content(message);
      start = end;
    }
  }
}

function settledIn({ settled }: StateChange): number {
  return settled.reduce((count, { slots }) => count + slots.length, 0);
}
