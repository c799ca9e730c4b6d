/**
 * Recorded conversations, mutated and cut at random, for a few seconds: nothing is thrown that is not caught, nothing is
 * logged as a defect, nothing stays behind, and a bystander is served throughout. `AMQP_FUZZ_SEED` repeats a run,
 * `AMQP_FUZZ_SECONDS` prolongs it.
 */
import { type Duplex, duplexPair } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { Broker } from '../../../broker/port.ts';
import { acceptAmqp } from '../../../gateways/amqp/gateway.ts';
import { encodeProperties } from '../../support/amqp-wire.ts';
import { eventually } from '../../support/eventually.ts';
import { PROTOCOL_HEADER } from '../../support/raw-amqp.ts';
import { frame, headerFrame, methodFrame } from '../../support/raw-frames.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const SECONDS = Number(process.env.AMQP_FUZZ_SECONDS ?? 2);
const SEED = Number(process.env.AMQP_FUZZ_SEED ?? Date.now() % 2 ** 31);

const login = (properties = {}): Buffer[] => [
  PROTOCOL_HEADER,
  methodFrame(0, 'connection.start-ok', {
    clientProperties: { capabilities: { consumer_cancel_notify: true, 'connection.blocked': true }, ...properties },
    mechanism: 'PLAIN',
    response: '\0guest\0guest',
    locale: 'en_US',
  }),
  methodFrame(0, 'connection.tune-ok', { channelMax: 100, frameMax: 4096, heartbeat: 0 }),
  methodFrame(0, 'connection.open', { virtualHost: '/' }),
];

const publish = (channel: number, exchange: string, routingKey: string, body: string, properties = {}): Buffer[] => [
  methodFrame(channel, 'basic.publish', { exchange, routingKey, mandatory: true }),
  headerFrame(channel, body.length, encodeProperties(properties)),
  ...(body === '' ? [] : [frame(3, channel, Buffer.from(body))]),
];

const open = (channel: number): Buffer => methodFrame(channel, 'channel.open');

/** As octets that clients send, frame by frame. */
const CONVERSATIONS: readonly (readonly Buffer[])[] = [
  [
    ...login(),
    open(1),
    methodFrame(1, 'exchange.declare', { exchange: 'fuzz.topic', type: 'topic', arguments: { a: [1, { b: null }] } }),
    methodFrame(1, 'queue.declare', { queue: 'fuzz', arguments: { 'x-max-length': 50, 'x-max-priority': 3 } }),
    methodFrame(1, 'queue.bind', { exchange: 'fuzz.topic', routingKey: 'a.#', arguments: { x: 'y' } }),
    methodFrame(1, 'confirm.select'),
    ...publish(1, 'fuzz.topic', 'a.b', 'text', { headers: { CC: ['fuzz'], n: 1 }, priority: 2, deliveryMode: 2 }),
    ...publish(1, '', 'fuzz', '', { expiration: '1000', replyTo: 'x', timestamp: 5 }),
    ...publish(1, 'fuzz.topic', 'nowhere', 'returned'),
    methodFrame(1, 'basic.qos', { prefetchCount: 2 }),
    methodFrame(1, 'basic.consume', { consumerTag: 'c' }),
    methodFrame(1, 'basic.ack', { deliveryTag: 1 }),
    methodFrame(1, 'basic.nack', { deliveryTag: 2, requeue: true }),
    methodFrame(1, 'basic.cancel', { consumerTag: 'c' }),
    methodFrame(1, 'channel.close', { replyCode: 200 }),
    methodFrame(0, 'connection.close', { replyCode: 200 }),
  ],
  [
    ...login({ product: 'second' }),
    open(1),
    open(2),
    methodFrame(1, 'queue.declare', { queue: '', exclusive: true }),
    methodFrame(1, 'tx.select'),
    ...publish(1, '', 'fuzz', 'in a transaction'),
    methodFrame(2, 'basic.get', { queue: 'fuzz' }),
    methodFrame(1, 'tx.commit'),
    frame(8, 0, Buffer.alloc(0)),
    methodFrame(2, 'basic.get', { queue: 'fuzz', noAck: true }),
    methodFrame(2, 'basic.recover', { requeue: true }),
    methodFrame(2, 'queue.purge', { queue: 'fuzz' }),
    methodFrame(2, 'exchange.bind', { destination: 'amq.fanout', source: 'amq.topic', routingKey: '*' }),
    methodFrame(2, 'exchange.unbind', { destination: 'amq.fanout', source: 'amq.topic', routingKey: '*' }),
    methodFrame(1, 'queue.delete', { queue: '' }),
    methodFrame(1, 'channel.flow', { active: false }),
  ],
];

/** mulberry32: the same numbers for the same seed. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Random = ReturnType<typeof randomNumbers>;

/** A conversation with a few things wrong in it. */
function mutated(random: Random): Buffer {
  const frames = [...(CONVERSATIONS[random(CONVERSATIONS.length)] ?? [])];
  for (let count = random(3); count > 0; count -= 1) {
    const at = random(frames.length);
    const other = frames[random(frames.length)] as Buffer;
    const how = random(4);
    if (how === 0) frames.splice(at, 1);
    else if (how === 1) frames.splice(at, 0, other);
    else if (how === 2) frames[at] = other;
    else frames.splice(at, 0, ...(CONVERSATIONS[random(CONVERSATIONS.length)] ?? []).slice(random(10)));
  }
  let octets = Buffer.concat(frames);
  for (let count = random(6); count > 0; count -= 1) {
    const at = random(octets.length);
    const how = random(4);
    if (how === 0) octets[at] = random(256);
    else if (how === 1) octets[at] = (octets[at] ?? 0) ^ (1 << random(8));
    else if (how === 2) octets = Buffer.concat([octets.subarray(0, at), octets.subarray(at + 1 + random(8))]);
    else
      octets = Buffer.concat([octets.subarray(0, at), Buffer.alloc(1 + random(8), random(256)), octets.subarray(at)]);
  }
  return octets;
}

/** Says it in pieces; then either ends properly, or both ends are gone at once. */
async function talk(socket: Duplex, otherEnd: Duplex, octets: Buffer, random: Random): Promise<void> {
  for (let at = 0; at < octets.length && !socket.destroyed; ) {
    const size = 1 + random(random(3) === 0 ? 20 : 2000);
    socket.write(Buffer.from(octets.subarray(at, at + size)));
    at += size;
    if (random(2) === 0) await turn();
  }
  for (let turns = random(8); turns > 0; turns -= 1) await turn();
  if (random(2) === 0) socket.end();
  else otherEnd.destroy();
  await turn();
  socket.destroy();
}

async function bystanderIsServed(broker: Broker): Promise<void> {
  const connection = await broker.connect();
  const channel = connection.openChannel();
  const { queue } = await channel.declareQueue({ queue: '', exclusive: true });
  channel.publish(createMessage({ routingKey: queue, body: 'still here' }));
  expect(Buffer.from((await channel.get(queue))?.message.body ?? []).toString()).toBe('still here');
  await connection.close();
}

it(`survives mutated conversations (seed ${SEED})`, { timeout: (SECONDS + 30) * 1000 }, async () => {
  const random = randomNumbers(SEED);
  const { log, lines } = recordedLog();
  const broker = await createBroker();
  const deadline = performance.now() + SECONDS * 1000;
  let conversations = 0;
  while (performance.now() < deadline) {
    const [near, far] = duplexPair();
    near.on('error', () => {});
    near.resume();
    const peer = { remoteAddress: '127.0.0.1', remotePort: conversations, localAddress: '127.0.0.1', localPort: 5672 };
    const timing = { loginRefusalDelayMs: 1, closeTimeoutMs: 20, handshakeTimeoutMs: 500 };
    acceptAmqp(broker, { socket: far, peer: { ...peer, loopback: true, encrypted: false } }, { ...timing, log });
    await talk(near, far, mutated(random), random);
    if (conversations % 50 === 0) await bystanderIsServed(broker);
    conversations += 1;
  }
  await bystanderIsServed(broker);
  await eventually(async () => expect(await broker.administration.connections()).toEqual([]));
  expect(lines.filter((line) => line.level === 'error')).toEqual([]);
  expect(conversations).toBeGreaterThan(50);
  // Enough of them got through to what was mutated.
  expect(lines.filter((line) => line.message === 'connection open').length).toBeGreaterThan(conversations / 10);
  await broker.close();
});
