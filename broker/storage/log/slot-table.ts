/**
 * What is known of each custody of a segment, by slot: whether it is settled, and about how large its message is. Takes
 * nine bits for each, and no object.
 */
import type { RecordBuffer } from '../record/record-buffer.ts';
import { MalformedRecord, type RecordCursor } from '../record/record-cursor.ts';

/** How the settled slots of a segment are written down in a checkpoint: whichever takes fewer octets. */
const Form = { runs: 0, bitmap: 1 } as const;

const FIRST_SLOTS = 256;

/** Octets that a size class stands for; there are eight to each power of two. */
const CLASS_BYTES = Float64Array.from({ length: 256 }, (_, sizeClass) => {
  const exponent = sizeClass >> 3;
  return exponent < 3 ? 2 ** exponent : (8.5 + (sizeClass & 7)) * 2 ** (exponent - 3);
});

/** The class of a size in octets. */
function sizeClassOf(bytes: number): number {
  if (bytes < 8) return 24;
  if (bytes >= 2 ** 31) return 255;
  const exponent = 31 - Math.clz32(bytes);
  return (exponent << 3) | ((bytes >>> (exponent - 3)) & 7);
}

export class SlotTable {
  /** Slots given. */
  count = 0;
  /** Slots that are not settled, and about the octets of their messages. */
  live = 0;
  liveBytes = 0;
  #settled = new Uint32Array(FIRST_SLOTS >> 5);
  #classes = new Uint8Array(FIRST_SLOTS);
  /** What `encodeSettled` has written, while it is true. */
  #encoded: Buffer | undefined;

  #reserve(count: number): void {
    if (count <= this.#classes.length) return;
    const slots = (Math.max(count, this.#classes.length * 2) + 31) & ~31;
    const settled = new Uint32Array(slots >> 5);
    settled.set(this.#settled);
    this.#settled = settled;
    const classes = new Uint8Array(slots);
    classes.set(this.#classes);
    this.#classes = classes;
  }

  /** The next slot, for a message of so many octets. */
  add(bytes: number): void {
    if (this.count === this.#classes.length) this.#reserve(this.count + 1);
    const sizeClass = sizeClassOf(bytes);
    this.#classes[this.count++] = sizeClass;
    this.live++;
    this.liveBytes += CLASS_BYTES[sizeClass] as number;
  }

  /** The next slots, settled from the start, up to `count` in all. */
  addSettled(count: number): void {
    this.#reserve(count);
    for (let slot = this.count; slot < count; slot++) this.#mark(slot);
    this.count = Math.max(this.count, count);
  }

  /** As many slots as `count`, live, of messages of yet unknown size; `setSize` tells. */
  addUnknown(count: number): void {
    this.#reserve(count);
    this.live += count - this.count;
    this.count = count;
  }

  /** The size of the message of a slot of `addUnknown` that is live. */
  setSize(slot: number, bytes: number): void {
    const sizeClass = sizeClassOf(bytes);
    this.#classes[slot] = sizeClass;
    this.liveBytes += CLASS_BYTES[sizeClass] as number;
  }

  /** Takes back all slots from `count` on; none of them has been settled but at the start. */
  cut(count: number): void {
    for (let slot = count; slot < this.count; slot++) {
      if (this.isLive(slot)) this.settle(slot);
      this.#settled[slot >> 5] = (this.#settled[slot >> 5] as number) & ~(1 << (slot & 31));
      this.#classes[slot] = 0;
    }
    this.count = count;
    this.#encoded = undefined;
  }

  #mark(slot: number): void {
    this.#settled[slot >> 5] = (this.#settled[slot >> 5] as number) | (1 << (slot & 31));
  }

  isLive(slot: number): boolean {
    return slot < this.count && ((this.#settled[slot >> 5] as number) & (1 << (slot & 31))) === 0;
  }

  /** Ends a custody; false when it was not live. */
  settle(slot: number): boolean {
    if (!this.isLive(slot)) return false;
    this.#mark(slot);
    this.live--;
    this.liveBytes -= CLASS_BYTES[this.#classes[slot] as number] as number;
    this.#encoded = undefined;
    return true;
  }

  /** Live slots of `[from, to)`. */
  liveBetween(from: number, to: number): number {
    let count = 0;
    for (let slot = from; slot < Math.min(to, this.count); slot++) if (this.isLive(slot)) count++;
    return count;
  }

  /** The first slot from `slot` on that is settled, or is not (`settled` false); `count` when there is none. */
  #next(slot: number, settled: boolean): number {
    const skip = settled ? 0 : 0xffffffff;
    while (slot < this.count) {
      const word = this.#settled[slot >> 5] as number;
      if ((slot & 31) === 0 && word === skip) slot += 32;
      else if (((word & (1 << (slot & 31))) !== 0) === settled) return slot;
      else slot++;
    }
    return this.count;
  }

  /** The first live slot from `slot` on; -1 when there is none. */
  nextLive(slot: number): number {
    const next = this.live === 0 ? this.count : this.#next(slot, false);
    return next < this.count ? next : -1;
  }

  /** Frees what is not needed any more when no slot is live. */
  release(): void {
    this.#settled = new Uint32Array(0);
    this.#classes = new Uint8Array(0);
    this.#encoded = undefined;
    this.count = 0;
    this.live = 0;
    this.liveBytes = 0;
  }

  /** Writes down which slots are settled. The same octets are used again until one more is. */
  encodeSettled(out: RecordBuffer, scratch: RecordBuffer): void {
    if (this.#encoded === undefined) {
      scratch.clear();
      this.#encode(scratch);
      this.#encoded = Buffer.concat(
        scratch.parts().map(({ octets, offset, length }) => octets.subarray(offset, offset + length)),
      );
    }
    out.copy(this.#encoded, 0, this.#encoded.length);
  }

  #encode(out: RecordBuffer): void {
    const bitmapBytes = (this.count + 7) >> 3;
    let runs = 0;
    let runBytesMax = 0;
    for (let slot = this.#next(0, true); slot < this.count && runBytesMax <= bitmapBytes; runs++) {
      const end = this.#next(slot, false);
      runBytesMax += end - slot < 128 ? 3 : 6;
      slot = this.#next(end, true);
    }
    if (runBytesMax > bitmapBytes) {
      out.octet(Form.bitmap);
      out.integer(bitmapBytes);
      for (let index = 0; index < bitmapBytes; index++) {
        out.octet(((this.#settled[index >> 2] as number) >>> ((index & 3) << 3)) & 255);
      }
      return;
    }
    out.octet(Form.runs);
    out.integer(runs);
    let before = 0;
    for (let slot = this.#next(0, true); slot < this.count; ) {
      const end = this.#next(slot, false);
      out.integer(slot - before);
      out.integer(end - slot);
      before = end;
      slot = this.#next(end, true);
    }
  }

  /** Settles what `encodeSettled` has written. Throws `MalformedRecord`. */
  decodeSettled(cursor: RecordCursor): void {
    const form = cursor.octet();
    if (form === Form.bitmap) {
      const bytes = cursor.integer();
      const start = cursor.take(bytes);
      if (bytes !== (this.count + 7) >> 3) throw new MalformedRecord('a bitmap of another length');
      for (let slot = 0; slot < this.count; slot++) {
        if (((cursor.octets[start + (slot >> 3)] as number) & (1 << (slot & 7))) !== 0) this.settle(slot);
      }
      return;
    }
    if (form !== Form.runs) throw new MalformedRecord('settled slots in an unknown form');
    const runs = cursor.integer();
    let slot = 0;
    for (let index = 0; index < runs; index++) {
      slot += cursor.integer();
      const end = slot + cursor.integer();
      if (end > this.count) throw new MalformedRecord('a settled slot that does not exist');
      for (; slot < end; slot++) this.settle(slot);
    }
  }
}
