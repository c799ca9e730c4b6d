/**
 * Publishers are held back while an alarm is in force: B15. Alarms hold for a whole RabbitMQ node: run this file against
 * one that nobody else uses, with AMQP_TEST_ALARMS=yes.
 */
import { afterEach, describe, expect } from 'vitest';
import type { Alarm } from '../../broker/port.ts';
import { isWarren, itAdministered, onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';

const broker = useBroker();
const mayAlarm = isWarren || process.env.AMQP_TEST_ALARMS !== undefined;
const it = mayAlarm ? itAdministered : onlyWarren('alarms would hold up everybody; see AMQP_TEST_ALARMS');
const BLOCKED = { capabilities: { 'connection.blocked': true } };

async function setAlarm(alarm: Alarm, raised: boolean): Promise<void> {
  await broker.administration.setAlarm(alarm, raised);
}

afterEach(async () => {
  if (mayAlarm) for (const alarm of ['memory', 'disk'] as const) await setAlarm(alarm, false);
});

describe('B15: alarms', () => {
  it('B15: the first publish is answered with connection.blocked, once; clearing with connection.unblocked', async () => {
    const connection = await broker.connect(BLOCKED);
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'));
    const observer = await broker.channel();
    await setAlarm('memory', true);
    expect(connection.control.pending).toEqual([]);
    channel.publish('', queue, 'held back');
    channel.publish('', queue, 'held back too');
    expect((await connection.control.expect('connection.blocked')).args).toEqual({ reason: 'low on memory' });
    await setAlarm('memory', false);
    expect((await connection.control.expect('connection.unblocked')).args).toEqual({});
    await eventually(async () => expect(await observer.ready(queue)).toBe(2));
    expect(connection.control.pending).toEqual([]);
  });

  it('B15: consumers go on; only the socket that publishes is not read', async () => {
    const consumer = await broker.channel(BLOCKED);
    const queue = await consumer.queue(broker.fresh('q'));
    for (let i = 0; i < 3; i++) await consumer.put('', queue, String(i));
    const reader = await broker.channel(BLOCKED);
    const publisher = await broker.channel(BLOCKED);
    await setAlarm('memory', true);
    await reader.consume(queue);
    const deliveries = [await reader.delivery(), await reader.delivery(), await reader.delivery()];
    reader.ack(deliveries[2]?.tag ?? 0, true);
    publisher.publish('', queue, 'held back');
    publisher.send('basic.qos');
    expect(await reader.call('basic.qos')).toEqual({});
    expect(await reader.arrived(queue)).toEqual([]);
    expect(publisher.pending).toEqual([]);
    await setAlarm('memory', false);
    expect((await publisher.next()).name).toBe('basic.qos-ok');
    expect((await reader.delivery()).text).toBe('held back');
  });

  it('B15: the reason names what is low, and everything must be well before it goes on', async () => {
    const first = await broker.connect(BLOCKED);
    await setAlarm('disk', true);
    (await first.openChannel()).publish('amq.fanout', '', 'x');
    expect((await first.control.expect('connection.blocked')).args).toEqual({ reason: 'low on disk' });
    await setAlarm('memory', true);
    const second = await broker.connect(BLOCKED);
    (await second.openChannel()).publish('amq.fanout', '', 'x');
    expect((await second.control.expect('connection.blocked')).args.reason).toMatch(
      /^low on (memory & disk|disk & memory)$/,
    );
    await setAlarm('disk', false);
    const third = await broker.connect(BLOCKED);
    (await third.openChannel()).publish('amq.fanout', '', 'x');
    expect((await third.control.expect('connection.blocked')).args).toEqual({ reason: 'low on memory' });
    expect(second.control.pending.map(({ name }) => name)).not.toContain('connection.unblocked');
    await setAlarm('memory', false);
    await second.control.expect('connection.unblocked');
    await third.control.expect('connection.unblocked');
  });

  it('B15: a client that does not know of it is held back in silence', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'));
    const observer = await broker.channel();
    await setAlarm('memory', true);
    channel.publish('', queue, 'held back');
    expect(await observer.ready(queue)).toBe(0);
    await setAlarm('memory', false);
    await eventually(async () => expect(await observer.ready(queue)).toBe(1));
    expect(connection.control.pending).toEqual([]);
  });

  it('B15: heartbeats still flow to a publisher that is held back', async () => {
    const connection = await broker.connect({ ...BLOCKED, heartbeat: 1 });
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'));
    await setAlarm('memory', true);
    channel.publish('', queue, 'held back');
    await connection.control.expect('connection.blocked');
    const beating = setInterval(() => connection.writeFrame(8, 0, Buffer.alloc(0)), 300);
    try {
      const before = connection.heartbeats;
      await eventually(() => expect(connection.heartbeats).toBeGreaterThan(before + 2), { timeoutMs: 6000 });
      expect(connection.ended).toBe(false);
    } finally {
      clearInterval(beating);
    }
  });
});
