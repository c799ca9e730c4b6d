/** Messages of a queue expire in the order of their time, whether they are in memory or have to be read first. */
import { afterEach, expect, it } from 'vitest';
import type { CancelTimer } from '../../broker/clock.ts';
import { text } from '../support/core.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { PagingBroker, type PagingBrokerOptions, QUEUE } from '../support/paging-broker.ts';

const TTL_MS = 20;
const DEAD = 'dead';

/** Turns end by themselves; what is left of a timer's work for a next one waits until the test asks for it. */
class BusyClock extends ManualClock {
  #late: (() => void)[] = [];

  override defer(task: () => void): void {
    setImmediate(task);
  }

  override schedule(delayMs: number, task: () => void): CancelTimer {
    if (delayMs > 0) return super.schedule(delayMs, task);
    this.#late.push(task);
    return () => {
      this.#late = this.#late.filter((each) => each !== task);
    };
  }

  runLate(): void {
    for (const task of this.#late.splice(0)) task();
  }
}

let paging: PagingBroker | undefined;
afterEach(() => paging?.broker.close());

async function start(options: PagingBrokerOptions): Promise<PagingBroker> {
  const opened = await new PagingBroker(options).open();
  paging = opened;
  const args = { 'x-message-ttl': TTL_MS, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': DEAD };
  await opened.channel.declareQueue({ queue: QUEUE, durable: true, arguments: args });
  await opened.channel.declareQueue({ queue: DEAD, durable: true });
  return opened;
}

/** What has been dead-lettered, once it is so many. */
async function deadLetters({ broker, channel }: PagingBroker, clock: BusyClock, count: number): Promise<string[]> {
  await eventually(async () => {
    clock.runLate();
    const { queues } = await broker.snapshot('/');
    expect(queues.find(({ name }) => name === DEAD)?.messagesReady).toBe(count);
  });
  const bodies: string[] = [];
  for (let got = await channel.get(DEAD); got !== undefined; got = await channel.get(DEAD))
    bodies.push(text(got.message));
  return bodies;
}

it('what came last does not expire while a page before it is still being read', async () => {
  const clock = new BusyClock();
  const paging = await start({ clock });
  const bodies = Array.from({ length: 30 }, (_, index) => `${index}`);
  for (const body of bodies) {
    paging.publish(body, 0);
    await paging.store.synced();
    clock.advance(1);
  }
  // All of it is due before anything can have been read.
  clock.advance(100);
  expect(await deadLetters(paging, clock, bodies.length)).toEqual(bodies);
});

it('what has been read does not expire before all that is in memory and was due before', async () => {
  const clock = new BusyClock();
  const ahead = 3000;
  const limits = { pageMessages: 100, pageBytes: 2 ** 20, readAheadMessages: 10, frontBytesMin: ahead * 515 };
  const paging = await start({ clock, paging: limits });
  const bodies = Array.from({ length: ahead + 500 }, (_, index) => `${index}`);
  for (const body of bodies) paging.publish(body, 0);
  await paging.store.synced();
  // One timer expires a part of what is in memory, another one has the pages read.
  clock.advance(TTL_MS);
  expect(await deadLetters(paging, clock, bodies.length)).toEqual(bodies);
});
