/** Brings a `LogState` to what the state operations of records say, in the order of the log. */
import { DEFINITION_KINDS } from '../../store.ts';
import type { DefinitionChange } from '../log/definition-table.ts';
import type { LogState } from '../log/log-state.ts';
import { type Amendment, Segment } from '../log/segment.ts';
import { StoredHolder } from '../log/stored-holder.ts';
import { decodeState, type ListedSegment, type StateSink } from '../record/operations.ts';
import type { RecordHeader } from '../record/record.ts';
import { MalformedRecord, RecordCursor } from '../record/record-cursor.ts';

export class Replay implements StateSink {
  readonly state: LogState;
  /** After damage: what refers to something unknown is passed over. */
  isLenient: boolean;
  /** Definitions that have ended. */
  readonly former: DefinitionChange[] = [];

  constructor(state: LogState, isLenient: boolean) {
    this.state = state;
    this.isLenient = isLenient;
  }

  /** One record of `segment`. Throws `MalformedRecord`; its messages count all the same. */
  record(segment: Segment, header: RecordHeader, octets: Buffer, payloadStart: number): void {
    // First those of the segment, also of damaged records before this one: what is settled here may be among them.
    segment.slots.addUnknown(Math.max(segment.slots.count, header.firstSlot + header.slotCount));
    this.state.segments.set(segment.id, segment);
    decodeState(new RecordCursor(octets, payloadStart, payloadStart + header.stateBytes), this);
    // A checkpoint has forgotten it.
    this.state.segments.set(segment.id, segment);
  }

  onCheckpoint(lastHolder: number, segments: readonly ListedSegment[]): void {
    const { state } = this;
    state.segments.clear();
    state.holders.clear();
    state.definitions.clear();
    state.lastHolder = lastHolder;
    for (const { id, bytes, slotCount } of segments) {
      const segment = new Segment(id, state.seal);
      segment.bytes = bytes;
      segment.slots.addUnknown(slotCount);
      state.segments.set(id, segment);
    }
  }

  onHolders(lastHolder: number): void {
    this.state.lastHolder = lastHolder;
  }

  onDefinition(change: DefinitionChange): void {
    const known: readonly string[] = DEFINITION_KINDS;
    if (!known.includes(change.kind)) throw new MalformedRecord(`a definition of the unknown kind ${change.kind}`);
    const before = this.state.definitions.apply(change);
    if (before !== undefined && change.octets === undefined) this.former.push(before);
  }

  onSettled(id: number, slot: number, count: number): void {
    const segment = this.#segment(id);
    if (segment === undefined) return;
    if (slot + count > segment.slots.count && !this.isLenient) throw new MalformedRecord('an unknown slot is settled');
    for (let index = 0; index < Math.min(count, segment.slots.count - slot); index++)
      segment.slots.settle(slot + index);
  }

  onSlots(id: number, cursor: RecordCursor): void {
    const segment = this.state.segments.get(id);
    if (segment === undefined) throw new MalformedRecord(`slots of the unknown segment ${id}`);
    segment.slots.decodeSettled(cursor);
  }

  onAmended(id: number, slot: number, amendment: Amendment): void {
    const segment = this.#segment(id);
    if (segment?.slots.isLive(slot)) segment.amend(slot, amendment);
  }

  onDelivered(id: number, deliveredThrough: number, returnedThrough: number): void {
    const holder = this.holder(id);
    holder.deliveredThrough = deliveredThrough;
    holder.returnedThrough = returnedThrough;
  }

  /** The holder `id`, known from now on if it was not. */
  holder(id: number): StoredHolder {
    let holder = this.state.holders.get(id);
    if (holder === undefined) {
      holder = new StoredHolder(id);
      this.state.holders.set(id, holder);
    }
    return holder;
  }

  #segment(id: number): Segment | undefined {
    const segment = this.state.segments.get(id);
    if (segment === undefined && !this.isLenient) throw new MalformedRecord(`an unknown segment ${id}`);
    return segment;
  }
}
