/**
 * What becomes of a message that dies in a queue: the record of its deaths (`x-death`), its new address, and the rule
 * that ends automatic cycles. [RabbitMQ: dead letter exchanges]
 */
import { type FieldTable, type FieldValue, isFieldTable } from '../fields.ts';
import { type Message, Trait } from '../message.ts';
import type { DeathReason } from '../observer.ts';
import { copyKeys } from '../queue/queue-settings.ts';

/** Largest count that a signed 64-bit field holds. */
const COUNT_MAX = 2n ** 63n - 1n;

/**
 * The message as it goes to the dead-letter exchange. The newest death comes first in `x-death`; dying again in the same
 * queue for the same reason counts up and keeps the time of the first time. `expiration` is removed, and remembered as
 * `original-expiration`; with a dead-letter routing key the CC addresses are dropped too.
 */
export function deadMessage(
  message: Message,
  death: {
    readonly queue: string;
    readonly reason: DeathReason;
    readonly nowMs: number;
    readonly exchange: string;
    /** Undefined: the message keeps its routing keys. */
    readonly routingKey: string | undefined;
  },
): Message {
  const { queue, reason } = death;
  const { headers = {}, expiration } = message.properties;
  const deaths = deathsOf(headers);
  const earlier = deaths.find((entry) => entry.queue === queue && entry.reason === reason);
  const routingKeys = [message.routingKey, ...((message.traits & Trait.copies) !== 0 ? copyKeys(headers, 'CC') : [])];
  const entry: FieldTable = {
    count: countOf(earlier) + 1n,
    reason,
    queue,
    time: earlier?.time ?? new Date(Math.floor(death.nowMs / 1000) * 1000),
    exchange: earlier?.exchange ?? message.exchange,
    'routing-keys': earlier?.['routing-keys'] ?? routingKeys,
    ...originalExpiration(expiration ?? earlier?.['original-expiration']),
  };
  const first = headers['x-first-death-reason'] === undefined;
  const changed: Record<string, FieldValue | undefined> = {
    'x-death': [entry, ...deaths.filter((other) => other !== earlier)],
    'x-last-death-exchange': message.exchange,
    'x-last-death-queue': queue,
    'x-last-death-reason': reason,
    ...(first
      ? { 'x-first-death-exchange': message.exchange, 'x-first-death-queue': queue, 'x-first-death-reason': reason }
      : {}),
    ...(death.routingKey !== undefined && 'CC' in headers ? { CC: undefined } : {}),
  };
  return message.derive(
    { headers: changed, expiration: undefined },
    death.exchange,
    death.routingKey ?? message.routingKey,
  );
}

/** How often it died so; whoever published it may have written anything there. */
function countOf(death: FieldTable | undefined): bigint {
  const count = death?.count;
  const isCount = typeof count === 'bigint' || (typeof count === 'number' && Number.isSafeInteger(count));
  return isCount && count >= 0 && count < COUNT_MAX ? BigInt(count) : 0n;
}

function originalExpiration(value: FieldValue | undefined): FieldTable {
  return value === undefined ? {} : { 'original-expiration': value };
}

/**
 * True when a dead message has been in `queue` before and came back without anybody rejecting it on the way: it would
 * go round for ever. `message` already records its latest death.
 */
export function isAutomaticCycle(message: Message, queue: string): boolean {
  const deaths = deathsOf(message.properties.headers ?? {});
  const last = deaths.findIndex((entry) => entry.queue === queue);
  return last >= 0 && deaths.slice(0, last + 1).every((entry) => entry.reason !== 'rejected');
}

function deathsOf(headers: FieldTable): readonly FieldTable[] {
  const deaths = headers['x-death'];
  return Array.isArray(deaths) ? deaths.filter((entry: FieldValue) => isFieldTable(entry)) : [];
}
