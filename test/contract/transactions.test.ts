/** Transactions: B11. */
import { describe, expect, it } from 'vitest';
import { useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { closesChannel } from '../support/raw-channel.ts';

const broker = useBroker();

describe('B11: modes of a channel', () => {
  it('B11: tx.select after confirm.select is 406', async () => {
    const channel = await broker.channel();
    await channel.call('confirm.select');
    expect(await channel.refused('tx.select')).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - cannot switch from confirm to tx mode', 'tx.select'),
    );
  });

  it('B11: confirm.select after tx.select is 406', async () => {
    const channel = await broker.channel();
    await channel.call('tx.select');
    expect(await channel.refused('confirm.select')).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - cannot switch from tx to confirm mode', 'confirm.select'),
    );
  });

  it.each(['tx.commit', 'tx.rollback'])('B11: %s without tx.select is 406', async (method) => {
    const channel = await broker.channel();
    expect(await channel.refused(method)).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - channel is not transactional', method),
    );
  });

  it('B11: tx.select twice is fine', async () => {
    const channel = await broker.channel();
    await channel.call('tx.select');
    expect(await channel.call('tx.select')).toEqual({});
  });
});

describe('B11: publishing', () => {
  it('B11: messages appear with the commit, in order, and without confirms', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('tx.select');
    for (const body of ['a', 'b', 'c']) channel.publish('', queue, body);
    const probe = await broker.channel();
    await channel.call('basic.qos');
    expect(await probe.ready(queue)).toBe(0);
    expect(await channel.call('tx.commit')).toEqual({});
    expect(await probe.drain(queue)).toEqual(['a', 'b', 'c']);
    expect(channel.pending).toEqual([]);
  });

  it('B11: a rollback forgets them; the next transaction begins anew', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('tx.select');
    channel.publish('', queue, 'forgotten');
    expect(await channel.call('tx.rollback')).toEqual({});
    channel.publish('', queue, 'kept');
    await channel.call('tx.commit');
    expect(await (await broker.channel()).drain(queue)).toEqual(['kept']);
  });

  it('B11: closing the channel forgets them too', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('tx.select');
    channel.publish('', queue, 'forgotten');
    await channel.close();
    expect(await (await broker.channel()).ready(queue)).toBe(0);
  });

  it('B11: a mandatory message comes back before commit-ok', async () => {
    const channel = await broker.channel();
    await channel.call('tx.select');
    channel.publish('', 'nobody', 'back', {}, { mandatory: true });
    channel.send('tx.commit');
    expect([(await channel.next()).name, (await channel.next()).name]).toEqual(['basic.return', 'tx.commit-ok']);
  });

  it('B11: a message that a full queue rejects makes the commit 406, not silence', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    await channel.call('tx.select');
    channel.publish('', queue, 'one');
    await channel.call('tx.commit');
    channel.publish('', queue, 'too many');
    expect(await channel.refused('tx.commit')).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - partial tx completion', 'tx.commit'),
    );
  });

  it('B11: a missing exchange is told at once', async () => {
    const channel = await broker.channel();
    await channel.call('tx.select');
    channel.publish('nowhere', 'k', 'lost');
    expect(await channel.closed()).toEqual(
      closesChannel(404, `NOT_FOUND - no exchange 'nowhere' ${broker.here}`, 'basic.publish'),
    );
  });
});

describe('B11: settling', () => {
  it('B11: acks count with the commit only', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'one');
    const consumer = await (await broker.connect()).openChannel();
    await consumer.call('tx.select');
    const got = await consumer.mustGet(queue);
    consumer.ack(got.tag);
    await consumer.close();
    await eventually(async () => expect(await channel.ready(queue)).toBe(1));
    const second = await broker.channel();
    await second.call('tx.select');
    const again = await second.mustGet(queue);
    second.ack(again.tag);
    await second.call('tx.commit');
    await second.close();
    expect(await channel.ready(queue)).toBe(0);
  });

  it('B11: a rollback restores what was acked or rejected: it is unacked again', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('tx.select');
    for (const body of ['1', '2', '3']) channel.publish('', queue, body);
    await channel.call('tx.commit');
    for (let i = 0; i < 3; i++) await channel.mustGet(queue);
    channel.ack(1);
    channel.reject(2, true);
    await channel.call('tx.rollback');
    expect(await channel.ready(queue)).toBe(0);
    channel.ack(1);
    channel.reject(2, true);
    channel.nack(3);
    await channel.call('tx.commit');
    await eventually(async () => expect(await channel.ready(queue)).toBe(1));
    expect((await channel.mustGet(queue)).text).toBe('2');
  });

  it('B11: acking twice within a transaction is 406', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('tx.select');
    channel.publish('', queue, 'one');
    await channel.call('tx.commit');
    await channel.mustGet(queue);
    channel.ack(1);
    channel.ack(1);
    expect(await channel.closed()).toEqual(
      closesChannel(406, 'PRECONDITION_FAILED - unknown delivery tag 1', 'basic.ack'),
    );
  });

  it('B11: publishes and acks of one commit take effect together', async () => {
    const channel = await broker.channel();
    const [from, to] = [await channel.queue(broker.fresh('q')), await channel.queue(broker.fresh('q'))];
    await channel.put('', from, 'moved');
    const mover = await broker.channel();
    await mover.call('tx.select');
    await mover.consume(from);
    const delivery = await mover.delivery();
    mover.publish('', to, delivery.text);
    mover.ack(delivery.tag);
    await mover.call('tx.commit');
    await mover.close();
    expect(await channel.ready(from)).toBe(0);
    expect(await channel.drain(to)).toEqual(['moved']);
  });
});
