import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Channel } from '../../broker/channel/channel.ts';
import { Consumer } from '../../broker/channel/consumer.ts';
import { ConsumerRound } from '../../broker/queue/consumer-round.ts';
import { bareQueue } from '../support/bare-queue.ts';
import { type Core, Inbox, send, startCore } from '../support/core.ts';
import { runs } from '../support/runs.ts';

const queue = bareQueue();
let core: Core;
let channel: Channel;
beforeAll(async () => {
  core = await startCore();
  const opened = core.channel();
  if (!(opened instanceof Channel)) throw new Error('not a channel of this engine');
  channel = opened;
});
afterAll(() => core.broker.close());

/** A consumer that takes one at a time, and so has credit while `unacked` is 0. */
function consumer(tag: string, priority: number): Consumer {
  const made = new Consumer({
    tag,
    queue,
    channel,
    events: new Inbox(),
    noAck: false,
    exclusive: false,
    priority,
    prefetch: 1,
    arguments: {},
    timeoutMs: 0,
  });
  made.active = true;
  return made;
}

/** The same as lists: whoever was served goes to the end of his, whoever has no credit goes. */
class NaiveRound {
  readonly #levels = new Map<number, Consumer[]>();

  #level(consumer: Consumer): Consumer[] {
    const level = this.#levels.get(consumer.priority) ?? [];
    this.#levels.set(consumer.priority, level);
    return level;
  }

  has(consumer: Consumer): boolean {
    return this.#level(consumer).includes(consumer);
  }

  enter(consumer: Consumer): void {
    if (!this.has(consumer)) this.#level(consumer).push(consumer);
  }

  leave(consumer: Consumer): void {
    if (this.has(consumer)) this.#level(consumer).splice(this.#level(consumer).indexOf(consumer), 1);
  }

  next(): Consumer | undefined {
    const priorities = [...this.#levels.keys()].sort((a, b) => b - a);
    for (const priority of priorities) {
      const level = this.#levels.get(priority) ?? [];
      for (let first = level.shift(); first !== undefined; first = level.shift()) {
        if (!first.hasCredit) continue;
        level.push(first);
        return first;
      }
    }
    return undefined;
  }
}

describe('ConsumerRound', () => {
  it('serves as lists would of which the first is served and goes to the end, highest priority first', () => {
    const which = fc.nat(7);
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ enter: which }) },
      { weight: 1, arbitrary: fc.record({ leave: which }) },
      { weight: 1, arbitrary: fc.record({ exhaust: which }) },
      { weight: 1, arbitrary: fc.record({ replenish: which }) },
      { weight: 6, arbitrary: fc.record({ next: fc.constant(true) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const consumers = [0, 0, 0, 0, 1, 1, -5, 7].map((priority, index) => consumer(`c${index}`, priority));
        const round = new ConsumerRound();
        const naive = new NaiveRound();
        const pick = (index: number): Consumer => consumers[index] as Consumer;
        for (const one of steps) {
          if ('enter' in one) {
            round.enter(pick(one.enter));
            naive.enter(pick(one.enter));
          } else if ('leave' in one) {
            round.leave(pick(one.leave));
            naive.leave(pick(one.leave));
          } else if ('exhaust' in one) pick(one.exhaust).unacked = 1;
          else if ('replenish' in one) pick(one.replenish).unacked = 0;
          else expect(round.next()?.tag).toBe(naive.next()?.tag);
          expect(consumers.map(({ inRound }) => inRound)).toEqual(consumers.map((each) => naive.has(each)));
        }
      }),
      runs(200),
    );
  });
});

describe('the consumers of a queue', () => {
  it('take turns', async () => {
    const channel = core.channel();
    const { queue } = await channel.declareQueue({ queue: 'turns' });
    const inboxes = [];
    for (let count = 0; count < 3; count++) inboxes.push(await core.consume(channel, queue, { noAck: true }));
    for (let number = 0; number < 9; number++) send(channel, queue, String(number));
    expect(inboxes.map(({ bodies }) => bodies)).toEqual([
      ['0', '3', '6'],
      ['1', '4', '7'],
      ['2', '5', '8'],
    ]);
    channel.close();
  });

  it('take turns over a backlog too, each as far as its prefetch goes', async () => {
    const channel = core.channel();
    const { queue } = await channel.declareQueue({ queue: 'backlog' });
    for (let number = 0; number < 7; number++) send(channel, queue, String(number));
    channel.prefetch(2);
    // In one turn: both are there when the first message goes out.
    const [first, second] = [new Inbox(), new Inbox()];
    channel.pause();
    await channel.consume({ queue }, first);
    await channel.consume({ queue }, second);
    core.clock.turn();
    channel.resume();
    expect([first.bodies.length, second.bodies.length]).toEqual([2, 2]);
    expect([...first.bodies, ...second.bodies].sort()).toEqual(['0', '1', '2', '3']);
    channel.ack(0, true);
    expect([...first.bodies, ...second.bodies].sort()).toEqual(['0', '1', '2', '3', '4', '5', '6']);
    channel.close();
  });

  it('of higher priority are served before, as long as they have credit', async () => {
    const channel = core.channel();
    const { queue } = await channel.declareQueue({ queue: 'priorities' });
    channel.prefetch(2);
    const low = await core.consume(channel, queue, { arguments: { 'x-priority': -1 } });
    const high = await core.consume(channel, queue, { arguments: { 'x-priority': 10n } });
    for (let number = 0; number < 5; number++) send(channel, queue, String(number));
    expect(high.bodies).toEqual(['0', '1']);
    expect(low.bodies).toEqual(['2', '3']);
    channel.ack(high.delivered[0]?.tag ?? 0);
    expect(high.bodies).toEqual(['0', '1', '4']);
    channel.close();
  });

  it('on one channel with a common prefetch take turns too, from queue to queue', async () => {
    const channel = core.channel();
    const inboxes: Inbox[] = [];
    channel.prefetch(1, true);
    const acked: string[] = [];
    for (const queue of ['common1', 'common2', 'common3']) {
      await channel.declareQueue({ queue });
      for (let number = 0; number < 4; number++) send(channel, queue, `${queue} ${number}`);
      inboxes.push(await core.consume(channel, queue));
    }
    for (;;) {
      const next = inboxes.flatMap(({ delivered }) => delivered).toSorted((a, b) => a.tag - b.tag)[acked.length];
      if (next === undefined) break;
      acked.push(next.body.slice(0, 7));
      channel.ack(next.tag);
    }
    expect(acked).toHaveLength(12);
    // Nobody waits longer than until the others have had their turn.
    expect(acked.slice(0, 3).sort()).toEqual(['common1', 'common2', 'common3']);
    expect(acked.slice(3, 6).sort()).toEqual(['common1', 'common2', 'common3']);
    channel.close();
  });
});
