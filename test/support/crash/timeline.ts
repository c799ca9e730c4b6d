/**
 * What one channel asked of the broker, in the order in which it asked. The broker works a channel off in that order and
 * records what it did in that order, so whenever it dies, what has been recorded of a channel is a beginning of its
 * timeline: nothing is missing from the middle. An answer that waits for the disk (a confirm, a declare-ok, a commit-ok)
 * makes everything certain that was asked on the channel before it.
 */

export class Op {
  readonly timeline: Timeline;
  /** Its place in the timeline, from 0 on. */
  readonly index: number;
  /** What it was, for people. */
  readonly what: string;

  constructor(timeline: Timeline, index: number, what: string) {
    this.timeline = timeline;
    this.index = index;
    this.what = what;
  }

  /** Its answer has come: it is on disk, and everything asked before it. */
  answered(): void {
    this.timeline.happened(this.index + 1, `${this.what} was answered`);
  }

  get isCertain(): boolean {
    return this.index < this.timeline.least;
  }

  get isVoid(): boolean {
    return this.index >= this.timeline.most;
  }

  toString(): string {
    return `${this.what} (${this.timeline.name} ${this.index})`;
  }
}

export class Timeline {
  readonly name: string;
  #length = 0;
  #least = 0;
  #most = Number.POSITIVE_INFINITY;
  #leastBecause = '';
  #mostBecause = '';

  constructor(name: string) {
    this.name = name;
  }

  /** How many of the first ops have been recorded for certain. */
  get least(): number {
    return this.#least;
  }

  /** How many of the first ops may have been recorded. */
  get most(): number {
    return Math.min(this.#most, this.#length);
  }

  /** How many were asked. What is asked from now on has this index or a higher one. */
  get length(): number {
    return this.#length;
  }

  /** Call it before the octets leave. */
  ask(what: string): Op {
    const op = new Op(this, this.#length, what);
    this.#length += 1;
    return op;
  }

  /** The first `count` ops have been recorded. Answers what contradicts it, or undefined. */
  happened(count: number, because: string): string | undefined {
    if (count <= this.#least) return undefined;
    if (count > this.most) return this.#mostBecause;
    this.#least = count;
    this.#leastBecause = because;
    return undefined;
  }

  /** None but the first `count` ops has been recorded. Answers what contradicts it, or undefined. */
  ended(count: number, because: string): string | undefined {
    if (count >= this.most) return undefined;
    if (count < this.#least) return this.#leastBecause;
    this.#most = count;
    this.#mostBecause = because;
    return undefined;
  }
}
