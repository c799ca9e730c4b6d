/** What no well-behaved client sends, over a real socket: an ERROR that says why, flushed, the end, and nothing else. */
import { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { SUBSCRIPTIONS_MAX } from '../../../gateways/stomp/subscriptions.ts';
import { eventually } from '../../support/eventually.ts';
import { type RawStomp, stompFrame } from '../../support/raw-stomp.ts';
import { useStomp } from './scene.ts';

const FRAME_BYTES_MAX = 100_000;

const scene = useStomp({
  broker: { bodyBytesMax: 60_000 },
  stomp: {
    frameBytesMax: FRAME_BYTES_MAX,
    handshakeTimeoutMs: 200,
    closeTimeoutMs: 200,
    loginRefusalDelayMs: 50,
    outbox: { highWaterBytes: 100_000, stuckBytes: 300_000 },
  },
});

async function refused(octets: string | Buffer, headers = {}): Promise<string | undefined> {
  const client = await scene.connect(headers);
  client.write(octets);
  const { command, headers: answer } = await client.next();
  expect(command).toBe('ERROR');
  await client.end();
  return answer.message;
}

function localPort({ socket }: RawStomp): number | undefined {
  return socket instanceof Socket ? socket.localPort : undefined;
}

describe('a frame', () => {
  it('that is too large is refused as soon as it says so', async () => {
    expect(await refused(`SEND\ndestination:/topic/x\ncontent-length:${FRAME_BYTES_MAX}\n\n`)).toBe('Frame too large');
  });

  it('that is too large is refused when it has come so far', async () => {
    const head = 'SEND\ndestination:/topic/x\n\n';
    expect(await refused(head + 'x'.repeat(FRAME_BYTES_MAX - head.length + 1))).toBe('Frame too large');
  });

  it('that is just not too large is taken', async () => {
    const client = await scene.connect();
    const head = 'SEND\ndestination:/topic/x\nreceipt:1\nfiller:';
    const rest = '\n\nbody\0';
    const filler = 'f'.repeat(60_000);
    client.write(head + filler + rest);
    expect((await client.next()).command).toBe('RECEIPT');
  });

  it('with a body larger than messages may be is refused', async () => {
    expect(await refused(`SEND\ndestination:/topic/x\n\n${'x'.repeat(60_001)}\0`)).toBe('precondition_failed');
  });

  it('before the login may not even be that large', async () => {
    const client = await scene.dial();
    client.write(`CONNECT\nlogin:${'x'.repeat(65_000)}\npasscode:${'x'.repeat(1000)}\n\n\0`);
    expect((await client.next()).headers.message).toBe('Frame too large');
    await client.end();
  });

  it('without its NUL is waited for', async () => {
    const client = await scene.connect();
    client.write('SEND\ndestination:/topic/x\nreceipt:1\n\nbody');
    const other = await scene.connect();
    await other.call('SEND', { destination: '/topic/x' });
    expect(client.waiting).toEqual([]);
    client.write('\0');
    expect((await client.next()).command).toBe('RECEIPT');
  });

  it.each([
    ['a NUL in its headers', 'SEND\ndestination:/topic/x\0\n\n\0', 'Invalid header'],
    ['a header without a colon', 'SEND\ndestination\n\n\0', 'Invalid header'],
    ['a header without a name', 'SEND\n:value\n\n\0', 'Invalid header'],
    ['a bare carriage return', 'SEND\ndestination:/topic/x\na:b\rc\n\n\0', 'Invalid header'],
    ['a header that is too long', `SEND\na:${'x'.repeat(65_537)}\n\n\0`, 'Header too large'],
    ['too many headers', `SEND\n${'a:b\n'.repeat(101)}\n\0`, 'Too many headers'],
    ['an unknown command', 'PUBLISH\ndestination:/topic/x\n\n\0', 'Bad command'],
    ['a command in small letters', 'send\ndestination:/topic/x\n\n\0', 'Bad command'],
    ['a command that never ends', 'X'.repeat(100), 'Bad command'],
    [
      'a content-length that is no number',
      'SEND\ndestination:/topic/x\ncontent-length:two\n\nab\0',
      'Invalid content-length',
    ],
    ['a negative content-length', 'SEND\ndestination:/topic/x\ncontent-length:-1\n\nab\0', 'Invalid content-length'],
    ['a content-length that is too short', 'SEND\ndestination:/topic/x\ncontent-length:1\n\nab\0', 'Invalid frame'],
    ['a server frame', 'MESSAGE\ndestination:/topic/x\n\n\0', 'Bad command'],
    ['a second CONNECT', 'CONNECT\nlogin:guest\n\n\0', 'Already connected'],
  ])('with %s is refused', async (_what, octets, message) => {
    expect(await refused(octets)).toBe(message);
  });

  it('with a content-length that is too long ends where it should not', async () => {
    const one = 'SEND\ndestination:/topic/x\ncontent-length:3\n\nab\0';
    expect(await refused(`${one}SEND\ndestination:/topic/x\n\n\0`)).toBe('Invalid frame');
  });

  it('with as many headers as there may be is taken', async () => {
    const client = await scene.connect();
    client.write(`SEND\ndestination:/topic/x\nreceipt:1\n${'a:b\n'.repeat(98)}\n\0`);
    expect((await client.next()).command).toBe('RECEIPT');
  });
});

describe('before CONNECT', () => {
  it.each(['SEND\ndestination:/topic/x\n\nx\0', 'SUBSCRIBE\nid:1\ndestination:/topic/x\n\n\0'])(
    '%j is refused',
    async (frame) => {
      const client = await scene.dial();
      client.write(frame);
      expect(await client.next()).toMatchObject({ command: 'ERROR', headers: { message: 'Not connected' } });
      await client.end();
    },
  );

  it.each(['GET / HTTP/1.1\r\n\r\n', 'AMQP\0\0\x09\x01', '\x16\x03\x01\x02\x00'])(
    '%j is told what this is',
    async (octets) => {
      const client = await scene.dial();
      client.write(octets);
      expect((await client.next()).headers.message).toBe('Bad command');
      await client.end();
    },
  );

  it('nothing at all ends after the time for it', async () => {
    const client = await scene.dial();
    await client.end();
  });
});

it('more subscriptions than there may be are refused, reply queues among them', async () => {
  const queue = scene.fresh('many');
  for (const last of ['SUBSCRIBE', 'SEND']) {
    const client = await scene.connect({ 'accept-extensions': 'warren.soft-error' });
    const subscribe = Array.from({ length: SUBSCRIPTIONS_MAX - 1 }, (_, id) =>
      stompFrame('SUBSCRIBE', { id, destination: `/queue/${queue}` }),
    );
    client.write(Buffer.concat(subscribe));
    const headers = { id: 'last', destination: `/queue/${queue}-2`, 'reply-to': '/temp-queue/last' };
    expect((await client.call(last, headers)).headers.status).toBeUndefined();
    const refusal = await client.call(last, { ...headers, id: 'more', 'reply-to': '/temp-queue/more' });
    expect(refusal.headers.message).toBe(`a connection may have ${SUBSCRIPTIONS_MAX}`);
  }
});

it('more reply addresses than there may be are refused, though nothing comes of the messages that ask for them', async () => {
  const client = await scene.connect({ 'accept-extensions': 'warren.soft-error' });
  const send = { destination: '/topic/x', priority: 'none' };
  for (let count = 0; count < SUBSCRIPTIONS_MAX; count += 1) {
    client.send('SEND', { ...send, 'reply-to': `/temp-queue/${count}`, receipt: 'failed' });
  }
  const frames = await client.take(SUBSCRIPTIONS_MAX);
  expect(frames.filter(({ command }) => command !== 'RECEIPT')).toEqual([]);
  const refusal = await client.call('SEND', { ...send, 'reply-to': '/temp-queue/more' });
  expect(refusal.headers.message).toBe(`a connection may have ${SUBSCRIPTIONS_MAX}`);
});

describe('a peer that does not do his part', () => {
  it('after an ERROR is cut off when he does not end his side', async () => {
    const client = await scene.connect();
    client.write('NONSENSE\n\n\0');
    await client.end();
    await eventually(() => {
      client.write('x');
      expect(client.closed).toBe(true);
    });
  });

  it('a slow reader holds back his own messages only', async () => {
    const queue = scene.fresh('slow');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    client.socket.pause();
    const publisher = await scene.connect();
    const body = 'x'.repeat(50_000);
    const count = 400;
    for (let sent = 0; sent < count; sent += 1) await publisher.call('SEND', { destination: `/queue/${queue}` }, body);
    // 20 MB: the sockets take some of it, the outbox its share, and the rest stays where others can have it.
    const waiting = (await scene.ready(queue)) ?? 0;
    expect(waiting).toBeGreaterThan(50);
    client.socket.resume();
    const got = await client.take(count);
    expect(got.every((message) => message.body.length === body.length)).toBe(true);
  });

  it('one who takes his time over a large message is not given up while his heart beats, but when it stops', async () => {
    const queue = scene.fresh('large');
    const [alive, dead] = [scene.fresh('alive'), scene.fresh('dead')];
    const channel = scene.program.openChannel();
    const clients: RawStomp[] = [];
    for (const name of [alive, dead]) {
      const client = await scene.connect({ 'heart-beat': '100,0' });
      await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}-${name}` });
      client.socket.pause();
      // More than the sockets take, and so much that he is not read either.
      const headers = { much: 'x'.repeat(12_000_000) };
      channel.publish(createMessage({ routingKey: `${queue}-${name}`, properties: { headers } }));
      clients.push(client);
    }
    const [beating] = clients;
    const timer = setInterval(() => beating?.write('\n'), 50);
    try {
      await eventually(async () => {
        const names = (await scene.broker.administration.connections()).map((connection) => connection.name);
        expect(clients.map((client) => names.some((name) => name.includes(`:${localPort(client)} -> `)))).toEqual([
          true,
          false,
        ]);
      });
      beating?.socket.resume();
      expect((await beating?.next())?.headers.much).toHaveLength(12_000_000);
    } finally {
      clearInterval(timer);
    }
  });

  it('one who does not read his receipts is not read either', async () => {
    const client = await scene.connect();
    client.socket.pause();
    const frame = `SEND\ndestination:/topic/x\nreceipt:${'r'.repeat(10_000)}\n\n\0`;
    let held = false;
    for (let sent = 0; sent < 4000 && !held; sent += 1)
      held = !client.socket.write(frame) && client.socket.writableLength > 2_000_000;
    expect(held).toBe(true);
    client.socket.resume();
    await eventually(() => expect(client.socket.writableLength).toBe(0), { timeoutMs: 10_000 });
  });
});

it('publishers are not read while there is an alarm, and go on after it', async () => {
  const queue = scene.fresh('alarm');
  const publisher = await scene.connect();
  const consumer = await scene.connect();
  await consumer.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
  await scene.broker.administration.setAlarm('memory', true);
  publisher.send('SEND', { destination: `/queue/${queue}`, receipt: 1 }, 'held back');
  await consumer.call('BEGIN', { transaction: 't' });
  expect([publisher.waiting, consumer.waiting]).toEqual([[], []]);
  await scene.broker.administration.setAlarm('memory', false);
  expect((await publisher.next()).command).toBe('RECEIPT');
  expect((await consumer.next()).body).toBe('held back');
});

it('an administrator ends a connection with an ERROR', async () => {
  const client = await scene.connect();
  const { administration } = scene.broker;
  const all = await administration.connections();
  const name = all.filter(({ protocol }) => protocol === 'STOMP 1.2').at(-1)?.name ?? '';
  await administration.closeConnection(name, 'maintenance');
  expect(await client.next()).toMatchObject({ command: 'ERROR', headers: { message: 'connection_forced' } });
  await client.end();
});
