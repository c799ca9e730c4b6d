/**
 * What no well-behaved client sends. Each time the guilty channel or connection is closed with the right code, and a
 * bystander on another connection notices nothing.
 */
import { connect, type Socket } from 'node:net';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { encodeProperties, typed, Writer } from '../../support/amqp-wire.ts';
import { useBroker } from '../../support/broker-under-test.ts';
import { eventually } from '../../support/eventually.ts';
import { RawConnection, sendAndReadAll } from '../../support/raw-amqp.ts';
import { closesChannel, closesConnection, type RawChannel } from '../../support/raw-channel.ts';
import { frame, headerFrame, methodFrame } from '../../support/raw-frames.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const { log, lines } = recordedLog();
const BODY_BYTES_MAX = 1_000_000;
const broker = useBroker({
  broker: { bodyBytesMax: BODY_BYTES_MAX },
  amqp: {
    log,
    bodyBytesMax: BODY_BYTES_MAX,
    handshakeTimeoutMs: 300,
    closeTimeoutMs: 300,
    loginRefusalDelayMs: 50,
    outbox: { highWaterBytes: 100_000, stuckBytes: 300_000 },
  },
});

const logged = (message: string): boolean => lines.some((line) => line.message.includes(message));

/** Whatever happens to others, this one goes on. */
let bystander: RawChannel;
let guilty: RawConnection;
let channel: RawChannel;

beforeAll(async () => {
  const connection = await RawConnection.connect(broker);
  await connection.handshake();
  bystander = await connection.openChannel();
  return () => connection.close();
});

beforeEach(async () => {
  guilty = await broker.connect();
  channel = await guilty.openChannel();
});

afterEach(async () => {
  expect(await bystander.call('basic.qos')).toEqual({});
});

/** Is there a queue of that name? */
async function exists(queue: string): Promise<boolean> {
  const { queues } = await broker.embedded.snapshot('/');
  return queues.some((view) => view.name === queue);
}

const connectionCount = async (): Promise<number> => (await broker.embedded.administration.connections()).length;

const publish = methodFrame(1, 'basic.publish', { routingKey: 'nowhere' });
const body = (text: string): Buffer => frame(3, 1, Buffer.from(text));

/** Sends octets on channel 1 and answers how the broker refused them. */
function refusal(...octets: Uint8Array[]): Promise<unknown> {
  guilty.write(Buffer.concat(octets));
  return channel.closed();
}

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
    expect(await refusal(octets)).toEqual(closesConnection(code, text, 'none'));
    await guilty.untilEnded();
  });

  it('a wrong end octet of a body that came in two chunks', async () => {
    const octets = Buffer.concat([publish, headerFrame(1, 3), damaged(body('abc'))]);
    guilty.write(octets.subarray(0, -2));
    await bystander.call('basic.qos');
    const text = 'FRAME_ERROR - type 3, all octets = <<>>: {invalid_frame_end_marker,0}';
    expect(await refusal(octets.subarray(-2))).toEqual(closesConnection(501, text, 'none'));
  });

  it('nothing is heard any more after lost framing, and the socket does not stay', async () => {
    const queue = broker.fresh('unheard');
    expect(
      await refusal(damaged(methodFrame(1, 'tx.select')), methodFrame(1, 'queue.declare', { queue })),
    ).toMatchObject({
      code: 501,
    });
    await guilty.untilEnded();
    expect(await exists(queue)).toBe(false);
  });
});

describe('methods', () => {
  it.each([
    ['an unknown method', [0, 60, 3, 231], '60/999'],
    ['an unknown class', [0, 99, 0, 10], '99/10'],
    ['a method that only brokers send', [0, 60, 0, 21, 1, 0x78], 'basic.consume-ok'],
    ['a method of the connection on a channel', [0, 10, 0, 51], 'connection.close-ok'],
  ])('%s is 503', async (_name, payload, method) => {
    expect(await refusal(frame(1, 1, Buffer.from(payload)))).toEqual(
      closesConnection(503, 'COMMAND_INVALID - unimplemented method', method),
    );
  });

  it('an unknown method on channel 0 is 503', async () => {
    const text = 'COMMAND_INVALID - unimplemented method';
    expect(await refusal(frame(1, 0, Buffer.from([0, 99, 0, 1])))).toEqual(closesConnection(503, text, '99/1'));
  });

  it.each([
    ['channel.open', methodFrame(0, 'channel.open')],
    ['basic.publish', methodFrame(0, 'basic.publish')],
    ['connection.start-ok', methodFrame(0, 'connection.start-ok')],
    ['connection.open', methodFrame(0, 'connection.open')],
  ])('%s on channel 0 of an open connection is 504', async (method, octets) => {
    const text = 'CHANNEL_ERROR - unexpected method in connection state running';
    expect(await refusal(octets)).toEqual(closesConnection(504, text, method));
  });

  it('content on channel 0 is 505', async () => {
    expect(await refusal(headerFrame(0, 0))).toMatchObject({ scope: 'connection', code: 505 });
  });

  it('a second channel.open is 504', async () => {
    const text = "CHANNEL_ERROR - second 'channel.open' seen";
    expect(await channel.refused('channel.open')).toEqual(closesConnection(504, text, 'channel.open'));
  });

  it('arguments that are cut off, or too many, are 501', async () => {
    const payload = Buffer.from([0, 50, 0, 10, 0, 0, 9, 97, 98, 99]);
    const text = 'FRAME_ERROR - cannot decode <<0,0,9,97,98,99>>';
    expect(await refusal(frame(1, 1, payload))).toEqual(closesConnection(501, text, 'queue.declare'));
  });

  it('a publish whose strings run over is 501', async () => {
    const payload = Buffer.from([0, 60, 0, 40, 0, 0, 0, 200, 97, 0]);
    const text = 'FRAME_ERROR - cannot decode <<0,0,0,200,97,0>>';
    expect(await refusal(frame(1, 1, payload))).toEqual(closesConnection(501, text, 'basic.publish'));
  });

  it('a short string of 255 octets is a name, one of 256 cannot be said', async () => {
    const longest = `${broker.fresh('q')}-`.padEnd(255, 'x');
    expect(await channel.queue(longest, {}, { exclusive: true })).toBe(longest);
    const payload = Buffer.concat([Buffer.from([0, 50, 0, 30, 0, 0, 255]), Buffer.alloc(256, 'x'), Buffer.from([0])]);
    expect(await refusal(frame(1, 1, payload))).toMatchObject({ scope: 'connection', code: 501 });
  });

  it('a name that is not UTF-8 is 501', async () => {
    const text = 'FRAME_ERROR - Malformed UTF-8 in shortstr';
    expect(await channel.refused('queue.declare', { queue: Buffer.from([0x61, 0xff]) })).toEqual(
      closesConnection(501, text, 'queue.declare'),
    );
  });

  it('so is a routing key', async () => {
    const octets = methodFrame(1, 'basic.publish', { routingKey: Buffer.from([0xc3, 0x28]) });
    expect(await refusal(octets)).toMatchObject({ scope: 'connection', code: 501 });
  });

  it('CR and LF in names are dropped', async () => {
    const queue = broker.fresh('lines');
    expect(await channel.queue(`${queue}\r\n`, {}, { exclusive: true })).toBe(queue);
    const exchange = await channel.exchange(`${queue}\n-x`, 'fanout', {}, { autoDelete: true });
    await channel.bind(queue, `${queue}-x`);
    await channel.put(`${queue}-x`, '', 'arrived');
    expect(await channel.drain(`\n${queue}`)).toEqual(['arrived']);
    await channel.call('exchange.delete', { exchange });
  });

  it('an argument of a wrong type is 406', async () => {
    const queue = broker.fresh('typed');
    const refused = await channel.refused('queue.declare', { queue, arguments: { 'x-max-length': 'many' } });
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
    expect(await channel.refused('basic.get')).toEqual(closesChannel(404, text, 'basic.get'));
  });
});

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
    expect(await refusal(...octets)).toEqual(closesConnection(505, unexpected(text), method));
  });

  it.each([
    ['in one frame', [body('abcd')]],
    ['in two', [body('ab'), body('cd')]],
    ['of a frame that is still on its way', [body('abcd').subarray(0, 9)]],
  ])('a body longer than announced, %s, is 501', async (_name, frames) => {
    const text = 'FRAME_ERROR - content body frame exceeds remaining content size';
    expect(await refusal(publish, headerFrame(1, 3), ...frames)).toEqual(closesConnection(501, text, 'basic.publish'));
  });

  it.each([
    ['above the limit', BODY_BYTES_MAX + 1],
    ['of 2^63', 2n ** 63n],
    ['of 2^64 - 1', 2n ** 64n - 1n],
  ])('a body %s is refused by its header: 406, and only the channel goes', async (_name, size) => {
    const text = `PRECONDITION_FAILED - message size ${size} is larger than configured max size ${BODY_BYTES_MAX}`;
    expect(await refusal(publish, headerFrame(1, size), body('the first part'))).toEqual(
      closesChannel(406, text, 'basic.publish'),
    );
    expect(await (await guilty.openChannel(2)).call('basic.qos')).toEqual({});
  });

  it('a body of just the limit passes', async () => {
    expect(await channel.put('', 'nowhere', Buffer.alloc(BODY_BYTES_MAX))).toBe(true);
  });

  it('what is announced and never comes takes no memory', async () => {
    const announced = Array.from({ length: 500 }, (_, index) => [
      methodFrame(index + 2, 'channel.open'),
      methodFrame(index + 2, 'basic.publish', { routingKey: 'nowhere' }),
      headerFrame(index + 2, BODY_BYTES_MAX),
    ]);
    const before = process.memoryUsage().arrayBuffers;
    guilty.write(Buffer.concat(announced.flat()));
    await channel.call('basic.qos');
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
      guilty = await broker.connect();
      channel = await guilty.openChannel();
      expect(await refusal(publish, ...contentBody)).toMatchObject({
        scope: 'connection',
        code: 502,
        method: 'basic.publish',
      });
    }
  });

  it('every type of field passes through octet by octet', async () => {
    const queue = await channel.queue(broker.fresh('fields'), {}, { exclusive: true });
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
    await channel.put('', queue, 'x', properties);
    const got = await channel.mustGet(queue);
    expect(got.content?.propertyBytes).toEqual(encodeProperties(properties));
  });

  it('a huge table passes', async () => {
    const queue = await channel.queue(broker.fresh('huge'), {}, { exclusive: true });
    const many = Object.fromEntries(Array.from({ length: 3000 }, (_, index) => [`header-${index}`, index]));
    await channel.put('', queue, 'x', { headers: many });
    expect(Object.keys((await channel.mustGet(queue)).headers)).toHaveLength(3000);
  });
});

describe('after a close', () => {
  it('frames on a channel that was refused are dropped, whatever they are, until its close-ok', async () => {
    guilty.write(methodFrame(1, 'queue.declare', { queue: 'nowhere', passive: true }));
    guilty.write(
      Buffer.concat([publish, headerFrame(1, 3), body('abc'), headerFrame(1, 9), methodFrame(1, 'tx.select')]),
    );
    expect(await channel.closed()).toMatchObject({ scope: 'channel', code: 404 });
    expect(await (await guilty.openChannel(1)).call('basic.qos')).toEqual({});
  });

  it('acks that come late are ignored on a closed channel, other methods are 504', async () => {
    await channel.close();
    channel.ack(1);
    channel.nack(1);
    channel.reject(1);
    expect(await (await guilty.openChannel(2)).call('basic.qos')).toEqual({});
    const text = "CHANNEL_ERROR - expected 'channel.open'";
    expect(await channel.refused('basic.qos')).toEqual(closesConnection(504, text, 'basic.qos'));
  });

  it('frames after connection.close are dropped, and a broker that is not answered goes', async () => {
    const socket = await openSocket();
    socket.write(Buffer.concat([methodFrame(1, 'channel.open'), methodFrame(1, 'tx.select')]));
    await eventually(() => expect(socket.closed).toBe(true));
  });

  it('frames after the own connection.close are dropped', async () => {
    const queue = broker.fresh('late');
    guilty.write(
      Buffer.concat([
        methodFrame(0, 'connection.close', { replyCode: 200 }),
        methodFrame(1, 'queue.declare', { queue }),
        Buffer.from('not even a frame'),
      ]),
    );
    await guilty.control.expect('connection.close-ok');
    await guilty.untilEnded();
    expect(await exists(queue)).toBe(false);
  });
});

describe('too much, too slow, too quiet', () => {
  it('thousands of channels up to channel_max; one more is 530', async () => {
    guilty.write(Buffer.concat(Array.from({ length: 2046 }, (_, index) => methodFrame(index + 2, 'channel.open'))));
    expect((await guilty.channel(2047).expect('channel.open-ok')).channel).toBe(2047);
    const text = 'NOT_ALLOWED - number of channels opened (2047) has reached the negotiated channel_max (2047)';
    expect(await guilty.channel(3000).refused('channel.open')).toEqual(closesConnection(530, text, 'none'));
  });

  it('a socket that is half closed in the middle of a frame leaves nothing behind', async () => {
    const before = await connectionCount();
    const socket = await openSocket();
    await eventually(async () => expect(await connectionCount()).toBe(before + 1));
    socket.end(publish.subarray(0, 9));
    await eventually(async () => expect(await connectionCount()).toBe(before));
  });

  it('a socket that is reset leaves nothing behind', async () => {
    const before = await connectionCount();
    const socket = await openSocket();
    await eventually(async () => expect(await connectionCount()).toBe(before + 1));
    socket.resetAndDestroy();
    await eventually(async () => expect(await connectionCount()).toBe(before));
  });

  it('a consumer that never reads gets no more than its share; the rest stays in the queue', async () => {
    const queue = await channel.queue(broker.fresh('unread'), {}, { exclusive: false, autoDelete: true });
    await channel.consume(queue, { noAck: true });
    guilty.setReading(false);
    const message = Buffer.alloc(50_000);
    for (let count = 0; count < 400; count += 1) await bystander.put('', queue, message);
    const ready = (await broker.embedded.snapshot('/')).queues.find((view) => view.name === queue)?.messagesReady ?? 0;
    expect(ready).toBeGreaterThan(100);
    guilty.setReading(true);
    expect((await channel.deliveries(400)).length).toBe(400);
  });

  it('a peer that asks and never reads the answers is not asked on, until he reads', async () => {
    const queue = await channel.queue(broker.fresh('asked'), {}, { exclusive: true });
    await channel.put('', queue, Buffer.alloc(100_000));
    let answered = 0;
    const stopObserving = broker.embedded.observe((event) => {
      if (event.type === 'delivered') answered += 1;
    });
    guilty.setReading(false);
    const get = methodFrame(1, 'basic.get', { queue });
    const giveBack = methodFrame(1, 'basic.nack', { requeue: true, multiple: true });
    guilty.write(Buffer.concat(Array.from({ length: 1000 }, () => Buffer.concat([get, giveBack]))));
    for (let round = 0; round < 200; round += 1) await bystander.call('basic.qos');
    // 100 MB are asked for, of which the kernel takes some.
    expect(answered).toBeLessThan(500);
    guilty.setReading(true);
    for (let count = 0; count < 1000; count += 1) await channel.expect('basic.get-ok');
    expect(answered).toBe(1000);
    stopObserving();
  });
});

function head(type: number, number: number, size: number): Buffer {
  const octets = Buffer.alloc(7);
  octets.writeUInt8(type, 0);
  octets.writeUInt16BE(number, 1);
  octets.writeUInt32BE(size, 3);
  return octets;
}

function damaged(octets: Buffer): Buffer {
  const copy = Buffer.from(octets);
  copy[copy.length - 1] = 0;
  return copy;
}

function headers(table: Writer): Buffer {
  return new Writer().number(2, 0x2000).longString(table.octets()).octets();
}

function nested(depth: number): Writer {
  const writer = new Writer().shortString('t');
  return depth === 0 ? writer.field(1) : writer.raw(Buffer.from('F')).longString(nested(depth - 1).octets());
}

/** A socket that has opened a connection and then does nothing of what a client does. */
async function openSocket(): Promise<Socket> {
  const socket = connect(broker.port, broker.host);
  const answers: Buffer[] = [];
  socket.on('data', (chunk) => answers.push(chunk));
  socket.on('error', () => {});
  socket.write(
    Buffer.concat([
      Buffer.from('AMQP\0\0\x09\x01'),
      methodFrame(0, 'connection.start-ok', { mechanism: 'PLAIN', response: '\0guest\0guest' }),
      methodFrame(0, 'connection.tune-ok', { channelMax: 100, frameMax: 131072 }),
      methodFrame(0, 'connection.open', { virtualHost: '/' }),
      methodFrame(1, 'channel.open'),
    ]),
  );
  await eventually(() => expect(Buffer.concat(answers).includes(Buffer.from([0, 20, 0, 11]))).toBe(true));
  return socket;
}
