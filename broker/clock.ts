/** Time and chance, injected so that tests can hold them. The only place of the broker that asks for either. */

/** Ends a scheduled call; harmless when it has already happened. */
export type CancelTimer = () => void;

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls `task` once, at or soon after `delayMs` from now; any finite delay from 0 on, also beyond 24 days. */
  schedule(delayMs: number, task: () => void): CancelTimer;
  /** Calls `task` after the current turn and all promise reactions it leads to. */
  defer(task: () => void): void;
  /** A fresh name that nobody can guess: 22 characters of base64url, 128 random bits. */
  randomName(): string;
}

/** Node fires a timer with a longer delay at once, so longer ones are taken in steps. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** The real clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  schedule(delayMs, task) {
    const due = Date.now() + delayMs;
    let timer: NodeJS.Timeout;
    const arm = (): void => {
      const leftMs = Math.max(0, due - Date.now());
      timer = setTimeout(leftMs > TIMER_MAX_MS ? arm : task, Math.min(leftMs, TIMER_MAX_MS)).unref();
    };
    arm();
    return () => clearTimeout(timer);
  },
  defer: (task) => void setImmediate(task),
  randomName() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return btoa(String.fromCharCode(...bytes))
      .replaceAll('+', '-')
      .replaceAll('/', '_')
      .replaceAll('=', '');
  },
};
