/** The deliveries of one channel that must be settled in time, under a consumer timeout. [RabbitMQ: consumer timeout] */
import type { CancelTimer, Clock } from '../clock.ts';
import type { QueuedMessage } from '../queue/queued-message.ts';
import type { Consumer } from './consumer.ts';

export class AckDeadlines {
  readonly #clock: Clock;
  readonly #unacked: Iterable<QueuedMessage>;
  readonly #onLate: (consumer: Consumer) => void;
  /** When the deliveries are looked at next; milliseconds since 1970. */
  #checkAtMs = Number.POSITIVE_INFINITY;
  #cancelTimer: CancelTimer | undefined;

  /** `unacked` are the deliveries now; `onLate` is called once for each consumer that holds one past its time. */
  constructor(clock: Clock, unacked: Iterable<QueuedMessage>, onLate: (consumer: Consumer) => void) {
    this.#clock = clock;
    this.#unacked = unacked;
    this.#onLate = onLate;
  }

  /** The time of a delivery begins now. */
  begin(queued: QueuedMessage, timeoutMs: number): void {
    queued.ackDueMs = this.#clock.now() + timeoutMs;
    this.watch(queued);
  }

  /** A delivery is unacked again, its time runs on; does nothing for one without a deadline. */
  watch({ ackDueMs }: QueuedMessage): void {
    if (ackDueMs > 0) this.#checkAt(ackDueMs);
  }

  /** No more checks. */
  stop(): void {
    this.#cancelTimer?.();
  }

  #checkAt(dueMs: number): void {
    if (dueMs >= this.#checkAtMs) return;
    this.#cancelTimer?.();
    this.#checkAtMs = dueMs;
    this.#cancelTimer = this.#clock.schedule(Math.max(0, dueMs - this.#clock.now()), () => this.#check());
  }

  #check(): void {
    this.#checkAtMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#clock.now();
    const late = new Set<Consumer>();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const { consumer, ackDueMs } of this.#unacked) {
      if (ackDueMs === 0 || consumer === undefined) continue;
      if (ackDueMs <= nowMs) late.add(consumer);
      else nextMs = Math.min(nextMs, ackDueMs);
    }
    this.#checkAt(nextMs);
    for (const consumer of late) this.#onLate(consumer);
  }
}
