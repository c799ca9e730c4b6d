/**
 * A clock that stands still until a test moves it. Timers fire in the order of their time, those of one time in the
 * order in which they were set; names are numbered, so that every run is the same.
 */
import type { CancelTimer, Clock } from '../../broker/clock.ts';

interface Timer {
  readonly dueMs: number;
  readonly task: () => void;
}

export class ManualClock implements Clock {
  #nowMs: number;
  #names = 0;
  readonly #timers = new Set<Timer>();
  #deferred: (() => void)[] = [];

  /** `startMs` in milliseconds since 1970; by default a whole second. */
  constructor(startMs = 1_700_000_000_000) {
    this.#nowMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }

  schedule(delayMs: number, task: () => void): CancelTimer {
    if (!(delayMs >= 0 && delayMs < Number.POSITIVE_INFINITY)) throw new RangeError(`a delay of ${delayMs} ms`);
    const timer: Timer = { dueMs: this.#nowMs + delayMs, task };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  defer(task: () => void): void {
    this.#deferred.push(task);
  }

  randomName(): string {
    return `name-${String(++this.#names).padStart(17, '0')}`;
  }

  /** Timers that have neither fired nor been cancelled. */
  get timerCount(): number {
    return this.#timers.size;
  }

  /** Ends the turn: calls what was deferred, and what that defers. */
  turn(): void {
    while (this.#deferred.length > 0) {
      const tasks = this.#deferred;
      this.#deferred = [];
      for (const task of tasks) task();
    }
  }

  /** Ends the turn, and lets time pass: the timers that fall due fire, each at its own time and in a turn of its own. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    this.turn();
    for (let next = this.#nextBy(endMs); next !== undefined; next = this.#nextBy(endMs)) {
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.task();
      this.turn();
    }
    this.#nowMs = endMs;
  }

  /** Time passes while the process is at something else: timers that fall due fire late, with the next `advance`. */
  lag(ms: number): void {
    this.#nowMs += ms;
  }

  #nextBy(endMs: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs <= endMs && (next === undefined || timer.dueMs < next.dueMs)) next = timer;
    }
    return next;
  }
}
