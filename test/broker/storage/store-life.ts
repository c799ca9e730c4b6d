/**
 * A store under test with a simple model beside it: what is in custody, which of it is in memory and which in pages, and
 * how it was after every turn, so that what a crash leaves can be compared with all that it may leave.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Clock } from '../../../broker/clock.ts';
import { createMessage, type Message } from '../../../broker/message.ts';
import { openStore } from '../../../broker/storage/open-store.ts';
import type { Holder, Page, Restored, Store, StoreEvent } from '../../../broker/store.ts';
import type { FaultyFiles } from '../../support/faulty-files.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { TestCustody, TestPage } from './test-custody.ts';

export const DATA_DIR = '/data';

/** Timers fire when the test says so; turns end by themselves. */
export class TurningClock extends ManualClock {
  override defer(task: () => void): void {
    setImmediate(task);
  }
}

/** What is compared: how a message came back, or should have. */
export interface Seen {
  readonly holder: number;
  readonly position: number;
  readonly priority: number;
  readonly expiresAtMs: number;
  readonly text: string;
  readonly returnCount: number;
  readonly heldUntilMs: number;
}

/** A queue: a holder with a definition. */
interface TestQueue {
  readonly name: string;
  readonly holder: Holder;
  lastPosition: number;
  memory: TestCustody[];
  pages: TestPage[];
}

/** What would be there after a restart, as of some turn. */
interface Snapshot {
  readonly names: readonly string[];
  readonly messages: ReadonlyMap<string, Seen>;
  readonly delivered: ReadonlyMap<number, number>;
}

export interface LifeOptions {
  readonly segmentBytes: number;
  readonly batchBytes?: number;
  readonly turnBytesMax?: number;
  readonly cleanSegmentsMin?: number;
  readonly recover?: 'refuse' | 'salvage';
  readonly reserveBytes?: number;
  readonly onEvent?: (event: StoreEvent) => void;
  readonly clock?: Clock;
}

function keyOf({ holder, position }: { readonly holder: number; readonly position: number }): string {
  return `${holder}/${position}`;
}

function textOf(message: Message): string {
  return Buffer.from(message.body).toString();
}

/** One process on a disk. */
export class StoreLife {
  readonly store: Store;
  readonly files: FaultyFiles;
  readonly clock: TurningClock;
  readonly queues: TestQueue[] = [];
  /** After every turn; the last is now. */
  readonly snapshots: Snapshot[] = [];
  /** Index of the last snapshot that somebody was told to be on disk. */
  confirmed = -1;
  #named = 0;

  private constructor(store: Store, files: FaultyFiles, clock: TurningClock) {
    this.store = store;
    this.files = files;
    this.clock = clock;
  }

  /** Opens what is on the disk; undefined when the disk crashes meanwhile. */
  static async open(files: FaultyFiles, options: LifeOptions): Promise<StoreLife | undefined> {
    const clock = new TurningClock();
    const opening = openStore({ dataDir: DATA_DIR, version: '0.1.0', files, clock, reserveBytes: 0, ...options });
    const store = await untilCrash(files, clock, opening);
    if (store === undefined) return undefined;
    const life = new StoreLife(store, files, clock);
    life.#restore();
    return life;
  }

  #restore(): void {
    for (const { key, value } of this.store.definitions('queue')) {
      const { holder: id } = value as { holder: number };
      const { holder, pages, held, lastPosition } = this.store.restore(id);
      const queue: TestQueue = { name: key[0] ?? '', holder, lastPosition, memory: [], pages: [] };
      for (const page of [...pages, ...held]) queue.pages.push(new TestPage(page.priority, page));
      this.queues.push(queue);
      this.#named = Math.max(this.#named, Number(queue.name.slice(1)));
    }
    this.store.restored();
  }

  /** Reads all pages; what they hold is in memory then. Undefined when the disk crashes meanwhile. */
  async loadAll(): Promise<Seen[] | undefined> {
    const seen: Seen[] = [];
    for (const queue of this.queues) {
      const before = new Map<number, number>();
      for (const { page } of queue.pages.splice(0)) {
        const restored = await untilCrash(this.files, this.clock, this.store.load(page));
        if (restored === undefined) return undefined;
        for (const each of restored) {
          this.#addRestored(queue, each);
          seen.push(seenOf(queue.holder.id, each));
        }
        checkPage(page, restored);
        if (restored.every(({ heldUntilMs }) => heldUntilMs === 0)) {
          expect(page.firstPosition).toBeGreaterThan(before.get(page.priority) ?? 0);
          before.set(page.priority, page.lastPosition);
        }
      }
    }
    return seen;
  }

  #addRestored(queue: TestQueue, each: Restored): TestCustody {
    const custody = new TestCustody(queue.holder, each, textOf(each.message), true);
    custody.returnCount = each.returnCount;
    custody.heldUntilMs = each.heldUntilMs;
    custody.record = each.record;
    custody.slot = each.slot;
    queue.memory.push(custody);
    return custody;
  }

  /** Takes over as the truth what another process has read from the same disk. */
  adopt(seen: readonly Seen[]): void {
    const all = new Map(seen.map((each) => [keyOf(each), each]));
    for (const queue of this.queues) {
      const mine = seen.filter(({ holder }) => holder === queue.holder.id);
      for (const entry of queue.pages) {
        const { firstPosition, lastPosition, priority, count } = entry.page;
        for (const each of mine) {
          if (each.priority !== priority || each.position < firstPosition || each.position > lastPosition) continue;
          if (entry.custodies.length === count || !all.delete(keyOf(each))) continue;
          const custody = new TestCustody(queue.holder, each, each.text, true);
          custody.returnCount = each.returnCount;
          custody.heldUntilMs = each.heldUntilMs;
          entry.custodies.push(custody);
        }
        expect(entry.custodies).toHaveLength(count);
      }
    }
    expect([...all.keys()]).toEqual([]);
    this.endTurn();
    this.confirmed = 0;
  }

  declare(): void {
    const holder = this.store.holder();
    const name = `q${++this.#named}`;
    this.store.define('queue', [name], { holder: holder.id, big: 7n });
    this.queues.push({ name, holder, lastPosition: 0, memory: [], pages: [] });
  }

  delete(queue: TestQueue): void {
    this.queues.splice(this.queues.indexOf(queue), 1);
    this.store.undefine('queue', [queue.name]);
    for (const custody of queue.memory) if (custody.record !== undefined) this.store.settle(custody);
    for (const { page } of queue.pages) this.store.settlePage(page);
  }

  /** One message for each of the queues; those with their bit in `stows` set do not keep it in memory. */
  publish(queues: readonly TestQueue[], bodyBytes: number, priority: number, survives: boolean, stows = 0): void {
    const text = `${this.snapshots.length} ${queues.map(({ name }) => name)} `.padEnd(bodyBytes, 'x');
    const message = createMessage({ exchange: 'e', routingKey: `k${priority}`, body: text, properties: { priority } });
    for (const [index, queue] of queues.entries()) {
      const facts = {
        position: ++queue.lastPosition,
        priority,
        expiresAtMs: bodyBytes % 3 === 0 ? 1_800_000_000_000 + bodyBytes : Number.POSITIVE_INFINITY,
      };
      const custody = new TestCustody(queue.holder, facts, text, survives);
      if ((stows & (1 << index)) !== 0) this.#stow(queue, custody, message);
      else {
        queue.memory.push(custody);
        this.store.admit(custody, message, survives);
      }
    }
  }

  #stow(queue: TestQueue, custody: TestCustody, message: Message): void {
    const { priority, survives } = custody;
    let entry = queue.pages.find((each) => each.growing !== undefined && each.priority === priority);
    if (entry === undefined) {
      entry = new TestPage(priority, this.store.newPage(queue.holder, priority));
      queue.pages.push(entry);
    }
    entry.growing?.add(custody, message, survives);
    entry.custodies.push(custody);
  }

  settle(queue: TestQueue, index: number): void {
    const [custody] = queue.memory.splice(index % queue.memory.length, 1);
    if (custody?.record !== undefined) this.store.settle(custody);
  }

  amend(queue: TestQueue, index: number, held: boolean): void {
    const custody = queue.memory[index % queue.memory.length];
    if (custody?.record === undefined) return;
    custody.returnCount++;
    custody.heldUntilMs = held ? 1_800_000_000_000 : 0;
    this.store.amend(custody);
  }

  deliver({ holder, lastPosition }: TestQueue): void {
    holder.deliveredThrough = lastPosition;
    if (!holder.dirty) this.store.delivered(holder);
  }

  /** Pages out what is written of one priority, from the `skip`-th on. */
  pageOut(queue: TestQueue, priority: number, skip: number): void {
    const run = queue.memory
      .filter(
        (custody) => custody.priority === priority && custody.record?.written === true && custody.heldUntilMs === 0,
      )
      .sort((a, b) => a.position - b.position)
      .slice(skip);
    if (run.length === 0) return;
    const bodyBytes = run.reduce((sum, { text }) => sum + text.length, 0);
    queue.memory = queue.memory.filter((custody) => !run.includes(custody));
    queue.pages.push(new TestPage(priority, this.store.page(queue.holder, run, bodyBytes), run));
  }

  /** Brings a page back, and compares. False when the disk crashes meanwhile. */
  async load(queue: TestQueue, index: number): Promise<boolean> {
    const [entry] = queue.pages.splice(index % queue.pages.length, 1);
    if (entry === undefined) return true;
    const { page, custodies } = entry;
    const restored = await untilCrash(this.files, this.clock, this.store.load(page));
    if (restored === undefined) return false;
    checkPage(page, restored);
    const expected = custodies.map((custody) => seenOfCustody(custody));
    expect(restored.map((each) => seenOf(queue.holder.id, each))).toEqual(
      expected.sort((a, b) => a.position - b.position),
    );
    const survives = new Map(custodies.map((custody) => [custody.position, custody.survives]));
    for (const each of restored) {
      queue.memory.push(
        Object.assign(this.#addRestored(queue, each), { survives: survives.get(each.position) ?? true }),
      );
      queue.memory.pop();
    }
    return true;
  }

  settlePage(queue: TestQueue, index: number): void {
    const [entry] = queue.pages.splice(index % queue.pages.length, 1);
    if (entry !== undefined) this.store.settlePage(entry.page);
  }

  /** The turn is over; what it did is one of the states that may be found later. */
  endTurn(): void {
    const messages = new Map<string, Seen>();
    const delivered = new Map<number, number>();
    for (const { holder, memory, pages } of this.queues) {
      delivered.set(holder.id, holder.deliveredThrough);
      for (const custody of [...memory, ...pages.flatMap(({ custodies }) => custodies)]) {
        if (custody.survives)
          messages.set(keyOf({ holder: holder.id, position: custody.position }), seenOfCustody(custody));
      }
    }
    this.snapshots.push({ names: this.queues.map(({ name }) => name), messages, delivered });
  }

  /** So many turns of the event loop, and one, pass; and a little time. */
  async pass(turns: number): Promise<void> {
    for (let turn = 0; turn <= turns; turn++) await nextTurn();
    this.clock.advance(turns);
  }

  /** Everything until now is to be on disk at some time. */
  confirmLater(): void {
    const turn = this.snapshots.length;
    const onSynced = (): void => {
      this.confirmed = Math.max(this.confirmed, turn);
    };
    this.store.whenSynced({ onSynced });
  }

  /** False when the disk crashes before. */
  async sync(): Promise<boolean> {
    const turn = this.snapshots.length - 1;
    const done = await untilCrash(
      this.files,
      this.clock,
      this.store.synced().then(() => true),
    );
    if (done === true) this.confirmed = Math.max(this.confirmed, turn);
    return done === true;
  }

  /** False when that is not possible in time, or the disk crashes before. */
  async close(): Promise<boolean> {
    const closing = this.store.close().then(
      () => true,
      () => false,
    );
    const done = await untilCrash(this.files, this.clock, closing);
    if (done === true) this.confirmed = this.snapshots.length - 1;
    return done === true;
  }

  /** Compares what the next process has found with what it may find. */
  check(next: StoreLife, seen: readonly Seen[]): void {
    const found = new Map(seen.map((each) => [keyOf(each), each]));
    expect(found.size).toBe(seen.length);
    const names = next.queues.map(({ name }) => name);
    const reasons: string[] = [];
    for (let turn = this.snapshots.length - 1; turn >= Math.max(0, this.confirmed); turn--) {
      const reason = this.#difference(turn, names, found);
      if (reason === undefined) return;
      reasons.push(`after turn ${turn}: ${reason}`);
    }
    expect.unreachable(
      `what was found is no state of ${this.confirmed} to ${this.snapshots.length - 1}\n${reasons.join('\n')}`,
    );
  }

  #difference(turn: number, names: readonly string[], found: ReadonlyMap<string, Seen>): string | undefined {
    const snapshot = this.snapshots[turn] as Snapshot;
    if (names.join() !== snapshot.names.join()) return `queues ${names}, not ${snapshot.names}`;
    for (const key of snapshot.messages.keys()) if (!found.has(key)) return `${key} is missing`;
    for (const [key, each] of found) {
      const expected = snapshot.messages.get(key);
      if (expected === undefined) return `${key} is too much`;
      const { returnCount, heldUntilMs, ...rest } = each;
      const { returnCount: returnedThen, heldUntilMs: heldThen, ...restThen } = expected;
      if (JSON.stringify(rest) !== JSON.stringify(restThen)) return `${key} is ${JSON.stringify(rest)}`;
      // Read when it is written, which may be a few turns later.
      const later = this.snapshots.slice(turn).flatMap(({ messages }) => messages.get(key) ?? []);
      const through = Math.max(...this.snapshots.map(({ delivered }) => delivered.get(each.holder) ?? 0));
      const isFlagged = returnCount === 1 && each.position <= through;
      if (!isFlagged && !later.some((state) => state.returnCount === returnCount)) {
        return `${key} has come back ${returnCount} times, not ${returnedThen}`;
      }
      if (!later.some((state) => state.heldUntilMs === heldUntilMs))
        return `${key} is held ${heldUntilMs}, not ${heldThen}`;
    }
    return undefined;
  }
}

function seenOf(
  holder: number,
  { message, position, priority, expiresAtMs, returnCount, heldUntilMs }: Restored,
): Seen {
  expect(message.exchange).toBe('e');
  expect(message.routingKey).toBe(`k${priority}`);
  expect(message.properties).toEqual({ priority });
  return { holder, position, priority, expiresAtMs, text: textOf(message), returnCount, heldUntilMs };
}

function seenOfCustody(custody: TestCustody): Seen {
  const { holder, position, priority, expiresAtMs, text, returnCount, heldUntilMs } = custody;
  return { holder: holder.id, position, priority, expiresAtMs, text, returnCount, heldUntilMs };
}

/** What a page says of itself is so. */
function checkPage(page: Page, restored: readonly Restored[]): void {
  expect(restored).toHaveLength(page.count);
  expect(restored.reduce((sum, { message }) => sum + message.bodyBytes, 0)).toBe(page.bodyBytes);
  expect(Math.min(...restored.map(({ expiresAtMs }) => expiresAtMs))).toBe(page.expiresAtMs);
  expect(restored[0]?.position).toBe(page.firstPosition);
  expect(restored.at(-1)?.position).toBe(page.lastPosition);
  for (const { priority } of restored) expect(priority).toBe(page.priority);
  for (let index = 1; index < restored.length; index++) {
    expect(restored[index]?.position).toBeGreaterThan(restored[index - 1]?.position ?? 0);
  }
}

/** Turns after which something that should have happened never will. */
const TURNS_MAX = 20_000;

/** The outcome of `promise`, with time passing; undefined when the disk crashes before. */
export async function untilCrash<Result>(
  files: FaultyFiles,
  clock: ManualClock,
  promise: Promise<Result>,
): Promise<Result | undefined> {
  let outcome: { readonly value: Result } | { readonly error: unknown } | undefined;
  promise.then(
    (value) => {
      outcome = { value };
    },
    (error) => {
      outcome = { error };
    },
  );
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    await nextTurn();
    if (outcome !== undefined) {
      if ('error' in outcome) throw outcome.error;
      return outcome.value;
    }
    if (files.crashed) return undefined;
    if (turn % 8 === 7) clock.advance(turn > 1000 ? 1000 : 5);
  }
  throw new Error('nothing happens any more');
}
