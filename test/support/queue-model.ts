/**
 * A naive model of one queue and its consumers beside the real one. Each operation is applied to the model first, so
 * that every delivery that comes of it can be judged when it comes; afterwards the counts of both are compared. What
 * the model asks of a delivery: the message is ready, no other is before it, nobody of higher priority would take it,
 * its consumer is known, alive, not paused and within its prefetch.
 */
import { createMessage } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, type Delivered, header, Inbox, startCore, text } from './core.ts';

export interface QueueModelOptions {
  readonly maxPriority: number;
  readonly messageTtlMs: number | undefined;
  readonly maxLength: number | undefined;
  readonly overflow: 'drop-head' | 'reject-publish' | 'reject-publish-dlx';
  readonly deliveryLimit: number | undefined;
}

interface ModelMessage {
  readonly body: string;
  readonly position: number;
  readonly priority: number;
  readonly expiresAtMs: number;
  returns: number;
  place: 'ready' | 'unacked' | 'gone';
}

interface ModelChannel {
  readonly channel: Channel;
  paused: boolean;
  prefetch: number;
  prefetchGlobal: number;
  lastTag: number;
  readonly unacked: Map<number, { readonly message: ModelMessage; readonly consumer: ModelConsumer | undefined }>;
}

interface ModelConsumer {
  readonly owner: ModelChannel;
  readonly inbox: Inbox;
  readonly noAck: boolean;
  readonly priority: number;
  readonly prefetch: number;
  /** Its peer knows of it: deliveries may come. */
  known: boolean;
}

/** What a consumer does from inside a delivery: `channel` and `which` name it to the model's own verbs. */
export type Reaction = (model: QueueModel, delivery: { readonly channel: number; readonly which: number }) => void;

const QUEUE = 'q';
const DEAD = 'dead';

export class QueueModel {
  readonly #core: Core;
  readonly #options: QueueModelOptions;
  readonly #publisher: Channel;
  #channels: ModelChannel[] = [];
  #consumers: ModelConsumer[] = [];
  readonly #messages: ModelMessage[] = [];
  /** Body and reason of what must have come to the dead-letter queue, in order. */
  readonly #dead: string[] = [];
  /** By the number of the publish. */
  readonly #confirms = new Map<number, boolean>();
  readonly #reactions: Reaction[];
  readonly #wrong: string[] = [];

  private constructor(core: Core, options: QueueModelOptions, reactions: readonly Reaction[]) {
    this.#core = core;
    this.#options = options;
    this.#reactions = [...reactions];
    this.#publisher = core.channel({
      onConfirm: (sequence, _multiple, accepted) => void this.#confirms.set(sequence, accepted),
    });
  }

  /** Each delivery has one of the `reactions`, as long as there are any. */
  static async start(options: QueueModelOptions, reactions: readonly Reaction[] = []): Promise<QueueModel> {
    const model = new QueueModel(await startCore(), options, reactions);
    const { maxPriority, messageTtlMs, maxLength, overflow, deliveryLimit } = options;
    const publisher = model.#publisher;
    await publisher.confirmSelect();
    await publisher.declareQueue({ queue: DEAD });
    await publisher.declareQueue({
      queue: QUEUE,
      arguments: {
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': DEAD,
        'x-overflow': overflow,
        ...(maxPriority > 0 ? { 'x-max-priority': maxPriority } : {}),
        ...(messageTtlMs === undefined ? {} : { 'x-message-ttl': messageTtlMs }),
        ...(maxLength === undefined ? {} : { 'x-max-length': maxLength }),
        ...(deliveryLimit === undefined ? {} : { 'x-delivery-limit': deliveryLimit }),
      },
    });
    for (let count = 0; count < 3; count++) model.#open();
    return model;
  }

  #open(): void {
    const channel = this.#core.channel();
    this.#channels.push({ channel, paused: false, prefetch: 0, prefetchGlobal: 0, lastTag: 0, unacked: new Map() });
  }

  #pick(index: number): ModelChannel {
    return this.#channels[index % this.#channels.length] as ModelChannel;
  }

  /** The ready messages in the order in which they must leave. */
  #ready(): ModelMessage[] {
    const ready = this.#messages.filter(({ place }) => place === 'ready');
    return ready.sort((a, b) => b.priority - a.priority || a.position - b.position);
  }

  #hasCredit(consumer: ModelConsumer): boolean {
    const { owner, noAck, prefetch, known } = consumer;
    if (!known || owner.paused) return false;
    const held = [...owner.unacked.values()];
    const own = held.filter((one) => one.consumer === consumer).length;
    const common = held.filter((one) => one.consumer !== undefined).length;
    if (noAck) return true;
    return (prefetch === 0 || own < prefetch) && (owner.prefetchGlobal === 0 || common < owner.prefetchGlobal);
  }

  #onDelivery(consumer: ModelConsumer, { body, tag, redelivered }: Delivered): void {
    const { owner } = consumer;
    const [first] = this.#ready();
    if (first?.body !== body) this.#wrong.push(`delivered ${body}, but ${first?.body ?? 'nothing'} is next`);
    if (!this.#consumers.includes(consumer)) this.#wrong.push(`delivered ${body} to a consumer that is gone`);
    if (!this.#hasCredit(consumer)) this.#wrong.push(`delivered ${body} to a consumer without credit`);
    if (this.#consumers.some((other) => other.priority > consumer.priority && this.#hasCredit(other))) {
      this.#wrong.push(`delivered ${body} to a consumer though one of higher priority has credit`);
    }
    const message = this.#messages.find((one) => one.body === body);
    if (message === undefined || tag <= owner.lastTag) this.#wrong.push(`delivered ${body} with tag ${tag}`);
    owner.lastTag = tag;
    if (message === undefined) return;
    if (redelivered !== message.returns > 0) this.#wrong.push(`delivered ${body} with redelivered ${redelivered}`);
    message.place = consumer.noAck ? 'gone' : 'unacked';
    if (!consumer.noAck) owner.unacked.set(tag, { message, consumer });
    const channel = this.#channels.indexOf(owner);
    this.#reactions.shift()?.(this, { channel, which: ascending(owner.unacked.keys()).indexOf(tag) });
  }

  #bury(message: ModelMessage, reason: string): void {
    message.place = 'gone';
    this.#dead.push(`${message.body} ${reason}`);
  }

  #dropOverflow(): void {
    const { maxLength, overflow } = this.#options;
    if (maxLength === undefined || overflow !== 'drop-head') return;
    const ready = this.#ready();
    for (const message of ready.slice(0, Math.max(0, ready.length - maxLength))) this.#bury(message, 'maxlen');
  }

  publish(priority: number | undefined, expirationMs: number | undefined): void {
    const { maxPriority, messageTtlMs, maxLength, overflow } = this.#options;
    const position = this.#messages.length + 1;
    const nowMs = this.#core.clock.now();
    const ttlMs = Math.min(messageTtlMs ?? Number.POSITIVE_INFINITY, expirationMs ?? Number.POSITIVE_INFINITY);
    const message: ModelMessage = {
      body: `m${position}`,
      position,
      priority: Math.min(priority ?? 0, maxPriority),
      expiresAtMs: nowMs + ttlMs,
      returns: 0,
      place: 'ready',
    };
    const refused = overflow !== 'drop-head' && this.#ready().length + 1 > (maxLength ?? Number.POSITIVE_INFINITY);
    this.#messages.push(message);
    if (refused) {
      message.place = 'gone';
      if (overflow === 'reject-publish-dlx') this.#bury(message, 'maxlen');
    } else if (!this.#consumers.some((consumer) => this.#hasCredit(consumer))) {
      if (ttlMs === 0) this.#bury(message, 'expired');
      this.#dropOverflow();
    }
    this.#publisher.publish(
      createMessage({
        routingKey: QUEUE,
        body: message.body,
        properties: {
          ...(priority === undefined ? {} : { priority }),
          ...(expirationMs === undefined ? {} : { expiration: String(expirationMs) }),
        },
      }),
    );
    const confirmed = this.#confirms.get(position);
    if (confirmed !== !refused) this.#wrong.push(`${message.body} confirmed as ${confirmed}`);
  }

  async consume(index: number, noAck: boolean, priority: number): Promise<void> {
    const owner = this.#pick(index);
    const inbox = new Inbox((delivered) => this.#onDelivery(consumer, delivered));
    const consumer: ModelConsumer = { owner, inbox, noAck, priority, prefetch: owner.prefetch, known: false };
    this.#consumers.push(consumer);
    // Just before the broker does, in the same turn.
    this.#core.clock.defer(() => {
      consumer.known = true;
    });
    inbox.tag = await owner.channel.consume({ queue: QUEUE, noAck, arguments: { 'x-priority': priority } }, inbox);
  }

  async cancel(index: number): Promise<void> {
    const [consumer] = this.#consumers.splice(index % Math.max(1, this.#consumers.length), 1);
    await consumer?.owner.channel.cancel(consumer.inbox.tag);
  }

  /** The unacked messages of a channel that a tag and `multiple` name, taken from it, and the tag. */
  #take(owner: ModelChannel, which: number, multiple: boolean): { tag: number; messages: ModelMessage[] } | undefined {
    const tags = ascending(owner.unacked.keys());
    const tag = tags[which % Math.max(1, tags.length)];
    if (tag === undefined) return undefined;
    const taken = multiple ? tags.filter((other) => other <= tag) : [tag];
    const messages = taken.flatMap((one) => owner.unacked.get(one)?.message ?? []);
    for (const one of taken) owner.unacked.delete(one);
    return { tag, messages };
  }

  ack(index: number, which: number, multiple: boolean): void {
    const owner = this.#pick(index);
    const taken = this.#take(owner, which, multiple);
    if (taken === undefined) return;
    for (const message of taken.messages) message.place = 'gone';
    owner.channel.ack(taken.tag, multiple);
  }

  reject(index: number, which: number, multiple: boolean, requeue: boolean): void {
    const owner = this.#pick(index);
    const taken = this.#take(owner, which, multiple);
    if (taken === undefined) return;
    if (requeue) this.#requeue(taken.messages);
    else for (const message of taken.messages) this.#bury(message, 'rejected');
    owner.channel.reject(taken.tag, { multiple, requeue });
  }

  #requeue(messages: readonly ModelMessage[]): void {
    const nowMs = this.#core.clock.now();
    for (const message of messages.toSorted((a, b) => a.position - b.position)) {
      message.returns++;
      message.place = 'ready';
      if (message.returns > (this.#options.deliveryLimit ?? Number.POSITIVE_INFINITY)) {
        this.#bury(message, 'delivery_limit');
      } else if (message.expiresAtMs <= nowMs) this.#bury(message, 'expired');
    }
    this.#dropOverflow();
  }

  async recover(index: number): Promise<void> {
    const owner = this.#pick(index);
    this.#requeue(this.#takeAll(owner));
    await owner.channel.recover();
  }

  #takeAll(owner: ModelChannel): ModelMessage[] {
    const messages = [...owner.unacked.values()].map(({ message }) => message);
    owner.unacked.clear();
    return messages;
  }

  /** Closes a channel and opens another in its stead. */
  close(index: number): void {
    const owner = this.#pick(index);
    this.#channels = this.#channels.filter((other) => other !== owner);
    this.#consumers = this.#consumers.filter((consumer) => consumer.owner !== owner);
    this.#requeue(this.#takeAll(owner));
    owner.channel.close();
    this.#open();
  }

  async get(index: number, noAck: boolean): Promise<void> {
    const owner = this.#pick(index);
    const ready = this.#ready();
    const got = await owner.channel.get(QUEUE, { noAck });
    const [first] = ready;
    if (got === undefined || first === undefined) {
      if (got !== first) this.#wrong.push(`got ${got && text(got.message)}, but ${first?.body} is next`);
      return;
    }
    if (text(got.message) !== first.body) this.#wrong.push(`got ${text(got.message)}, but ${first.body} is next`);
    if (got.redelivered !== first.returns > 0) this.#wrong.push(`got ${first.body} redelivered ${got.redelivered}`);
    if (got.messageCount !== ready.length - 1) this.#wrong.push(`got ${first.body}, ${got.messageCount} remaining`);
    if (got.deliveryTag <= owner.lastTag) this.#wrong.push(`got ${first.body} with tag ${got.deliveryTag}`);
    owner.lastTag = got.deliveryTag;
    first.place = noAck ? 'gone' : 'unacked';
    if (!noAck) owner.unacked.set(got.deliveryTag, { message: first, consumer: undefined });
  }

  async purge(): Promise<void> {
    const ready = this.#ready();
    for (const message of ready) message.place = 'gone';
    const count = await this.#publisher.purgeQueue(QUEUE);
    if (count !== ready.length) this.#wrong.push(`purged ${count} of ${ready.length}`);
  }

  prefetch(index: number, count: number, global: boolean): void {
    const owner = this.#pick(index);
    if (global) owner.prefetchGlobal = count;
    else owner.prefetch = count;
    owner.channel.prefetch(count, global);
  }

  pause(index: number): void {
    const owner = this.#pick(index);
    owner.paused = true;
    owner.channel.pause();
  }

  resume(index: number): void {
    const owner = this.#pick(index);
    owner.paused = false;
    owner.channel.resume();
  }

  /** The turn ends and time passes. */
  advance(ms: number): void {
    this.#core.clock.turn();
    const endMs = this.#core.clock.now() + ms;
    const expired = this.#ready().filter(({ expiresAtMs }) => expiresAtMs <= endMs);
    expired.sort((a, b) => a.expiresAtMs - b.expiresAtMs || a.position - b.position);
    for (const message of expired) this.#bury(message, 'expired');
    this.#core.clock.advance(ms);
  }

  /** What is wrong by now; empty when queue and model agree. */
  async check(): Promise<readonly string[]> {
    const view = await this.#core.queue(QUEUE);
    const ready = this.#ready();
    const unacked = this.#messages.filter(({ place }) => place === 'unacked').length;
    const counts = [view?.messagesReady, view?.messagesUnacked, view?.messageBytesReady, view?.consumers.length];
    const bytes = ready.reduce((sum, { body }) => sum + body.length, 0);
    const wanted = [ready.length, unacked, bytes, this.#consumers.length];
    if (counts.join() !== wanted.join()) this.#wrong.push(`counts are ${counts}, should be ${wanted}`);
    for (const consumer of this.#consumers) {
      const seen = view?.consumers.find(({ consumerTag }) => consumerTag === consumer.inbox.tag);
      const held = [...consumer.owner.unacked.values()].filter((one) => one.consumer === consumer).length;
      if (seen?.unacked !== held) this.#wrong.push(`consumer has ${seen?.unacked} unacked, should have ${held}`);
      if (ready.length > 0 && this.#hasCredit(consumer)) this.#wrong.push(`${ready.length} ready despite credit`);
    }
    return this.#wrong;
  }

  /** Gives everything back and takes it out: all that was published is here, there, or known to be gone. */
  async finish(): Promise<readonly string[]> {
    while (this.#consumers.length > 0) await this.cancel(0);
    for (let index = 0; index < this.#channels.length; index++) this.close(0);
    await this.check();
    const left = await this.#core.drainBodies(QUEUE);
    const wanted = this.#ready().map(({ body }) => body);
    if (left.join() !== wanted.join()) this.#wrong.push(`left are ${left}, should be ${wanted}`);
    const dead = (await this.#core.drain(DEAD)).map(
      (message) => `${text(message)} ${String(header(message, 'x-last-death-reason'))}`,
    );
    if (dead.join() !== this.#dead.join()) this.#wrong.push(`dead are ${dead}, should be ${this.#dead}`);
    await this.#core.broker.close();
    return this.#wrong;
  }
}

function ascending(numbers: Iterable<number>): number[] {
  return [...numbers].sort((a, b) => a - b);
}
