/** Every protocol to every other: bodies and properties arrive as they were sent, as far as both can say them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import type { Broker } from '../../broker/port.ts';
import { carried, type Peer, type Properties, type Protocol, type Sample } from './protocol.ts';
import { PROTOCOLS } from './protocols.ts';

const ALL: Properties = {
  contentType: 'application/json',
  contentEncoding: 'gzip',
  persistent: true,
  priority: 7,
  correlationId: 'request:1',
  replyTo: 'answers',
  expiration: '60000',
  messageId: 'message-1',
  timestamp: 1_700_000_000,
  type: 'order',
  appId: 'shop',
  headers: { plain: 'text', empty: '', 'with:colon': 'a\\b:c\nd', ünï: '✓ 🐇' },
};

const SAMPLES: { readonly [what: string]: Sample } = {
  'a few letters': { body: Buffer.from('hello'), properties: {} },
  'letters beyond ASCII': { body: Buffer.from('żółw 🐇'), properties: { contentType: 'text/plain' } },
  'an empty body': { body: Buffer.alloc(0), properties: { correlationId: '0' } },
  'a large body': { body: Buffer.from('0123456789'.repeat(30_000)), properties: { persistent: true } },
  'octets that are no text': { body: Buffer.from([0, 255, 10, 13, 0, 128]), properties: {} },
  'every property': { body: Buffer.from('{}'), properties: ALL },
};

let broker: Broker;
const started = new Map<Protocol, Awaited<ReturnType<Protocol['start']>>>();
/** Each protocol's clients, which every test leaves with nothing more to come: logging in takes longer than all else. */
const peers = new Map<string, Promise<Peer>>();
let names = 0;

beforeAll(async () => {
  broker = await createBroker();
  for (const protocol of PROTOCOLS) started.set(protocol, await protocol.start(broker));
});
afterAll(async () => {
  await Promise.all([...peers.values()].map(async (peer) => (await peer).close()));
  await broker.close();
  await Promise.all([...started.values()].map((door) => door.close()));
});

/** That client of a protocol: one sends, another receives, also where both speak the same. */
function open(protocol: Protocol, role: 'first' | 'second'): Promise<Peer> {
  const name = `${protocol.name} ${role}`;
  const peer = peers.get(name) ?? connect(protocol);
  peers.set(name, peer);
  return peer;
}

async function connect(protocol: Protocol): Promise<Peer> {
  const door = started.get(protocol);
  if (door === undefined) throw new Error(`${protocol.name} is not started`);
  return door.connect();
}

/** A durable queue that no other test uses. */
async function freshQueue(): Promise<string> {
  names += 1;
  const queue = `crossing ${names}/%`;
  await (await broker.connect()).openChannel().declareQueue({ queue, durable: true });
  return queue;
}

const PAIRS = PROTOCOLS.flatMap((from) => PROTOCOLS.map((to) => [from.name, to.name, from, to] as const));

describe.each(PAIRS)('%s to %s', (_from, _to, from, to) => {
  const samples = Object.entries(SAMPLES).filter(
    ([what]) => !what.startsWith('octets') || (from.carries.has('octets') && to.carries.has('octets')),
  );

  it.each(samples)('%s', async (_what, sample) => {
    const queue = await freshQueue();
    const [sender, receiver] = [await open(from, 'first'), await open(to, 'second')];
    await receiver.subscribe({ queue });
    await sender.send({ queue }, sample);
    const { body, properties } = await receiver.receive();
    expect(body.equals(sample.body)).toBe(true);
    expect(properties).toEqual(carried(sample.properties, from.carries, to.carries));
  });

  it('a request is answered', async () => {
    const queue = await freshQueue();
    const [requester, responder] = [await open(from, 'first'), await open(to, 'second')];
    await responder.subscribe({ queue });
    const reply = requester.request(queue, 'how many?');
    const request = await responder.receive();
    expect(request.body.toString()).toBe('how many?');
    await request.reply('three');
    expect(await reply).toBe('three');
  });

  it('there and back again', async () => {
    const [there, back] = [await freshQueue(), await freshQueue()];
    const [first, second] = [await open(from, 'first'), await open(to, 'second')];
    await second.subscribe({ queue: there });
    await first.subscribe({ queue: back });
    await first.send({ queue: there }, { body: Buffer.from('round'), properties: ALL });
    const { body, properties } = await second.receive();
    await second.send({ queue: back }, { body, properties });
    const returned = await first.receive();
    expect(returned.body.toString()).toBe('round');
    expect(returned.properties).toEqual(carried(ALL, from.carries, to.carries));
  });
});

describe.each(PROTOCOLS)('from $name', (from) => {
  it('one message to a topic reaches subscribers of every protocol', async () => {
    names += 1;
    const place = { exchange: 'amq.topic', key: `news.${names}` };
    const receivers = await Promise.all(PROTOCOLS.map((to) => open(to, 'second')));
    for (const receiver of receivers) await receiver.subscribe(place);
    await (await open(from, 'first')).send(place, { body: Buffer.from('to all'), properties: {} });
    const bodies = await Promise.all(receivers.map(async (receiver) => (await receiver.receive()).body.toString()));
    expect(bodies).toEqual(PROTOCOLS.map(() => 'to all'));
  });
});
