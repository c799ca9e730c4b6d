/**
 * A channel: the delivery tags, unacked deliveries, prefetch, confirms, transaction and consumers of one conversation,
 * once for all protocols. What it asks about exchanges, queues and bindings is in channel-definitions.ts.
 */

import { callOut, rethrowLater } from '../assert.ts';
import type { Connection } from '../connection.ts';
import { EMPTY_TABLE } from '../fields.ts';
import { type Message, Trait } from '../message.ts';
import type * as port from '../port.ts';
import { BrokerError, type CancelReason, type ChannelEvents, type ConsumerEvents } from '../port.ts';
import type { Queue } from '../queue/queue.ts';
import { consumerPriority } from '../queue/queue-settings.ts';
import type { QueuedMessage } from '../queue/queued-message.ts';
import type { Exchange } from '../routing/exchange.ts';
import { Outcome } from '../routing/outcome.ts';
import { REPLY_TO, ReplyConsumer } from '../routing/reply-consumers.ts';
import type { Store } from '../store.ts';
import type { VirtualHost } from '../vhost.ts';
import { AckDeadlines } from './ack-deadlines.ts';
import { ChannelDefinitions } from './channel-definitions.ts';
import { ConfirmTicket } from './confirm-ticket.ts';
import { Consumer } from './consumer.ts';
import { PublishGuard } from './publish-guard.ts';
import { Transaction } from './transaction.ts';
import { UnackedList } from './unacked-list.ts';

export class Channel implements port.Channel {
  readonly connection: Connection;
  readonly number: number;
  /** True while the peer takes no deliveries. */
  paused = false;

  readonly #vhost: VirtualHost;
  readonly #store: Store;
  readonly #definitions: ChannelDefinitions;
  readonly #events: ChannelEvents;
  readonly #consumers = new Map<string, Consumer>();
  readonly #unacked = new UnackedList();
  readonly #guard: PublishGuard;
  readonly #ackDeadlines: AckDeadlines;
  #closed = false;
  #lastTag = 0;
  /** For consumers made from now on, and for the channel as a whole; 0 = no limit. */
  #prefetch = 0;
  #prefetchGlobal = 0;
  /** Unacked deliveries to consumers: those that the channel's prefetch counts. */
  #held = 0;
  /** Number of the last publish under confirms; -1 without them. */
  #sequence = -1;
  /** For the publishes that are safe with the commit which the store is gathering. */
  #ticket: ConfirmTicket | undefined;
  #transaction: Transaction | undefined;
  #replies: ReplyConsumer | undefined;
  /** True while a verb of this channel ends consumers of its own, who hear of it after its answer. */
  #answersFirst = false;
  #cancelled: (() => void)[] = [];

  constructor(connection: Connection, number: number, events: ChannelEvents) {
    this.connection = connection;
    this.number = number;
    this.#events = events;
    this.#vhost = connection.host;
    this.#store = connection.host.store;
    this.#definitions = new ChannelDefinitions(connection);
    this.#guard = new PublishGuard(connection);
    this.#ackDeadlines = new AckDeadlines(this.#vhost.clock, this.#unacked, (consumer) => this.#onLate(consumer));
  }

  /** Whether the channel's own prefetch leaves room for another delivery. */
  get hasRoom(): boolean {
    return this.#prefetchGlobal === 0 || this.#held < this.#prefetchGlobal;
  }

  get unackedCount(): number {
    return this.#unacked.size;
  }

  async declareExchange(declaration: port.ExchangeDeclaration): Promise<void> {
    this.#requireOpen();
    await this.#definitions.declareExchange(declaration);
  }

  async deleteExchange(exchange: string, options: { readonly ifUnused?: boolean } = {}): Promise<void> {
    this.#requireOpen();
    await this.#definitions.deleteExchange(exchange, options.ifUnused ?? false);
  }

  async declareQueue(declaration: port.QueueDeclaration): Promise<port.QueueDeclared> {
    this.#requireOpen();
    return this.#definitions.declareQueue(declaration);
  }

  async deleteQueue(
    name: string,
    options: { readonly ifUnused?: boolean; readonly ifEmpty?: boolean } = {},
  ): Promise<number> {
    this.#requireOpen();
    this.#definitions.authorize('configure', 'queue', name);
    if (!this.#vhost.queues.has(name)) return 0;
    const queue = this.#vhost.requireQueue(name, this.connection);
    // COMPAT: py-amqp takes a cancel of its own consumer that comes before the answer for a failure of the deletion.
    this.#answersFirst = true;
    try {
      const count = this.#vhost.deleteQueue(queue, options);
      if (queue.durable && this.#store.durable) await this.#store.definitionsSynced();
      return count;
    } finally {
      this.#answersFirst = false;
      this.#vhost.clock.defer(() => this.#tellCancelled());
    }
  }

  async purgeQueue(name: string): Promise<number> {
    this.#requireOpen();
    return this.#definitions.purgeQueue(name);
  }

  async bind(binding: port.BindingSpec): Promise<void> {
    this.#requireOpen();
    await this.#definitions.bind(binding);
  }

  async unbind(binding: port.BindingSpec): Promise<void> {
    this.#requireOpen();
    await this.#definitions.unbind(binding);
  }

  async consume(spec: port.ConsumeSpec, events: ConsumerEvents): Promise<string> {
    this.#requireOpen();
    const { queue: name, noAck = false, exclusive = false, arguments: args = EMPTY_TABLE } = spec;
    const { clock } = this.#vhost;
    if (this.connection.engine.draining) throw new BrokerError('connection-forced', 'the broker is shutting down');
    const tag = spec.consumerTag || `amq.ctag-${clock.randomName()}`;
    if (this.#consumers.has(tag) || this.#replies?.tag === tag) {
      throw new BrokerError('not-allowed', `attempt to reuse consumer tag '${tag}'`);
    }
    if (name === REPLY_TO) return this.#consumeReplies(tag, noAck, events);
    this.#definitions.authorize('read', 'queue', name);
    const queue = this.#vhost.requireQueue(name, this.connection);
    const priority = consumerPriority(args, name, this.#vhost.name);
    const own = args['x-consumer-timeout'];
    const timeoutMs =
      typeof own === 'number' || typeof own === 'bigint' ? Number(own) : queue.settings.consumerTimeoutMs;
    const prefetch = this.#prefetch;
    const options = { tag, queue, channel: this, events, noAck, exclusive, priority, prefetch, timeoutMs };
    const consumer = new Consumer({ ...options, arguments: args });
    queue.addConsumer(consumer);
    this.#consumers.set(tag, consumer);
    // The peer must learn of its consumer before the first delivery.
    clock.defer(() => queue.start(consumer));
    this.#notifyConsumer('consumer-added', consumer);
    return tag;
  }

  #consumeReplies(tag: string, noAck: boolean, events: ConsumerEvents): string {
    if (!noAck) throw new BrokerError('precondition-failed', 'reply consumer cannot acknowledge');
    if (this.#replies !== undefined) throw new BrokerError('precondition-failed', 'reply consumer already set');
    this.#replies = new ReplyConsumer(tag, this.#vhost.replies.add(this), events);
    return tag;
  }

  async cancel(consumerTag: string): Promise<void> {
    this.#requireOpen();
    const consumer = this.#consumers.get(consumerTag);
    if (consumer !== undefined) this.#removeConsumer(consumer);
    else if (this.#replies?.tag === consumerTag) this.#endReplies();
  }

  #removeConsumer(consumer: Consumer): void {
    this.#consumers.delete(consumer.tag);
    this.#notifyConsumer('consumer-removed', consumer);
    consumer.queue.removeConsumer(consumer);
  }

  #endReplies(): void {
    if (this.#replies === undefined) return;
    this.#vhost.replies.remove(this.#replies.address);
    this.#replies = undefined;
  }

  /** For the broker: ends a consumer and tells its peer. */
  consumerCancelled(consumer: Consumer, reason: CancelReason): void {
    if (this.#consumers.get(consumer.tag) !== consumer) return;
    this.#removeConsumer(consumer);
    const notify = (): void => {
      if (!this.#closed) callOut(() => consumer.events.onCancel?.(reason, explanations[reason](consumer)));
    };
    if (this.#answersFirst) this.#cancelled.push(notify);
    else notify();
  }

  #tellCancelled(): void {
    const cancelled = this.#cancelled;
    this.#cancelled = [];
    for (const notify of cancelled) notify();
  }

  /** For the broker's shutdown. */
  cancelConsumers(): void {
    for (const consumer of [...this.#consumers.values()]) this.consumerCancelled(consumer, 'shutdown');
  }

  async get(name: string, options: { readonly noAck?: boolean } = {}): Promise<port.Got | undefined> {
    this.#requireOpen();
    const noAck = options.noAck ?? false;
    this.#definitions.authorize('read', 'queue', name);
    const queue = this.#vhost.requireQueue(name, this.connection);
    queue.touch();
    let fetched = queue.fetch(noAck);
    while (fetched === undefined) {
      const ready = queue.whenReady();
      if (ready === undefined) return undefined;
      await ready;
      this.#requireOpen();
      fetched = queue.fetch(noAck);
    }
    const { queued, message } = fetched;
    message.keep();
    const deliveryTag = ++this.#lastTag;
    if (!noAck) {
      queued.markUnacked(undefined, deliveryTag);
      this.#unacked.add(queued);
    }
    const redelivered = queued.returnCount > 0;
    this.#notifyDelivered(queue, message, redelivered);
    return { message, deliveryTag, redelivered, messageCount: queue.readyCount };
  }

  async recover(): Promise<void> {
    this.#requireOpen();
    this.#requeue(this.#unacked.takeAll(), false);
  }

  async confirmSelect(): Promise<void> {
    this.#requireOpen();
    if (this.#transaction) throw new BrokerError('precondition-failed', 'cannot switch from tx to confirm mode');
    if (this.#sequence < 0) this.#sequence = 0;
  }

  async txSelect(): Promise<void> {
    this.#requireOpen();
    if (this.#sequence >= 0) throw new BrokerError('precondition-failed', 'cannot switch from confirm to tx mode');
    this.#transaction ??= new Transaction();
  }

  async txCommit(): Promise<void> {
    this.#requireOpen();
    const { publishes, settlements } = this.#requireTransaction().end();
    let isStored = settlements.length > 0;
    let isRefused = false;
    for (const { exchange, message, mandatory } of publishes) {
      const outcome = this.#route(exchange, message, mandatory);
      if (outcome === Outcome.stored) isStored = true;
      else if (outcome === Outcome.refused) isRefused = true;
    }
    for (const { messages, verdict, returned } of settlements) {
      if (verdict === 'requeue') this.#requeue(messages, returned);
      else this.#settle(messages, verdict);
    }
    if (isStored && this.#store.durable) await this.#store.synced();
    if (isRefused) throw new BrokerError('precondition-failed', 'partial tx completion');
  }

  async txRollback(): Promise<void> {
    this.#requireOpen();
    for (const { messages } of this.#requireTransaction().end().settlements) {
      for (const queued of messages) {
        this.#unacked.restore(queued);
        this.#ackDeadlines.watch(queued);
      }
    }
  }

  #requireTransaction(): Transaction {
    if (this.#transaction === undefined) throw new BrokerError('precondition-failed', 'channel is not transactional');
    return this.#transaction;
  }

  publish(message: Message, mandatory = false): void {
    if (this.#closed) this.#requireOpen();
    const exchange = this.#guard.admit(message);
    const addressed = (message.traits & Trait.replyTo) === 0 ? message : this.#withReplyAddress(message);
    if (this.#transaction !== undefined) this.#transaction.publish(exchange, addressed, mandatory);
    else if (this.#sequence < 0) this.#route(exchange, addressed, mandatory);
    else {
      const sequence = ++this.#sequence;
      const outcome = this.#route(exchange, addressed, mandatory);
      if (outcome === Outcome.stored) {
        this.#confirmLater(sequence);
        return;
      }
      try {
        this.#events.onConfirm(sequence, false, outcome !== Outcome.refused);
      } catch (error) {
        rethrowLater(error);
      }
    }
  }

  /** The confirm comes when the commit is on disk, which the store is gathering. */
  #confirmLater(sequence: number): void {
    if (this.#ticket?.batch === this.#store.batch) this.#ticket.sequence = sequence;
    else {
      this.#ticket = new ConfirmTicket(this, this.#store.batch, sequence);
      this.#store.whenSynced(this.#ticket);
    }
  }

  /** For the ticket: everything up to this publish that is not settled yet is on disk. */
  onStored(sequence: number): void {
    if (!this.#closed) callOut(() => this.#events.onConfirm(sequence, true, true));
  }

  #route(exchange: Exchange, message: Message, mandatory: boolean): number {
    const outcome = this.#vhost.router.publish(exchange, message);
    if (outcome === Outcome.unroutable && mandatory) {
      const { observers, name: vhost } = this.#vhost;
      if (observers.active) observers.notify({ type: 'returned', vhost, message });
      callOut(() => this.#events.onReturn(message));
    }
    return outcome;
  }

  /** A request for direct replies gets the address of this channel's requester. */
  #withReplyAddress(message: Message): Message {
    if (message.properties.replyTo !== REPLY_TO) return message;
    if (this.#replies === undefined) {
      throw new BrokerError('precondition-failed', 'fast reply consumer does not exist');
    }
    return message.derive({ replyTo: this.#replies.address });
  }

  ack(deliveryTag: number, multiple = false): void {
    if (!multiple && this.#transaction === undefined && !this.#vhost.observers.active) {
      this.#ackOne(deliveryTag);
      return;
    }
    const messages = this.#take(deliveryTag, multiple);
    if (this.#transaction !== undefined) this.#transaction.settle(messages, 'ack');
    else this.#settle(messages, 'ack');
  }

  /** The common case of an ack, without a list. */
  #ackOne(deliveryTag: number): void {
    const queued = this.#unacked.take(deliveryTag);
    if (queued === undefined) {
      this.#requireOpen();
      throw unknownTag(deliveryTag);
    }
    queued.queue.ack(queued);
    const wasFull = !this.hasRoom;
    this.#release(queued);
    queued.message.giveBack();
    const { consumer } = queued;
    if (consumer === undefined) return;
    if (wasFull) this.#creditAll(consumer);
    else consumer.queue.credit(consumer);
  }

  reject(deliveryTag: number, options: port.RejectOptions = {}): void {
    const messages = this.#take(deliveryTag, options.multiple ?? false);
    const { requeue = false, returned = false } = options;
    if (this.#transaction !== undefined) this.#transaction.settle(messages, requeue ? 'requeue' : 'discard', returned);
    else if (requeue) this.#requeue(messages, returned);
    else this.#settle(messages, 'discard');
  }

  /** Takes the deliveries that an ack or reject names. Tag 0 with multiple means all there are. [AMQP 1.8.3.13] */
  #take(deliveryTag: number, multiple: boolean): QueuedMessage[] {
    this.#requireOpen();
    if (!multiple) {
      const queued = this.#unacked.take(deliveryTag);
      if (queued === undefined) throw unknownTag(deliveryTag);
      return [queued];
    }
    if (deliveryTag === 0) return this.#unacked.takeAll();
    if (!this.#unacked.has(deliveryTag)) throw unknownTag(deliveryTag);
    return this.#unacked.takeThrough(deliveryTag);
  }

  #settle(messages: readonly QueuedMessage[], verdict: 'ack' | 'discard'): void {
    const wasFull = !this.hasRoom;
    for (const queued of messages) {
      this.#release(queued);
      if (verdict === 'discard') {
        queued.queue.discard(queued);
        continue;
      }
      queued.queue.ack(queued);
      const { observers, name: vhost } = this.#vhost;
      const { message } = queued;
      if (observers.active) observers.notify({ type: 'acked', vhost, queue: queued.queue.name, message });
      message.giveBack();
    }
    this.#creditAfter(consumersOf(messages), wasFull);
  }

  /** Gives messages back to their queues, and only then lets the queues deliver, so that order is kept. */
  #requeue(messages: readonly QueuedMessage[], returned: boolean): void {
    const byQueue = new Map<Queue, QueuedMessage[]>();
    for (const queued of messages) {
      const group = byQueue.get(queued.queue);
      if (group === undefined) byQueue.set(queued.queue, [queued]);
      else group.push(queued);
    }
    const consumers = consumersOf(messages);
    const wasFull = !this.hasRoom;
    for (const queued of messages) this.#release(queued);
    for (const [queue, group] of byQueue) queue.requeue(group, returned);
    this.#creditAfter(consumers, wasFull);
    for (const queue of byQueue.keys()) queue.dispatch();
  }

  #release(queued: QueuedMessage): void {
    if (queued.consumer === undefined) return;
    queued.consumer.unacked--;
    this.#held--;
  }

  /** Deliveries of these consumers were settled: they may take more, or all if the channel had no room for anybody. */
  #creditAfter(consumers: ReadonlySet<Consumer>, wasFull: boolean): void {
    if (wasFull) this.#creditAll([...consumers].at(-1));
    else giveCredit(consumers);
  }

  /** All consumers may have credit again; they are asked in turn, the one `served` before last of all. */
  #creditAll(served?: Consumer): void {
    const consumers = [...this.#consumers.values()];
    const turn = served === undefined ? 0 : consumers.indexOf(served) + 1;
    giveCredit([...consumers.slice(turn), ...consumers.slice(0, turn)]);
  }

  prefetch(count: number, global = false): void {
    this.#requireOpen();
    if (!global) this.#prefetch = count;
    else {
      this.#prefetchGlobal = count;
      this.#creditAll();
    }
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused || this.#closed) return;
    this.paused = false;
    // In the middle of them the peer may pause again.
    for (const message of this.#replies?.takeKept() ?? []) this.deliverReply(message);
    this.#creditAll();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // No credit from here on: what goes back to the queues must not come to this channel again.
    this.paused = true;
    this.#ackDeadlines.stop();
    const settled = this.#transaction?.end().settlements.flatMap((batch) => batch.messages) ?? [];
    this.#requeue([...this.#unacked.takeAll(), ...settled], false);
    this.#endReplies();
    // The last first: a single active consumer is mostly the first of many, and none of those here is to succeed it.
    for (const consumer of [...this.#consumers.values()].reverse()) this.#removeConsumer(consumer);
    this.connection.channelClosed(this);
  }

  /** For the queue: hands a message to a consumer of this channel, unacked until it is settled. */
  deliver(consumer: Consumer, queued: QueuedMessage, message: Message): void {
    const tag = ++this.#lastTag;
    queued.markUnacked(consumer, tag);
    this.#unacked.add(queued);
    consumer.unacked++;
    this.#held++;
    if (consumer.timeoutMs > 0) this.#ackDeadlines.begin(queued, consumer.timeoutMs);
    this.#hand(consumer.events, consumer.queue, message, tag, queued.returnCount > 0);
  }

  /** For the queue: hands a message to a consumer that does not acknowledge. */
  deliverSettled(consumer: Consumer, message: Message, redelivered: boolean): void {
    this.#hand(consumer.events, consumer.queue, message, ++this.#lastTag, redelivered);
  }

  /** For the router: hands a direct reply to the requester on this channel; false when he takes none. */
  deliverReply(message: Message): boolean {
    if (this.#replies === undefined) return false;
    if (this.paused) return this.#replies.keep(message);
    this.#hand(this.#replies.events, undefined, message, ++this.#lastTag, false);
    return true;
  }

  #hand(events: ConsumerEvents, queue: Queue | undefined, message: Message, tag: number, redelivered: boolean): void {
    if (queue !== undefined && this.#vhost.observers.active) this.#notifyDelivered(queue, message, redelivered);
    if (events.keepsNothing !== true) message.keep();
    try {
      events.onDeliver(message, tag, redelivered);
    } catch (error) {
      rethrowLater(error);
    }
  }

  /** A consumer holds a delivery for too long: it ends, and all that it holds goes back. */
  #onLate(consumer: Consumer): void {
    if (this.#closed) return;
    this.consumerCancelled(consumer, 'timeout');
    if (this.#closed) return;
    const held = [...this.#unacked].filter((queued) => queued.consumer === consumer);
    for (const { deliveryTag } of held) this.#unacked.take(deliveryTag);
    this.#requeue(held, false);
  }

  #notifyDelivered(queue: Queue, message: Message, redelivered: boolean): void {
    const { observers, name: vhost } = this.#vhost;
    if (observers.active) observers.notify({ type: 'delivered', vhost, queue: queue.name, message, redelivered });
  }

  #notifyConsumer(type: 'consumer-added' | 'consumer-removed', { queue, tag: consumerTag }: Consumer): void {
    const { observers, name: vhost } = this.#vhost;
    if (observers.watched) observers.notify({ type, vhost, queue: queue.name, consumerTag });
  }

  #requireOpen(): void {
    if (this.#closed) throw new BrokerError('connection-forced', `channel ${this.number} is closed`);
  }
}

const explanations: { readonly [reason in CancelReason]: (consumer: Consumer) => string } = {
  'queue-deleted': ({ queue }) => `queue '${queue.name}' was deleted`,
  timeout: ({ channel, timeoutMs }) =>
    `delivery acknowledgement on channel ${channel.number} timed out. Timeout value used: ${timeoutMs} ms. ` +
    'This timeout value can be configured, see consumers doc guide to learn more',
  shutdown: () => 'the broker is shutting down',
};

/** Those to whom these messages were delivered. */
function consumersOf(messages: readonly QueuedMessage[]): ReadonlySet<Consumer> {
  const consumers = new Set<Consumer>();
  let last: Consumer | undefined;
  for (const { consumer } of messages) {
    if (consumer !== undefined && consumer !== last) consumers.add(consumer);
    last = consumer;
  }
  return consumers;
}

/** All join in before the first queue delivers, so that the one of highest priority is served first. */
function giveCredit(consumers: Iterable<Consumer>): void {
  for (const consumer of consumers) consumer.queue.rejoin(consumer);
  for (const consumer of consumers) consumer.queue.dispatch();
}

function unknownTag(deliveryTag: number): BrokerError {
  return new BrokerError('precondition-failed', `unknown delivery tag ${deliveryTag}`);
}
