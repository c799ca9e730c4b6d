/**
 * Reclaims the space of settled messages. A segment that holds nothing any more goes by itself; one that holds little is
 * emptied here: what is left in it is read, and written again with the next commits, which settle the old places in the
 * same record. So one old message keeps no file alive.
 *
 * It begins when more than half of the log is garbage, with the segment that holds least: for every octet that it writes
 * again at least one comes free. It takes small steps, one commit each, so that it is never in the way.
 */
import type { CancelTimer, Clock } from '../../clock.ts';
import type { Holder, StoredRecord, StoreEvent, SyncWaiter } from '../../store.ts';
import type { SegmentFiles } from '../folder/segment-files.ts';
import { eachRecord, readOctets } from '../pages/block-reader.ts';
import { MessageCursor } from '../record/message-operations.ts';
import { failureText } from '../store-error.ts';
import type { Moved, MovedCustody } from './batch.ts';
import type { LogState } from './log-state.ts';
import type { Segment } from './segment.ts';

/** A log of so many segments or fewer is left as it is, if `StoreOptions` do not say otherwise. */
export const CLEAN_SEGMENTS_MIN = 4;

/** The log is cleaned when live messages are a smaller part of it than one in so many. */
const LIVE_SHARE_MIN = 2;

/** Octets of the log that are read, and at most written again, in one step; a record may be larger. */
const STEP_BYTES = 1024 * 1024;

/** Time between two looks at how much of the log is garbage; milliseconds. */
const LOOK_EVERY_MS = 100;

/** Time after which a segment is tried again that could not be read; milliseconds. */
const RETRY_MS = 10_000;

export interface CleanerOptions {
  readonly state: LogState;
  readonly files: SegmentFiles;
  readonly clock: Clock;
  readonly onEvent: (event: StoreEvent) => void;
  /** A log of so many segments or fewer is left as it is. */
  readonly segmentsMin: number;
  /** Writes `moved` again with the next commit, and tells `waiter` when that is on disk. */
  readonly move: (moved: readonly Moved[], waiter: SyncWaiter) => void;
}

/** A custody as it was found. */
class FoundCustody implements MovedCustody {
  readonly holder: Holder;
  readonly position: number;
  readonly priority: number;
  readonly expiresAtMs: number;
  returnCount: number;
  heldUntilMs: number;
  record: StoredRecord | undefined = undefined;
  slot = 0;

  constructor(cursor: MessageCursor) {
    this.holder = { id: cursor.holder, deliveredThrough: 0, dirty: false };
    this.position = cursor.position;
    this.priority = cursor.priority;
    this.expiresAtMs = cursor.expiresAtMs;
    this.returnCount = cursor.returnCount;
    this.heldUntilMs = cursor.heldUntilMs;
  }
}

export class Cleaner {
  readonly #options: CleanerOptions;
  #cancelLook: CancelTimer | undefined;
  /** A segment is being emptied. */
  #isCleaning = false;
  #isStopped = false;

  constructor(options: CleanerOptions) {
    this.#options = options;
  }

  /** Something has been stored. */
  onCommitted(): void {
    this.#lookIn(LOOK_EVERY_MS);
  }

  /** Begins nothing new. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelLook?.();
  }

  #lookIn(delayMs: number): void {
    if (this.#isStopped || this.#isCleaning || this.#cancelLook !== undefined) return;
    this.#cancelLook = this.#options.clock.schedule(delayMs, () => {
      this.#cancelLook = undefined;
      const victim = this.#choose();
      if (victim !== undefined) void this.#clean(victim);
    });
  }

  /** The segment that holds least for its size, if it is time to clean. */
  #choose(): Segment | undefined {
    const { state, segmentsMin } = this.#options;
    const { bytes, liveBytes } = state.usage();
    if (state.segments.size <= segmentsMin || liveBytes * LIVE_SHARE_MIN > bytes) return undefined;
    let victim: Segment | undefined;
    let least = 1 / LIVE_SHARE_MIN;
    for (const segment of state.segments.values()) {
      const share = segment.slots.liveBytes / segment.bytes;
      if (segment === state.current || segment.damaged || segment.slots.live === 0 || share >= least) continue;
      victim = segment;
      least = share;
    }
    return victim;
  }

  async #clean(segment: Segment): Promise<void> {
    const { state, files } = this.#options;
    this.#isCleaning = true;
    files.hold(segment);
    let nextLookMs = 0;
    try {
      for (let slot = segment.slots.nextLive(0); slot >= 0; ) {
        const { moved, slotEnd } = await this.#read(segment, slot);
        if (this.#isStopped || segment.damaged) break;
        await new Promise<void>((resolve) => this.#options.move(moved, { onSynced: resolve }));
        slot = segment.slots.nextLive(slotEnd);
      }
      if (segment.slots.live === 0) state.shortenTranslations(segment);
      else nextLookMs = RETRY_MS;
    } catch (error) {
      nextLookMs = RETRY_MS;
      const text = `cannot read ${files.path(segment.id)} to reclaim its space: ${failureText(error)}`;
      this.#options.onEvent({ type: 'notice', text });
    } finally {
      files.letGo(segment);
      this.#isCleaning = false;
    }
    this.#lookIn(nextLookMs);
  }

  /** What is live in the blocks from that of `slot` on, as far as one step goes. */
  async #read(segment: Segment, slot: number): Promise<{ readonly moved: Moved[]; readonly slotEnd: number }> {
    const { start, ...first } = segment.blockOf(slot);
    let { end, slotEnd } = first;
    while (slotEnd < segment.slots.count && segment.slots.nextLive(slotEnd) >= 0) {
      const next = segment.blockOf(slotEnd);
      if (next.start !== end || next.end - start > STEP_BYTES || segment.slots.nextLive(slotEnd) >= next.slotEnd) break;
      ({ end, slotEnd } = next);
    }
    const octets = await readOctets(await this.#options.files.open(segment), start, end);
    const moved: Moved[] = [];
    eachRecord(
      segment,
      { octets, start },
      start,
      end,
      ({ stateBytes, payloadBytes, firstSlot, slotCount }, payloadStart) => {
        if (slotCount === 0) return;
        takeLive(
          segment,
          new MessageCursor(octets, payloadStart + stateBytes, payloadStart + payloadBytes, firstSlot),
          moved,
        );
      },
      (offset) => this.#reportDamage(segment, offset),
    );
    return { moved, slotEnd };
  }

  #reportDamage(segment: Segment, offset: number): void {
    if (segment.damaged) return;
    segment.damaged = true;
    const text = `a damaged record in ${this.#options.files.path(segment.id)} at octet ${offset}: the file is kept as it is`;
    this.#options.onEvent({ type: 'damage', text });
  }
}

function takeLive(segment: Segment, cursor: MessageCursor, moved: Moved[]): void {
  while (cursor.nextMessage()) {
    const found: { readonly custody: FoundCustody; readonly survives: boolean; readonly slot: number }[] = [];
    while (cursor.nextCustody()) {
      const { slot, survives } = cursor;
      if (segment.slots.isLive(slot)) found.push({ custody: new FoundCustody(cursor), survives, slot });
    }
    if (found.length === 0) continue;
    const message = cursor.message();
    for (const { custody, survives, slot } of found) {
      moved.push({ custody, message, survives, from: segment, fromSlot: slot });
    }
  }
}
