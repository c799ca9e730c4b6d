/**
 * From an exchange to the queues: the second half of a publish, and the way of dead and of delayed messages, within one
 * virtual host.
 */
import type { Clock } from '../clock.ts';
import { type Message, Trait } from '../message.ts';
import type { DeathReason, Observers } from '../observer.ts';
import type { Queue } from '../queue/queue.ts';
import { copyKeys } from '../queue/queue-settings.ts';
import type { QueuedMessage } from '../queue/queued-message.ts';
import type { Store } from '../store.ts';
import { deadMessage, isAutomaticCycle } from './dead-letter.ts';
import { DelayedMessages } from './delayed-messages.ts';
import type { Exchange, ExchangeHost } from './exchange.ts';
import { Outcome } from './outcome.ts';
import type { ReplyConsumers } from './reply-consumers.ts';

interface Death {
  readonly queue: Queue;
  readonly message: Message;
  /** Ends when the message has a new place. */
  readonly custody: QueuedMessage | undefined;
  readonly reason: DeathReason;
}

/** Most dead letters in one turn of the event loop; the rest follows in the next ones, with sockets served in between. */
const DEATHS_PER_TURN_MAX = 128;

/** With so many waiting, each further one has some of them dealt with on the spot. */
const DEATHS_WAITING_MAX = 1024;
const DEATHS_PAID = 8;

/** Of messages in a queue with `x-stamp-arrivals`: milliseconds since 1970, a long. */
const ARRIVAL_HEADER = 'x-arrived-at';

export class Router {
  readonly delayed: DelayedMessages;
  readonly #host: ExchangeHost & { readonly name: string };
  readonly #clock: Clock;
  readonly #observers: Observers;
  readonly #replies: ReplyConsumers;
  readonly #store: Store;
  /**
   * Deaths to be dealt with, from `#next` on: of each message its own, or later those that follow from it, the next one
   * last.
   */
  #waiting: Death[][] = [];
  #next = 0;
  /** Deaths that the burial under way leads to. */
  readonly #again: Death[] = [];
  #inBurial = false;
  #burying = false;

  constructor(
    host: ExchangeHost & { readonly name: string },
    clock: Clock,
    observers: Observers,
    replies: ReplyConsumers,
    store: Store,
  ) {
    this.#host = host;
    this.#clock = clock;
    this.#observers = observers;
    this.#replies = replies;
    this.#store = store;
    this.delayed = new DelayedMessages(clock, store, (exchange, message) => this.#enqueue(exchange, message));
  }

  /** Takes a message to all queues it is for; answers with an `Outcome`. Throws precondition-failed for a bad CC or BCC. */
  publish(exchange: Exchange, message: Message): number {
    if ((message.traits & Trait.delay) === 0) return this.#enqueue(exchange, message);
    return this.delayed.hold(exchange, message) ?? this.#enqueue(exchange, message);
  }

  #enqueue(exchange: Exchange, message: Message): number {
    let delivered = message;
    let queues: readonly Queue[];
    if ((message.traits & Trait.copies) === 0) queues = exchange.route(message.routingKey, message);
    else {
      queues = this.#routeCopies(exchange, message);
      delivered = withoutBlindCopies(message);
    }
    if (this.#observers.active) {
      const { name: vhost } = this.#host;
      this.#observers.notify({ type: 'published', vhost, message: delivered, queueCount: queues.length });
    }
    let outcome: number = Outcome.unroutable;
    for (let index = 0; index < queues.length; index++) {
      const queue = queues[index] as Queue;
      const answer = queue.publish(
        queue.settings.stampsArrivals ? withArrival(delivered, this.#clock.now()) : delivered,
      );
      if (answer > outcome) outcome = answer;
    }
    if (outcome === Outcome.unroutable && exchange.isDefault && this.#replies.deliver(delivered)) {
      outcome = Outcome.accepted;
    }
    if (outcome === Outcome.unroutable) exchange.unroutableCount++;
    if (outcome === Outcome.passed) delivered.giveBack();
    // The first of them to let it go cannot know of the others.
    else if (queues.length > 1) delivered.keep();
    return outcome;
  }

  /** The queues for the routing key and every CC and BCC key, each once. [RabbitMQ: sender-selected distribution] */
  #routeCopies(exchange: Exchange, message: Message): readonly Queue[] {
    const headers = message.properties.headers ?? {};
    return exchange.routeAll([message.routingKey, ...copyKeys(headers, 'CC'), ...copyKeys(headers, 'BCC')], message);
  }

  /**
   * Publishes a message that died in `queue` to the queue's dead-letter exchange; an exchange that is not there drops it.
   * One that dies again on arrival is dealt with after it, not inside, and before the next: it may be handed on through
   * thousands of queues, and through many of them at once.
   */
  deadLetter(queue: Queue, message: Message, reason: DeathReason, custody: QueuedMessage | undefined): void {
    const death = { queue, message, reason, custody };
    if (this.#inBurial) this.#again.push(death);
    else this.#waiting.push([death]);
    if (!this.#burying) {
      this.#burying = true;
      this.#buryAll();
    } else if (!this.#inBurial && this.#waiting.length - this.#next > DEATHS_WAITING_MAX) {
      // Whoever makes more of them than are dealt with pays with his own time.
      for (let count = 0; count < DEATHS_PAID; count++) this.#buryNext();
    }
  }

  /** The process ends: who has died and is not buried, and who waits for his time, stays in custody as it is stored. */
  stop(): void {
    this.#waiting = [];
    this.#next = 0;
    this.delayed.drop();
  }

  #buryAll(): void {
    for (let count = 0; count < DEATHS_PER_TURN_MAX; count++) {
      if (this.#buryNext()) continue;
      this.#waiting = [];
      this.#next = 0;
      this.#burying = false;
      return;
    }
    this.#passTurn();
    this.#clock.defer(() => this.#buryAll());
  }

  /** What one death leads to without end waits behind the others. */
  #passTurn(): void {
    const current = this.#waiting[this.#next];
    if (current !== undefined && this.#next + 1 < this.#waiting.length) {
      this.#waiting.push(current);
      this.#next++;
    }
    if (this.#next * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
  }

  /** False when there is none. */
  #buryNext(): boolean {
    const current = this.#waiting[this.#next];
    const death = current?.pop();
    if (current === undefined || death === undefined) return false;
    this.#inBurial = true;
    this.#bury(death);
    const { custody } = death;
    if (custody?.record !== undefined) this.#store.settle(custody);
    this.#inBurial = false;
    for (let again = this.#again.pop(); again !== undefined; again = this.#again.pop()) current.push(again);
    if (current.length === 0) this.#next++;
    return true;
  }

  #bury({ queue, message, reason }: Death): void {
    const { deadLetterExchange = '', deadLetterRoutingKey: routingKey } = queue.settings;
    const exchange = this.#host.exchangeNamed(deadLetterExchange);
    if (exchange === undefined) return;
    const nowMs = this.#clock.now();
    const dead = deadMessage(message, { queue: queue.name, reason, nowMs, exchange: exchange.name, routingKey });
    if ((dead.traits & Trait.delay) !== 0 && this.delayed.hold(exchange, dead) !== undefined) return;
    const queues =
      (dead.traits & Trait.copies) === 0 ? exchange.route(dead.routingKey, dead) : this.#routeCopies(exchange, dead);
    for (const target of queues) {
      if (reason === 'rejected' || !isAutomaticCycle(dead, target.name)) target.publish(dead);
    }
  }
}

function withoutBlindCopies(message: Message): Message {
  const { headers } = message.properties;
  return headers !== undefined && 'BCC' in headers ? message.derive({ headers: { BCC: undefined } }) : message;
}

function withArrival(message: Message, nowMs: number): Message {
  return message.derive({ headers: { [ARRIVAL_HEADER]: BigInt(Math.floor(nowMs)) } });
}
