import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Broker, BrokerError, Channel, ConnectionEvents } from '../../broker/port.ts';
import { type Core, Inbox, publish, send, startCore } from '../support/core.ts';

let core: Core;
let channel: Channel;
beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
  await channel.declareQueue({ queue: 'q' });
});
afterEach(() => core.broker.close());

/** Whether a promise has been settled, once the reactions that are due have run. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol('pending');
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  return (await Promise.race([promise, Promise.resolve(pending)])) !== pending;
}

describe('[B20] a drain', () => {
  it('cancels the consumers, and waits for what they hold', async () => {
    const inbox = await core.consume(channel, 'q');
    for (const body of ['1', '2']) send(channel, 'q', body);
    const drained = core.broker.drain();
    expect(inbox.cancelled).toEqual([{ reason: 'shutdown', explanation: 'the broker is shutting down' }]);
    send(channel, 'q', '3');
    channel.ack(1);
    core.clock.advance(1000);
    expect(await isSettled(drained)).toBe(false);
    channel.reject(2, { requeue: true });
    core.clock.advance(1000);
    expect(await isSettled(drained)).toBe(true);
    expect(inbox.bodies).toEqual(['1', '2']);
    expect((await core.queue('q'))?.messagesReady).toBe(2);
  });

  it('waits no longer than it was told to', async () => {
    await core.consume(channel, 'q');
    send(channel, 'q', '1');
    const drained = core.broker.drain(2000);
    core.clock.advance(1900);
    expect(await isSettled(drained)).toBe(false);
    core.clock.advance(100);
    expect(await isSettled(drained)).toBe(true);
    expect((await core.queue('q'))?.messagesUnacked).toBe(1);
  });

  it('is over at once when nobody holds anything', async () => {
    await core.consume(channel, 'q');
    expect(await isSettled(core.broker.drain())).toBe(true);
  });

  it('lets no new consumer and no new connection in, but goes on publishing and settling', async () => {
    send(channel, 'q', '1');
    await channel.get('q');
    const drained = core.broker.drain();
    const refused = { kind: 'connection-forced', message: 'the broker is shutting down' };
    await expect(channel.consume({ queue: 'q' }, new Inbox())).rejects.toMatchObject(refused);
    await expect(core.broker.connect()).rejects.toMatchObject(refused);
    send(channel, 'q', '2');
    channel.ack(1);
    core.clock.advance(1000);
    await drained;
  });

  it('a consumer that has not begun yet never does', async () => {
    const inbox = new Inbox();
    const consuming = channel.consume({ queue: 'q' }, inbox);
    void core.broker.drain();
    await consuming;
    core.clock.turn();
    send(channel, 'q', '1');
    expect(inbox.bodies).toEqual([]);
  });
});

describe('closing the broker', () => {
  it('ends every connection with connection-forced, and leaves nothing', async () => {
    const told: BrokerError[] = [];
    const connection = await core.broker.connect(undefined, '/', { onClose: (error) => void told.push(error) });
    const inbox = await core.consume(connection.openChannel(), 'q');
    await core.broker.close();
    await core.broker.close();
    expect(told).toMatchObject([
      { kind: 'connection-forced', message: "broker forced connection closure with reason 'shutdown'" },
    ]);
    expect(inbox.cancelled).toEqual([]);
    expect(() => channel.ack(1)).toThrow(expect.objectContaining({ kind: 'connection-forced' }));
    await expect(core.broker.connect()).rejects.toMatchObject({ kind: 'connection-forced' });
    await expect(core.broker.snapshot('/')).rejects.toMatchObject({ kind: 'not-found' });
    expect(core.clock.timerCount).toBe(0);
  });

  it('leaves no timer behind, whatever was waiting', async () => {
    await channel.declareQueue({ queue: 'waits', arguments: { 'x-expires': 1000, 'x-delayed-retry-min': 1000 } });
    await channel.declareExchange({
      exchange: 'later',
      type: 'x-delayed-message',
      arguments: { 'x-delayed-type': 'direct' },
    });
    send(channel, 'waits', '1', { expiration: '1000' });
    send(channel, 'waits', '2', { expiration: '1000' });
    channel.reject((await channel.get('waits'))?.deliveryTag ?? 0, { requeue: true });
    publish(channel, 'later', '', '', { headers: { 'x-delay': 1000 } });
    await core.consume(channel, 'waits', { arguments: { 'x-consumer-timeout': 1000 } });
    expect(core.clock.timerCount).toBeGreaterThan(0);
    await core.broker.close();
    expect(core.clock.timerCount).toBe(0);
  });
});

describe('a virtual host that is deleted', () => {
  it('takes its connections and everything in it along, and no other', async () => {
    const { administration } = core.broker;
    await administration.putVhost({ name: 'v' });
    const told: BrokerError[] = [];
    const connection = await core.broker.connect(undefined, 'v', { onClose: (error) => void told.push(error) });
    const theirs = connection.openChannel();
    await theirs.declareQueue({ queue: 'q' });
    await core.consume(theirs, 'q');
    await administration.deleteVhost('v');
    expect(told).toMatchObject([{ kind: 'connection-forced', message: "vhost 'v' is deleted" }]);
    expect(() => send(theirs, 'q', '1')).toThrow(expect.objectContaining({ kind: 'connection-forced' }));
    await expect(core.broker.connect(undefined, 'v')).rejects.toMatchObject({ kind: 'not-allowed' });
    await administration.putVhost({ name: 'v' });
    expect((await core.broker.snapshot('v')).queues).toEqual([]);
    send(channel, 'q', 'the other one is as it was');
    expect((await core.queue('q'))?.messagesReady).toBe(1);
  });
});

describe('[B15] alarms', () => {
  type Told = Parameters<ConnectionEvents['onAlarms']>[0];

  async function listen(broker: Broker): Promise<Told[]> {
    const told: Told[] = [];
    await broker.connect(undefined, '/', { onAlarms: (alarms) => void told.push(alarms) });
    return told;
  }

  it('are told to every connection as they come and go, once each', async () => {
    const { administration } = core.broker;
    const told = await listen(core.broker);
    await administration.setAlarm('disk', true);
    await administration.setAlarm('disk', true);
    await administration.setAlarm('memory', true);
    await administration.setAlarm('disk', false);
    await administration.setAlarm('memory', false);
    await administration.setAlarm('memory', false);
    expect(told).toEqual([['disk'], ['memory', 'disk'], ['memory'], []]);
    expect(await administration.alarms()).toEqual([]);
  });

  it('are told to a new connection after it has entered', async () => {
    await core.broker.administration.setAlarm('memory', true);
    const told = await listen(core.broker);
    expect(told).toEqual([]);
    core.clock.turn();
    expect(told).toEqual([['memory']]);
  });
});
