/** Waiting for what will become true, without guessing how long it takes. */
import { setTimeout as delay } from 'node:timers/promises';

export interface EventuallyOptions {
  /** Give up after this many milliseconds (default 3000). */
  readonly timeoutMs?: number;
  /** Ask again after this many milliseconds (default 5). */
  readonly everyMs?: number;
}

/**
 * Calls `attempt` until it neither throws nor rejects, and answers what it returned. When the time is up, the last
 * failure is thrown, so that a test shows what was still wrong.
 */
export async function eventually<T>(attempt: () => T | Promise<T>, options: EventuallyOptions = {}): Promise<T> {
  const { timeoutMs = 3000, everyMs = 5 } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() >= deadline) throw error;
    }
    await delay(everyMs);
  }
}
