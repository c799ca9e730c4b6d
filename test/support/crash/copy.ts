/** One thing that the broker has promised to keep, or may have: a message in a queue, or a declared name. */
import type { Op, Timeline } from './timeline.ts';

/** When something happens by itself: at `earliestMs` or later, and at `latestMs` at the latest (milliseconds since 1970). */
export interface Window {
  readonly earliestMs: number;
  /** Infinity while nobody knows when the broker took the message. */
  latestMs: number;
}

export interface CopyOptions {
  /** What made it; absent: it is there for certain. */
  readonly admission?: Op;
  /** Whose order it is part of, and its place in it. */
  readonly stream?: string;
  readonly n?: number;
  readonly priority?: number;
  /** False: it ends with the process. Default true. */
  readonly survives?: boolean;
  /** The time it lives in the queue, milliseconds, and where it goes then. */
  readonly lives?: { readonly ms: number; readonly onward: string };
  /** How long the exchange holds it back, milliseconds. */
  readonly delayMs?: number;
}

/** A delivery, as certain as the next op of its channel: nobody can ask later without having received before. */
interface Delivered {
  readonly queue: string;
  readonly timeline: Timeline;
  readonly index: number;
  readonly count: number;
}

export class Copy {
  readonly queue: string;
  readonly id: string;
  readonly stream: string;
  readonly n: number;
  readonly priority: number;
  readonly survives: boolean;
  /** Where it goes when its time is over. */
  readonly onward: string | undefined;
  /** It is not in the queue before its time. */
  readonly isDelayed: boolean;
  readonly window: Window | undefined;
  readonly #milliseconds: number;
  admission: Op | undefined;
  removal: Op | undefined;
  /** The life of the broker in which `removal` was asked. */
  removalLife = 0;
  /** It may never have come to be; which op made it is forgotten. */
  isDoubtful = false;
  /** Its place when all was last compared. */
  rank: { readonly queue: string; readonly n: number } | undefined;
  /** Somebody may have been sent it without getting to see it. */
  isOffered = false;
  /** The last delivery in this life of the broker. */
  delivered: Delivered | undefined;
  /** The queue in which it must come with the flag redelivered. */
  flaggedIn: string | undefined;
  /** The queue in which somebody has received it, recorded or not. */
  receivedIn: string | undefined;
  /** What its delivery count must be at least and can be at most. */
  countLeast = 0;
  countMost = 0;
  #returned: { readonly op: Op; readonly count: number } | undefined;

  constructor(queue: string, id: string, options: CopyOptions, nowMs: number) {
    this.queue = queue;
    this.id = id;
    this.admission = options.admission;
    this.stream = options.stream ?? '';
    this.n = options.n ?? 0;
    this.priority = options.priority ?? 0;
    this.survives = options.survives ?? true;
    this.onward = options.lives?.onward;
    this.isDelayed = options.delayMs !== undefined;
    this.#milliseconds = options.lives?.ms ?? options.delayMs ?? 0;
    const isTimed = this.isDelayed || this.onward !== undefined;
    this.window = isTimed ? { earliestMs: nowMs + this.#milliseconds, latestMs: Number.POSITIVE_INFINITY } : undefined;
  }

  /** The broker had it by now. */
  takenBy(nowMs: number): void {
    if (this.window !== undefined) this.#endBy(nowMs + this.#milliseconds);
  }

  #endBy(timeMs: number): void {
    if (this.window !== undefined) this.window.latestMs = Math.min(this.window.latestMs, timeMs);
  }

  /** What made it is on disk, so it is there unless it was removed. */
  get isCertain(): boolean {
    return !this.isDoubtful && (this.admission === undefined || this.admission.isCertain);
  }

  /** Received in `queue`; what is asked of `timeline` from now on proves it. */
  receive(queue: string, timeline: Timeline, count: number, nowMs: number): void {
    if (this.isDelayed || queue === this.onward) this.#endBy(nowMs);
    if (this.receivedIn !== queue) {
      this.countLeast = 0;
      this.#returned = undefined;
    }
    this.receivedIn = queue;
    this.delivered = { queue, timeline, index: timeline.length, count };
    this.countMost = count;
  }

  /** Given back: from now on it counts one more. `op` is absent when its channel ended instead. */
  giveBack(op: Op | undefined): void {
    const count = (this.delivered?.count ?? 0) + 1;
    if (op !== undefined) this.#returned = { op, count };
    this.countMost = Math.max(this.countMost, count);
  }

  /**
   * The broker is dead (or all its clients are, when `broker` is false): what it must remember is what was certain by now.
   */
  crash(broker: boolean, nowMs: number): void {
    this.takenBy(nowMs);
    const { delivered } = this;
    if (delivered !== undefined && delivered.index < delivered.timeline.least) {
      this.flaggedIn = delivered.queue;
      this.countLeast = Math.max(this.countLeast, delivered.count);
    }
    if (this.#returned?.op.isCertain === true) this.countLeast = Math.max(this.countLeast, this.#returned.count);
    this.#returned = undefined;
    this.delivered = undefined;
    // Whoever held it is gone, which may count as a return. When the clients die one after the other, it may have come to
    // each of them.
    this.countMost += broker ? 1 : Number.POSITIVE_INFINITY;
  }

  toString(): string {
    return `${this.id} in ${this.queue}`;
  }
}
