/** The judge of the crash test, judged: what a broker may do after a kill, and each way to break its promises. */
import { describe, expect, it } from 'vitest';
import type { Copy } from '../support/crash/copy.ts';
import { Ledger } from '../support/crash/ledger.ts';
import type { Op, Timeline } from '../support/crash/timeline.ts';

const NOW = 1_000_000;

/** A ledger with short words for what happens. */
class Story {
  readonly ledger = new Ledger({ unordered: ['later'], untouched: ['park'], unacked: ['heard'] });
  readonly #timelines = new Map<string, Timeline>();
  readonly #copies = new Map<Op, Copy[]>();
  #numbers = 0;

  #timeline(name: string): Timeline {
    const timeline = this.#timelines.get(name) ?? this.ledger.timeline(name);
    this.#timelines.set(name, timeline);
    return timeline;
  }

  /** Sends a message to these queues. */
  publish(id: string, queues: readonly string[] = ['q'], more: object = {}): Op {
    const op = this.#timeline('publisher').ask(`publish of ${id}`);
    this.#numbers += 1;
    const made = { admission: op, stream: 'publisher', n: this.#numbers, ...more };
    this.#copies.set(
      op,
      queues.map((queue) => this.ledger.expect(queue, id, made, NOW)),
    );
    return op;
  }

  confirm(op: Op, nowMs = NOW): void {
    this.ledger.answered(op, this.#copies.get(op), true, nowMs);
  }

  confirmed(id: string, queues?: readonly string[], more?: object): void {
    this.confirm(this.publish(id, queues, more));
  }

  deliver(id: string, redelivered = false, queue = 'q', more: object = {}, nowMs = NOW): void {
    this.ledger.arrived(queue, id, this.#timeline('consumer'), { redelivered, ...more }, nowMs);
  }

  ack(...ids: string[]): Op {
    const op = this.#timeline('consumer').ask(`ack of ${ids}`);
    this.ledger.removed(op, 'q', ids);
    return op;
  }

  requeue(id: string): Op {
    const op = this.#timeline('consumer').ask(`return of ${id}`);
    this.ledger.givenBack(op, 'q', [id]);
    return op;
  }

  reject(id: string): Op {
    const op = this.ack(id);
    this.ledger.expect('dead', id, { admission: op, stream: 'consumer', n: op.index }, NOW);
    return op;
  }

  /** Everything the consumer asked for is on disk. */
  barrier(): void {
    this.#timeline('consumer').ask('barrier').answered();
  }

  crash(nowMs = NOW): void {
    this.ledger.crashed(true, nowMs);
    this.#timelines.clear();
  }

  /** After a crash there is this, by queue. */
  finds(seen: Readonly<Record<string, readonly string[]>>, nowMs = NOW): readonly string[] {
    this.crash(nowMs);
    this.ledger.compare(new Map(Object.entries(seen)), nowMs);
    return this.ledger.violations;
  }
}

describe('allowed', () => {
  const allowed: readonly (readonly [what: string, tell: (story: Story) => readonly string[]])[] = [
    [
      'all that was confirmed is there, in order',
      (story) => {
        for (const id of ['a', 'b', 'c']) story.confirmed(id);
        return story.finds({ q: ['a', 'b', 'c'] });
      },
    ],
    [
      'the last that were not confirmed are missing',
      (story) => {
        story.confirmed('a');
        story.publish('b');
        story.publish('c');
        return story.finds({ q: ['a', 'b'] });
      },
    ],
    [
      'the last acks come to nothing',
      (story) => {
        for (const id of ['a', 'b', 'c']) story.confirmed(id);
        for (const id of ['a', 'b', 'c']) story.deliver(id);
        for (const id of ['a', 'b', 'c']) story.ack(id);
        return story.finds({ q: ['b', 'c'] });
      },
    ],
    [
      'what was neither confirmed nor certainly acked is missing',
      (story) => {
        story.publish('a');
        story.deliver('a');
        story.ack('a');
        return story.finds({ q: [] });
      },
    ],
    [
      'a reject that was not recorded, and one that was',
      (story) => {
        for (const id of ['a', 'b']) story.confirmed(id);
        for (const id of ['a', 'b']) story.deliver(id);
        for (const id of ['a', 'b']) story.reject(id);
        return story.finds({ q: ['b'], dead: ['a'] });
      },
    ],
    [
      'a delivery of the last moments comes without the flag',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.finds({ q: ['a'] });
        story.deliver('a', false);
        return story.ledger.violations;
      },
    ],
    [
      'what is delayed is not there yet, and is later',
      (story) => {
        story.confirmed('a', ['later'], { delayMs: 500 });
        story.finds({ later: [] });
        return story.finds({ later: ['a'] }, NOW + 500);
      },
    ],
    [
      'a message has expired to where it belongs',
      (story) => {
        story.confirmed('a', ['q'], { lives: { ms: 500, onward: 'expired' } });
        return story.finds({ expired: ['a'] }, NOW + 500);
      },
    ],
    [
      'what was sent to one who does not ack, unheard, is gone',
      (story) => {
        story.confirmed('a', ['heard']);
        return story.finds({});
      },
    ],
    [
      'transient messages end with the process',
      (story) => {
        story.confirmed('a', ['q'], { survives: false });
        return story.finds({});
      },
    ],
    [
      'the count of deliveries grows by one with the crash',
      (story) => {
        story.confirmed('a');
        story.deliver('a', false, 'q', { count: 0 });
        story.barrier();
        story.finds({ q: ['a'] });
        story.deliver('a', true, 'q', { count: 1 });
        return story.ledger.violations;
      },
    ],
  ];
  it.each(allowed)('%s', (_what, tell) => {
    expect(tell(new Story())).toEqual([]);
  });
});

describe('caught', () => {
  const caught: readonly (readonly [what: string, says: string, tell: (story: Story) => unknown])[] = [
    [
      'a confirmed message is lost',
      'publish of a (publisher 0) did not happen, because a in q is missing; but publish of a was answered',
      (story) => {
        story.confirmed('a');
        story.finds({ q: [] });
      },
    ],
    [
      'one is lost later on, without any further op',
      'a in q is lost',
      (story) => {
        story.confirmed('a');
        story.finds({ q: ['a'] });
        story.finds({ q: [] });
      },
    ],
    [
      'one is missing before another that is there, neither confirmed',
      'publish of a (publisher 0) did not happen, because a in q is missing; but b in q is there',
      (story) => {
        story.publish('a');
        story.publish('b');
        story.finds({ q: ['b'] });
      },
    ],
    [
      'one of two queues has the message',
      'publish of a (publisher 0) did not happen, because a in r is missing; but a in q is there',
      (story) => {
        story.publish('a', ['q', 'r']);
        story.finds({ q: ['a'] });
      },
    ],
    [
      'order is not kept',
      'a in q comes after b in q',
      (story) => {
        for (const id of ['a', 'b']) story.confirmed(id);
        story.finds({ q: ['b', 'a'] });
      },
    ],
    [
      'order between streams changes from one restart to the next',
      'a in q comes after b in q, and came before it earlier',
      (story) => {
        story.confirmed('a', ['q'], { stream: 'one' });
        story.confirmed('b', ['q'], { stream: 'two' });
        story.finds({ q: ['a', 'b'] });
        story.finds({ q: ['b', 'a'] });
      },
    ],
    [
      'a lower priority comes first',
      'b in q comes after a in q',
      (story) => {
        story.confirmed('a', ['q'], { priority: 1 });
        story.confirmed('b', ['q'], { priority: 2 });
        story.finds({ q: ['a', 'b'] });
      },
    ],
    [
      'a message is there twice',
      'a in q is there twice: in q and in q',
      (story) => {
        story.confirmed('a');
        story.finds({ q: ['a', 'a'] });
      },
    ],
    [
      'an ack that was certain is forgotten',
      'ack of a (consumer 0) did not happen, because a in q is there; but barrier was answered',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.ack('a');
        story.barrier();
        story.finds({ q: ['a'] });
      },
    ],
    [
      'an ack is forgotten although a later one is not',
      'ack of b (consumer 1) happened, because b in q is missing; but a in q is there',
      (story) => {
        for (const id of ['a', 'b']) story.confirmed(id);
        for (const id of ['a', 'b']) story.deliver(id);
        story.ack('a');
        story.ack('b');
        story.finds({ q: ['a'] });
      },
    ],
    [
      'half of a multiple ack is recorded',
      'ack of a,b (consumer 0) happened, because b in q is missing; but a in q is there',
      (story) => {
        for (const id of ['a', 'b']) story.confirmed(id);
        for (const id of ['a', 'b']) story.deliver(id);
        story.ack('a', 'b');
        story.finds({ q: ['a'] });
      },
    ],
    [
      'a message is back after it had gone',
      'a is back in q',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.ack('a');
        story.finds({ q: [] });
        story.finds({ q: ['a'] });
      },
    ],
    [
      'it is delivered after it had gone',
      'a came back to q',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.ack('a');
        story.finds({ q: [] });
        story.deliver('a', true);
      },
    ],
    ['something nobody sent', 'x in q was never sent there', (story) => story.deliver('x')],
    [
      'a rejected message is in both queues',
      'ack of a (consumer 0) happened, because a in dead is there; but a in q is there',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.reject('a');
        story.finds({ q: ['a'], dead: ['a'] });
      },
    ],
    [
      'a rejected message is in neither queue',
      'ack of a (consumer 0) happened, because a in q is missing; but a in dead is missing',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.reject('a');
        story.finds({ q: [], dead: [] });
      },
    ],
    [
      'a flag redelivered is lost',
      'a in q lost its flag redelivered with a crash',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.barrier();
        story.finds({ q: ['a'] });
        story.deliver('a', false);
      },
    ],
    [
      'a flag redelivered is invented',
      'a in park is flagged redelivered, but nobody ever got it',
      (story) => {
        story.confirmed('a', ['park']);
        story.finds({ park: ['a'] });
        story.deliver('a', true, 'park');
      },
    ],
    [
      'it comes twice without the flag in one life',
      'a in q came twice without the flag redelivered',
      (story) => {
        story.confirmed('a');
        story.deliver('a');
        story.requeue('a');
        story.deliver('a');
      },
    ],
    [
      'a count of deliveries falls',
      'a in q came 0 times, before 1 times',
      (story) => {
        story.confirmed('a');
        story.deliver('a', false, 'q', { count: 0 });
        story.requeue('a');
        story.barrier();
        story.finds({ q: ['a'] });
        story.deliver('a', true, 'q', { count: 0 });
      },
    ],
    [
      'a count of deliveries jumps',
      'a in q came 3 times, but cannot more than 1',
      (story) => {
        story.confirmed('a');
        story.deliver('a', false, 'q', { count: 0 });
        story.finds({ q: ['a'] });
        story.deliver('a', true, 'q', { count: 3 });
      },
    ],
    [
      'a delayed message comes too early',
      'a in later came to later 380 ms too early',
      (story) => {
        story.confirmed('a', ['later'], { delayMs: 500 });
        story.deliver('a', false, 'later', {}, NOW + 100);
      },
    ],
    [
      'a delayed message never comes',
      'publish of a (publisher 0) did not happen, because a in later is missing; but publish of a was answered',
      (story) => {
        story.confirmed('a', ['later'], { delayMs: 500 });
        story.finds({ later: [] }, NOW + 500);
      },
    ],
    [
      'an expired message is delivered',
      'a in q had expired 480 ms before somebody asked for it',
      (story) => {
        story.confirmed('a', ['q'], { lives: { ms: 500, onward: 'expired' } });
        story.deliver('a', false, 'q', { notBeforeMs: NOW + 1000 }, NOW + 1000);
      },
    ],
    [
      'a message is in its queue and where it goes when it has expired',
      'a in q is there twice: in q and in expired',
      (story) => {
        story.confirmed('a', ['q'], { lives: { ms: 500, onward: 'expired' } });
        story.finds({ q: ['a'], expired: ['a'] });
      },
    ],
    [
      'a message expires into nothing',
      'publish of a (publisher 0) did not happen, because a in q is missing; but publish of a was answered',
      (story) => {
        story.confirmed('a', ['q'], { lives: { ms: 500, onward: 'expired' } });
        story.finds({}, NOW + 1000);
      },
    ],
    [
      'a transient message is back',
      'a is back in q',
      (story) => {
        story.confirmed('a', ['q'], { survives: false });
        story.finds({ q: ['a'] });
      },
    ],
  ];
  it.each(caught)('%s', (_what, says, tell) => {
    const story = new Story();
    tell(story);
    expect(story.ledger.violations.join('\n')).toContain(says);
  });
});
