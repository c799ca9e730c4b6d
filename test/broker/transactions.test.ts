import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, publish, send, startCore, text } from '../support/core.ts';
import { runs } from '../support/runs.ts';

let core: Core;
let channel: Channel;
let returned: string[];
beforeEach(async () => {
  core = await startCore();
  returned = [];
  channel = core.channel({ onReturn: (message) => void returned.push(text(message)) });
  await channel.declareQueue({ queue: 'q' });
  await channel.txSelect();
});
afterEach(() => core.broker.close());

describe('a transaction', () => {
  it('publishes when it is committed, in order', async () => {
    send(channel, 'q', '1');
    send(channel, 'q', '2');
    expect((await core.queue('q'))?.messagesReady).toBe(0);
    await channel.txCommit();
    expect(await core.drainBodies('q')).toEqual(['1', '2']);
    await channel.txCommit();
    expect((await core.queue('q'))?.messagesReady).toBe(0);
  });

  it('forgets what it published when it is rolled back, and begins anew', async () => {
    send(channel, 'q', 'never');
    await channel.txRollback();
    send(channel, 'q', 'kept');
    await channel.txCommit();
    expect(await core.drainBodies('q')).toEqual(['kept']);
  });

  it('returns what nobody wants at the commit', async () => {
    channel.publish(createMessage({ routingKey: 'nobody', body: 'back' }), true);
    expect(returned).toEqual([]);
    await channel.txCommit();
    expect(returned).toEqual(['back']);
  });

  it('publishes to an exchange that is gone by the commit are unroutable', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'fanout' });
    await channel.bind({ source: 'x', destination: 'q', destinationKind: 'queue', bindingKey: '' });
    channel.publish(createMessage({ exchange: 'x', body: 'back' }), true);
    await channel.deleteExchange('x');
    await channel.txCommit();
    expect(returned).toEqual(['back']);
    expect((await core.queue('q'))?.messagesReady).toBe(0);
  });

  it('says that a full queue has refused one of its messages, when all else is done', async () => {
    const args = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await channel.declareQueue({ queue: 'full', arguments: args });
    for (const queue of ['full', 'full', 'q']) send(channel, queue, queue);
    await expect(channel.txCommit()).rejects.toMatchObject({
      kind: 'precondition-failed',
      message: 'partial tx completion',
    });
    expect([await core.drainBodies('full'), await core.drainBodies('q')]).toEqual([['full'], ['q']]);
    send(channel, 'full', 'next');
    await channel.txCommit();
    expect(await core.drainBodies('full')).toEqual(['next']);
  });

  it('what cannot be published is refused at once, so that a commit does not stop half way', async () => {
    expect(() => send(channel, 'q', '', { headers: { CC: 'no array' } })).toThrow(
      expect.objectContaining({ kind: 'precondition-failed' }),
    );
    expect(() => publish(channel, 'missing', 'k')).toThrow(expect.objectContaining({ kind: 'not-found' }));
    expect(() => send(channel, 'q', '', { expiration: 'soon' })).toThrow(
      expect.objectContaining({ kind: 'precondition-failed' }),
    );
    send(channel, 'q', 'good');
    await channel.txCommit();
    expect(await core.drainBodies('q')).toEqual(['good']);
  });

  it('acks count towards the prefetch until they are committed', async () => {
    channel.prefetch(1);
    const inbox = await core.consume(channel, 'q');
    const other = core.channel();
    for (const body of ['1', '2']) send(other, 'q', body);
    expect(inbox.bodies).toEqual(['1']);
    channel.ack(1);
    expect(inbox.bodies).toEqual(['1']);
    expect((await core.queue('q'))?.messagesUnacked).toBe(1);
    await channel.txCommit();
    expect(inbox.bodies).toEqual(['1', '2']);
  });

  it('a settled delivery cannot be settled again before the commit, and can after a rollback', async () => {
    send(core.channel(), 'q', '1');
    await channel.get('q');
    channel.ack(1);
    expect(() => channel.ack(1)).toThrow(expect.objectContaining({ message: 'unknown delivery tag 1' }));
    await channel.txRollback();
    channel.ack(1);
    await channel.txCommit();
    expect(await core.queue('q')).toMatchObject({ messagesReady: 0, messagesUnacked: 0 });
  });

  it('what was given back untried is so at the commit', async () => {
    const args = { 'x-delayed-retry-type': 'returned', 'x-delayed-retry-min': 1000 };
    await channel.declareQueue({ queue: 'slow', arguments: args });
    for (const returned of [true, false]) {
      send(core.channel(), 'slow', '1');
      const tag = (await channel.get('slow'))?.deliveryTag ?? 0;
      channel.reject(tag, { requeue: true, returned });
      await channel.txCommit();
      expect((await core.queue('slow'))?.messagesDelayed).toBe(returned ? 1 : 0);
      core.clock.advance(1000);
      await channel.purgeQueue('slow');
    }
  });

  it('publishes come before settlements: what is requeued in it is behind nothing that it published', async () => {
    send(core.channel(), 'q', 'old');
    await channel.get('q');
    channel.reject(1, { requeue: true });
    send(channel, 'q', 'new');
    await channel.txCommit();
    expect(await core.drainBodies('q')).toEqual(['old', 'new']);
  });

  it.each([
    [
      'confirms after transactions',
      (channel: Channel) => channel.confirmSelect(),
      'cannot switch from tx to confirm mode',
    ],
  ])('%s', async (_name, call, message) => {
    await expect(call(channel)).rejects.toMatchObject({ kind: 'precondition-failed', message });
  });

  it('transactions after confirms, and the verbs of transactions without one', async () => {
    const other = core.channel();
    for (const call of [() => other.txCommit(), () => other.txRollback()]) {
      await expect(call()).rejects.toMatchObject({ message: 'channel is not transactional' });
    }
    await other.confirmSelect();
    await other.confirmSelect();
    await expect(other.txSelect()).rejects.toMatchObject({
      kind: 'precondition-failed',
      message: 'cannot switch from confirm to tx mode',
    });
  });

  it('selected again, keeps what is pending', async () => {
    send(channel, 'q', 'pending');
    await channel.txSelect();
    await channel.txCommit();
    expect(await core.drainBodies('q')).toEqual(['pending']);
  });
});

/** What one transaction asks: to settle deliveries by their number, in this way. */
const settlement = fc.record({
  which: fc.nat(9),
  multiple: fc.boolean(),
  verdict: fc.constantFrom('ack', 'discard', 'requeue'),
});

describe('transactions', () => {
  it('do everything or nothing, whatever is settled in whatever order, again and again', async () => {
    const transaction = fc.record({ settlements: fc.array(settlement, { maxLength: 5 }), commit: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(transaction, { maxLength: 6 }), async (transactions) => {
        const queue = 'deliveries';
        await channel.deleteQueue(queue);
        await channel.declareQueue({ queue });
        const publisher = core.channel();
        const settler = core.channel();
        await settler.txSelect();
        let unacked: { tag: number; body: string }[] = [];
        const ready: string[] = [];
        for (let number = 0; number < 10; number++) {
          send(publisher, queue, String(number));
          unacked.push({ tag: (await settler.get(queue))?.deliveryTag ?? 0, body: String(number) });
        }
        for (const { settlements, commit } of transactions) {
          let left = unacked;
          const back: string[] = [];
          for (const { which, multiple, verdict } of settlements) {
            const chosen = left[which % Math.max(1, left.length)];
            if (chosen === undefined) break;
            const settled = multiple ? left.filter(({ tag }) => tag <= chosen.tag) : [chosen];
            left = left.filter((one) => !settled.includes(one));
            if (verdict === 'requeue') back.push(...settled.map(({ body }) => body));
            if (verdict === 'ack') settler.ack(chosen.tag, multiple);
            else settler.reject(chosen.tag, { multiple, requeue: verdict === 'requeue' });
          }
          await (commit ? settler.txCommit() : settler.txRollback());
          if (commit) {
            unacked = left;
            ready.push(...back);
          }
          expect(await core.queue(queue)).toMatchObject({
            messagesReady: ready.length,
            messagesUnacked: unacked.length,
          });
        }
        settler.close();
        publisher.close();
        expect(await core.drainBodies(queue)).toEqual([...ready, ...unacked.map(({ body }) => body)].sort());
      }),
      runs(100),
    );
  });
});
