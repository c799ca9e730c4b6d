import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, type Delivered, Inbox, publish, send, startCore } from '../support/core.ts';

let core: Core;
let channel: Channel;
beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
  for (const queue of ['a', 'b']) await channel.declareQueue({ queue });
});
afterEach(() => core.broker.close());

/** How deep the stack is now, in frames. */
function stackDepth(): number {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = Number.POSITIVE_INFINITY;
  const depth = new Error('only for its stack').stack?.split('\n').length ?? 0;
  Error.stackTraceLimit = stackTraceLimit;
  return depth;
}

const counts = async (queue: string): Promise<unknown> => {
  const view = await core.queue(queue);
  return view && [view.messagesReady, view.messagesUnacked];
};

describe('consumers that hand on what they get', () => {
  const hops = 100_000;

  it.each([
    ['without acks', true],
    ['with acks', false],
  ])('from queue to queue and back, %s, 100,000 times: the stack does not grow', async (_how, noAck) => {
    let count = 0;
    const depths: number[] = [];
    const handOn = (to: string) => (delivered: Delivered) => {
      count++;
      if (!noAck) channel.ack(delivered.tag);
      if (count % 10_000 === 0) depths.push(stackDepth());
      if (count < hops) send(channel, to, delivered.body);
    };
    const inboxes = [
      await core.consume(channel, 'a', { noAck }, handOn('b')),
      await core.consume(channel, 'b', { noAck }, handOn('a')),
    ];
    send(channel, 'a', 'x');
    expect(count).toBe(hops);
    expect(Math.max(...depths) - Math.min(...depths)).toBeLessThan(20);
    expect(inboxes.map(({ delivered }) => delivered.length)).toEqual([hops / 2, hops / 2]);
    expect([await counts('a'), await counts('b')]).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });

  it('to its own queue, several for one', async () => {
    const inbox = await core.consume(channel, 'a', { noAck: true }, ({ body }) => {
      if (body.length < 10) for (const digit of '01') send(channel, 'a', body + digit);
    });
    send(channel, 'a', '');
    expect(inbox.delivered).toHaveLength(2 ** 11 - 1);
    // What comes first is delivered first: shorter ones before longer ones.
    const lengths = inbox.bodies.map((body) => body.length);
    expect(lengths).toEqual(lengths.toSorted((a, b) => a - b));
  });

  it('with a prefetch of 1, acking before or after', async () => {
    channel.prefetch(1);
    for (const ackFirst of [true, false]) {
      let left = 1000;
      const inbox = await core.consume(channel, 'a', {}, ({ tag, body }) => {
        if (ackFirst) channel.ack(tag);
        if (--left > 0) send(channel, 'a', body);
        if (!ackFirst) channel.ack(tag);
      });
      send(channel, 'a', 'x');
      expect(inbox.delivered).toHaveLength(1000);
      await channel.cancel(inbox.tag);
    }
    expect(await counts('a')).toEqual([0, 0]);
  });

  it('messages in a fan-out keep their order in every queue, whatever one consumer publishes meanwhile', async () => {
    for (const destination of ['a', 'b']) {
      await channel.bind({ source: 'amq.fanout', destination, destinationKind: 'queue', bindingKey: '' });
    }
    const first = await core.consume(channel, 'a', { noAck: true }, ({ body }) => {
      if (body === '1') publish(channel, 'amq.fanout', '', '2');
    });
    const second = await core.consume(channel, 'b', { noAck: true });
    publish(channel, 'amq.fanout', '', '1');
    expect(first.bodies).toEqual(['1', '2']);
    expect(second.bodies.toSorted()).toEqual(['1', '2']);
  });
});

describe('from inside a delivery, a consumer may', () => {
  it('cancel itself: it gets nothing more', async () => {
    for (const body of ['1', '2', '3']) send(channel, 'a', body);
    const inbox: Inbox = new Inbox(({ tag }) => {
      channel.ack(tag);
      void channel.cancel('me');
    });
    await channel.consume({ queue: 'a', consumerTag: 'me' }, inbox);
    core.clock.turn();
    expect(inbox.bodies).toEqual(['1']);
    expect(await counts('a')).toEqual([2, 0]);
  });

  it('close its channel: what it was just given goes back too', async () => {
    for (const body of ['1', '2', '3']) send(channel, 'a', body);
    const own = core.channel();
    const inbox = await core.consume(own, 'a', {}, ({ body }) => {
      if (body === '2') own.close();
    });
    expect(inbox.bodies).toEqual(['1', '2']);
    expect(await counts('a')).toEqual([3, 0]);
    expect(await core.drainBodies('a')).toEqual(['1', '2', '3']);
  });

  it('close its connection and thereby delete the queue', async () => {
    const connection = await core.broker.connect();
    const own = connection.openChannel();
    await own.declareQueue({ queue: 'mine', exclusive: true });
    const inbox = await core.consume(own, 'mine', {}, () => void connection.close());
    for (const body of ['1', '2']) send(channel, 'mine', body);
    expect(inbox.bodies).toEqual(['1']);
    expect(await core.queue('mine')).toBeUndefined();
  });

  it('delete its queue: others of the queue get nothing more either', async () => {
    for (const body of ['1', '2', '3', '4']) send(channel, 'a', body);
    const other = core.channel();
    const second = new Inbox();
    const first = new Inbox(() => void channel.deleteQueue('a'));
    await other.consume({ queue: 'a' }, second);
    await channel.consume({ queue: 'a', arguments: { 'x-priority': 1 } }, first);
    channel.pause();
    other.pause();
    core.clock.turn();
    channel.resume();
    other.resume();
    core.clock.turn();
    expect([first.bodies, second.bodies]).toEqual([['1'], []]);
    expect([first.cancelled.length, second.cancelled.length]).toEqual([1, 1]);
    channel.ack(1);
    expect(await core.queue('a')).toBeUndefined();
  });

  it('delete a queue that the same message is still to come to', async () => {
    await channel.declareQueue({ queue: 'dead' });
    await channel.declareQueue({
      queue: 'doomed',
      arguments: { 'x-message-ttl': 10, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' },
    });
    for (const destination of ['a', 'doomed', 'b']) {
      await channel.bind({ source: 'amq.fanout', destination, destinationKind: 'queue', bindingKey: '' });
    }
    await core.consume(channel, 'a', { noAck: true }, () => void channel.deleteQueue('doomed'));
    publish(channel, 'amq.fanout', '', '1');
    core.clock.advance(100);
    expect(await core.drainBodies('b')).toEqual(['1']);
    expect(await core.drainBodies('dead')).toEqual([]);
  });

  it('unbind and bind what the message was routed by', async () => {
    const binding = { source: 'amq.direct', destination: 'a', destinationKind: 'queue', bindingKey: 'k' } as const;
    await channel.bind(binding);
    const inbox = await core.consume(channel, 'a', { noAck: true }, ({ body }) => {
      void channel.unbind(binding);
      void channel.bind({ ...binding, destination: 'b' });
      if (body === '1') publish(channel, 'amq.direct', 'k', '2');
    });
    publish(channel, 'amq.direct', 'k', '1');
    expect(inbox.bodies).toEqual(['1']);
    expect(await core.drainBodies('b')).toEqual(['2']);
  });

  it('consume, get, purge and recover', async () => {
    for (const body of ['1', '2', '3', '4']) send(channel, 'a', body);
    const own = core.channel();
    own.prefetch(1);
    const got: (string | undefined)[] = [];
    const inbox = await core.consume(own, 'a', {}, ({ body }) => {
      if (body !== '1') return;
      void channel.get('a', { noAck: true }).then((one) => got.push(one?.deliveryTag.toString()));
      void channel.purgeQueue('a');
    });
    await own.recover();
    expect(inbox.delivered.map(({ body, redelivered }) => [body, redelivered])).toEqual([
      ['1', false],
      ['1', true],
    ]);
    expect(got).toHaveLength(2);
    expect(await counts('a')).toEqual([0, 1]);
  });

  it('pause its channel', async () => {
    for (const body of ['1', '2', '3']) send(channel, 'a', body);
    const inbox = await core.consume(channel, 'a', {}, ({ body }) => {
      if (body === '2') channel.pause();
    });
    expect(inbox.bodies).toEqual(['1', '2']);
    channel.resume();
    expect(inbox.bodies).toEqual(['1', '2', '3']);
  });

  it('requeue what it got, to another consumer', async () => {
    channel.prefetch(1);
    let refusals = 3;
    const first = await core.consume(channel, 'a', {}, ({ tag }) => {
      if (--refusals >= 0) channel.reject(tag, { requeue: true });
    });
    send(channel, 'a', '1');
    expect(first.delivered.map(({ redelivered }) => redelivered)).toEqual([false, true, true, true]);
    expect(await counts('a')).toEqual([0, 1]);
  });

  it('end all others when its consumers are cancelled', async () => {
    const inboxes: Inbox[] = [];
    for (let count = 0; count < 3; count++) {
      const own = core.channel();
      const inbox = new Inbox();
      const onCancel = inbox.onCancel.bind(inbox);
      inbox.onCancel = (reason, explanation) => {
        onCancel(reason, explanation);
        own.close();
        void channel.deleteQueue('b');
      };
      for (const queue of ['a', 'b']) await own.consume({ queue }, inbox);
      inboxes.push(inbox);
    }
    core.clock.turn();
    await channel.deleteQueue('a');
    expect(inboxes.map(({ cancelled }) => cancelled.length)).toEqual([1, 1, 1]);
    expect((await core.broker.snapshot('/')).queues).toEqual([]);
  });
});

describe('what the broker calls and throws', () => {
  const listeners = process.listeners('uncaughtException');
  let seen: unknown[];
  beforeEach(() => {
    seen = [];
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => seen.push(error));
  });
  afterEach(() => {
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
  });

  /** The messages of the errors that surfaced, once they have. */
  async function surfaced(): Promise<unknown[]> {
    await new Promise((resolve) => setImmediate(resolve));
    return seen.map((error) => (error instanceof Error ? error.message : error));
  }

  const fail = (): never => {
    throw new Error('a defect of the program');
  };

  it('a consumer: is not the concern of who publishes, and the queue goes on', async () => {
    const inbox = await core.consume(channel, 'a', {}, ({ body }) => {
      if (body === '1') fail();
    });
    send(channel, 'a', '1');
    send(channel, 'a', '2');
    expect(inbox.bodies).toEqual(['1', '2']);
    expect(await counts('a')).toEqual([0, 2]);
    channel.ack(1);
    expect(await surfaced()).toEqual(['a defect of the program']);
  });

  it('a cancelled consumer: the others are told, and the queue is deleted', async () => {
    const [first, second] = [new Inbox(), new Inbox()];
    first.onCancel = fail;
    for (const inbox of [first, second]) await core.channel().consume({ queue: 'a' }, inbox);
    core.clock.turn();
    await channel.deleteQueue('a');
    expect(second.cancelled).toHaveLength(1);
    expect(await core.queue('a')).toBeUndefined();
    expect(await surfaced()).toEqual(['a defect of the program']);
  });

  it('an observer: the others see everything, and it happens all the same', async () => {
    const types: string[] = [];
    const stop = core.broker.observe(fail);
    core.broker.observe(({ type }) => types.push(type));
    const inbox = await core.consume(channel, 'a', { noAck: true });
    send(channel, 'a', '1');
    send(channel, 'a', '2');
    expect(inbox.bodies).toEqual(['1', '2']);
    expect(types).toEqual(['consumer-added', 'published', 'delivered', 'published', 'delivered']);
    stop();
    expect(await surfaced()).toHaveLength(5);
  });

  it('a publisher: what it published has happened', async () => {
    const careless = core.channel({ onConfirm: fail, onReturn: fail });
    await careless.confirmSelect();
    careless.publish(createMessage({ routingKey: 'nobody' }), true);
    send(careless, 'a', '1');
    expect(await counts('a')).toEqual([1, 0]);
    expect(await surfaced()).toHaveLength(3);
  });

  it('a connection: the others are told and closed too', async () => {
    const told: string[] = [];
    await core.broker.connect(undefined, '/', { onClose: fail, onAlarms: fail });
    await core.broker.connect(undefined, '/', {
      onClose: ({ kind }) => void told.push(kind),
      onAlarms: (alarms) => void told.push(alarms.join()),
    });
    await core.broker.administration.setAlarm('disk', true);
    await core.broker.close();
    expect(told).toEqual(['disk', 'connection-forced']);
    expect(await surfaced()).toHaveLength(2);
  });
});
