/** Openings, frames and methods that no well-behaved client sends. Each time the guilty channel or connection is closed with the right code, and a bystander notices nothing. */
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { sendAndReadAll } from '../../support/raw-amqp.ts';
import { closesChannel, closesConnection } from '../../support/raw-channel.ts';
import { frame, headerFrame, methodFrame } from '../../support/raw-frames.ts';
import { body, damaged, publish, useScene } from './scene.ts';

const scene = useScene();
const { broker } = scene;
const logged = (message: string): boolean => scene.lines.some((line) => line.message.includes(message));

describe('what does not begin as AMQP', () => {
  it('HTTP on the AMQP port is answered with the protocol header, and logged as such', async () => {
    const answer = await sendAndReadAll(broker, Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'));
    expect(answer).toEqual(Buffer.from('AMQP\0\0\x09\x01'));
    expect(logged('HTTP client on the AMQP port')).toBe(true);
  });

  it('so is TLS', async () => {
    const hello = Buffer.from('160301020001000100', 'hex');
    expect(await sendAndReadAll(broker, hello)).toEqual(Buffer.from('AMQP\0\0\x09\x01'));
    expect(logged('TLS client on the AMQP port')).toBe(true);
  });

  it('a handshake that never ends is ended', async () => {
    const silent = connect(broker.port, broker.host);
    const stuck = await broker.dial();
    await stuck.login();
    await eventually(() => expect(silent.closed && stuck.ended).toBe(true));
  });

  it('a handshake that never ends although octets keep coming is ended', async () => {
    const dripping = await broker.dial();
    const timer = setInterval(() => dripping.write(Buffer.from('A')), 20);
    await dripping.untilEnded();
    clearInterval(timer);
  });
});

describe('frames', () => {
  it.each<[string, Buffer, number, string]>([
    [
      'larger than frame_max',
      head(1, 1, 131_073),
      501,
      'FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}',
    ],
    [
      'body frames larger than frame_max',
      head(3, 1, 2 ** 32 - 1),
      501,
      'FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4294967295,131064}',
    ],
    [
      'a wrong end octet',
      damaged(methodFrame(1, 'tx.select')),
      501,
      'FRAME_ERROR - type 1, all octets = <<0,90,0,10>>: {invalid_frame_end_marker,0}',
    ],
    [
      'an unknown type',
      frame(5, 1, Buffer.from('abc')),
      501,
      'FRAME_ERROR - type 5, all octets = <<"abc">>: unknown_frame',
    ],
    [
      'an unknown type with a long payload',
      frame(4, 1, Buffer.alloc(20, 'abcdefg')),
      501,
      'FRAME_ERROR - type 4, first 16 octets = <<"abcdefgabcdefgab">>: unknown_frame',
    ],
    [
      'a method without its id',
      frame(1, 1, Buffer.from([0, 60])),
      501,
      'FRAME_ERROR - type 1, all octets = <<0,60>>: unknown_frame',
    ],
    [
      'a header that is too short',
      Buffer.concat([publish, frame(2, 1, Buffer.from([0, 60]))]),
      501,
      'FRAME_ERROR - type 2, all octets = <<0,60>>: unknown_frame',
    ],
    ['a heartbeat on a channel', frame(8, 1, Buffer.alloc(0)), 505, 'UNEXPECTED_FRAME - type 8, all octets = <<>>'],
    [
      'a heartbeat with a payload',
      frame(8, 0, Buffer.from('x')),
      501,
      'FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame',
    ],
  ])('%s', async (_name, octets, code, text) => {
    expect(await scene.refusal(octets)).toEqual(closesConnection(code, text, 'none'));
    await scene.guilty.untilEnded();
  });

  it('a wrong end octet of a body that came in two chunks', async () => {
    const octets = Buffer.concat([publish, headerFrame(1, 3), damaged(body('abc'))]);
    scene.guilty.write(octets.subarray(0, -2));
    await scene.bystander.call('basic.qos');
    const text = 'FRAME_ERROR - type 3, all octets = <<>>: {invalid_frame_end_marker,0}';
    expect(await scene.refusal(octets.subarray(-2))).toEqual(closesConnection(501, text, 'none'));
  });

  it('nothing is heard any more after lost framing, and the socket does not stay', async () => {
    const queue = broker.fresh('unheard');
    expect(
      await scene.refusal(damaged(methodFrame(1, 'tx.select')), methodFrame(1, 'queue.declare', { queue })),
    ).toMatchObject({
      code: 501,
    });
    await scene.guilty.untilEnded();
    expect(await scene.exists(queue)).toBe(false);
  });
});

describe('methods', () => {
  it.each([
    ['an unknown method', [0, 60, 3, 231], '60/999'],
    ['an unknown class', [0, 99, 0, 10], '99/10'],
    ['a method that only brokers send', [0, 60, 0, 21, 1, 0x78], 'basic.consume-ok'],
    ['a method of the connection on a channel', [0, 10, 0, 51], 'connection.close-ok'],
  ])('%s is 503', async (_name, payload, method) => {
    expect(await scene.refusal(frame(1, 1, Buffer.from(payload)))).toEqual(
      closesConnection(503, 'COMMAND_INVALID - unimplemented method', method),
    );
  });

  it('an unknown method on channel 0 is 503', async () => {
    const text = 'COMMAND_INVALID - unimplemented method';
    expect(await scene.refusal(frame(1, 0, Buffer.from([0, 99, 0, 1])))).toEqual(closesConnection(503, text, '99/1'));
  });

  it.each([
    ['channel.open', methodFrame(0, 'channel.open')],
    ['basic.publish', methodFrame(0, 'basic.publish')],
    ['connection.start-ok', methodFrame(0, 'connection.start-ok')],
    ['connection.open', methodFrame(0, 'connection.open')],
  ])('%s on channel 0 of an open connection is 504', async (method, octets) => {
    const text = 'CHANNEL_ERROR - unexpected method in connection state running';
    expect(await scene.refusal(octets)).toEqual(closesConnection(504, text, method));
  });

  it('content on channel 0 is 505', async () => {
    expect(await scene.refusal(headerFrame(0, 0))).toMatchObject({ scope: 'connection', code: 505 });
  });

  it('a second channel.open is 504', async () => {
    const text = "CHANNEL_ERROR - second 'channel.open' seen";
    expect(await scene.channel.refused('channel.open')).toEqual(closesConnection(504, text, 'channel.open'));
  });

  it('arguments that are cut off, or too many, are 501', async () => {
    const payload = Buffer.from([0, 50, 0, 10, 0, 0, 9, 97, 98, 99]);
    const text = 'FRAME_ERROR - cannot decode <<0,0,9,97,98,99>>';
    expect(await scene.refusal(frame(1, 1, payload))).toEqual(closesConnection(501, text, 'queue.declare'));
  });

  it('a publish whose strings run over is 501', async () => {
    const payload = Buffer.from([0, 60, 0, 40, 0, 0, 0, 200, 97, 0]);
    const text = 'FRAME_ERROR - cannot decode <<0,0,0,200,97,0>>';
    expect(await scene.refusal(frame(1, 1, payload))).toEqual(closesConnection(501, text, 'basic.publish'));
  });

  it('a short string of 255 octets is a name, one of 256 cannot be said', async () => {
    const longest = `${broker.fresh('q')}-`.padEnd(255, 'x');
    expect(await scene.channel.queue(longest, {}, { exclusive: true })).toBe(longest);
    const payload = Buffer.concat([Buffer.from([0, 50, 0, 30, 0, 0, 255]), Buffer.alloc(256, 'x'), Buffer.from([0])]);
    expect(await scene.refusal(frame(1, 1, payload))).toMatchObject({ scope: 'connection', code: 501 });
  });

  it('a name that is not UTF-8 is 501', async () => {
    const text = 'FRAME_ERROR - Malformed UTF-8 in shortstr';
    expect(await scene.channel.refused('queue.declare', { queue: Buffer.from([0x61, 0xff]) })).toEqual(
      closesConnection(501, text, 'queue.declare'),
    );
  });

  it('so is a routing key', async () => {
    const octets = methodFrame(1, 'basic.publish', { routingKey: Buffer.from([0xc3, 0x28]) });
    expect(await scene.refusal(octets)).toMatchObject({ scope: 'connection', code: 501 });
  });

  it('CR and LF in names are dropped', async () => {
    const queue = broker.fresh('lines');
    expect(await scene.channel.queue(`${queue}\r\n`, {}, { exclusive: true })).toBe(queue);
    const exchange = await scene.channel.exchange(`${queue}\n-x`, 'fanout', {}, { autoDelete: true });
    await scene.channel.bind(queue, `${queue}-x`);
    await scene.channel.put(`${queue}-x`, '', 'arrived');
    expect(await scene.channel.drain(`\n${queue}`)).toEqual(['arrived']);
    await scene.channel.call('exchange.delete', { exchange });
  });

  it('an argument of a wrong type is 406', async () => {
    const queue = broker.fresh('typed');
    const refused = await scene.channel.refused('queue.declare', { queue, arguments: { 'x-max-length': 'many' } });
    expect(refused).toMatchObject({ scope: 'channel', code: 406, method: 'queue.declare' });
  });

  it('immediate, prefetch_size and recover without requeue are 540', async () => {
    const attempts: [string, Record<string, unknown>, string][] = [
      ['basic.publish', { immediate: true }, 'immediate=true'],
      ['basic.qos', { prefetchSize: 5 }, 'prefetch_size!=0 (5)'],
      ['basic.recover', { requeue: false }, 'requeue=false'],
    ];
    for (const [method, args, text] of attempts) {
      const other = await broker.channel();
      expect(await other.refused(method, args)).toEqual(closesConnection(540, `NOT_IMPLEMENTED - ${text}`, method));
    }
  });

  it('an empty queue name before any declare is 404', async () => {
    const text = 'NOT_FOUND - no previously declared queue';
    expect(await scene.channel.refused('basic.get')).toEqual(closesChannel(404, text, 'basic.get'));
  });
});

function head(type: number, number: number, size: number): Buffer {
  const octets = Buffer.alloc(7);
  octets.writeUInt8(type, 0);
  octets.writeUInt16BE(number, 1);
  octets.writeUInt32BE(size, 3);
  return octets;
}
