/** Those who consume from the broker that is going to be killed: with acks of every kind, without, and in transactions. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Channel, Message } from 'amqplib';
import { bodyOf, optionsOf } from './letter.ts';
import { expectIn, letterOf, type Numbers } from './publishers.ts';
import type { Random } from './random.ts';
import type { Held, Session } from './session.ts';

/** A consumer that holds so many settles them all at once. */
const HELD_MAX = 60;
const PREFETCH_MAX = 50;
/** When a transaction finds nothing to take. */
const IDLE_MS = 5;

/** Consumes with acks until the connection is gone. */
export async function consumeOn(session: Session, random: Random, queues: readonly string[]): Promise<void> {
  const held = new Map<Held, Message>();
  await session.channel.prefetch(random.between(1, PREFETCH_MAX));
  for (const queue of queues) {
    session.ledger.opened(queue);
    await session.channel.consume(queue, (message) => {
      if (message === null) return;
      const one = session.receive(queue, message, message.fields.redelivered);
      held.set(one, message);
      if (!session.ended) judge(session, random, held, one);
    });
  }
  await session.closed;
}

/** Does one of the things that consumers do, with what has just come or with everything up to it. */
function judge(session: Session, random: Random, held: Map<Held, Message>, one: Held): void {
  const all = (): Held[] => {
    const everything = [...held.keys()];
    held.clear();
    return everything;
  };
  const choice = random.next();
  if (held.size > HELD_MAX) session.ack(all(), true);
  else if (choice < 0.12) return;
  else if (choice < 0.2) session.ack(all(), true);
  else if (choice < 0.22) session.giveBack(all(), true);
  else {
    held.delete(one);
    if (choice < 0.28) session.giveBack([one], false);
    else if (choice < 0.45 && one.queue === 'work') session.reject(one);
    else session.ack([one], false);
  }
  if (random.chance(0.04)) void session.barrier();
}

/** Consumes without acks until the connection is gone: what is sent is settled. */
export async function consumeUnackedOn(session: Session, random: Random, queue: string): Promise<void> {
  session.ledger.opened(queue);
  await session.channel.consume(
    queue,
    (message) => {
      if (message === null) return;
      const { id } = session.receive(queue, message, message.fields.redelivered);
      session.ledger.removed(session.timeline.ask(`delivery of ${id} without ack`), queue, [id]);
      if (!session.ended && random.chance(0.05)) void session.barrier();
    },
    { noAck: true },
  );
  await session.closed;
}

/** amqplib has no words for transactions, but sends any method. [AMQP 1.9: class 90] */
interface Calling {
  rpc(method: number, fields: object, answer: number): Promise<unknown>;
}

export const TX_SELECT = 0x5a000a;
export const TX_COMMIT = 0x5a0014;
const TX_ROLLBACK = 0x5a001e;

/** Calls a method that amqplib has no verb for; resolves when its `-ok` has come. */
export function call(channel: Channel, method: number): Promise<unknown> {
  return (channel as unknown as Calling).rpc(method, {}, method + 1);
}

/** Takes from `tx-in` and sends to `tx-out`, both or neither, until the connection is gone. */
export async function transactOn(session: Session, random: Random, name: string, numbers: Numbers): Promise<void> {
  const channel = await session.furtherChannel();
  await call(channel, TX_SELECT);
  session.ledger.opened('tx-in');
  while (!session.ended) {
    const taken: Held[] = [];
    for (let left = random.between(0, 6); left > 0; left--) {
      const message = await channel.get('tx-in');
      if (message === false) break;
      taken.push(session.receive('tx-in', message, message.fields.redelivered));
    }
    const letters = Array.from({ length: random.between(1, 6) }, () => {
      const n = numbers.next(name);
      return { n, letter: letterOf(random, `${name}-${n}`) };
    });
    const send = (): void => {
      for (const { letter } of letters)
        channel.publish('', 'tx-out', bodyOf(letter.id, letter.bytes), optionsOf(letter));
      for (const { message } of taken) channel.ack(message);
    };
    send();
    if (random.chance(0.15)) {
      await call(channel, TX_ROLLBACK);
      send();
    }
    const op = session.timeline.ask(`commit of ${letters.map(({ letter }) => letter.id).join(' ')}`);
    const copies = letters.map(({ letter, n }) =>
      expectIn(session, 'tx-out', letter, { admission: op, stream: name, n }),
    );
    const settled = session.ledger.removed(
      op,
      'tx-in',
      taken.map(({ id }) => id),
    );
    await call(channel, TX_COMMIT);
    session.ledger.answered(
      op,
      copies,
      [...copies, ...settled].some(({ survives }) => survives),
    );
    await pause(taken.length === 0 ? IDLE_MS : 0);
  }
}
