/**
 * Toy Twitter on any AMQP 0-9-1 broker: an exchange for what you send, a queue for what you read, a binding for whom you
 * follow. Nothing else is kept anywhere; this file speaks plain AMQP through amqplib, and runs on Warren as on RabbitMQ.
 *
 * ```
 *  anna posts                                                      ben reads
 *  twitter.user.anna ──say──▶ twitter.inbox.ben     (ben follows anna)
 *         └──#──▶ twitter.everyone ──say──────────▶ twitter.archive    the latest posts, for `search`
 *                        ├──join leave follow.# …──▶ twitter.graph      who follows whom, for `followers`
 *                        └──follow.ben unfollow.ben─▶ twitter.inbox.ben  "anna decided to follow you"
 * ```
 *
 * Everything that somebody does is published to his own exchange, follows included, so that one right per person (write to
 * your exchange, read from your inbox) is all the security there is to arrange.
 */
import {
  type Channel,
  type ChannelModel,
  type ConfirmChannel,
  type ConsumeMessage,
  connect,
  type GetMessage,
} from 'amqplib';
import { browse, isNotFound, withChannel } from './browse.ts';
import { FOLLOWING_MAX, Graph, type GraphRecord } from './graph.ts';
import {
  ARCHIVE_QUEUE,
  EVERYONE,
  GRAPH_QUEUE,
  inboxQueue,
  keyPart,
  POST_KEY,
  TwitterError,
  userExchange,
} from './names.ts';
import { type Deed, type Outgoing, type Post, readMessage, writeDeed, writePost } from './posts.ts';
import { openTimeline, type Timeline, type TimelineOptions } from './timeline.ts';

/** Unread messages that an inbox keeps; then the oldest goes. */
export const INBOX_MAX = 10_000;
/** Posts of all that can be searched. */
export const ARCHIVE_MAX = 1000;
/** Deeds beyond what the graph itself would need, before they are written down as one. */
export const SPARE_DEEDS_MAX = 500;

const GRAPH_KEYS = ['join', 'leave', 'contact', 'follow.#', 'unfollow.#'];
const RECORD_TYPE = 'application/vnd.toy-twitter.graph+json';

/** No broker is made to choose another kind by its defaults. */
const CLASSIC = { 'x-queue-type': 'classic' };

/** What happened when somebody joined. */
export type Joined = 'new' | 'back' | 'already';

export class Twitter {
  readonly #connection: ChannelModel;
  readonly #publishing: ConfirmChannel;
  #live: Graph | undefined;
  /** Deeds since they were looked at. */
  #heard = 0;
  #shortening = false;
  #looking: Promise<unknown> = Promise.resolve();
  /** Whom to tell when a deed of ours has come round, by message id. */
  readonly #seen = new Map<string, () => void>();

  private constructor(connection: ChannelModel, publishing: ConfirmChannel) {
    this.#connection = connection;
    this.#publishing = publishing;
    connection.on('error', () => {});
    publishing.on('error', () => {});
  }

  /** Connects, and makes what all share. Rejects with what amqplib says. */
  static async connect(url: string): Promise<Twitter> {
    const connection = await connect(url, { clientProperties: { connection_name: 'toy-twitter' } });
    try {
      await withChannel(connection, async (channel) => {
        await channel.assertExchange(EVERYONE, 'topic');
        await channel.assertQueue(GRAPH_QUEUE, { arguments: CLASSIC });
        for (const key of GRAPH_KEYS) await channel.bindQueue(GRAPH_QUEUE, EVERYONE, key);
        await channel.assertQueue(ARCHIVE_QUEUE, { arguments: { ...CLASSIC, 'x-max-length': ARCHIVE_MAX } });
        await channel.bindQueue(ARCHIVE_QUEUE, EVERYONE, POST_KEY);
      });
      return new Twitter(connection, await connection.createConfirmChannel());
    } catch (error) {
      await connection.close().catch(() => {});
      throw error;
    }
  }

  /** Calls once when the connection has ended without `close`. */
  onLost(listener: () => void): void {
    this.#connection.once('close', listener);
  }

  async close(): Promise<void> {
    this.#connection.removeAllListeners('close');
    await this.#connection.close().catch(() => {});
  }

  // ---- what people do

  /** Makes somebody's exchange and inbox. To do it again changes nothing. */
  async join(name: string): Promise<Joined> {
    const graph = await this.graph();
    await withChannel(this.#connection, async (channel) => {
      await channel.assertExchange(userExchange(name), 'topic');
      await channel.bindExchange(EVERYONE, userExchange(name), '#');
      await channel.assertQueue(inboxQueue(name), { arguments: { ...CLASSIC, 'x-max-length': INBOX_MAX } });
      for (const key of ['follow', 'unfollow']) {
        await channel.bindQueue(inboxQueue(name), EVERYONE, `${key}.${keyPart(name)}`);
      }
    });
    if (graph.has(name)) return 'already';
    const isBack = graph.hasLeft(name);
    await this.#do({ kind: 'deed', deed: 'join', who: name });
    return isBack ? 'back' : 'new';
  }

  /** Takes somebody's exchange and inbox away, and with them all that was followed. False: there was nobody of that name. */
  async leave(name: string): Promise<boolean> {
    if (!(await this.#isThere(name))) return false;
    await this.#do({ kind: 'deed', deed: 'leave', who: name });
    await withChannel(this.#connection, async (channel) => {
      await channel.deleteQueue(inboxQueue(name));
      await channel.deleteExchange(userExchange(name));
    });
    return true;
  }

  /** Resolves when the broker has the post. Rejects with TwitterError: empty, too-long, not-joined. */
  async post(name: string, text: string): Promise<Post> {
    const outgoing = writePost(text);
    await this.#requireJoined(name);
    await this.#publish(name, outgoing);
    return { ...outgoing.post, author: name, exchange: userExchange(name) };
  }

  /** False: he did already. Rejects with TwitterError: not-joined, unknown-person, too-many. */
  async follow(name: string, whom: string): Promise<boolean> {
    await this.#requireJoined(name);
    const graph = await this.graph();
    if (!(await this.#isThere(whom))) {
      throw new TwitterError('unknown-person', `I do not know ${whom}. Perhaps you can get them to join?`);
    }
    if (graph.isFull(name) && !graph.follows(name, whom)) {
      throw new TwitterError('too-many', `You follow ${FOLLOWING_MAX} people already, and that is the most.`);
    }
    await withChannel(this.#connection, (channel) => channel.bindQueue(inboxQueue(name), userExchange(whom), POST_KEY));
    if (graph.follows(name, whom)) return false;
    await this.#do({ kind: 'deed', deed: 'follow', who: name, whom });
    return true;
  }

  /** Rejects with TwitterError: not-joined, not-following. */
  async unfollow(name: string, whom: string): Promise<void> {
    await this.#requireJoined(name);
    const graph = await this.graph();
    if (!graph.follows(name, whom)) throw new TwitterError('not-following', `You were not following ${whom}.`);
    if (await this.#isThere(whom)) {
      await withChannel(this.#connection, (channel) =>
        channel.unbindQueue(inboxQueue(name), userExchange(whom), POST_KEY),
      );
    }
    await this.#do({ kind: 'deed', deed: 'unfollow', who: name, whom });
  }

  /** Remembers that somebody has added a bot to his contacts. */
  async addContact(name: string, bot: string): Promise<void> {
    await this.#do({ kind: 'deed', deed: 'contact', who: name, bot });
  }

  /** Begins to take what is in somebody's inbox, and what comes. Rejects with TwitterError: not-joined. */
  async timeline(name: string, options: TimelineOptions): Promise<Timeline> {
    await this.#requireJoined(name);
    return openTimeline(this.#connection, name, options);
  }

  /** How many messages wait in somebody's inbox. */
  async unread(name: string): Promise<number> {
    const { messageCount } = await withChannel(this.#connection, (channel) => channel.checkQueue(inboxQueue(name)));
    return messageCount;
  }

  /** The latest posts of all in which every word of `words` is, or that are by somebody of that name; oldest first. */
  search(words: string): Promise<Post[]> {
    const isWanted = wordsIn(words);
    return this.#look(ARCHIVE_QUEUE, (messages) =>
      messages.flatMap((message) => {
        const post = readMessage(message);
        return post?.kind === 'post' && isWanted(post) ? [post] : [];
      }),
    );
  }

  /** Calls for every post from now on for which `words` holds, until the function that it resolves with is called. */
  async watch(words: string, onPost: (post: Post) => void): Promise<() => Promise<void>> {
    const isWanted = wordsIn(words);
    return this.#listen([POST_KEY], (message) => {
      const post = readMessage(message);
      if (post?.kind === 'post' && isWanted(post)) onPost(post);
    });
  }

  // ---- who follows whom

  /** As it is now. */
  async graph(): Promise<Graph> {
    return this.#live ?? this.#readGraph();
  }

  /** From now on `graph` answers from memory, kept up to date by what happens; for programs that run for long. */
  async keepGraph(): Promise<void> {
    const early: Deed[] = [];
    await this.#listen(GRAPH_KEYS, (message) => {
      const deed = readMessage(message);
      if (deed?.kind !== 'deed') return;
      if (this.#live === undefined) early.push(deed);
      else this.#live.apply(deed);
      this.#seen.get(message.properties.messageId)?.();
      this.#heard += 1;
      this.#shorten();
    });
    const graph = await this.#readGraph();
    for (const deed of early) graph.apply(deed);
    this.#live = graph;
  }

  /** Nobody waits for a next start of this program to have many deeds written down as one. */
  #shorten(): void {
    if (this.#shortening || this.#heard < SPARE_DEEDS_MAX) return;
    this.#heard = 0;
    this.#shortening = true;
    const done = (): void => {
      this.#shortening = false;
      this.#shorten();
    };
    // Whatever is in the way now, as a connection that is lost, the next time or the next start does it.
    this.#readGraph().then(done, done);
  }

  /** Reads the deeds, and when they have become many, writes what they come to in their place. */
  #readGraph(): Promise<Graph> {
    return this.#look(GRAPH_QUEUE, async (messages, channel) => {
      // What is written down as one is older than every deed, wherever it stands in the queue; of several, the last counts.
      const record = messages.findLast(({ properties }) => properties.contentType === RECORD_TYPE);
      const graph = record === undefined ? new Graph() : Graph.from(JSON.parse(record.content.toString()));
      for (const message of messages) {
        const deed = readMessage(message);
        if (deed?.kind === 'deed') graph.apply(deed);
      }
      const last = messages.at(-1);
      if (last !== undefined && messages.length > graph.size + SPARE_DEEDS_MAX) {
        await this.#record(graph.record);
        channel.ack(last, true);
      }
      return graph;
    });
  }

  async #record(record: GraphRecord): Promise<void> {
    const options = { contentType: RECORD_TYPE, persistent: true };
    await this.#confirmed('', GRAPH_QUEUE, { key: '', body: Buffer.from(JSON.stringify(record)), options });
  }

  // ---- what it is made of

  async #requireJoined(name: string): Promise<void> {
    const queue = inboxQueue(name);
    try {
      await withChannel(this.#connection, (channel) => channel.checkQueue(queue));
    } catch (error) {
      if (!isNotFound(error)) throw error;
      throw new TwitterError('not-joined', `There is nobody named ${name} here yet.`);
    }
  }

  async #isThere(name: string): Promise<boolean> {
    try {
      await withChannel(this.#connection, (channel) => channel.checkExchange(userExchange(name)));
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  /** Says what somebody has done; resolves when the graph of this program knows, if it keeps one. */
  async #do(deed: Deed): Promise<void> {
    const outgoing = writeDeed(deed);
    const { messageId } = outgoing.options;
    const seen = new Promise<void>((resolve) => {
      if (this.#live === undefined || messageId === undefined) resolve();
      else this.#seen.set(messageId, resolve);
    });
    try {
      await this.#publish(deed.who, outgoing);
      await seen;
    } finally {
      this.#seen.delete(messageId ?? '');
    }
  }

  #publish(name: string, outgoing: Outgoing): Promise<void> {
    return this.#confirmed(userExchange(name), outgoing.key, outgoing);
  }

  /** Resolves when the broker has taken the message. */
  #confirmed(exchange: string, key: string, { body, options }: Outgoing): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#publishing.publish(exchange, key, body, options, (error: unknown) => {
        if (error) reject(new TwitterError('busy', 'The broker did not take it. Please try again.'));
        else resolve();
      });
    });
  }

  /** A queue of our own at the exchange that everything passes. */
  async #listen(keys: readonly string[], onMessage: (message: ConsumeMessage) => void): Promise<() => Promise<void>> {
    const channel = await this.#connection.createChannel();
    channel.on('error', () => {});
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (const key of keys) await channel.bindQueue(queue, EVERYONE, key);
    await channel.consume(queue, (message) => message !== null && onMessage(message), { noAck: true });
    return () => channel.close();
  }

  /** One look after the other: through one connection, the lock of `browse` does not hold them apart. */
  #look<Result>(
    queue: string,
    look: (messages: readonly GetMessage[], channel: Channel) => Promise<Result> | Result,
  ): Promise<Result> {
    const result = this.#looking.then(() => browse(this.#connection, queue, look));
    this.#looking = result.catch(() => {});
    return result;
  }
}

/** Is a post by `@name`, or does it have every one of the words? Case does not matter. */
function wordsIn(text: string): (post: Post) => boolean {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return ({ author = '', text: said }) =>
    words.every((word) => said.toLowerCase().includes(word) || word.replace(/^@/, '') === author);
}
