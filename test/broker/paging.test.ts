/**
 * A queue whose backlog is on disk but for a handful of messages gives them out as one that has them all in memory, and
 * as it did before a restart. The disk is one in memory, the store is the real one.
 */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import { text } from '../support/core.ts';
import { eventually } from '../support/eventually.ts';
import { PagingBroker, QUEUE } from '../support/paging-broker.ts';
import { runs } from '../support/runs.ts';

const MAX_PRIORITY = 2;

interface Expected {
  readonly body: string;
  readonly priority: number;
  readonly persistent: boolean;
  redelivered: boolean;
}

/** The same queue as an array, in the order in which messages must come. */
class NaiveQueue {
  ready: Expected[] = [];
  readonly unacked = new Map<number, Expected>();
  readonly #order: Expected[] = [];

  publish(message: Expected): void {
    this.#order.push(message);
    this.#putBack([message]);
  }

  requeue(tags: Iterable<number>): void {
    const back: Expected[] = [];
    for (const tag of tags) {
      const message = this.unacked.get(tag);
      this.unacked.delete(tag);
      if (message !== undefined) back.push({ ...message, redelivered: true });
    }
    for (const message of back) {
      const index = this.#order.findIndex(({ body }) => body === message.body);
      this.#order[index] = message;
    }
    this.#putBack(back);
  }

  #putBack(messages: readonly Expected[]): void {
    this.ready.push(...messages);
    const place = new Map(this.#order.map(({ body }, index) => [body, index]));
    const placeOf = ({ body }: Expected): number => place.get(body) ?? 0;
    this.ready.sort((a, b) => b.priority - a.priority || placeOf(a) - placeOf(b));
  }

  restart(): void {
    this.requeue([...this.unacked.keys()]);
    this.ready = this.ready.filter(({ persistent }) => persistent);
  }
}

type Step =
  | { readonly publish: number; readonly priority: number; readonly transient: boolean }
  | { readonly get: number }
  | { readonly settle: 'ack' | 'requeue'; readonly which: number }
  | { readonly restart: true }
  | { readonly purge: true };

const count = fc.integer({ min: 1, max: 12 });
const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        publish: count,
        priority: fc.integer({ min: 0, max: MAX_PRIORITY }),
        transient: fc.boolean(),
      }),
    },
    { weight: 6, arbitrary: fc.record({ get: count }) },
    { weight: 4, arbitrary: fc.record({ settle: fc.constantFrom('ack', 'requeue'), which: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ restart: fc.constant(true as const) }) },
    { weight: 1, arbitrary: fc.record({ purge: fc.constant(true as const) }) },
  ),
  { maxLength: 40, size: 'max' },
);

let opened: PagingBroker | undefined;
afterEach(() => opened?.broker.close());

async function start(args: Record<string, string | number> = {}): Promise<PagingBroker> {
  const paging = await new PagingBroker().open();
  opened = paging;
  await paging.channel.declareQueue({ queue: QUEUE, durable: true, arguments: args });
  return paging;
}

async function run(steps: readonly Step[], maxPriority: number): Promise<void> {
  const paging = await start(maxPriority > 0 ? { 'x-max-priority': maxPriority } : {});
  const naive = new NaiveQueue();
  let lastBody = 0;
  const getOne = async (): Promise<void> => {
    const got = await paging.channel.get(QUEUE);
    const wanted = naive.ready.shift();
    expect(got && { body: text(got.message), redelivered: got.redelivered }).toEqual(
      wanted && { body: wanted.body, redelivered: wanted.redelivered },
    );
    if (got !== undefined && wanted !== undefined) naive.unacked.set(got.deliveryTag, wanted);
  };
  for (const step of steps) {
    if ('publish' in step) {
      const priority = Math.min(step.priority, maxPriority);
      for (let index = 0; index < step.publish; index++) {
        const body = `${++lastBody}`.padEnd(1 + ((lastBody * 7) % 90), '.');
        paging.publish(body, priority, !step.transient);
        naive.publish({ body, priority, persistent: !step.transient, redelivered: false });
      }
    } else if ('get' in step) {
      for (let index = 0; index < step.get; index++) await getOne();
    } else if ('settle' in step) {
      const tags = [...naive.unacked.keys()];
      const tag = tags[step.which % tags.length];
      if (tag === undefined) continue;
      if (step.settle === 'ack') {
        paging.channel.ack(tag);
        naive.unacked.delete(tag);
      } else {
        paging.channel.reject(tag, { requeue: true });
        naive.requeue([tag]);
      }
    } else if ('restart' in step) {
      await paging.restart();
      naive.restart();
    } else {
      expect(await paging.channel.purgeQueue(QUEUE)).toBe(naive.ready.length);
      naive.ready = [];
    }
    const [queue] = (await paging.broker.snapshot('/')).queues;
    expect(queue?.messagesReady).toBe(naive.ready.length);
  }
  while (naive.ready.length > 0) await getOne();
  expect(await paging.channel.get(QUEUE)).toBeUndefined();
  expect(paging.store.residentBytes).toBe(0);
  await paging.broker.close();
}

describe('a queue on disk', () => {
  it('gives out the same messages in the same order as one in memory, also across restarts', async () => {
    await fc.assert(
      fc.asyncProperty(steps, fc.constantFrom(0, MAX_PRIORITY), (steps, maxPriority) => run(steps, maxPriority)),
      runs(60),
    );
  });

  it('keeps but a few of its messages in memory', async () => {
    const paging = await start();
    for (let index = 0; index < 500; index++) {
      paging.publish(`${index}`, 0);
      if (index % 10 === 0) await paging.store.synced();
    }
    await paging.store.synced();
    paging.publish('last', 0);
    // Each counts with what it takes beside its body, about half a kilobyte.
    expect(paging.store.residentBytes).toBeLessThan(40 * 600);
  });

  it('keeps nothing of a burst in memory, written or not', async () => {
    const paging = await start();
    for (let index = 0; index < 100; index++) paging.publish('x'.repeat(5000), 0, index % 2 === 0);
    expect(paging.store.residentBytes).toBeLessThan(20_000);
    // And gives out what is still on its way to disk.
    for (let index = 0; index < 100; index++) {
      expect((await paging.channel.get(QUEUE))?.message.bodyBytes).toBe(5000);
      expect(paging.store.residentBytes).toBeLessThan(20_000);
    }
  });

  it('shares the memory with the other queues that have messages on disk', async () => {
    const paging = await start();
    const budget = 1024 * 1024;
    Object.assign(paging.store, { residentBytesMax: budget, paging: undefined });
    const queues = Array.from({ length: 50 }, (_, index) => `q${index}`);
    for (const queue of queues) await paging.channel.declareQueue({ queue, durable: true });
    for (let index = 0; index < 20; index++) {
      for (const routingKey of queues) {
        const properties = { deliveryMode: 2 };
        paging.channel.publish(createMessage({ routingKey, body: 'x'.repeat(10_000), properties }));
      }
    }
    // Of the ten megabytes, the budget, and what each queue may have in front however full that is.
    expect(paging.store.residentBytes).toBeLessThan(1.5 * budget);
    expect(paging.store.pagingCount).toBe(50);
    for (const queue of queues) await paging.channel.purgeQueue(queue);
    expect([paging.store.residentBytes, paging.store.pagingCount]).toEqual([0, 0]);
  });

  it('delivers all of it in order to a consumer that comes later', async () => {
    const paging = await start();
    const bodies = Array.from({ length: 200 }, (_, index) => `${index}`);
    for (const body of bodies) paging.publish(body, 0);
    const delivered: string[] = [];
    await paging.channel.consume(
      { queue: QUEUE, noAck: true },
      { onDeliver: (message) => void delivered.push(text(message)) },
    );
    await eventually(() => expect(delivered).toEqual(bodies));
    expect(paging.store.residentBytes).toBe(0);
  });

  it('lets what has expired on disk die in its place', async () => {
    const paging = await start({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' });
    await paging.channel.declareQueue({ queue: 'dead', durable: true });
    for (let index = 0; index < 60; index++) {
      const expiration = index % 3 === 0 ? { expiration: '50' } : {};
      const properties = { deliveryMode: 2, ...expiration };
      paging.channel.publish(createMessage({ routingKey: QUEUE, body: `${index}`, properties }));
      if (index % 5 === 0) await paging.store.synced();
    }
    const counts = async () => {
      const { queues } = await paging.broker.snapshot('/');
      return Object.fromEntries(queues.map(({ name, messagesReady }) => [name, messagesReady]));
    };
    await eventually(async () => expect(await counts()).toEqual({ [QUEUE]: 40, dead: 20 }));
    for (let index = 0; index < 60; index++) {
      if (index % 3 === 0) continue;
      const got = await paging.channel.get(QUEUE, { noAck: true });
      expect(got && text(got.message)).toBe(`${index}`);
    }
  });

  it('drops from its head what is over its length, read back for the dead-letter exchange', async () => {
    const args = { 'x-max-length': 10, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' };
    const paging = await start(args);
    await paging.channel.declareQueue({ queue: 'dead', durable: true });
    for (let index = 0; index < 100; index++) paging.publish(`${index}`, 0);
    await eventually(async () => {
      const { queues } = await paging.broker.snapshot('/');
      expect(queues.map(({ name, messagesReady }) => [name, messagesReady])).toEqual([
        [QUEUE, 10],
        ['dead', 90],
      ]);
    });
    for (const name of [QUEUE, 'dead']) {
      const first = name === QUEUE ? 90 : 0;
      const got = await paging.channel.get(name, { noAck: true });
      expect(got && text(got.message)).toBe(`${first}`);
    }
  });
});
