/** The same conversation, cut into chunks in every way: what reaches the broker, and the peer, must not depend on it. */
import { type Duplex, duplexPair } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import type { Broker } from '../../../broker/port.ts';
import type { PeerAddress } from '../../../gateways/gateway.ts';
import { acceptStomp } from '../../../gateways/stomp/gateway.ts';
import { stompFrame } from '../../support/raw-stomp.ts';
import { runs } from '../../support/runs.ts';

const PEER: PeerAddress = {
  remoteAddress: '127.0.0.1',
  remotePort: 40000,
  localAddress: '127.0.0.1',
  localPort: 61613,
  loopback: true,
  encrypted: false,
};

/** Bodies of known and unknown length, empty and with NULs, headers kept and dropped, line ends of both kinds. */
const CONVERSATION = Buffer.concat([
  stompFrame('CONNECT', { 'accept-version': '1.2', login: 'guest', passcode: 'guest', host: '/' }),
  Buffer.from('\n\r\n'),
  stompFrame('SUBSCRIBE', { id: 's', destination: '/queue/other', receipt: 1 }),
  stompFrame(
    'SEND',
    { destination: '/queue/q', receipt: 2, a: 'b\\cc', 'content-length': 5, persistent: true },
    'wh\0le',
  ),
  Buffer.from('SEND\r\ndestination:q\r\nfoo:bar\r\n\r\nto its NUL\0\r\n'),
  stompFrame('SEND', { destination: '/queue/q' }),
  stompFrame('SEND', { destination: '/queue/q', 'content-length': 0, receipt: 3 }),
  Buffer.from('\n\n'),
  stompFrame('BEGIN', { transaction: 't', receipt: 4 }),
  stompFrame('SEND', { destination: '/queue/q', transaction: 't' }, 'later'),
  stompFrame('COMMIT', { transaction: 't', receipt: 5 }),
  stompFrame('DISCONNECT', { receipt: 6 }),
]);

/** Everything that the peer is told, without what differs from session to session and from turn to turn. */
async function converse(chunks: readonly Buffer[]): Promise<string[]> {
  const broker = await createBroker();
  const [client, server] = duplexPair();
  acceptStomp(broker, { socket: server, peer: PEER });
  const told: Buffer[] = [];
  const ended = new Promise<void>((resolve) => {
    // The outbox uses its buffer again when it has been taken.
    (client as Duplex).on('data', (chunk: Buffer) => told.push(Buffer.from(chunk))).on('end', resolve);
  });
  for (const chunk of chunks) {
    client.write(Buffer.from(chunk));
    await turn();
  }
  await ended;
  client.destroy();
  const kept = await messagesOf(broker);
  await broker.close();
  const frames = Buffer.concat(told)
    .toString()
    .replaceAll(/session-[\w-]+/g, 'session')
    .split(/(?<=\0)(?=[A-Z])/);
  return [...frames.sort(), ...kept];
}

/** What is in the queue of the conversation, each message as a line. */
async function messagesOf(broker: Broker): Promise<string[]> {
  const channel = (await broker.connect()).openChannel();
  const messages: string[] = [];
  const { messageCount } = await channel.declareQueue({ queue: 'q', durable: true });
  while (messages.length < messageCount) {
    const got = await channel.get('q', { noAck: true });
    messages.push(`${Buffer.from(got?.message.body ?? []).toString()} ${JSON.stringify(got?.message.properties)}`);
  }
  return messages;
}

function cutAt(...positions: readonly number[]): Buffer[] {
  const edges = [0, ...positions, CONVERSATION.length];
  return edges.slice(1).map((end, index) => CONVERSATION.subarray(edges[index], end));
}

describe('a conversation', () => {
  it('means the same whole, cut at any position, and octet by octet', async () => {
    const whole = await converse([CONVERSATION]);
    expect(whole.filter((frame) => frame.startsWith('RECEIPT'))).toHaveLength(6);
    expect(whole.slice(-5)).toEqual([
      'wh\0le {"deliveryMode":2,"headers":{"a":"b:c"}}',
      'to its NUL {"headers":{"foo":"bar"}}',
      ' {}',
      ' {}',
      'later {}',
    ]);
    for (let position = 1; position < CONVERSATION.length; position += 1) {
      expect(await converse(cutAt(position)), `cut at ${position}`).toEqual(whole);
    }
    expect(await converse(Array.from(CONVERSATION, (octet) => Buffer.of(octet)))).toEqual(whole);
  });

  it('means the same cut at random', async () => {
    const whole = await converse([CONVERSATION]);
    const positions = fc.uniqueArray(fc.integer({ min: 1, max: CONVERSATION.length - 1 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(positions, async (cuts) => {
        expect(await converse(cutAt(...cuts.toSorted((a, b) => a - b)))).toEqual(whole);
      }),
      runs(40),
    );
  });

  it('of garbage ends with an ERROR, and never hangs', async () => {
    const piece = fc.constantFrom(
      'SEND\n',
      'SUBSCRIBE\n',
      'ACK\n',
      'id:1\n',
      'destination:/queue/q\n',
      '\n',
      '\0',
      'x',
      ':',
      '\\',
      'content-length:3\n',
      'receipt:9\n',
      'transaction:t\n',
      'BEGIN\n',
      'ack:client\n',
      '\r\n',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 40 }), async (pieces) => {
        const login = stompFrame('CONNECT', { 'accept-version': '1.2', login: 'guest', passcode: 'guest' });
        const told = await converse([login, Buffer.from(pieces.join('')), Buffer.from('\0\n\0NONSENSE\n\n\0')]);
        expect(told.filter((frame) => frame.startsWith('ERROR'))).toHaveLength(1);
      }),
      runs(60),
    );
  });
});
