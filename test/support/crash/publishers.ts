/** Those who publish into the broker that is going to be killed, each with a window of messages that are not confirmed. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Copy, CopyOptions } from './copy.ts';
import { LARGE_BYTES, type Letter } from './letter.ts';
import type { Random } from './random.ts';
import type { Session } from './session.ts';
import type { Op } from './timeline.ts';
import { TTL_MS } from './topology.ts';

/** Where a message goes, and where it is to be found then. */
interface Target {
  readonly weight: number;
  readonly exchange: string;
  readonly routingKey: string;
  readonly queues: readonly string[];
}

const toQueue = (queue: string, weight: number): Target => ({
  weight,
  exchange: '',
  routingKey: queue,
  queues: [queue],
});

const TARGETS: readonly Target[] = [
  toQueue('direct', 30),
  { weight: 15, exchange: 'fan', routingKey: '', queues: ['fan-a', 'fan-b'] },
  toQueue('work', 15),
  toQueue('heard', 6),
  toQueue('priority', 10),
  toQueue('counted', 8),
  toQueue('ttl', 7),
  toQueue('tx-in', 6),
  { weight: 5, exchange: 'delays', routingKey: '', queues: ['later'] },
  toQueue('park', 4),
];
const WEIGHTS = TARGETS.reduce((sum, { weight }) => sum + weight, 0);

/** Above so many live copies a publisher waits until somebody has settled some. */
const LIVE_MAX = 4000;
const LIVE_CHECK_MS = 10;
const TRANSIENT_SHARE = 0.08;
const DELAY_MS_MAX = 1500;

/** Publishes until the connection is gone. `numbers` counts on from round to round. */
export async function publishOn(session: Session, random: Random, name: string, numbers: Numbers): Promise<void> {
  const window = random.pick([1, 8, 64, 400]);
  while (!session.ended) {
    if (session.ledger.size > LIVE_MAX) {
      await pause(LIVE_CHECK_MS);
      continue;
    }
    for (let left = random.between(1, window); left > 0; left--) publishOne(session, random, name, numbers);
    await session.confirmedBelow(random.chance(0.2) ? 1 : window);
    // What was answered at once must not keep everybody else from their turn.
    await pause(0);
  }
}

function publishOne(session: Session, random: Random, name: string, numbers: Numbers): void {
  const { exchange, routingKey, queues } = targetOf(random);
  const n = numbers.next(name);
  const letter = letterOf(random, `${name}-${n}`, exchange === 'delays');
  session.publish(exchange, routingKey, letter, (admission) =>
    queues.map((queue) => expectIn(session, queue, letter, { admission, stream: name, n })),
  );
}

/** What a queue is to have of a letter. */
export function expectIn(
  session: Session,
  queue: string,
  letter: Letter,
  made: { readonly admission: Op; readonly stream: string; readonly n: number },
): Copy {
  const options: CopyOptions = {
    ...made,
    survives: letter.persistent,
    ...(queue === 'priority' && { priority: letter.priority }),
    ...(queue === 'ttl' && { lives: { ms: TTL_MS, onward: 'expired' } }),
    ...(letter.delayMs !== undefined && { delayMs: letter.delayMs }),
  };
  return session.ledger.expect(queue, letter.id, options);
}

export function letterOf(random: Random, id: string, isDelayed = false): Letter {
  return {
    id,
    bytes: bytesOf(random),
    priority: random.below(10),
    persistent: !random.chance(TRANSIENT_SHARE),
    ...(isDelayed && { delayMs: random.between(1, DELAY_MS_MAX) }),
  };
}

/** Mostly small, some of a few KB, rarely large. */
function bytesOf(random: Random): number {
  const kind = random.next();
  if (kind < 0.8) return random.below(200);
  return kind < 0.995 ? random.below(8000) : LARGE_BYTES + random.below(LARGE_BYTES);
}

function targetOf(random: Random): Target {
  let left = random.below(WEIGHTS);
  for (const target of TARGETS) {
    left -= target.weight;
    if (left < 0) return target;
  }
  throw new Error('the weights do not add up');
}

/** The next number of each publisher, over all rounds. */
export class Numbers {
  readonly #last = new Map<string, number>();

  next(name: string): number {
    const number = (this.#last.get(name) ?? 0) + 1;
    this.#last.set(name, number);
    return number;
  }
}
