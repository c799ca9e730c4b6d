/**
 * Who is next: the consumers of one queue that may have credit, in rounds, the highest priority first.
 *
 * A consumer found without credit leaves the round and is let in again by whoever gives it credit (`enter`), so that a
 * queue with a thousand saturated consumers costs nothing to ask.
 */
import type { Consumer } from '../channel/consumer.ts';

interface Level {
  readonly priority: number;
  readonly consumers: Consumer[];
  turn: number;
}

export class ConsumerRound {
  /** Highest priority first. */
  readonly #levels: Level[] = [];

  /** Lets a consumer in at the end of its level's round; nothing happens if it is in. */
  enter(consumer: Consumer): void {
    if (consumer.inRound) return;
    consumer.inRound = true;
    const level = this.#levelFor(consumer.priority);
    // Just behind the one whose turn it is comes last in this round.
    level.consumers.splice(level.turn, 0, consumer);
    level.turn = (level.turn + 1) % level.consumers.length;
  }

  /** Takes out a consumer that will not come again, in the round or not. */
  leave(consumer: Consumer): void {
    const level = this.#levelFor(consumer.priority);
    if (consumer.inRound) removeAt(level, level.consumers.indexOf(consumer));
    // Priorities may be ever new ones; a level that others still use comes back by itself.
    if (level.consumers.length === 0) this.#levels.splice(this.#levels.indexOf(level), 1);
  }

  /** The consumer whose turn it is and who has credit; undefined when nobody has. */
  next(): Consumer | undefined {
    for (const level of this.#levels) {
      const consumers = level.consumers;
      while (consumers.length > 0) {
        const consumer = consumers[level.turn] as Consumer;
        if (consumer.hasCredit) {
          level.turn = level.turn + 1 < consumers.length ? level.turn + 1 : 0;
          return consumer;
        }
        removeAt(level, level.turn);
      }
    }
    return undefined;
  }

  #levelFor(priority: number): Level {
    let index = 0;
    for (; index < this.#levels.length; index++) {
      const level = this.#levels[index] as Level;
      if (level.priority === priority) return level;
      if (level.priority < priority) break;
    }
    const level: Level = { priority, consumers: [], turn: 0 };
    this.#levels.splice(index, 0, level);
    return level;
  }
}

function removeAt(level: Level, index: number): void {
  const [consumer] = level.consumers.splice(index, 1);
  if (consumer !== undefined) consumer.inRound = false;
  if (index < level.turn) level.turn--;
  if (level.turn >= level.consumers.length) level.turn = 0;
}
