/**
 * The messages that delayed exchanges of one virtual host hold back, each until its time. `x-delay` gives it in
 * milliseconds from now (number or decimal string), `x-deliver-at` in milliseconds since 1970. [RabbitMQ: delayed message exchange]
 */
import type { DelayedMessageView } from '../administration/administration.ts';
import type { Clock } from '../clock.ts';
import { Deadlines, type Timed } from '../deadlines.ts';
import type { FieldValue } from '../fields.ts';
import { type Message, Trait } from '../message.ts';
import type { Custody, Holder, RestoredHolder, Store, StoredRecord } from '../store.ts';
import { DELAYED_TYPE, type Exchange } from './exchange.ts';
import { Outcome } from './outcome.ts';

/** A message and its time; `dueMs` is that of `Timed` only while it waits, `expiresAtMs` always. */
class DelayedMessage implements Timed, Custody {
  readonly id: string;
  readonly exchange: Exchange;
  readonly message: Message;
  readonly holder: Holder;
  readonly position: number;
  readonly expiresAtMs: number;
  readonly priority = 0;
  readonly returnCount = 0;
  readonly heldUntilMs = 0;
  dueMs = 0;
  heapIndex = -1;
  record: StoredRecord | undefined = undefined;
  slot = 0;

  constructor(id: string, exchange: Exchange, message: Message, position: number, dueMs: number) {
    this.id = id;
    this.exchange = exchange;
    this.message = message;
    this.holder = exchange.holder;
    this.position = position;
    this.expiresAtMs = dueMs;
  }
}

export class DelayedMessages {
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #waiting: Deadlines<DelayedMessage>;
  readonly #byId = new Map<string, DelayedMessage>();
  #lastPosition = 0;

  /** `onDue` gets each message when its time has come, with `x-delay` negated so that it is not delayed again. */
  constructor(clock: Clock, store: Store, onDue: (exchange: Exchange, message: Message) => void) {
    this.#clock = clock;
    this.#store = store;
    this.#waiting = new Deadlines(clock, (due) => {
      this.#byId.delete(due.id);
      if (!due.exchange.deleted) onDue(due.exchange, due.message);
      this.#settle(due);
    });
  }

  /**
   * Keeps the message if `exchange` delays and the message asks for it, and answers with an `Outcome`; undefined when it
   * is to be routed now. A durable exchange keeps persistent messages beyond the life of the process.
   */
  hold(exchange: Exchange, message: Message): number | undefined {
    if (exchange.type !== DELAYED_TYPE || (message.traits & Trait.delay) === 0) return undefined;
    const headers = message.properties.headers ?? {};
    const delay = wholeNumber(headers['x-delay']);
    const nowMs = this.#clock.now();
    const dueMs = delay === undefined ? wholeNumber(headers['x-deliver-at']) : nowMs + delay;
    if (dueMs === undefined || dueMs <= nowMs) return undefined;
    const change = delay === undefined ? {} : { headers: { 'x-delay': negated(headers['x-delay'], delay) } };
    const position = ++this.#lastPosition;
    const delayed = new DelayedMessage(this.#clock.randomName(), exchange, message.derive(change), position, dueMs);
    this.#add(delayed);
    if (!exchange.durable || !message.persistent || !this.#store.durable) return Outcome.accepted;
    this.#store.admit(delayed, delayed.message, true);
    return Outcome.stored;
  }

  #add(delayed: DelayedMessage): void {
    this.#byId.set(delayed.id, delayed);
    this.#waiting.add(delayed, delayed.expiresAtMs);
  }

  #settle(delayed: DelayedMessage): void {
    if (delayed.record !== undefined) this.#store.settle(delayed);
  }

  /**
   * Takes over what a delaying exchange held when the last process ended. To be called when the queues are there that
   * its messages go to.
   */
  async restore(exchange: Exchange, { pages, lastPosition }: RestoredHolder): Promise<void> {
    this.#lastPosition = Math.max(this.#lastPosition, lastPosition);
    for (const page of pages) {
      for (const { message, position, expiresAtMs, record, slot } of await this.#store.load(page)) {
        const delayed = new DelayedMessage(this.#clock.randomName(), exchange, message, position, expiresAtMs);
        delayed.record = record;
        delayed.slot = slot;
        this.#add(delayed);
      }
    }
  }

  countFor(exchange: Exchange): number {
    if (exchange.type !== DELAYED_TYPE) return 0;
    let count = 0;
    for (const delayed of this.#byId.values()) if (delayed.exchange === exchange) count++;
    return count;
  }

  list(): readonly DelayedMessageView[] {
    return [...this.#waiting]
      .sort((a, b) => a.dueMs - b.dueMs || a.position - b.position)
      .map(({ id, exchange, message, dueMs }) => ({
        id,
        exchange: exchange.name,
        routingKey: message.routingKey,
        dueMs,
        bodyBytes: message.bodyBytes,
      }));
  }

  /** False when no such message is waiting. */
  cancel(id: string): boolean {
    const delayed = this.#byId.get(id);
    if (delayed === undefined) return false;
    this.#byId.delete(id);
    this.#settle(delayed);
    return this.#waiting.delete(delayed);
  }

  /** Forgets the messages of an exchange that is deleted; of all of them, what is stored stays so. */
  drop(exchange?: Exchange): void {
    if (exchange === undefined) {
      this.#byId.clear();
      this.#waiting.clear();
    } else if (exchange.type === DELAYED_TYPE) {
      for (const delayed of [...this.#byId.values()]) if (delayed.exchange === exchange) this.cancel(delayed.id);
    }
  }
}

/** A header that is a whole number or the decimal digits of one. */
function wholeNumber(value: FieldValue | undefined): number | undefined {
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'number') return Number.isFinite(value) ? Math.trunc(value) : undefined;
  return typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : undefined;
}

/** The delay as consumers see it: negative, in the type in which it came where that can hold it. */
function negated(value: FieldValue | undefined, delay: number): FieldValue {
  if (typeof value === 'bigint') return -value;
  return delay > 2 ** 31 && Number.isSafeInteger(delay) ? BigInt(-delay) : -delay;
}
