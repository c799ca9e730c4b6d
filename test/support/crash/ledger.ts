/**
 * What a broker owes after it was killed: every message and name that was asked of it, what it answered, what it handed
 * out and what was settled, kept in a process that is not killed. `compare` holds what is there after a restart against
 * it. docs/crash-tests.md says in words what is allowed.
 */
import { Copy, type CopyOptions } from './copy.ts';
import { deduce, type Finding } from './deduction.ts';
import { type Op, Timeline } from './timeline.ts';

/** A delivery as the client saw it. */
export interface Arrival {
  readonly redelivered: boolean;
  /** x-delivery-count; undefined where the queue does not say. */
  readonly count?: number | undefined;
  /** When this consumer had not been asked for yet, milliseconds since 1970. */
  readonly notBeforeMs?: number;
}

export interface LedgerOptions {
  /** Queues in which the order is not that of publishing. */
  readonly unordered?: readonly string[];
  /** Queues from which nobody consumes while there is load, so that nothing new in them may be flagged redelivered. */
  readonly untouched?: readonly string[];
  /** Queues from which somebody consumes without acks: what was sent to him is settled, heard or not. */
  readonly unacked?: readonly string[];
  /** Told of each broken promise when it is found. */
  readonly onViolation?: (text: string) => void;
}

/** How far the clocks of two processes of one machine, and the rounding of both, may be apart, milliseconds. */
const CLOCK_TOLERANCE_MS = 20;
/** So many violations are enough to see what is wrong. */
const VIOLATIONS_MAX = 50;

export class Ledger {
  readonly violations: string[] = [];
  /** What has been seen, for a report that shows that something was. */
  readonly counts = {
    asked: 0,
    answered: 0,
    arrived: 0,
    settled: 0,
    crashes: 0,
    compared: 0,
    /** Deliveries of the last moments before a kill that came back without the flag. */
    unflagged: 0,
    /** Ops nobody had answered, which turned out to have been recorded, and not to have been. */
    openKept: 0,
    openLost: 0,
  };
  readonly #unordered: ReadonlySet<string>;
  readonly #untouched: ReadonlySet<string>;
  readonly #unacked: ReadonlySet<string>;
  readonly #onViolation: ((text: string) => void) | undefined;
  /** By queue and id. One that moves by itself stands under both queues. */
  readonly #copies = new Map<string, Map<string, Copy>>();
  /** What ended, by queue: it must not come back. */
  readonly #gone = new Map<string, Set<string>>();
  #timelines: Timeline[] = [];
  /** Per channel, queue, stream and priority: the last that came for the first time. */
  readonly #firsts = new Map<string, number>();
  #life = 1;
  #size = 0;
  #ranks = 0;

  constructor(options: LedgerOptions = {}) {
    this.#unordered = new Set(options.unordered);
    this.#untouched = new Set(options.untouched);
    this.#unacked = new Set(options.unacked);
    this.#onViolation = options.onViolation;
  }

  /** Copies of which nobody has asked that they end. */
  get size(): number {
    return this.#size;
  }

  /** Ids of the copies of a queue or kind of which nobody has asked that they end. */
  live(place: string): readonly string[] {
    const ids: string[] = [];
    for (const [id, copy] of this.#copies.get(place) ?? []) if (copy.removal === undefined) ids.push(id);
    return ids;
  }

  /** Ids of all copies of a queue or kind that may be there. */
  possible(place: string): readonly string[] {
    return [...(this.#copies.get(place)?.keys() ?? [])];
  }

  /** Ids of the copies that ended there, the latest last. */
  gone(place: string): readonly string[] {
    return [...(this.#gone.get(place) ?? [])];
  }

  /** Something is not as promised. */
  violation(text: string): void {
    if (this.violations.length >= VIOLATIONS_MAX) return;
    this.violations.push(text);
    this.#onViolation?.(text);
  }

  /** A new channel; its name is for people and should be one of its kind. */
  timeline(name: string): Timeline {
    const timeline = new Timeline(name);
    this.#timelines.push(timeline);
    return timeline;
  }

  /** Something is to be there as soon as `admission` happened. An id may come again when it has ended. */
  expect(queue: string, id: string, options: CopyOptions = {}, nowMs = Date.now()): Copy {
    const copy = new Copy(queue, id, options, nowMs);
    this.#enter(queue, copy);
    if (copy.onward !== undefined) this.#enter(copy.onward, copy);
    this.counts.asked += 1;
    this.#size += 1;
    return copy;
  }

  #enter(queue: string, copy: Copy): void {
    const copies = this.#copies.get(queue) ?? new Map<string, Copy>();
    if (copies.has(copy.id)) throw new Error(`${copy.id} is in ${queue} already`);
    this.#copies.set(queue, copies.set(copy.id, copy));
    this.#gone.get(queue)?.delete(copy.id);
  }

  #find(queue: string, id: string): Copy | undefined {
    return this.#copies.get(queue)?.get(id);
  }

  /**
   * The answer to `op` has come, for these copies among others. `isProof`: it had to wait for the disk; where nothing of
   * it outlives the process, it says nothing of what was asked before.
   */
  answered(op: Op, copies: readonly Copy[] = [], isProof = true, nowMs = Date.now()): void {
    if (isProof) op.answered();
    for (const copy of copies) copy.takenBy(nowMs);
    this.counts.answered += 1;
  }

  /** A message came from `queue` on the channel of `timeline`. */
  arrived(queue: string, id: string, timeline: Timeline, arrival: Arrival, nowMs = Date.now()): void {
    this.counts.arrived += 1;
    const copy = this.#find(queue, id);
    if (copy === undefined) {
      const isOld = this.#gone.get(queue)?.has(id) === true;
      this.violation(isOld ? `${id} came back to ${queue}` : `${id} in ${queue} was never sent there`);
      return;
    }
    if (copy.removalLife === this.#life) this.violation(`${copy} came again after ${copy.removal}`);
    this.#checkTime(copy, queue, arrival, nowMs);
    this.#checkFlag(copy, queue, arrival);
    if (!arrival.redelivered) this.#checkFirst(copy, queue, timeline);
    const { count = 0 } = arrival;
    if (arrival.count !== undefined && copy.receivedIn === queue) {
      if (count < copy.countLeast) this.violation(`${copy} came ${count} times, before ${copy.countLeast} times`);
      if (count > copy.countMost) this.violation(`${copy} came ${count} times, but cannot more than ${copy.countMost}`);
    }
    copy.receive(queue, timeline, count, nowMs);
  }

  #checkTime(copy: Copy, queue: string, arrival: Arrival, nowMs: number): void {
    const { window } = copy;
    if (window === undefined) return;
    if (copy.isDelayed || queue === copy.onward) {
      const earlyMs = window.earliestMs - CLOCK_TOLERANCE_MS - nowMs;
      if (earlyMs > 0) this.violation(`${copy} came to ${queue} ${earlyMs} ms too early`);
    } else {
      const lateMs = (arrival.notBeforeMs ?? 0) - window.latestMs - CLOCK_TOLERANCE_MS;
      if (lateMs > 0) this.violation(`${copy} had expired ${lateMs} ms before somebody asked for it`);
    }
  }

  #checkFlag(copy: Copy, queue: string, arrival: Arrival): void {
    if (arrival.redelivered) {
      if (copy.receivedIn === undefined && !copy.isOffered && this.#untouched.has(queue))
        this.violation(`${copy} is flagged redelivered, but nobody ever got it`);
      return;
    }
    if (copy.delivered?.queue === queue) this.violation(`${copy} came twice without the flag redelivered`);
    else if (copy.flaggedIn === queue) this.violation(`${copy} lost its flag redelivered with a crash`);
    else if (copy.receivedIn === queue) this.counts.unflagged += 1;
  }

  /** What comes for the first time comes in order. */
  #checkFirst(copy: Copy, queue: string, timeline: Timeline): void {
    if (this.#unordered.has(queue)) return;
    const key = `${timeline.name} ${queue} ${copy.stream} ${copy.priority}`;
    const last = this.#firsts.get(key) ?? Number.NEGATIVE_INFINITY;
    if (copy.n <= last) this.violation(`${copy} came after ${last} of ${copy.stream} on ${timeline.name}`);
    this.#firsts.set(key, copy.n);
  }

  /** Somebody consumes from `queue` now, and may be sent what he never gets to see. */
  opened(queue: string): void {
    for (const copy of this.#copies.get(queue)?.values() ?? []) copy.isOffered = true;
  }

  /** `op` ends them: they were acked, rejected, purged or deleted. Answers them. */
  removed(op: Op, queue: string, ids: Iterable<string>): readonly Copy[] {
    const removed: Copy[] = [];
    for (const id of ids) {
      const copy = this.#find(queue, id);
      if (copy === undefined) continue;
      if (copy.removal === undefined) this.#size -= 1;
      copy.removal = op;
      copy.removalLife = this.#life;
      this.counts.settled += 1;
      removed.push(copy);
    }
    return removed;
  }

  /** They were given back to the queue, by `op` or by the end of their channel. */
  givenBack(op: Op | undefined, queue: string, ids: Iterable<string>): void {
    for (const id of ids) this.#find(queue, id)?.giveBack(op);
  }

  /**
   * The broker is dead, and everything it had said has been received. Or all its clients are (`broker` is false): then
   * what does not outlive the broker goes on.
   */
  crashed(broker = true, nowMs = Date.now()): void {
    this.counts.crashes += 1;
    this.#life += 1;
    this.#firsts.clear();
    for (const copy of this.#all()) {
      copy.crash(broker, nowMs);
      if (broker && !copy.survives) this.#bury(copy);
    }
  }

  /**
   * Delayed ones that must be due by now and are not among those seen: somebody should wait for them a little.
   */
  overdue(seen: ReadonlyMap<string, readonly string[]>, nowMs = Date.now()): readonly string[] {
    const late: string[] = [];
    for (const copy of this.#all()) {
      if (!copy.isDelayed || copy.removal !== undefined || !copy.isCertain) continue;
      if (nowMs < (copy.window?.latestMs ?? 0)) continue;
      if (seen.get(copy.queue)?.includes(copy.id) !== true) late.push(String(copy));
    }
    return late;
  }

  /**
   * Everything that is there now, by queue or kind, in its order; the broker has had no other work since the last crash.
   * Queues that are not named are empty. Afterwards all is certain, and new timelines begin.
   */
  compare(seen: ReadonlyMap<string, readonly string[]>, nowMs = Date.now()): void {
    this.counts.compared += 1;
    const places = this.#placesOf(seen);
    const findings: Finding[] = [];
    const hidden: Copy[] = [];
    const unheard: Copy[] = [];
    for (const copy of this.#all()) {
      const isThere = places.has(copy);
      if (!isThere && copy.isDelayed && nowMs < (copy.window?.latestMs ?? 0)) hidden.push(copy);
      else if (!isThere && copy.removal === undefined && this.#unacked.has(copy.queue)) unheard.push(copy);
      else findings.push({ copy, isThere });
    }
    for (const [queue, ids] of seen) if (!this.#unordered.has(queue)) this.#checkOrder(queue, ids);
    const certain = this.#timelines.reduce((sum, { least }) => sum + least, 0);
    for (const contradiction of deduce(findings)) this.violation(contradiction);
    for (const { least, most, length } of this.#timelines) {
      this.counts.openKept += least;
      this.counts.openLost += length - most;
    }
    this.counts.openKept -= certain;
    for (const copy of unheard) this.#bury(copy);
    for (const copy of hidden) this.#keep(copy, copy.isCertain);
    for (const { copy, isThere } of findings) {
      if (!isThere) this.#bury(copy);
      else this.#keep(copy, true);
    }
    for (const [queue, ids] of seen) for (const id of ids) this.#rank(queue, id);
    this.#size = [...this.#all()].length;
    this.#timelines = [];
  }

  #keep(copy: Copy, isCertain: boolean): void {
    copy.isDoubtful = !isCertain;
    copy.admission = undefined;
    copy.removal = undefined;
    copy.removalLife = 0;
  }

  #rank(queue: string, id: string): void {
    const copy = this.#find(queue, id);
    this.#ranks += 1;
    if (copy !== undefined) copy.rank = { queue, n: this.#ranks };
  }

  /** Where each copy was seen; says when one was seen twice, or nothing is known of it. */
  #placesOf(seen: ReadonlyMap<string, readonly string[]>): Map<Copy, string> {
    const places = new Map<Copy, string>();
    for (const [queue, ids] of seen) {
      for (const id of ids) {
        const copy = this.#find(queue, id);
        if (copy === undefined) {
          const isOld = this.#gone.get(queue)?.has(id) === true;
          this.violation(isOld ? `${id} is back in ${queue}` : `${id} is in ${queue}, and nobody put it there`);
        } else if (places.has(copy)) this.violation(`${copy} is there twice: in ${places.get(copy)} and in ${queue}`);
        else places.set(copy, queue);
      }
    }
    return places;
  }

  /** By priority, then as before, then what is new; and what one stream sent in the order in which it sent it. */
  #checkOrder(queue: string, ids: readonly string[]): void {
    const last = new Map<string, Copy>();
    let before: Copy | undefined;
    for (const id of ids) {
      const copy = this.#find(queue, id);
      if (copy === undefined) continue;
      if (before !== undefined && copy.priority > before.priority) this.violation(`${copy} comes after ${before}`);
      if (before?.priority === copy.priority && rankIn(queue, copy) < rankIn(queue, before))
        this.violation(`${copy} comes after ${before}, and came before it earlier`);
      const key = `${copy.stream} ${copy.priority}`;
      const previous = last.get(key);
      if (previous !== undefined && previous.n >= copy.n) this.violation(`${copy} comes after ${previous}`);
      last.set(key, copy);
      before = copy;
    }
  }

  #bury(copy: Copy): void {
    for (const queue of copy.onward === undefined ? [copy.queue] : [copy.queue, copy.onward]) {
      this.#copies.get(queue)?.delete(copy.id);
      const gone = this.#gone.get(queue) ?? new Set();
      this.#gone.set(queue, gone.add(copy.id));
    }
  }

  /** Each once. */
  *#all(): Generator<Copy> {
    for (const [queue, copies] of this.#copies) {
      for (const copy of [...copies.values()]) if (copy.queue === queue) yield copy;
    }
  }
}

/** Its place among those that were there when all was last compared; what is new comes after them. */
function rankIn(queue: string, { rank }: Copy): number {
  return rank?.queue === queue ? rank.n : Number.POSITIVE_INFINITY;
}
