/** A data folder with something of everything, in several segments, and what a broker finds in it. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, expect } from 'vitest';
import { createBrokerOn, StoreWatch } from '../../../broker/broker.ts';
import { createMessage, type MessageProperties } from '../../../broker/message.ts';
import type { Broker, Channel, Connection } from '../../../broker/port.ts';
import { RESERVE_FILE } from '../../../broker/storage/folder/data-folder.ts';
import { decodeMark, MARK_FILE } from '../../../broker/storage/log/mark.ts';
import { openStore, type StoreOptions } from '../../../broker/storage/open-store.ts';
import type { StoreEvent } from '../../../broker/store.ts';
import { eventually } from '../../support/eventually.ts';

/** So that a few KB make many segments, and every one of them stays. */
const SMALL: Partial<StoreOptions> = { segmentBytes: 2000, cleanSegmentsMin: 1000, reserveBytes: 4096 };

export interface Opened {
  readonly broker: Broker;
  readonly events: StoreEvent[];
  close(): Promise<void>;
}

/** Rejects with StoreError. */
export async function open(dataDir: string, recover: 'refuse' | 'salvage' = 'refuse'): Promise<Opened> {
  const events: StoreEvent[] = [];
  const watch = new StoreWatch((event) => events.push(event));
  const onEvent = (event: StoreEvent): void => watch.onEvent(event);
  const store = await openStore({ dataDir, version: '0.0.0', recover, onEvent, ...SMALL });
  try {
    const broker = await createBrokerOn(store, {}, watch);
    return { broker, events, close: () => broker.close() };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** A folder for the tests of a file, gone after the last of them; to be called from a hook. */
export function sampleFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'warren-damage-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Queues of the sample, each with its messages as they were sent. */
export const SAMPLE_QUEUES = ['orders', 'urgent', 'copies', 'dead'] as const;

/**
 * Fills a new data folder, with a commit for each message, in three lives of the broker, so that there are as many
 * segments. `killed` becomes a copy of it as a kill would leave it; the broker ends in an orderly way.
 */
export async function fillSample(dataDir: string, killed: string): Promise<void> {
  const first = await open(dataDir);
  await declareAll(first.broker);
  await (await Sender.on(first.broker)).sendAll(1, 5);
  await first.close();
  const second = await open(dataDir);
  await (await Sender.on(second.broker)).sendAll(6, 9);
  await second.close();
  const third = await open(dataDir);
  await settleSome(await Sender.on(third.broker));
  await eventually(() => expect(decodeMark(readFileSync(join(dataDir, MARK_FILE)))?.bytes).toBe(newestBytes(dataDir)));
  cpSync(dataDir, killed, { recursive: true, filter: isCopied });
  await third.close();
}

/** Octets of the newest segment. */
function newestBytes(dataDir: string): number {
  const log = join(dataDir, 'log');
  const segments = readdirSync(log).filter((name) => name.endsWith('.log'));
  return statSync(join(log, segments.sort().at(-1) ?? '')).size;
}

async function declareAll(broker: Broker): Promise<void> {
  const { administration } = broker;
  await administration.putUser({
    name: 'ann',
    passwordHash: Buffer.alloc(36, 'hash').toString('base64'),
    tags: ['monitoring'],
  });
  await administration.setPermission({ vhost: '/', user: 'ann', configure: '', write: '^orders$', read: '.*' });
  await administration.setPolicy({
    vhost: '/',
    name: 'bounded',
    pattern: '^orders$',
    applyTo: 'queues',
    priority: 1,
    definition: { 'max-length': 1000 },
  });
  const channel = (await broker.connect()).openChannel();
  await channel.declareExchange({ exchange: 'all', type: 'fanout', durable: true });
  await channel.declareQueue({
    queue: 'orders',
    durable: true,
    arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' },
  });
  await channel.declareQueue({ queue: 'urgent', durable: true, arguments: { 'x-max-priority': 5 } });
  for (const queue of ['copies', 'dead']) await channel.declareQueue({ queue, durable: true });
  for (const destination of ['orders', 'copies'])
    await channel.bind({ source: 'all', destination, destinationKind: 'queue', bindingKey: '' });
}

/** Acks two, rejects one and gives one back, of messages of both lives before. */
async function settleSome(sender: Sender): Promise<void> {
  const { channel } = sender;
  const tags: number[] = [];
  for (let n = 0; n < 12; n++) tags.push((await channel.get('orders'))?.deliveryTag ?? 0);
  const [first = 0, second = 0, third = 0] = tags;
  channel.ack(first);
  channel.reject(second, { requeue: false });
  channel.reject(third, { requeue: true });
  channel.ack(tags.at(-1) ?? 0);
  await sender.send('', 'copies', { messageId: 'last' });
}

/** A socket cannot be copied, and nobody listens on that of a dead process. */
function isCopied(path: string): boolean {
  return !/\/lock\/./.test(path);
}

export function copyFolder(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  cpSync(from, to, { recursive: true, filter: isCopied });
}

/** Publishes one message after the other, each in a commit of its own. */
class Sender {
  readonly channel: Channel;
  #onConfirm: () => void = () => {};

  private constructor(connection: Connection) {
    this.channel = connection.openChannel({ onConfirm: () => this.#onConfirm() });
  }

  static async on(broker: Broker): Promise<Sender> {
    const sender = new Sender(await broker.connect());
    await sender.channel.confirmSelect();
    return sender;
  }

  /** Three messages for each number. */
  async sendAll(from: number, to: number): Promise<void> {
    for (let n = from; n <= to; n++) {
      await this.send('', 'orders', { messageId: `o${n}` });
      await this.send('', 'urgent', { messageId: `u${n}`, priority: n % 6 });
      await this.send('all', '', { messageId: `a${n}`, headers: { n } });
    }
  }

  /** Resolves when it is confirmed. */
  async send(exchange: string, routingKey: string, properties: MessageProperties): Promise<void> {
    const body = `body of ${properties.messageId} `.repeat(2);
    const confirmed = new Promise<void>((resolve) => {
      this.#onConfirm = resolve;
    });
    this.channel.publish(createMessage({ exchange, routingKey, body, properties: { ...properties, deliveryMode: 2 } }));
    await confirmed;
  }
}

/** What a broker has: every definition and, by queue, every message in its order. */
export interface Contents {
  readonly definitions: Readonly<Record<string, readonly string[]>>;
  readonly messages: Readonly<Record<string, readonly string[]>>;
}

/** Takes everything out. */
export async function contentsOf(broker: Broker): Promise<Contents> {
  const exported = await broker.administration.exportDefinitions();
  const definitions: Record<string, string[]> = {};
  for (const [kind, values] of Object.entries(exported)) {
    if (Array.isArray(values)) definitions[kind] = values.map((value) => JSON.stringify(value)).sort();
  }
  const channel = (await broker.connect()).openChannel();
  const messages: Record<string, string[]> = {};
  const { queues } = await broker.snapshot('/');
  for (const { name: queue } of queues) {
    const found: string[] = [];
    for (let got = await channel.get(queue, { noAck: true }); got; got = await channel.get(queue, { noAck: true })) {
      const { messageId, priority, headers } = got.message.properties;
      const body = Buffer.from(got.message.body).toString();
      if (body !== `body of ${messageId} `.repeat(2)) throw new Error(`${messageId} has another body: ${body}`);
      found.push([messageId, priority, JSON.stringify(headers?.n)].join(' '));
    }
    messages[queue] = found;
  }
  return { definitions, messages };
}

const RESERVE_SHOWN_MAX = 100_000;

/** Every file below a folder with its octets; sockets are somebody else's, and a reserve of full size says nothing. */
export function octetsOf(folder: string): Map<string, Buffer> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(
    files
      .filter(({ name }) => name !== RESERVE_FILE || statSync(join(folder, name)).size < RESERVE_SHOWN_MAX)
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => [relative(folder, path), readFileSync(path)]),
  );
}
