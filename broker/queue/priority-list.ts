/** The ready messages of a priority queue: one `ReadyList` a priority, the highest that has messages goes first. */
import type { QueuedMessage } from './queued-message.ts';
import { ReadyList } from './ready-list.ts';

export class PriorityList {
  size = 0;
  /** Index = priority; made when first used. */
  readonly #levels: (ReadyList | undefined)[];

  constructor(maxPriority: number) {
    this.#levels = new Array<ReadyList | undefined>(maxPriority + 1).fill(undefined);
  }

  push(queued: QueuedMessage): void {
    this.#levelOf(queued).push(queued);
    this.size++;
  }

  putBack(queued: QueuedMessage): void {
    this.#levelOf(queued).putBack(queued);
    this.size++;
  }

  peek(): QueuedMessage | undefined {
    return this.#highest()?.peek();
  }

  shift(): QueuedMessage | undefined {
    const queued = this.#highest()?.shift();
    if (queued !== undefined) this.size--;
    return queued;
  }

  remove(queued: QueuedMessage): void {
    this.#levelOf(queued).remove(queued);
    this.size--;
  }

  clear(): QueuedMessage[] {
    this.size = 0;
    return this.#levels.toReversed().flatMap((level) => level?.clear() ?? []);
  }

  toArray(): QueuedMessage[] {
    return this.#levels.toReversed().flatMap((level) => level?.toArray() ?? []);
  }

  #highest(): ReadyList | undefined {
    if (this.size === 0) return undefined;
    return this.#levels.findLast((level) => level !== undefined && level.size > 0);
  }

  #levelOf(queued: QueuedMessage): ReadyList {
    this.#levels[queued.priority] ??= new ReadyList();
    return this.#levels[queued.priority] as ReadyList;
  }
}
