import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FieldTable } from '../../broker/fields.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, send, startCore } from '../support/core.ts';

let core: Core;
let channel: Channel;
let confirms: boolean[];
beforeEach(async () => {
  core = await startCore();
  confirms = [];
  channel = core.channel({ onConfirm: (_sequence, _multiple, accepted) => void confirms.push(accepted) });
  await channel.confirmSelect();
  await channel.declareQueue({ queue: 'dead' });
});
afterEach(() => core.broker.close());

/** A queue whose dead messages go to the queue `dead`. */
function declare(args: FieldTable): Promise<unknown> {
  const dead = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' };
  return channel.declareQueue({ queue: 'q', arguments: { ...dead, ...args } });
}

function sendAll(...bodies: string[]): void {
  for (const body of bodies) send(channel, 'q', body);
}

const reasons = async (): Promise<string[]> =>
  (await core.drain('dead')).map((message) => String(message.properties.headers?.['x-first-death-reason']));

describe('maximum length', () => {
  it('drop-head: the oldest go, and are dead', async () => {
    await declare({ 'x-max-length': 2 });
    sendAll('1', '2', '3', '4');
    expect(confirms).toEqual([true, true, true, true]);
    expect(await core.drainBodies('q')).toEqual(['3', '4']);
    expect(await core.drainBodies('dead')).toEqual(['1', '2']);
  });

  it('reject-publish: the newest are refused, and are not dead', async () => {
    await declare({ 'x-max-length': 2, 'x-overflow': 'reject-publish' });
    sendAll('1', '2', '3');
    expect(confirms).toEqual([true, true, false]);
    expect(await core.drainBodies('q')).toEqual(['1', '2']);
    expect(await core.drainBodies('dead')).toEqual([]);
  });

  it('reject-publish-dlx: the newest are refused, and are dead', async () => {
    await declare({ 'x-max-length': 2, 'x-overflow': 'reject-publish-dlx' });
    sendAll('1', '2', '3');
    expect(confirms).toEqual([true, true, false]);
    expect(await core.drainBodies('q')).toEqual(['1', '2']);
    expect(await reasons()).toEqual(['maxlen']);
  });

  it('in octets of bodies: as many go as must', async () => {
    await declare({ 'x-max-length-bytes': 10 });
    sendAll('aaaa', 'bbbb', 'cc');
    expect((await core.queue('q'))?.messageBytesReady).toBe(10);
    sendAll('ddddddd');
    expect(await core.drainBodies('q')).toEqual(['cc', 'ddddddd']);
    sendAll('x'.repeat(11));
    expect(await core.queue('q')).toMatchObject({ messagesReady: 0, messageBytesReady: 0 });
    expect((await core.drainBodies('dead')).map((body) => body.length)).toEqual([4, 4, 11]);
  });

  it('in octets, refusing', async () => {
    await declare({ 'x-max-length-bytes': 5, 'x-overflow': 'reject-publish' });
    sendAll('aaa', 'bbb', 'cc');
    expect(confirms).toEqual([true, false, true]);
  });

  it('of priorities drops the highest first, as they are the head', async () => {
    await declare({ 'x-max-length': 2, 'x-max-priority': 5 });
    for (const [body, priority] of [
      ['low', 1],
      ['high', 5],
      ['middle', 3],
    ] as const)
      send(channel, 'q', body, { priority });
    expect(await core.drainBodies('q')).toEqual(['middle', 'low']);
    expect(await core.drainBodies('dead')).toEqual(['high']);
  });

  it('counts ready messages only', async () => {
    await declare({ 'x-max-length': 1 });
    for (const body of ['1', '2', '3']) {
      sendAll(body);
      await channel.get('q');
    }
    expect(await core.queue('q')).toMatchObject({ messagesReady: 0, messagesUnacked: 3 });
  });

  it('what comes back goes before, and is what goes when it does not fit', async () => {
    await declare({ 'x-max-length': 2 });
    sendAll('1', '2');
    await channel.get('q');
    sendAll('3');
    channel.reject(1, { requeue: true });
    expect(await core.drainBodies('q')).toEqual(['2', '3']);
    expect(await core.drainBodies('dead')).toEqual(['1']);
  });

  it('what comes back to a queue that refuses is not refused', async () => {
    await declare({ 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    sendAll('1');
    await channel.get('q');
    sendAll('2');
    channel.reject(1, { requeue: true });
    expect(await core.drainBodies('q')).toEqual(['1', '2']);
  });

  it('0 holds nothing, but hands over to whoever waits', async () => {
    await declare({ 'x-max-length': 0 });
    sendAll('lost');
    const inbox = await core.consume(channel, 'q');
    sendAll('found');
    expect(inbox.bodies).toEqual(['found']);
    expect(await core.drainBodies('dead')).toEqual(['lost']);
  });

  it('what a consumer publishes to its own queue while it has credit is not dropped', async () => {
    await declare({ 'x-max-length': 1 });
    const inbox = await core.consume(channel, 'q', { noAck: true }, ({ body }) => {
      if (body === '1') sendAll('2', '3', '4');
    });
    sendAll('1');
    expect(inbox.bodies).toEqual(['1', '2', '3', '4']);
    expect(await core.drainBodies('dead')).toEqual([]);
  });

  it('what it publishes there without credit for it is dropped, once it is clear that nobody takes it', async () => {
    await declare({ 'x-max-length': 1 });
    channel.prefetch(1);
    const inbox = await core.consume(channel, 'q', {}, () => sendAll('2', '3', '4'));
    sendAll('1');
    expect(inbox.bodies).toEqual(['1']);
    expect(await core.drainBodies('q')).toEqual(['4']);
    expect(await core.drainBodies('dead')).toEqual(['2', '3']);
  });

  it('what comes back from a delayed retry takes up its place, and goes first', async () => {
    await declare({ 'x-max-length': 1, 'x-delayed-retry-min': 10 });
    sendAll('1');
    channel.reject((await channel.get('q'))?.deliveryTag ?? 0, { requeue: true });
    sendAll('2');
    core.clock.advance(10);
    expect(await core.drainBodies('q')).toEqual(['2']);
    expect(await core.drainBodies('dead')).toEqual(['1']);
  });

  it('0 does not drop what comes back from a delayed retry to a consumer with credit', async () => {
    await declare({ 'x-max-length': 0, 'x-delayed-retry-min': 10 });
    const inbox = await core.consume(channel, 'q');
    sendAll('1');
    channel.reject(1, { requeue: true });
    core.clock.advance(10);
    expect(inbox.bodies).toEqual(['1', '1']);
  });

  it('by a policy that comes later: what is too much goes at once; the lower of two counts', async () => {
    await declare({ 'x-max-length': 4 });
    sendAll('1', '2', '3', '4', '5');
    const policy = { vhost: '/', name: 'p', pattern: '^q$', applyTo: 'queues', priority: 0 } as const;
    await core.broker.administration.setPolicy({ ...policy, definition: { 'max-length': 2 } });
    expect((await core.queue('q'))?.messagesReady).toBe(2);
    await core.broker.administration.setPolicy({ ...policy, definition: { 'max-length': 100 } });
    sendAll('6', '7', '8');
    expect(await core.drainBodies('q')).toEqual(['5', '6', '7', '8']);
    await core.broker.administration.setPolicy({
      ...policy,
      definition: { 'max-length': 1, overflow: 'reject-publish' },
    });
    confirms.length = 0;
    sendAll('9', '10');
    expect(confirms).toEqual([true, false]);
  });
});
