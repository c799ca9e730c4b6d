/**
 * The memory alarm: publishers are held back before the process runs out of memory, until consumers have taken enough.
 *
 * What counts is the memory in use, the JavaScript heap and the buffers, for that is where messages are. The resident
 * size would not do: neither V8 nor the C library gives memory back soon, some of it never, so an alarm for it could
 * outlast its reason by days. The heap has a limit of its own, at which V8 ends the process, and a backlog of small
 * messages comes there long before the machine is full; so it is watched too.
 *
 * Memory in use includes garbage, and a broker whose publishers wait makes so little of it that it might never be
 * collected. So it is collected here: before an alarm is raised and while it lasts, at most a twentieth of the time.
 */
import { totalmem } from 'node:os';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Clock, systemClock } from '../broker/clock.ts';
import type { Broker } from '../broker/port.ts';
import type { Log } from './log.ts';

/** Octets in use. */
interface MemoryUse {
  readonly heapBytes: number;
  /** Heap and buffers. */
  readonly bytes: number;
}

/** How much memory there is, and how much of it is in use; in octets. */
export interface Memory {
  /** Of this machine, or what the container is allowed. */
  readonly totalBytes: number;
  /** The largest heap, at which V8 ends the process. */
  readonly heapBytesMax: number;
  use(): MemoryUse;
  collectGarbage(): void;
}

export interface MemoryAlarmOptions {
  readonly administration: Pick<Broker['administration'], 'setAlarm'>;
  /** Memory in use above which the alarm is raised: up to 1 a share of what there is, above octets; 0 = never. */
  readonly highWatermark: number;
  readonly log: Log;
  /** Default: that of this process. */
  readonly memory?: Memory;
  readonly clock?: Clock;
}

/** The alarm is over when so much of the watermark is in use. */
export const CLEAR_SHARE = 0.95;
/** Of the largest heap; the rest is for what is not messages, and for V8 to work in. */
export const HEAP_SHARE = 0.8;
/** Between two looks: long while there is room, short before the watermark. */
export const CHECK_MS_MIN = 50;
export const CHECK_MS_MAX = 1000;
/** How fast a broker can fill its memory at most. */
const GROWTH_BYTES_PER_MS = 1024 * 1024;
/** After a collection, the next one waits for so many times as long as it took, within bounds. */
export const COLLECTION_PAUSE_FACTOR = 20;
export const COLLECTION_PAUSE_MS_MIN = 1000;
const COLLECTION_PAUSE_MS_MAX = 60_000;

/** Who raises it, so that nobody else's alarm ends with it. */
const ALARM_SOURCE = 'memory-high-watermark';

const MEBIBYTE = 1024 * 1024;

/** Watches the memory from now on, for as long as the process lives; keeps it alive no longer. */
export function watchMemory(options: MemoryAlarmOptions): void {
  if (options.highWatermark > 0) new MemoryAlarm(options).check();
}

class MemoryAlarm {
  readonly #administration: Pick<Broker['administration'], 'setAlarm'>;
  readonly #log: Log;
  readonly #memory: Memory;
  readonly #clock: Clock;
  readonly #bytesMax: number;
  readonly #heapBytesMax: number;
  #raisedAtMs: number | undefined;
  #mayCollect = true;

  constructor({
    administration,
    highWatermark,
    log,
    memory = processMemory(),
    clock = systemClock,
  }: MemoryAlarmOptions) {
    this.#administration = administration;
    this.#log = log;
    this.#memory = memory;
    this.#clock = clock;
    this.#bytesMax = highWatermark <= 1 ? highWatermark * memory.totalBytes : highWatermark;
    this.#heapBytesMax = HEAP_SHARE * memory.heapBytesMax;
    log.debug({ bytesMax: this.#bytesMax, heapBytesMax: this.#heapBytesMax }, 'watching the memory in use');
  }

  /** Looks, does what is to be done, and sees to the next look. */
  check(): void {
    const use = this.#memory.use();
    if (this.#mayCollect && this.#isHigh(use)) {
      this.#collect();
      // Buffers that were collected are given back a little later.
      this.#checkIn(CHECK_MS_MIN);
      return;
    }
    if (this.#isHigh(use)) this.#raise(use);
    else this.#clear(use);
    this.#checkIn(this.#pauseMs(use));
  }

  #checkIn(milliseconds: number): void {
    this.#clock.schedule(milliseconds, () => this.check());
  }

  /** High is what raises the alarm and, while it lasts, what does not clear it yet. */
  #isHigh({ bytes, heapBytes }: MemoryUse): boolean {
    const share = this.#raisedAtMs === undefined ? 1 : CLEAR_SHARE;
    return bytes > share * this.#bytesMax || heapBytes > share * this.#heapBytesMax;
  }

  #collect(): void {
    const begunMs = this.#clock.now();
    this.#memory.collectGarbage();
    const pauseMs = COLLECTION_PAUSE_FACTOR * (this.#clock.now() - begunMs);
    this.#mayCollect = false;
    this.#clock.schedule(clamp(pauseMs, COLLECTION_PAUSE_MS_MIN, COLLECTION_PAUSE_MS_MAX), () => {
      this.#mayCollect = true;
    });
  }

  #raise({ bytes, heapBytes }: MemoryUse): void {
    if (this.#raisedAtMs !== undefined) return;
    this.#raisedAtMs = this.#clock.now();
    const held = 'publishers wait until consumers have taken enough';
    const text =
      bytes > this.#bytesMax
        ? `memory alarm: ${held}; memory-high-watermark is ${mebibytes(this.#bytesMax)} MiB`
        : `memory alarm: ${held}; the heap is nearly full, NODE_OPTIONS=--max-old-space-size=<MiB> makes it larger`;
    this.#log.warn({ usedMiB: mebibytes(bytes), heapMiB: mebibytes(heapBytes) }, text);
    void this.#administration.setAlarm('memory', true, ALARM_SOURCE);
  }

  #clear({ bytes, heapBytes }: MemoryUse): void {
    if (this.#raisedAtMs === undefined) return;
    const seconds = Math.round((this.#clock.now() - this.#raisedAtMs) / 1000);
    this.#raisedAtMs = undefined;
    const fields = { usedMiB: mebibytes(bytes), heapMiB: mebibytes(heapBytes), seconds };
    this.#log.info(fields, 'memory alarm over: publishers go on');
    void this.#administration.setAlarm('memory', false, ALARM_SOURCE);
  }

  #pauseMs({ bytes, heapBytes }: MemoryUse): number {
    if (this.#raisedAtMs !== undefined) return CHECK_MS_MAX;
    const roomBytes = Math.min(this.#bytesMax - bytes, this.#heapBytesMax - heapBytes);
    return clamp(roomBytes / GROWTH_BYTES_PER_MS, CHECK_MS_MIN, CHECK_MS_MAX);
  }
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(Math.max(value, min), max);
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / MEBIBYTE);
}

/** The memory of this process. */
function processMemory(): Memory {
  // 0 when it is not known; more than there is when it is not limited.
  const allowed = process.constrainedMemory?.() || Number.POSITIVE_INFINITY;
  return {
    totalBytes: Math.min(totalmem(), allowed),
    heapBytesMax: getHeapStatistics().heap_size_limit,
    use() {
      const { heapUsed, external } = process.memoryUsage();
      return { heapBytes: heapUsed, bytes: heapUsed + external };
    },
    collectGarbage: garbageCollector(),
  };
}

/** One full collection, as `node --expose-gc` offers it. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  setFlagsFromString('--no-expose-gc');
  return collect;
}
