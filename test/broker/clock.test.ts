import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../broker/clock.ts';

const DAY = 24 * 3600 * 1000;

describe('the system clock, in time', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it.each([0, 1, 1000, 2 ** 31 - 1, 2 ** 31, 31 * DAY, 400 * DAY])('calls after %d ms, once', (delayMs) => {
    let calls = 0;
    systemClock.schedule(delayMs, () => calls++);
    if (delayMs > 0) vi.advanceTimersByTime(delayMs - 1);
    expect(calls).toBe(0);
    vi.advanceTimersByTime(1);
    expect(calls).toBe(1);
    vi.advanceTimersByTime(delayMs + 1);
    expect(calls).toBe(1);
  });

  it.each([1000, 60 * DAY])('does not call what was cancelled, after %d ms, at any time before', (delayMs) => {
    for (const cancelAfterMs of [0, delayMs / 2, delayMs - 1]) {
      let calls = 0;
      const cancel = systemClock.schedule(delayMs, () => calls++);
      vi.advanceTimersByTime(cancelAfterMs);
      cancel();
      vi.advanceTimersByTime(2 * delayMs);
      expect(calls).toBe(0);
      cancel();
    }
  });

  it('tells the time', () => {
    vi.setSystemTime(1_700_000_000_123);
    expect(systemClock.now()).toBe(1_700_000_000_123);
  });
});

describe('the system clock', () => {
  it('defers behind all promise reactions of the turn', async () => {
    const order: string[] = [];
    const deferred = new Promise<void>((resolve) => {
      systemClock.defer(() => {
        order.push('deferred');
        resolve();
      });
    });
    void (async () => {
      for (let reaction = 0; reaction < 100; reaction++) await Promise.resolve();
      order.push('reactions');
    })();
    await deferred;
    expect(order).toEqual(['reactions', 'deferred']);
  });

  it('makes names of 22 characters that never repeat', () => {
    const names = Array.from({ length: 1000 }, () => systemClock.randomName());
    expect(new Set(names).size).toBe(1000);
    for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_-]{22}$/);
    // Both of the characters that differ from plain base64 turn up.
    expect(names.join('')).toMatch(/_.*-|-.*_/);
  });
});
