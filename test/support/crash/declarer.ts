/** One who declares and deletes in the broker that is going to be killed; every answered step must have outlived it. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Copy } from './copy.ts';
import type { Letter } from './letter.ts';
import { expectIn, letterOf, type Numbers } from './publishers.ts';
import type { Random } from './random.ts';
import type { Session } from './session.ts';
import type { Op } from './timeline.ts';
import { BINDING_KIND, EXCHANGE_KIND, QUEUE_KIND } from './topology.ts';

const STEP_PAUSE_MS = 5;
/** Of the queues. */
const TRANSIENT_SHARE = 0.15;
/** Live queues above which the next step deletes one. */
const QUEUES_MAX = 12;

/** Something is asked, which ends or makes the copies that it answers. */
type Ask = (op: Op) => { readonly copies: readonly Copy[]; readonly answer: Promise<unknown> };
type Step = (what: string, ask: Ask) => Promise<void>;

/** Declares and deletes until the connection is gone. Names are never used twice. */
export async function declareOn(session: Session, random: Random, numbers: Numbers): Promise<void> {
  const { ledger, timeline } = session;
  const step: Step = async (what, ask) => {
    const op = timeline.ask(what);
    const { copies, answer } = ask(op);
    await answer;
    ledger.answered(
      op,
      copies,
      copies.some(({ survives }) => survives),
    );
  };
  while (!session.ended) {
    const queues = ledger.live(QUEUE_KIND);
    if (queues.length > QUEUES_MAX || (queues.length > 0 && random.chance(0.3))) {
      await deleteOne(session, random.pick(queues), step);
    } else if (queues.length > 0 && random.chance(0.15)) {
      await purgeOne(session, random.pick(queues), step);
    } else {
      await declareOne(session, random, numbers.next('declared'), step);
    }
    await pause(random.below(STEP_PAUSE_MS));
  }
}

/** A queue with some messages, and sometimes an exchange that it is bound to. */
async function declareOne(session: Session, random: Random, number: number, step: Step): Promise<void> {
  const { channel, ledger } = session;
  const queue = `q${number}`;
  const survives = !random.chance(TRANSIENT_SHARE);
  await step(`declare of ${queue}`, (admission) => ({
    copies: [ledger.expect(QUEUE_KIND, queue, { admission, survives })],
    answer: channel.assertQueue(queue, { durable: survives }),
  }));
  if (random.chance(0.5)) await bindOne(session, random, { queue, exchange: `x${number}`, survives }, step);
  for (let left = random.below(4); left > 0; left--) {
    const letter = letterOf(random, `${queue}-${left}`);
    letterTo(session, queue, survives ? letter : { ...letter, persistent: false });
  }
}

interface Bound {
  readonly queue: string;
  readonly exchange: string;
  /** Whether the queue is durable. */
  readonly survives: boolean;
}

async function bindOne({ channel, ledger }: Session, random: Random, bound: Bound, step: Step): Promise<void> {
  const { queue, exchange, survives } = bound;
  const binding = `${exchange}>${queue}`;
  await step(`declare of ${exchange}`, (admission) => ({
    copies: [ledger.expect(EXCHANGE_KIND, exchange, { admission })],
    answer: channel.assertExchange(exchange, random.pick(['direct', 'fanout', 'topic']), { durable: true }),
  }));
  await step(`binding of ${queue} to ${exchange}`, (admission) => ({
    copies: [ledger.expect(BINDING_KIND, binding, { admission, survives })],
    answer: channel.bindQueue(queue, exchange, 'key'),
  }));
  const ending = random.next();
  if (ending < 0.3) {
    await step(`unbinding of ${queue} from ${exchange}`, (op) => ({
      copies: ledger.removed(op, BINDING_KIND, [binding]),
      answer: channel.unbindQueue(queue, exchange, 'key'),
    }));
  } else if (ending < 0.5) {
    await step(`delete of ${exchange}`, (op) => ({
      copies: [...ledger.removed(op, EXCHANGE_KIND, [exchange]), ...ledger.removed(op, BINDING_KIND, [binding])],
      answer: channel.deleteExchange(exchange),
    }));
  }
}

async function purgeOne({ channel, ledger }: Session, queue: string, step: Step): Promise<void> {
  await step(`purge of ${queue}`, (op) => ({
    copies: ledger.removed(op, queue, ledger.live(queue)),
    answer: channel.purgeQueue(queue),
  }));
}

/** A queue goes with its messages and bindings. */
async function deleteOne({ channel, ledger }: Session, queue: string, step: Step): Promise<void> {
  const bindings = ledger.live(BINDING_KIND).filter((id) => id.endsWith(`>${queue}`));
  await step(`delete of ${queue}`, (op) => ({
    copies: [
      ...ledger.removed(op, QUEUE_KIND, [queue]),
      ...ledger.removed(op, queue, ledger.live(queue)),
      ...ledger.removed(op, BINDING_KIND, bindings),
    ],
    answer: channel.deleteQueue(queue),
  }));
}

function letterTo(session: Session, queue: string, letter: Letter): void {
  session.publish('', queue, letter, (admission) => [
    expectIn(session, queue, letter, { admission, stream: queue, n: admission.index }),
  ]);
}
