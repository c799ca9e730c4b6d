/**
 * A queue: somebody's inbox. Takes messages in, keeps them in order, hands each to one consumer that has credit, and
 * lets them go by acknowledgement, expiry, overflow or the delivery limit.
 *
 * Invariant: outside `dispatch`, either no message is ready or no consumer has credit. Whoever adds a message or gives
 * credit restores it. `dispatch` is a loop with a running flag, so that what consumers do from inside a delivery never
 * grows the stack.
 */
import type { EffectivePolicy } from '../administration/policies.ts';
import type { Consumer } from '../channel/consumer.ts';
import type { Clock } from '../clock.ts';
import type { Connection } from '../connection.ts';
import { Deadlines } from '../deadlines.ts';
import type { FieldTable } from '../fields.ts';
import { type Message, Trait } from '../message.ts';
import type { DeathReason, Observers } from '../observer.ts';
import { BrokerError, type CancelReason } from '../port.ts';
import type { Binding } from '../routing/exchange.ts';
import { Outcome } from '../routing/outcome.ts';
import type { Holder, Restored, RestoredHolder, Store } from '../store.ts';
import { ConsumerRound } from './consumer-round.ts';
import { type QueueSettings, queueTypeOf, retryDelayMs } from './queue-settings.ts';
import { Place, QueuedMessage } from './queued-message.ts';
import { isPast, ReadyMessages } from './ready-messages.ts';

/** What a queue needs of the virtual host that it is in. */
export interface QueueHost {
  readonly name: string;
  readonly clock: Clock;
  readonly observers: Observers;
  readonly store: Store;
  /**
   * Publishes a dead message to the queue's dead-letter exchange. Its custody is stored until then; a message that was
   * never in custody comes without.
   */
  deadLetter(queue: Queue, message: Message, reason: DeathReason, custody: QueuedMessage | undefined): void;
  /** The queue has outlived its use (auto-delete, x-expires) and is to be deleted. */
  retire(queue: Queue): void;
}

export class Queue {
  readonly name: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  /** The connection an exclusive queue belongs to. */
  readonly owner: Connection | undefined;
  readonly arguments: FieldTable;
  /** `classic` or `quorum`. */
  readonly type: string;
  /** Bindings to this queue; kept by the virtual host. */
  readonly bindings = new Set<Binding>();
  /** In the order in which they came. */
  readonly consumers = new Set<Consumer>();
  /** This queue as the answer of a route; made once. */
  readonly asRoute: readonly Queue[] = [this];
  policy: EffectivePolicy;
  unackedCount = 0;
  deleted = false;
  /** Under which the store knows it; its definition names it when it is durable. */
  readonly holder: Holder;

  readonly #host: QueueHost;
  readonly #store: Store;
  /** Whether persistent messages outlive the process here. */
  readonly #keeps: boolean;
  readonly #ready: ReadyMessages;
  readonly #round = new ConsumerRound();
  #settings: QueueSettings;
  /** False when the queue has none of the settings that `publish` must look at before it hands a message over. */
  #mayReject: boolean;
  #lastPosition = 0;
  #dispatching = false;
  #held: Deadlines<QueuedMessage> | undefined;
  #cancelRetirement: (() => void) | undefined;

  /** `holder` is that of a queue which outlived the last process; see `restore`. */
  constructor(
    host: QueueHost,
    spec: Pick<Queue, 'name' | 'durable' | 'autoDelete' | 'owner' | 'arguments'>,
    policy: EffectivePolicy,
    settings: QueueSettings,
    holder: Holder = host.store.holder(),
  ) {
    this.#host = host;
    this.#store = host.store;
    this.holder = holder;
    this.#keeps = spec.durable && host.store.durable;
    this.name = spec.name;
    this.durable = spec.durable;
    this.autoDelete = spec.autoDelete;
    this.owner = spec.owner;
    this.arguments = spec.arguments;
    this.type = queueTypeOf(spec.arguments);
    this.policy = policy;
    this.#settings = settings;
    this.#mayReject = settings.overflow !== 'drop-head';
    this.#ready = new ReadyMessages(
      {
        store: host.store,
        clock: host.clock,
        holder,
        restored: (from) => this.#restored(from),
        onExpired: (queued) => this.#die(queued, 'expired'),
        onReady: () => this.dispatch(),
      },
      settings.maxPriority,
    );
    this.touch();
  }

  get settings(): QueueSettings {
    return this.#settings;
  }

  get readyCount(): number {
    return this.#ready.count;
  }

  /** Octets of the bodies of all ready messages. */
  get readyBytes(): number {
    return this.#ready.bodyBytes;
  }

  /** Messages that wait for their delayed retry. */
  get heldCount(): number {
    return this.#held?.size ?? 0;
  }

  /**
   * Takes a message in and delivers it if somebody has credit. Answers `Outcome.refused` when the queue does not take it
   * (reject-publish), `stored` when it is safe with the commit being gathered, `passed` when never held, else `accepted`.
   */
  publish(message: Message): number {
    if (this.#mayReject && this.#wouldOverflow(message)) {
      if (this.#settings.overflow === 'reject-publish-dlx') this.#bury(message, 'maxlen', undefined);
      return Outcome.refused;
    }
    if (this.#ready.count === 0 && !this.#dispatching) {
      const consumer = this.#round.next();
      if (consumer !== undefined) {
        this.#dispatching = true;
        let outcome: number = consumer.noAck ? Outcome.passed : Outcome.accepted;
        if (consumer.noAck) consumer.channel.deliverSettled(consumer, message, false);
        else {
          const queued = this.#take(message);
          if (this.#survives(message)) this.#store.admit(queued, message, true);
          this.#deliver(queued, consumer);
          if (queued.record !== undefined) outcome = Outcome.stored;
        }
        this.#dispatching = false;
        if (this.#ready.count > 0) this.dispatch();
        return outcome;
      }
    }
    // Deleted from inside a delivery of this very message to another queue.
    if (this.deleted) return Outcome.accepted;
    const survives = this.#survives(message);
    this.#ready.push(this.#take(message), survives);
    // From inside a delivery: somebody may still have credit for it.
    if (!this.#dispatching) this.#dropOverflow();
    return survives ? Outcome.stored : Outcome.accepted;
  }

  /** Delivers as long as there are ready messages and consumers with credit. */
  dispatch(): void {
    if (this.#dispatching) return;
    this.#dispatching = true;
    while (this.#ready.count > 0) {
      const consumer = this.#round.next();
      if (consumer === undefined) break;
      const queued = this.#ready.take();
      if (queued === undefined) break;
      if (consumer.noAck) {
        this.#leave(queued);
        consumer.channel.deliverSettled(consumer, this.#outgoing(queued), queued.returnCount > 0);
      } else this.#deliver(queued, consumer);
    }
    this.#dispatching = false;
    this.#dropOverflow();
  }

  /** What the peer gets to see of a queued message: with its delivery count, where the queue keeps one. */
  #outgoing(queued: QueuedMessage): Message {
    if (queued.returnCount === 0 || !this.#settings.countsDeliveries) return queued.message;
    return queued.message.derive({ headers: { 'x-delivery-count': BigInt(queued.returnCount) } });
  }

  #deliver(queued: QueuedMessage, consumer: Consumer): void {
    this.#markDelivered(queued);
    consumer.channel.deliver(consumer, queued, this.#outgoing(queued));
  }

  #markDelivered(queued: QueuedMessage): void {
    this.unackedCount++;
    const { holder } = this;
    if (queued.record === undefined || queued.position <= holder.deliveredThrough) return;
    holder.deliveredThrough = queued.position;
    if (!holder.dirty) this.#store.delivered(holder);
  }

  /**
   * For basic.get: the next message, unacked from now on unless `noAck`. Undefined when there is none, or none yet: see
   * `whenReady`.
   */
  fetch(noAck: boolean): { readonly queued: QueuedMessage; readonly message: Message } | undefined {
    const queued = this.#ready.take();
    if (queued === undefined) return undefined;
    if (noAck) this.#leave(queued);
    else this.#markDelivered(queued);
    return { queued, message: this.#outgoing(queued) };
  }

  /** For whoever fetched nothing: resolves when it is worth trying again; undefined when there are no messages. */
  whenReady(): Promise<void> | undefined {
    return this.#ready.whenReady();
  }

  /** An unacked message is done with. */
  ack(queued: QueuedMessage): void {
    this.#leave(queued);
    this.unackedCount--;
  }

  /** An unacked message is refused for good: dead-lettered, or dropped. */
  discard(queued: QueuedMessage): void {
    this.unackedCount--;
    this.#die(queued, 'rejected');
  }

  /**
   * Unacked messages come back, each to its old place; counted against the delivery limit, held back for a delayed
   * retry. `returned` tells that they were given back untried. The caller calls `dispatch` afterwards.
   */
  requeue(messages: readonly QueuedMessage[], returned: boolean): void {
    this.unackedCount -= messages.length;
    const { observers, name: vhost } = this.#host;
    const back: QueuedMessage[] = [];
    for (const queued of messages.toSorted((a, b) => a.position - b.position)) {
      // Before, or by a consumer of what was buried just now.
      if (this.deleted) {
        this.#leave(queued);
        continue;
      }
      queued.consumer = undefined;
      queued.returnCount++;
      if (queued.returnCount > this.#settings.deliveryLimit) this.#die(queued, 'delivery_limit');
      else if (isPast(queued, this.#host.clock)) this.#die(queued, 'expired');
      else {
        if (queued.record !== undefined) this.#store.amend(queued);
        if (observers.active) observers.notify({ type: 'requeued', vhost, queue: this.name, message: queued.message });
        if (!this.#hold(queued, returned)) back.push(queued);
      }
    }
    // From the last to the first, each goes before the head in one step.
    for (const queued of back.toReversed()) this.#putBack(queued);
    this.#dropOverflow();
  }

  #hold(queued: QueuedMessage, returned: boolean): boolean {
    const retry = this.#settings.delayedRetry;
    if (retry === undefined || (retry.type !== 'all' && (retry.type === 'returned') !== returned)) return false;
    queued.compact();
    this.#holdUntil(queued, this.#host.clock.now() + retryDelayMs(retry, queued.returnCount));
    return true;
  }

  #holdUntil(queued: QueuedMessage, dueMs: number): void {
    this.#held ??= new Deadlines(this.#host.clock, (due) => {
      this.#putBack(due);
      this.dispatch();
    });
    queued.place = Place.held;
    this.#held.add(queued, dueMs);
  }

  /**
   * Takes over what the queue held when the last process ended. To be called once, before anything else happens to it,
   * and when the queues that its dead letters go to are there.
   */
  async restore({ pages, held, lastPosition }: RestoredHolder): Promise<void> {
    this.#lastPosition = lastPosition;
    for (const page of pages) this.#ready.adopt(page);
    for (const page of held) {
      for (const each of await this.#store.load(page)) this.#holdUntil(this.#restored(each), each.heldUntilMs);
    }
    this.#dropOverflow();
  }

  #restored({ message, position, priority, expiresAtMs, returnCount, record, slot }: Restored): QueuedMessage {
    const queued = new QueuedMessage(this, message, position, priority, expiresAtMs);
    queued.returnCount = returnCount;
    queued.record = record;
    queued.slot = slot;
    return queued;
  }

  #putBack(queued: QueuedMessage): void {
    if (this.deleted) return;
    queued.place = Place.ready;
    this.#ready.putBack(queued);
  }

  /** Removes all ready messages; how many they were. */
  purge(): number {
    const { count } = this.#ready;
    for (const queued of this.#ready.clear()) this.#leave(queued);
    return count;
  }

  /** Takes over what arguments and policies now come to. */
  configure(settings: QueueSettings): void {
    this.#settings = settings;
    this.#mayReject = settings.overflow !== 'drop-head';
    this.#dropOverflow();
    this.touch();
  }

  /** The queue has been used: `x-expires` starts anew. */
  touch(): void {
    this.#cancelRetirement?.();
    this.#cancelRetirement = undefined;
    const { expiresMs } = this.#settings;
    if (expiresMs === undefined || this.deleted || this.consumers.size > 0) return;
    this.#cancelRetirement = this.#host.clock.schedule(expiresMs, () => this.#host.retire(this));
  }

  /** Adds a consumer, which gets messages once `start` has been called for it. Throws access-refused. */
  addConsumer(consumer: Consumer): void {
    const [first] = this.consumers;
    const single = this.#settings.singleActiveConsumer;
    if (first?.exclusive || (consumer.exclusive && (first !== undefined || single))) {
      throw new BrokerError('access-refused', `queue '${this.name}' in vhost '${this.#host.name}' in exclusive use`);
    }
    this.consumers.add(consumer);
    this.touch();
  }

  /** The peer knows of the consumer: it may have messages, unless a single active one is before it. */
  start(consumer: Consumer): void {
    if (!this.consumers.has(consumer)) return;
    consumer.known = true;
    if (this.#settings.singleActiveConsumer && [...this.consumers].some(({ active }) => active)) return;
    consumer.active = true;
    this.credit(consumer);
  }

  /** A consumer may have credit again: it may take what is ready. */
  credit(consumer: Consumer): void {
    this.rejoin(consumer);
    this.dispatch();
  }

  /** The same without a delivery yet, for where several get credit at once. The caller calls `dispatch` afterwards. */
  rejoin(consumer: Consumer): void {
    if (!consumer.inRound && consumer.hasCredit) this.#round.enter(consumer);
  }

  /** Ends a consumer; an auto-delete queue goes with its last one. */
  removeConsumer(consumer: Consumer): void {
    if (!this.consumers.delete(consumer)) return;
    this.#round.leave(consumer);
    const wasActive = consumer.active;
    consumer.active = false;
    if (this.deleted) return;
    if (this.consumers.size === 0 && this.autoDelete) this.#host.retire(this);
    else if (wasActive && this.#settings.singleActiveConsumer) this.#promote();
    this.touch();
  }

  /** The next in line becomes the single active consumer: the highest priority, of those the first to come. */
  #promote(): void {
    let next: Consumer | undefined;
    for (const consumer of this.consumers) {
      if (consumer.known && (next === undefined || consumer.priority > next.priority)) next = consumer;
    }
    if (next !== undefined) this.start(next);
  }

  /** Ends the consumers and forgets the messages; how many were ready. Bindings are the virtual host's business. */
  close(reason: CancelReason): number {
    this.deleted = true;
    this.touch();
    const { count } = this.#ready;
    // What is stored stays so.
    if (reason === 'shutdown') this.#ready.stop();
    else {
      this.purge();
      for (const queued of this.#held ?? []) this.#leave(queued);
    }
    this.#held?.clear();
    for (const consumer of [...this.consumers]) consumer.channel.consumerCancelled(consumer, reason);
    return count;
  }

  #survives(message: Message): boolean {
    return this.#keeps && (message.traits & Trait.persistent) !== 0;
  }

  /** Custody begins; the store is still to be told. */
  #take(message: Message): QueuedMessage {
    const { messageTtlMs, maxPriority } = this.#settings;
    let expiresAtMs = Number.POSITIVE_INFINITY;
    if (messageTtlMs !== undefined || (message.traits & Trait.expiration) !== 0) {
      const { expiration } = message.properties;
      const ttlMs = Math.min(messageTtlMs ?? expiresAtMs, expiration === undefined ? expiresAtMs : Number(expiration));
      expiresAtMs = this.#host.clock.now() + ttlMs;
    }
    const wanted = maxPriority > 0 && (message.traits & Trait.priority) !== 0 ? (message.properties.priority ?? 0) : 0;
    return new QueuedMessage(this, message, ++this.#lastPosition, Math.min(wanted, maxPriority), expiresAtMs);
  }

  /** Custody ends, and nothing more becomes of the message. */
  #leave(queued: QueuedMessage): void {
    queued.place = Place.gone;
    if (queued.record !== undefined) this.#store.settle(queued);
  }

  #wouldOverflow(message: Message): boolean {
    const { maxLength, maxLengthBytes } = this.#settings;
    return this.#ready.count + 1 > maxLength || this.readyBytes + message.bodyBytes > maxLengthBytes;
  }

  #dropOverflow(): void {
    const { maxLength, maxLengthBytes, overflow } = this.#settings;
    if (overflow !== 'drop-head') return;
    while (this.#ready.count > 0 && (this.#ready.count > maxLength || this.readyBytes > maxLengthBytes)) {
      const queued = this.#ready.takeFirst();
      if (queued === undefined) return;
      this.#die(queued, 'maxlen');
    }
  }

  /** Custody ends here, and begins where the dead-letter exchange takes the message. */
  #die(queued: QueuedMessage, reason: DeathReason): void {
    queued.place = Place.gone;
    if (this.deleted) this.#leave(queued);
    else this.#bury(queued.message, reason, queued);
  }

  #bury(message: Message, reason: DeathReason, custody: QueuedMessage | undefined): void {
    if (this.#host.observers.active) {
      this.#host.observers.notify({ type: 'dead-lettered', vhost: this.#host.name, queue: this.name, message, reason });
    }
    if (this.#settings.deadLetterExchange !== undefined) this.#host.deadLetter(this, message, reason, custody);
    else if (custody !== undefined) this.#leave(custody);
  }
}
