/**
 * Whether somebody may publish now: not while an alarm is in force, which he is told, and not while the broker catches up
 * with its disk, which is a matter of moments and which he waits out.
 */
import type { Alarm, ConnectionEvents } from '../../broker/port.ts';
import { HttpError } from './http-error.ts';

/** What the broker says to one connection about publishing. */
export class Admission {
  #alarmed = false;
  #held = false;
  readonly #waiting = new Set<() => void>();

  /** For `Broker.connect`. */
  readonly events: Pick<ConnectionEvents, 'onAlarms' | 'onFlow'> = {
    onAlarms: (alarms: readonly Alarm[]) => {
      this.#alarmed = alarms.length > 0;
    },
    onFlow: (held: boolean) => {
      this.#held = held;
      if (held) return;
      for (const go of this.#waiting) go();
      this.#waiting.clear();
    },
  };

  /** For a connection that was opened just now: resolves when the broker has said what is in force, at the end of its turn. */
  settled(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  /** Resolves when publishing is welcome. Rejects with HttpError 503 under an alarm, and after `waitMs`. */
  async pass(waitMs: number): Promise<void> {
    if (this.#held) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, waitMs);
        this.#waiting.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    if (this.#alarmed || this.#held) {
      throw new HttpError(503, 'publishers are held back for want of memory or disk', { 'Retry-After': '5' });
    }
  }
}
