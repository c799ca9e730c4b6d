/** The same conversation, cut into chunks in every way: what reaches the broker, and the peer, must not depend on it. */
import { type Duplex, duplexPair } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import type { BrokerEvent } from '../../../broker/observer.ts';
import { acceptAmqp } from '../../../gateways/amqp/gateway.ts';
import type { PeerAddress } from '../../../gateways/gateway.ts';
import { encodeProperties } from '../../support/amqp-wire.ts';
import { PROTOCOL_HEADER } from '../../support/raw-amqp.ts';
import { frame, headerFrame, methodFrame } from '../../support/raw-frames.ts';
import { runs } from '../../support/runs.ts';

const PEER: PeerAddress = {
  remoteAddress: '127.0.0.1',
  remotePort: 40000,
  localAddress: '127.0.0.1',
  localPort: 5672,
  loopback: true,
  encrypted: false,
};

const LOGIN = Buffer.concat([
  PROTOCOL_HEADER,
  methodFrame(0, 'connection.start-ok', { mechanism: 'PLAIN', response: '\0guest\0guest', locale: 'en_US' }),
  methodFrame(0, 'connection.tune-ok', { channelMax: 10, frameMax: 4096, heartbeat: 0 }),
  methodFrame(0, 'connection.open', { virtualHost: '/' }),
]);

const body = (text: string, channel = 1): Buffer => frame(3, channel, Buffer.from(text));
const publish = (routingKey: string, channel = 1): Buffer => methodFrame(channel, 'basic.publish', { routingKey });

/** Every shape that content can have, on two channels. */
const CONVERSATION = Buffer.concat([
  methodFrame(1, 'channel.open'),
  methodFrame(2, 'channel.open'),
  methodFrame(1, 'queue.declare', { queue: 'q' }),
  publish('q'),
  headerFrame(1, 5, encodeProperties({ headers: { a: 1 }, deliveryMode: 2 })),
  body('whole'),
  publish('q'),
  headerFrame(1, 0, encodeProperties({ correlationId: 'empty' })),
  publish('q'),
  headerFrame(1, 6),
  body('par'),
  frame(8, 0, Buffer.alloc(0)),
  publish('q', 2),
  body('ts!'),
  headerFrame(2, 4),
  body('ot', 2),
  methodFrame(1, 'basic.qos', { prefetchCount: 5 }),
  body('he', 2),
  publish('q'),
  headerFrame(1, 3),
  body(''),
  body('end'),
]);

interface Outcome {
  readonly bodies: readonly string[];
  readonly properties: readonly unknown[];
  /** Octets that the door sent after the login. */
  readonly answers: Buffer;
}

/** The peer's end of a transport: what the door has sent, and waiting for it. */
class Ear {
  octets: Buffer = Buffer.alloc(0);
  #wanted: Buffer | undefined;
  #heard = (): void => {};

  constructor(socket: Duplex) {
    // Copied by concat, as sockets copy: the door uses its buffers again.
    socket.on('data', (chunk: Buffer) => {
      this.octets = Buffer.concat([this.octets, chunk]);
      if (this.#wanted !== undefined && this.octets.includes(this.#wanted)) this.#heard();
    });
  }

  until(wanted: Buffer): Promise<void> {
    this.#wanted = wanted;
    if (this.octets.includes(wanted)) return Promise.resolve();
    return new Promise((resolve) => {
      this.#heard = resolve;
    });
  }
}

const OPEN_OK = methodFrame(0, 'connection.open-ok');
const CLOSE_OK = methodFrame(1, 'channel.close-ok');

/** Lets a broker of its own hear `chunks`, one turn of the event loop apart. */
async function hear(chunks: readonly Buffer[]): Promise<Outcome> {
  const broker = await createBroker();
  const published: (BrokerEvent & { type: 'published' })[] = [];
  broker.observe((event) => {
    if (event.type === 'published') published.push(event);
  });
  const [near, far] = duplexPair();
  acceptAmqp(broker, { socket: far, peer: PEER });
  const ear = new Ear(near);
  near.write(LOGIN);
  await ear.until(OPEN_OK);
  ear.octets = Buffer.alloc(0);
  await say(near, chunks);
  near.write(methodFrame(1, 'channel.close', { replyCode: 200 }));
  await ear.until(CLOSE_OK);
  const answers = ear.octets;
  near.destroy();
  await broker.close();
  const messages = published.map(({ message }) => message);
  return {
    bodies: messages.map((message) => Buffer.from(message.body).toString()),
    properties: messages.map((message) => message.properties),
    answers,
  };
}

async function say(socket: Duplex, chunks: readonly Buffer[]): Promise<void> {
  for (const chunk of chunks) {
    // A copy: what the door keeps a hold on must not be a chunk that others see, too.
    socket.write(Buffer.from(chunk));
    await turn();
  }
}

const EXPECTED: Omit<Outcome, 'answers'> = {
  bodies: ['whole', '', 'parts!', 'othe', 'end'],
  properties: [{ headers: { a: 1 }, deliveryMode: 2 }, { correlationId: 'empty' }, {}, {}, {}],
};

describe('a conversation', () => {
  it('in one chunk', async () => {
    const { answers, ...outcome } = await hear([CONVERSATION]);
    expect(outcome).toEqual(EXPECTED);
    expect(answers.includes(Buffer.from([0, 60, 0, 11]))).toBe(true);
  });

  it('in two chunks, cut at every octet', async () => {
    const { answers } = await hear([CONVERSATION]);
    for (let cut = 1; cut < CONVERSATION.length; cut += 1) {
      const outcome = await hear([CONVERSATION.subarray(0, cut), CONVERSATION.subarray(cut)]);
      expect({ cut, ...outcome }).toEqual({ cut, ...EXPECTED, answers });
    }
  });

  it('octet by octet', async () => {
    const { answers } = await hear([CONVERSATION]);
    const outcome = await hear(Array.from(CONVERSATION, (_, at) => CONVERSATION.subarray(at, at + 1)));
    expect(outcome).toEqual({ ...EXPECTED, answers });
  });

  it('cut anywhere, any number of times', async () => {
    const { answers } = await hear([CONVERSATION]);
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(CONVERSATION.length), { maxLength: 30 }), async (cuts) => {
        const ends = [...cuts.sort((a, b) => a - b), CONVERSATION.length];
        const chunks = ends.map((end, index) => CONVERSATION.subarray(ends[index - 1] ?? 0, end));
        expect(await hear(chunks)).toEqual({ ...EXPECTED, answers });
      }),
      runs(50),
    );
  });

  it('with a body of a megabyte in frames of 4096, in chunks of any size', async () => {
    const large = Buffer.alloc(1024 * 1024, 'large');
    const frames = [publish('q'), headerFrame(1, large.length)];
    for (let at = 0; at < large.length; at += 4088) frames.push(frame(3, 1, large.subarray(at, at + 4088)));
    const octets = Buffer.concat([methodFrame(1, 'channel.open'), ...frames]);
    for (const size of [1000, 4096, 65536, octets.length]) {
      const chunks: Buffer[] = [];
      for (let at = 0; at < octets.length; at += size) chunks.push(octets.subarray(at, at + size));
      const { bodies } = await hear(chunks);
      expect(bodies).toHaveLength(1);
      expect(bodies[0] === large.toString()).toBe(true);
    }
  });
});

it('the login, octet by octet', async () => {
  const broker = await createBroker();
  const [near, far] = duplexPair();
  acceptAmqp(broker, { socket: far, peer: PEER });
  const ear = new Ear(near);
  await say(
    near,
    Array.from(LOGIN, (_, at) => LOGIN.subarray(at, at + 1)),
  );
  await ear.until(OPEN_OK);
  expect(ear.octets.includes(OPEN_OK)).toBe(true);
  near.destroy();
  await broker.close();
});
