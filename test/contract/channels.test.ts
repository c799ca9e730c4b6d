/** Channels and frames: B4, and what is sent out of place or malformed. Only the guilty channel or connection closes. */
import { describe, expect, it } from 'vitest';
import { encodeMethod } from '../support/amqp-wire.ts';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { closesConnection } from '../support/raw-channel.ts';
import { frame, headerFrame, methodFrame } from '../support/raw-frames.ts';

const broker = useBroker();

describe('B4: opening and closing', () => {
  it('B4: a second channel.open is 504 and ends the connection', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('channel.open')).toEqual(
      closesConnection(504, "CHANNEL_ERROR - second 'channel.open' seen", 'channel.open'),
    );
  });

  it('B4: anything else on a channel that is not open is 504', async () => {
    const connection = await broker.connect();
    expect(await connection.channel(7).refused('queue.declare', { queue: 'q' })).toEqual(
      closesConnection(504, "CHANNEL_ERROR - expected 'channel.open'", 'queue.declare'),
    );
  });

  it('B4: more channels than channel_max is 530', async () => {
    const connection = await broker.connect({ channelMax: 2 });
    await connection.openChannel(1);
    await connection.openChannel(2);
    expect(await connection.channel(3).refused('channel.open')).toEqual(
      closesConnection(
        530,
        'NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)',
        'none',
      ),
    );
  });

  it('B4: a closed channel makes room for another, also of its own number', async () => {
    const connection = await broker.connect({ channelMax: 1 });
    for (let round = 0; round < 3; round++) await (await connection.openChannel(1)).close();
    const channel = await connection.openChannel(1);
    expect(await channel.refused('queue.declare', { queue: 'nowhere', passive: true })).toMatchObject({ code: 404 });
    expect(await (await connection.openChannel(1)).call('basic.qos')).toEqual({});
  });

  it('B4: the error of one channel leaves the others and the connection alone', async () => {
    const connection = await broker.connect();
    const [first, second] = [await connection.openChannel(1), await connection.openChannel(2)];
    const queue = await second.queue(broker.fresh('q'), {}, { exclusive: true });
    await first.refused('queue.declare', { queue: 'nowhere', passive: true });
    expect(await second.ready(queue)).toBe(0);
  });

  it('B4: frames on a closing channel are dropped until close-ok', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel(1);
    const queue = await (await connection.openChannel(2)).queue(broker.fresh('q'));
    channel.send('queue.declare', { queue: 'nowhere', passive: true });
    expect((await channel.next()).name).toBe('channel.close');
    // the client has not seen the close yet and goes on
    channel.publish('', queue, 'dropped');
    channel.send('queue.declare', { queue: 'also-dropped' });
    channel.ack(1);
    channel.send('channel.close-ok');
    const probe = await connection.openChannel(1);
    expect(await probe.ready(queue)).toBe(0);
    expect(await probe.refused('queue.declare', { queue: 'also-dropped', passive: true })).toMatchObject({ code: 404 });
  });

  it('B4: a channel.close that crosses the one of the broker is answered', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel(1);
    channel.send('queue.declare', { queue: 'nowhere', passive: true });
    expect((await channel.next()).name).toBe('channel.close');
    channel.send('channel.close', { replyCode: 200, replyText: 'crossing' });
    expect((await channel.next()).name).toBe('channel.close-ok');
    channel.send('channel.close-ok');
    await connection.openChannel(1);
  });

  onlyWarren('RabbitMQ answers 504, which ends the connection over a race that no client can avoid')(
    'B4: late acks on a closed channel are ignored',
    async () => {
      const connection = await broker.connect();
      const channel = await connection.openChannel(1);
      await channel.close();
      channel.ack(1);
      channel.nack(2);
      channel.reject(3);
      expect(await (await connection.openChannel(2)).call('basic.qos')).toEqual({});
    },
  );

  it('B4: hundreds of channels', async () => {
    const connection = await broker.connect();
    const channels = await Promise.all(Array.from({ length: 500 }, (_, index) => connection.openChannel(index + 1)));
    const queue = await connection.channel(1).queue(broker.fresh('q'));
    for (const channel of channels) channel.publish('', queue, String(channel.number));
    const seen = new Set<string>();
    await connection.channel(500).consume(queue, { noAck: true });
    while (seen.size < 500) seen.add((await connection.channel(500).delivery()).text);
  });
});

describe('B4: flow', () => {
  it('B4: channel.flow active is answered', async () => {
    const channel = await broker.channel();
    expect(await channel.call('channel.flow', { active: true })).toEqual({ active: true });
  });

  onlyWarren('RabbitMQ answers 540')(
    'B4: channel.flow stops the deliveries of that channel and lets them go on',
    async () => {
      const channel = await broker.channel();
      const queue = await channel.queue(broker.fresh('q'));
      await channel.consume(queue, { noAck: true });
      expect(await channel.call('channel.flow', { active: false })).toEqual({ active: false });
      channel.publish('', queue, 'held back');
      expect(await channel.arrived(queue)).toEqual([]);
      expect((await channel.mustGet(queue, true)).text).toBe('held back');
      channel.publish('', queue, 'goes on');
      expect(await channel.call('channel.flow', { active: true })).toEqual({ active: true });
      expect((await channel.delivery()).text).toBe('goes on');
    },
  );
});

describe('B4: malformed frames', () => {
  it('B4: a frame above frame_max is 501', async () => {
    const connection = await broker.connect({ frameMax: 4096 });
    await connection.openChannel(1);
    connection.writeFrame(3, 1, Buffer.alloc(5000));
    const refusal = await connection.control.closed();
    expect(refusal).toMatchObject({ scope: 'connection', code: 501, method: 'none' });
    expect(refusal.text).toMatch(/^FRAME_ERROR - type 3, .*octets = /);
  });

  it('B4: a frame of exactly frame_max octets is taken', async () => {
    const connection = await broker.connect({ frameMax: 4096 });
    const channel = await connection.openChannel(1);
    const queue = await channel.queue(broker.fresh('q'));
    channel.publish('', queue, Buffer.alloc(4088));
    expect((await channel.mustGet(queue)).content?.bodyFrames).toEqual([4088]);
  });

  it('B4: a wrong end octet is 501 and shows the first 16 octets', async () => {
    const connection = await broker.connect();
    const octets = methodFrame(1, 'channel.open', { reserved1: 'x'.repeat(20) });
    octets[octets.length - 1] = 0xcd;
    connection.write(octets);
    const refusal = await connection.control.closed();
    expect(refusal).toMatchObject({ scope: 'connection', code: 501, method: 'none' });
    expect(refusal.text).toMatch(/^FRAME_ERROR - type 1, first 16 octets = /);
  });

  it('B4: a frame of unknown type is 501', async () => {
    const connection = await broker.connect();
    connection.writeFrame(9, 0, Buffer.from('abc'));
    const refusal = await connection.control.closed();
    expect(refusal).toMatchObject({ scope: 'connection', code: 501, method: 'none' });
    expect(refusal.text).toMatch(/^FRAME_ERROR - type 9, all octets = /);
  });

  it.each([
    ['a method cut short', encodeMethod('queue.declare', { queue: 'q' }).subarray(0, 6)],
    ['a method frame of two octets', Buffer.from([0, 50])],
    ['a method frame of none', Buffer.alloc(0)],
    ['a table longer than its frame', Buffer.from('0032000a000001710000000fff', 'hex')],
  ])('B4: %s ends the connection and nothing else', async (_name, payload) => {
    const bystander = await broker.channel();
    const connection = await broker.connect();
    await connection.openChannel(1);
    connection.writeFrame(1, 1, payload);
    const refusal = await connection.control.closed();
    expect(refusal.scope).toBe('connection');
    expect([501, 502, 503, 540, 541]).toContain(refusal.code);
    expect(await bystander.call('basic.qos')).toEqual({});
  });

  onlyWarren('RabbitMQ 3 drops the socket')('B4: an unknown class or method is told', async () => {
    for (const ids of ['00ff000a', '003200ff', '003c0001']) {
      const connection = await broker.connect();
      await connection.openChannel(1);
      connection.writeFrame(1, 1, Buffer.from(ids, 'hex'));
      const refusal = await connection.control.closed();
      expect(refusal.scope).toBe('connection');
      expect([501, 502, 503, 540]).toContain(refusal.code);
    }
  });

  const misplaced: [string, ...Buffer[]][] = [
    ['a content header without a publish', headerFrame(1, 3)],
    ['a content body without a publish', frame(3, 1, Buffer.from('abc'))],
    [
      'a publish followed by a method',
      methodFrame(1, 'basic.publish', { exchange: 'amq.fanout' }),
      methodFrame(1, 'basic.qos'),
    ],
    [
      'a publish followed by a body',
      methodFrame(1, 'basic.publish', { exchange: 'amq.fanout' }),
      frame(3, 1, Buffer.from('x')),
    ],
    [
      'a header of another class',
      methodFrame(1, 'basic.publish', { exchange: 'amq.fanout' }),
      headerFrame(1, 1, Buffer.alloc(2), 50),
    ],
    ['a heartbeat on another channel than 0', frame(8, 1, Buffer.alloc(0))],
  ];

  it.each(misplaced)('B4: %s is 505', async (_name, ...frames) => {
    const connection = await broker.connect();
    await connection.openChannel(1);
    connection.write(Buffer.concat(frames));
    const refusal = await connection.control.closed();
    expect(refusal).toMatchObject({ scope: 'connection', code: 505 });
    expect(refusal.text).toMatch(/^UNEXPECTED_FRAME - /);
  });

  it('B4: content may not be announced on channel 0', async () => {
    const connection = await broker.connect();
    connection.write(Buffer.concat([headerFrame(0, 1)]));
    expect(await connection.control.closed()).toMatchObject({ scope: 'connection', code: 505 });
  });

  it('B4: methods of the connection are not taken on another channel, nor others on channel 0', async () => {
    const first = await broker.connect();
    const channel = await first.openChannel(1);
    expect(await channel.refused('connection.open', { virtualHost: '/' })).toMatchObject({ scope: 'connection' });
    const second = await broker.connect();
    expect(await second.control.refused('queue.declare', { queue: 'q' })).toMatchObject({ scope: 'connection' });
    const third = await broker.connect();
    expect(await third.control.refused('connection.tune-ok', { frameMax: 4096 })).toMatchObject({
      scope: 'connection',
      code: 504,
    });
  });

  it('B4: frames after connection.close are ignored', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel(1);
    connection.write(
      Buffer.concat([
        methodFrame(0, 'connection.close', { replyCode: 200, replyText: 'bye' }),
        methodFrame(1, 'queue.declare', { queue: 'after-close' }),
      ]),
    );
    await connection.control.expect('connection.close-ok');
    expect(channel.pending).toEqual([]);
  });
});

describe('unsupported methods', () => {
  it('immediate is 540', async () => {
    const channel = await broker.channel();
    channel.publish('', 'q', 'now', {}, { immediate: true });
    expect(await channel.closed()).toEqual(closesConnection(540, 'NOT_IMPLEMENTED - immediate=true', 'basic.publish'));
  });

  it('a prefetch size is 540', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('basic.qos', { prefetchSize: 10 })).toEqual(
      closesConnection(540, 'NOT_IMPLEMENTED - prefetch_size!=0 (10)', 'basic.qos'),
    );
  });

  it('recover without requeue is 540', async () => {
    const channel = await broker.channel();
    expect(await channel.refused('basic.recover', { requeue: false })).toEqual(
      closesConnection(540, 'NOT_IMPLEMENTED - requeue=false', 'basic.recover'),
    );
  });

  it('access.request gets a ticket, as clients of earlier versions want it', async () => {
    const channel = await broker.channel();
    expect(await channel.call('access.request', { realm: '/data', active: true })).toEqual({ ticket: 1 });
  });
});

describe('names on the wire', () => {
  it('invalid UTF-8 and NUL in a name are taken as they are, or refused; nobody else notices', async () => {
    const bystander = await broker.channel();
    const channel = await broker.channel();
    const queue = Buffer.from([0xff, 0xfe, 0x00, 0x41]);
    channel.send('queue.declare', { queue });
    const outcome = await channel.next().then(
      (answer) => answer.name,
      () => 'connection closed',
    );
    expect(['queue.declare-ok', 'channel.close', 'connection closed']).toContain(outcome);
    expect(await bystander.call('basic.qos')).toEqual({});
  });
});
