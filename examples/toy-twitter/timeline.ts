/** Somebody's inbox while he reads it: a consumer on his queue. What has not been taken when it ends is there the next time. */
import type { Channel, ChannelModel } from 'amqplib';
import { inboxQueue } from './names.ts';
import { type Deed, type Post, readMessage } from './posts.ts';

/** Messages that are handed over before the first is taken. */
const AHEAD = 50;

/** What to do with a message when it has been shown, or could not be. One of the two, once. */
export interface Settle {
  taken(): void;
  /** Back to where it was. */
  returned(): void;
}

export interface TimelineOptions {
  /** `item` is undefined for a message that makes no sense to us. */
  onItem(item: Post | Deed | undefined, settle: Settle): void;
  /** The inbox has been deleted, or the connection has ended. Not after `close`. */
  onEnd?(): void;
  /** Of several readers of one inbox, the one with the highest priority gets what comes (default 0). */
  readonly priority?: number;
}

/** Begins to read. Rejects with what amqplib says, also when there is no such inbox. */
export async function openTimeline(
  connection: ChannelModel,
  name: string,
  options: TimelineOptions,
): Promise<Timeline> {
  const channel = await connection.createChannel();
  channel.on('error', () => {});
  await channel.prefetch(AHEAD);
  const timeline = new Timeline(channel, inboxQueue(name), options);
  await timeline.setPriority(options.priority ?? 0);
  return timeline;
}

export class Timeline {
  readonly #channel: Channel;
  readonly #queue: string;
  readonly #options: TimelineOptions;
  #consumerTag: string | undefined;
  #priority: number | undefined;
  #turn: Promise<void> = Promise.resolve();
  #open = true;

  constructor(channel: Channel, queue: string, options: TimelineOptions) {
    this.#channel = channel;
    this.#queue = queue;
    this.#options = options;
    channel.once('close', () => this.#end());
  }

  /** Reads on with another priority. */
  setPriority(priority: number): Promise<void> {
    this.#turn = this.#turn.then(async () => {
      if (priority === this.#priority || !this.#open) return;
      this.#priority = priority;
      if (this.#consumerTag !== undefined) await this.#channel.cancel(this.#consumerTag);
      const { consumerTag } = await this.#channel.consume(this.#queue, (message) => this.#onMessage(message), {
        priority,
      });
      this.#consumerTag = consumerTag;
    });
    return this.#turn;
  }

  #onMessage(message: Parameters<Parameters<Channel['consume']>[1]>[0]): void {
    if (message === null) {
      void this.#channel.close().catch(() => {});
      return;
    }
    const settle = (act: () => void): void => {
      if (this.#open) act();
    };
    this.#options.onItem(readMessage(message), {
      taken: () => settle(() => this.#channel.ack(message)),
      returned: () => settle(() => this.#channel.nack(message)),
    });
  }

  #end(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#options.onEnd?.();
  }

  /** Reads no more; what has not been taken stays in the inbox. */
  async close(): Promise<void> {
    this.#open = false;
    await this.#channel.close().catch(() => {});
  }
}
