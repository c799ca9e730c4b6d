/** Content that no well-behaved client sends, and what comes after a close. Each time the guilty channel or connection is closed with the right code, and a bystander notices nothing. */
import { describe, expect, it } from 'vitest';
import { encodeProperties, typed, Writer } from '../../support/amqp-wire.ts';
import { eventually } from '../../support/eventually.ts';
import { closesChannel, closesConnection } from '../../support/raw-channel.ts';
import { headerFrame, methodFrame } from '../../support/raw-frames.ts';
import { BODY_BYTES_MAX, body, publish, useScene } from './scene.ts';

const scene = useScene();
const { broker } = scene;

describe('content', () => {
  const unexpected = (text: string) => `UNEXPECTED_FRAME - expected ${text} instead`;

  it.each<[string, Buffer[], string, string]>([
    ['a header without publish', [headerFrame(1, 3)], 'method frame, got non method frame', 'none'],
    ['a body without publish', [body('abc')], 'method frame, got non method frame', 'none'],
    [
      'a method in place of the header',
      [publish, publish],
      'content header for class 60, got non content header frame',
      'basic.publish',
    ],
    [
      'a body in place of the header',
      [publish, body('a')],
      'content header for class 60, got non content header frame',
      'basic.publish',
    ],
    [
      'a header of another class',
      [publish, headerFrame(1, 3, undefined, 50)],
      'content header for class 60, got one for class 50',
      'basic.publish',
    ],
    [
      'a body that is too short',
      [publish, headerFrame(1, 3), body('ab'), publish],
      'content body, got non content body frame',
      'basic.publish',
    ],
    [
      'a second header',
      [publish, headerFrame(1, 3), headerFrame(1, 3)],
      'content body, got non content body frame',
      'basic.publish',
    ],
  ])('%s is 505', async (_name, octets, text, method) => {
    expect(await scene.refusal(...octets)).toEqual(closesConnection(505, unexpected(text), method));
  });

  it.each([
    ['in one frame', [body('abcd')]],
    ['in two', [body('ab'), body('cd')]],
    ['of a frame that is still on its way', [body('abcd').subarray(0, 9)]],
  ])('a body longer than announced, %s, is 501', async (_name, frames) => {
    const text = 'FRAME_ERROR - content body frame exceeds remaining content size';
    expect(await scene.refusal(publish, headerFrame(1, 3), ...frames)).toEqual(
      closesConnection(501, text, 'basic.publish'),
    );
  });

  it.each([
    ['above the limit', BODY_BYTES_MAX + 1],
    ['of 2^63', 2n ** 63n],
    ['of 2^64 - 1', 2n ** 64n - 1n],
  ])('a body %s is refused by its header: 406, and only the channel goes', async (_name, size) => {
    const text = `PRECONDITION_FAILED - message size ${size} is larger than configured max size ${BODY_BYTES_MAX}`;
    expect(await scene.refusal(publish, headerFrame(1, size), body('the first part'))).toEqual(
      closesChannel(406, text, 'basic.publish'),
    );
    expect(await (await scene.guilty.openChannel(2)).call('basic.qos')).toEqual({});
  });

  it('a body of just the limit passes', async () => {
    expect(await scene.channel.put('', 'nowhere', Buffer.alloc(BODY_BYTES_MAX))).toBe(true);
  });

  it('what is announced and never comes takes no memory', async () => {
    const announced = Array.from({ length: 500 }, (_, index) => [
      methodFrame(index + 2, 'channel.open'),
      methodFrame(index + 2, 'basic.publish', { routingKey: 'nowhere' }),
      headerFrame(index + 2, BODY_BYTES_MAX),
    ]);
    const before = process.memoryUsage().arrayBuffers;
    scene.guilty.write(Buffer.concat(announced.flat()));
    await scene.channel.call('basic.qos');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50_000_000);
  });

  it.each<[string, Buffer]>([
    ['flags that are missing', Buffer.alloc(0)],
    ['octets after the last one', Buffer.from([0, 0, 1])],
    ['a text that is cut off', Buffer.from([0x80, 0, 9, 1])],
    ['an unknown type of field', headers(new Writer().shortString('a').raw(Buffer.from('Q')))],
    ['a table nested too deep', headers(nested(100))],
  ])('properties with %s are 502', async (_name, block) => {
    for (const contentBody of [[headerFrame(1, 0, block)], [headerFrame(1, 2, block), body('ab')]]) {
      scene.guilty = await broker.connect();
      scene.channel = await scene.guilty.openChannel();
      expect(await scene.refusal(publish, ...contentBody)).toMatchObject({
        scope: 'connection',
        code: 502,
        method: 'basic.publish',
      });
    }
  });

  it('every type of field passes through octet by octet', async () => {
    const queue = await scene.channel.queue(broker.fresh('fields'), {}, { exclusive: true });
    const properties = {
      headers: {
        t: true,
        b: typed('b', -1),
        B: typed('B', 255),
        s: typed('s', -1),
        u: typed('u', 65535),
        I: typed('I', -1),
        i: typed('i', 2 ** 32 - 1),
        l: typed('l', -1n),
        L: typed('L', 2n ** 63n),
        f: typed('f', 0.5),
        d: typed('d', Number.NaN),
        D: typed('D', { scale: 2, unscaled: 314 }),
        S: 'text',
        x: Buffer.from([0, 255]),
        T: new Date(0),
        V: null,
        A: [1, [typed('b', 2)]],
        F: { F: {} },
      },
      correlationId: 'c',
      timestamp: 5,
    };
    await scene.channel.put('', queue, 'x', properties);
    const got = await scene.channel.mustGet(queue);
    expect(got.content?.propertyBytes).toEqual(encodeProperties(properties));
  });

  it('a huge table passes', async () => {
    const queue = await scene.channel.queue(broker.fresh('huge'), {}, { exclusive: true });
    const many = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`header-${index}`, index]));
    await scene.channel.put('', queue, 'x', { headers: many });
    expect(Object.keys((await scene.channel.mustGet(queue)).headers)).toHaveLength(3000);
  });
});

describe('after a close', () => {
  it('frames on a channel that was refused are dropped, whatever they are, until its close-ok', async () => {
    scene.guilty.write(methodFrame(1, 'queue.declare', { queue: 'nowhere', passive: true }));
    scene.guilty.write(
      Buffer.concat([publish, headerFrame(1, 3), body('abc'), headerFrame(1, 9), methodFrame(1, 'tx.select')]),
    );
    expect(await scene.channel.closed()).toMatchObject({ scope: 'channel', code: 404 });
    expect(await (await scene.guilty.openChannel(1)).call('basic.qos')).toEqual({});
  });

  it('acks that come late are ignored on a closed channel, other methods are 504', async () => {
    await scene.channel.close();
    scene.channel.ack(1);
    scene.channel.nack(1);
    scene.channel.reject(1);
    expect(await (await scene.guilty.openChannel(2)).call('basic.qos')).toEqual({});
    const text = "CHANNEL_ERROR - expected 'channel.open'";
    expect(await scene.channel.refused('basic.qos')).toEqual(closesConnection(504, text, 'basic.qos'));
  });

  it('frames after connection.close are dropped, and a broker that is not answered goes', async () => {
    const socket = await scene.openSocket();
    socket.write(Buffer.concat([methodFrame(1, 'channel.open'), methodFrame(1, 'tx.select')]));
    await eventually(() => expect(socket.closed).toBe(true));
  });

  it('frames after the own connection.close are dropped', async () => {
    const queue = broker.fresh('late');
    scene.guilty.write(
      Buffer.concat([
        methodFrame(0, 'connection.close', { replyCode: 200 }),
        methodFrame(1, 'queue.declare', { queue }),
        Buffer.from('not even a frame'),
      ]),
    );
    await scene.guilty.control.expect('connection.close-ok');
    await scene.guilty.untilEnded();
    expect(await scene.exists(queue)).toBe(false);
  });
});

function headers(table: Writer): Buffer {
  return new Writer().number(2, 0x2000).longString(table.octets()).octets();
}

function nested(depth: number): Writer {
  const writer = new Writer().shortString('t');
  return depth === 0 ? writer.field(1) : writer.raw(Buffer.from('F')).longString(nested(depth - 1).octets());
}
