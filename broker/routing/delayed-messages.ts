/**
 * The messages that delayed exchanges of one virtual host hold back, each until its time. `x-delay` gives it in
 * milliseconds from now (number or decimal string), `x-deliver-at` in milliseconds since 1970. [RabbitMQ: delayed message exchange]
 */
import type { DelayedMessageView } from '../administration/administration.ts';
import type { Clock } from '../clock.ts';
import { Deadlines, type Timed } from '../deadlines.ts';
import type { FieldValue } from '../fields.ts';
import { type Message, Trait } from '../message.ts';
import { DELAYED_TYPE, type Exchange } from './exchange.ts';

interface DelayedMessage extends Timed {
  readonly id: string;
  readonly exchange: Exchange;
  readonly message: Message;
}

export class DelayedMessages {
  readonly #clock: Clock;
  readonly #waiting: Deadlines<DelayedMessage>;
  readonly #byId = new Map<string, DelayedMessage>();
  #lastPosition = 0;

  /** `onDue` gets each message when its time has come, with `x-delay` negated so that it is not delayed again. */
  constructor(clock: Clock, onDue: (exchange: Exchange, message: Message) => void) {
    this.#clock = clock;
    this.#waiting = new Deadlines(clock, ({ id, exchange, message }) => {
      this.#byId.delete(id);
      if (!exchange.deleted) onDue(exchange, message);
    });
  }

  /** Keeps the message if `exchange` delays and the message asks for it; false when it is to be routed now. */
  hold(exchange: Exchange, message: Message): boolean {
    if (exchange.type !== DELAYED_TYPE || (message.traits & Trait.delay) === 0) return false;
    const headers = message.properties.headers ?? {};
    const delay = wholeNumber(headers['x-delay']);
    const nowMs = this.#clock.now();
    const dueMs = delay === undefined ? wholeNumber(headers['x-deliver-at']) : nowMs + delay;
    if (dueMs === undefined || dueMs <= nowMs) return false;
    const change = delay === undefined ? {} : { headers: { 'x-delay': negated(headers['x-delay'], delay) } };
    const id = this.#clock.randomName();
    const position = ++this.#lastPosition;
    const delayed = { id, exchange, message: message.derive(change), position, dueMs: 0, heapIndex: -1 };
    this.#byId.set(id, delayed);
    this.#waiting.add(delayed, dueMs);
    return true;
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
    return this.#waiting.delete(delayed);
  }

  /** Forgets the messages of an exchange that is deleted, or all of them. */
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
