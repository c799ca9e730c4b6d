/** Publisher confirms: B21. */
import { describe, expect, it } from 'vitest';
import { useBroker } from '../support/broker-under-test.ts';

const broker = useBroker();

describe('B21: confirms', () => {
  it('B21: confirm.select is answered, twice too, and not with no-wait', async () => {
    const channel = await broker.channel();
    expect(await channel.call('confirm.select')).toEqual({});
    expect(await channel.call('confirm.select')).toEqual({});
    channel.send('confirm.select', { noWait: true });
    expect(await channel.call('basic.qos')).toEqual({});
    expect(channel.pending).toEqual([]);
  });

  it('B21: the sequence begins at 1 with the first publish after confirm.select, on each channel', async () => {
    const connection = await broker.connect();
    for (const channel of [await connection.openChannel(), await connection.openChannel()]) {
      const queue = await channel.queue(broker.fresh('q'));
      channel.publish('', queue, 'before');
      await channel.call('confirm.select');
      channel.publish('', queue, 'first');
      const confirm = await channel.next();
      expect([confirm.name, confirm.tag]).toEqual(['basic.ack', 1]);
    }
  });

  it('B21: every publish is settled once, whatever becomes of it', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), {}, { durable: true });
    await channel.call('confirm.select');
    for (let i = 0; i < 300; i++) {
      const deliveryMode = i % 2 === 0 ? 2 : 1;
      channel.publish('', i % 3 === 0 ? 'nobody' : queue, String(i), { deliveryMode });
    }
    expect(await channel.confirms(300)).toEqual(Array.from({ length: 300 }, () => true));
    expect(await channel.ready(queue)).toBe(200);
    expect(channel.pending).toEqual([]);
  });

  it('B21: mandatory and unroutable: basic.return comes before the ack', async () => {
    const channel = await broker.channel();
    await channel.call('confirm.select');
    for (let sequence = 1; sequence <= 5; sequence++) {
      channel.publish('', 'nobody', `message ${sequence}`, {}, { mandatory: true });
      const [first, second] = [await channel.next(), await channel.next()];
      expect([first.name, first.text]).toEqual(['basic.return', `message ${sequence}`]);
      expect([second.name, second.tag]).toEqual(['basic.ack', sequence]);
    }
  });

  it('B21: a message for several queues is acked once, when all have it', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout');
    const queues = [];
    for (let i = 0; i < 5; i++) {
      const queue = await channel.queue(broker.fresh('q'), {}, { durable: true });
      await channel.bind(queue, exchange);
      queues.push(queue);
    }
    expect(await channel.put(exchange, '', 'to all', { deliveryMode: 2 })).toBe(true);
    for (const queue of queues) expect(await channel.ready(queue)).toBe(1);
    expect(channel.pending).toEqual([]);
  });

  it('B21: a nack when any one queue rejects the publish, though others took it', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout');
    const full = await channel.queue(broker.fresh('q'), { 'x-max-length': 1, 'x-overflow': 'reject-publish' });
    const roomy = await channel.queue(broker.fresh('q'));
    await channel.bind(full, exchange);
    await channel.bind(roomy, exchange);
    expect(await channel.put(exchange, '', 'fits')).toBe(true);
    expect(await channel.put(exchange, '', 'does not')).toBe(false);
    expect(await channel.put('', roomy, 'fits')).toBe(true);
    expect(await channel.drain(full)).toEqual(['fits']);
    expect(await channel.drain(roomy)).toEqual(['fits', 'does not', 'fits']);
  });

  it('B21: in a burst each publish gets its own verdict', async () => {
    const channel = await broker.channel();
    const full = await channel.queue(broker.fresh('q'), { 'x-max-length': 0, 'x-overflow': 'reject-publish' });
    const roomy = await channel.queue(broker.fresh('q'));
    await channel.call('confirm.select');
    const fits = Array.from({ length: 200 }, (_, index) => index % 3 !== 0 && index % 7 !== 0);
    for (const fit of fits) channel.publish('', fit ? roomy : full, 'x');
    expect(await channel.confirms(fits.length)).toEqual(fits);
    expect(channel.pending).toEqual([]);
  });

  it('B21: in a burst too, what is returned is returned before it is acked', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('confirm.select');
    const count = 100;
    for (let sequence = 1; sequence <= count; sequence++) {
      channel.publish('', sequence % 2 === 0 ? queue : 'nobody', String(sequence), {}, { mandatory: true });
    }
    const returned = new Set<number>();
    const settled = new Set<number>();
    while (settled.size < count) {
      const next = await channel.next();
      if (next.name === 'basic.return') {
        returned.add(Number(next.text));
        continue;
      }
      expect(next.name).toBe('basic.ack');
      for (let sequence = next.args.multiple ? 1 : next.tag; sequence <= next.tag; sequence++) {
        if (sequence % 2 === 1) expect(returned).toContain(sequence);
        settled.add(sequence);
      }
    }
    expect(returned.size).toBe(count / 2);
  });

  it('B21: a consumer that has it at once makes no difference', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), {}, { durable: true });
    await channel.consume(queue);
    await channel.call('confirm.select');
    channel.publish('', queue, 'hello', { deliveryMode: 2 });
    const both = [await channel.next(), await channel.next()];
    expect(both.map(({ name }) => name).toSorted()).toEqual(['basic.ack', 'basic.deliver']);
  });

  it('B21: amqplib waits for confirms', async () => {
    const model = await broker.amqplib();
    const channel = await model.createConfirmChannel();
    const queue = broker.fresh('q');
    await channel.assertQueue(queue, { durable: true });
    for (let i = 0; i < 100; i++) channel.sendToQueue(queue, Buffer.from(String(i)), { persistent: true });
    await channel.waitForConfirms();
    expect((await channel.checkQueue(queue)).messageCount).toBe(100);
  });

  it('B21: a publish that closes the channel is not confirmed, but those before it are', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.call('confirm.select');
    channel.publish('', queue, 'fine');
    expect(await channel.confirms(1)).toEqual([true]);
    channel.publish('nowhere', queue, 'refused');
    channel.publish('', queue, 'after it');
    expect(await channel.closed()).toMatchObject({ scope: 'channel', code: 404 });
    expect(channel.pending).toEqual([]);
    expect(await (await broker.channel()).drain(queue)).toEqual(['fine']);
  });

  it('B21: without confirm.select there are none', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    channel.publish('', queue, 'hello');
    await channel.mustGet(queue);
    expect(channel.pending).toEqual([]);
  });
});
