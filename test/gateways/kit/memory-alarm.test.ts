import { describe, expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import {
  CHECK_MS_MAX,
  CHECK_MS_MIN,
  CLEAR_SHARE,
  COLLECTION_PAUSE_FACTOR,
  COLLECTION_PAUSE_MS_MIN,
  HEAP_SHARE,
  type Memory,
  watchMemory,
} from '../../../gateways/memory-alarm.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const MIB = 1024 * 1024;
const TOTAL_BYTES = 1000 * MIB;
const HEAP_BYTES_MAX = 500 * MIB;

/** A broker whose memory is what the test says. */
async function scene(highWatermark: number) {
  const clock = new ManualClock();
  const { log, lines } = recordedLog();
  const { administration } = await createBroker();
  const state = { bytes: 0, heapBytes: 0, garbageBytes: 0, collections: 0, collectionMs: 0 };
  const memory: Memory = {
    totalBytes: TOTAL_BYTES,
    heapBytesMax: HEAP_BYTES_MAX,
    use: () => ({ bytes: state.bytes + state.garbageBytes, heapBytes: state.heapBytes }),
    collectGarbage() {
      state.collections += 1;
      state.garbageBytes = 0;
      clock.lag(state.collectionMs);
    },
  };
  watchMemory({ administration, highWatermark, log, memory, clock });
  return {
    clock,
    state,
    alarms: () => administration.alarms(),
    logged: () => lines.filter(({ level }) => level !== 'debug'),
    /** The memory is looked at, and what it leads to is done. */
    look: () => clock.advance(CHECK_MS_MAX + CHECK_MS_MIN),
  };
}

describe('the memory alarm', () => {
  it.each([
    ['a share of what there is', 0.5, 0.5 * TOTAL_BYTES],
    ['all of it', 1, TOTAL_BYTES],
    ['octets', 300 * MIB, 300 * MIB],
  ])('is raised above the watermark, and over when that is left well behind: %s', async (_name, watermark, bytes) => {
    const { state, alarms, look, logged } = await scene(watermark);
    state.bytes = bytes;
    look();
    expect(await alarms()).toEqual([]);
    state.bytes = bytes + 1;
    look();
    expect(await alarms()).toEqual(['memory']);
    state.bytes = bytes * CLEAR_SHARE + 1;
    look();
    expect(await alarms()).toEqual(['memory']);
    state.bytes = bytes * CLEAR_SHARE;
    look();
    expect(await alarms()).toEqual([]);
    expect(logged()).toEqual([
      {
        level: 'warn',
        fields: { usedMiB: bytes / MIB, heapMiB: 0 },
        message: `memory alarm: publishers wait until consumers have taken enough; memory-high-watermark is ${bytes / MIB} MiB`,
      },
      {
        level: 'info',
        fields: { usedMiB: Math.round((bytes * CLEAR_SHARE) / MIB), heapMiB: 0, seconds: 2 },
        message: 'memory alarm over: publishers go on',
      },
    ]);
  });

  it('is raised before the heap is full, however much memory the machine has', async () => {
    const { state, alarms, look, logged } = await scene(0.9);
    state.heapBytes = HEAP_SHARE * HEAP_BYTES_MAX;
    look();
    expect(await alarms()).toEqual([]);
    state.heapBytes += 1;
    look();
    expect(await alarms()).toEqual(['memory']);
    expect(logged()[0]?.message).toContain('NODE_OPTIONS=--max-old-space-size');
    state.heapBytes = CLEAR_SHARE * HEAP_SHARE * HEAP_BYTES_MAX;
    look();
    expect(await alarms()).toEqual([]);
  });

  it('is not raised for garbage', async () => {
    const { state, alarms, look } = await scene(0.5);
    state.garbageBytes = TOTAL_BYTES;
    look();
    expect(state).toMatchObject({ collections: 1, garbageBytes: 0 });
    expect(await alarms()).toEqual([]);
  });

  it('does not last for garbage', async () => {
    const { state, alarms, look } = await scene(0.5);
    state.bytes = TOTAL_BYTES;
    look();
    expect(await alarms()).toEqual(['memory']);
    Object.assign(state, { bytes: 0, garbageBytes: TOTAL_BYTES });
    look();
    expect(await alarms()).toEqual([]);
  });

  it('collects garbage in a twentieth of its time', async () => {
    const { clock, state, look } = await scene(0.5);
    Object.assign(state, { bytes: TOTAL_BYTES, collectionMs: 300 });
    look();
    expect(state.collections).toBe(1);
    clock.advance(300 * COLLECTION_PAUSE_FACTOR - CHECK_MS_MAX - CHECK_MS_MIN);
    expect(state.collections).toBe(1);
    clock.advance(CHECK_MS_MAX);
    expect(state.collections).toBe(2);
    state.collectionMs = 0;
    clock.advance(300 * COLLECTION_PAUSE_FACTOR + CHECK_MS_MAX);
    const { collections } = state;
    clock.advance(10 * (COLLECTION_PAUSE_MS_MIN + CHECK_MS_MAX));
    expect(state.collections - collections).toBeGreaterThan(5);
    expect(state.collections - collections).toBeLessThanOrEqual(20);
  });

  it('looks often when there is little room left', async () => {
    const { clock, state, alarms, look } = await scene(0.5);
    state.bytes = 0.5 * TOTAL_BYTES - 1;
    look();
    state.bytes = TOTAL_BYTES;
    clock.advance(2 * CHECK_MS_MIN);
    expect(await alarms()).toEqual(['memory']);
  });

  it('is never raised with a watermark of 0', async () => {
    const { clock, state, alarms, look } = await scene(0);
    state.bytes = TOTAL_BYTES;
    look();
    expect(await alarms()).toEqual([]);
    expect(clock.timerCount).toBe(0);
  });

  it('is about this process, if nothing else is said', async () => {
    const clock = new ManualClock();
    const { log, lines } = recordedLog();
    const { administration } = await createBroker();
    watchMemory({ administration, highWatermark: MIB, log, clock });
    clock.advance(CHECK_MS_MIN);
    expect(await administration.alarms()).toEqual(['memory']);
    const { usedMiB, heapMiB } = lines.find(({ level }) => level === 'warn')?.fields ?? {};
    expect(heapMiB).toBeGreaterThan(1);
    expect(usedMiB).toBeGreaterThanOrEqual(Number(heapMiB));
  });
});
