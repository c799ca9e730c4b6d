/** The ready messages of a priority queue: one list a priority, the highest that has messages goes first. */
import type { Page } from '../store.ts';
import { PagedList } from './paged-list.ts';
import type { QueuedMessage } from './queued-message.ts';
import type { ReadyList } from './ready-list.ts';

/** `ReadyList` or `PagedList`; `push` answers whether the message stays in memory. */
type Level = (ReadyList | PagedList) & { push(queued: QueuedMessage, survives: boolean): boolean };

export class PriorityList {
  /** Index = priority; made when first used. */
  readonly #levels: (Level | undefined)[];
  readonly #makeLevel: () => Level;

  constructor(maxPriority: number, makeLevel: () => Level) {
    this.#levels = new Array<Level | undefined>(maxPriority + 1).fill(undefined);
    this.#makeLevel = makeLevel;
  }

  get size(): number {
    let size = 0;
    for (const level of this.#levels) if (level !== undefined) size += level.size;
    return size;
  }

  /** The message that goes next has to be read first; see `PagedList`. */
  get waits(): boolean {
    return this.#highest()?.waits ?? false;
  }

  push(queued: QueuedMessage, survives: boolean): boolean {
    return this.#levelOf(queued.priority).push(queued, survives);
  }

  putBack(queued: QueuedMessage): void {
    this.#levelOf(queued.priority).putBack(queued);
  }

  adopt(page: Page): void {
    const level = this.#levelOf(Math.min(page.priority, this.#levels.length - 1));
    if (level instanceof PagedList) level.adopt(page);
  }

  shift(): QueuedMessage | undefined {
    return this.#highest()?.shift();
  }

  remove(queued: QueuedMessage): void {
    this.#levelOf(queued.priority).remove(queued);
  }

  clear(): QueuedMessage[] {
    return this.#levels.toReversed().flatMap((level) => level?.clear() ?? []);
  }

  stop(): void {
    for (const level of this.#levels) level?.stop();
  }

  #highest(): Level | undefined {
    return this.#levels.findLast((level) => level !== undefined && level.size > 0);
  }

  #levelOf(priority: number): Level {
    const level = this.#levels[priority] ?? this.#makeLevel();
    this.#levels[priority] = level;
    return level;
  }
}
