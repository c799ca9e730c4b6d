/**
 * A disk with troubles under a whole broker, with amqplib in front of it: full, failing to write, to sync and to read, and
 * slow. Confirms are withheld, publishers are told and held back, everybody else goes on, and all is well when the disk is.
 */
import { type ChannelModel, type ConfirmChannel, connect, type Message } from 'amqplib';
import { afterEach, describe, expect, it } from 'vitest';
import { createBrokerOn, StoreWatch } from '../../broker/broker.ts';
import { openStore, type StoreOptions } from '../../broker/storage/open-store.ts';
import { startAmqpGateway } from '../../gateways/amqp/gateway.ts';
import { SILENT_LOG } from '../../gateways/log.ts';
import { call, TX_COMMIT, TX_SELECT } from '../support/crash/consumers.ts';
import { eventually } from '../support/eventually.ts';
import { FaultyFiles } from '../support/faulty-files.ts';

const DATA_DIR = '/data';
const PERSISTENT = { persistent: true };
/** So that a short backlog has several pages. */
const SMALL_PAGES = { pageMessages: 32, pageBytes: 16_384, readAheadMessages: 16, frontBytesMin: 8192 };
/** A failed write is tried again after a second. */
const MENDED = { timeoutMs: 10_000 };
const LOG = /\/data\/log\//;

interface Running {
  readonly files: FaultyFiles;
  readonly notices: string[];
  dial(): Promise<Dialled>;
  close(): Promise<void>;
}

/** One connection with a channel in confirm mode, and what it was told. */
interface Dialled {
  readonly connection: ChannelModel;
  readonly channel: ConfirmChannel;
  /** `blocked: reason` and `unblocked`, in order. */
  readonly told: string[];
}

const ends: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(files = new FaultyFiles(), store: Partial<StoreOptions> = {}): Promise<Running> {
  const notices: string[] = [];
  const watch = new StoreWatch((event) => notices.push(event.type));
  const onEvent = (event: Parameters<StoreWatch['onEvent']>[0]): void => watch.onEvent(event);
  const opened = await openStore({ dataDir: DATA_DIR, version: '0.0.0', files, reserveBytes: 0, onEvent, ...store });
  const broker = await createBrokerOn(Object.assign(opened, { paging: SMALL_PAGES }), {}, watch);
  const gateway = await startAmqpGateway(broker, {
    host: '127.0.0.1',
    port: 0,
    connectionsMax: 100,
    handshakeTimeoutMs: 10_000,
    log: SILENT_LOG,
  });
  const close = async (): Promise<void> => {
    // A disk that has crashed never answers.
    if (!files.crashed) await broker.close().catch(() => {});
    await gateway.close();
  };
  ends.push(close);
  const [address] = gateway.addresses;
  return { files, notices, close, dial: () => dial(`amqp://127.0.0.1:${address?.port}`) };
}

async function dial(url: string): Promise<Dialled> {
  // Small frames one after the other would wait for each other.
  const connection = await connect(url, { noDelay: true });
  const told: string[] = [];
  connection
    .on('error', () => {})
    .on('blocked', (reason) => told.push(`blocked: ${reason}`))
    .on('unblocked', () => told.push('unblocked'));
  ends.push(() => connection.close().catch(() => {}));
  const channel = await connection.createConfirmChannel();
  channel.on('error', () => {});
  return { connection, channel, told };
}

/** Publishes `count` numbers to a queue; the answer grows with those that are confirmed. */
function send(channel: ConfirmChannel, queue: string, from: number, count: number, bytes = 100): number[] {
  const confirmed: number[] = [];
  for (let n = from; n < from + count; n++) {
    const body = Buffer.alloc(bytes, `${n} `);
    channel.sendToQueue(queue, body, { ...PERSISTENT, messageId: String(n) }, (error) => {
      if (error === null) confirmed.push(n);
    });
  }
  return confirmed;
}

function numberOf(message: Message | null): number {
  return Number(message?.properties.messageId);
}

function range(from: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => from + index);
}

/** Takes what is ready in a queue. */
async function drain({ channel }: Dialled, queue: string): Promise<number[]> {
  const numbers: number[] = [];
  for (let got = await channel.get(queue); got; got = await channel.get(queue)) {
    numbers.push(numberOf(got));
    channel.ack(got);
  }
  return numbers;
}

/** A round trip of the channel: what the broker had to say to it before has been heard. */
async function settled({ channel }: Dialled, queue: string): Promise<void> {
  await channel.checkQueue(queue);
}

/** Starts a broker on what a disk has kept, answers what it finds in the queue `q`, and ends it. */
async function foundOn(files: FaultyFiles): Promise<number[]> {
  const again = await start(files);
  const dialled = await again.dial();
  const numbers = await drain(dialled, 'q');
  await dialled.connection.close();
  await again.close();
  return numbers;
}

/** Resolves when all that the broker has read from this channel, acks too, is on disk. */
async function barrier({ channel }: Dialled): Promise<void> {
  await channel.assertQueue('barriers', { durable: true, maxLength: 1 });
  channel.sendToQueue('barriers', Buffer.alloc(0), PERSISTENT);
  await channel.waitForConfirms();
}

describe.each([
  ['cannot be written to', { call: 'write', path: LOG, code: 'EIO' }],
  ['is full', { call: 'write', path: LOG, code: 'ENOSPC' }],
  ['cannot be synced', { call: 'sync', path: LOG, code: 'EIO' }],
] as const)('while the disk %s', (_what, fault) => {
  it('confirms wait, publishers are held back, consumers go on; then all is confirmed, and there after a power cut', async () => {
    const { files, notices, dial } = await start();
    const publisher = await dial();
    const { channel } = publisher;
    await channel.assertQueue('q', { durable: true });
    const first = send(channel, 'q', 1, 50);
    await channel.waitForConfirms();
    expect(first).toEqual(range(1, 50));
    const consumer = await dial();

    const mend = files.fail({ ...fault, times: Number.POSITIVE_INFINITY });
    const second = send(channel, 'q', 51, 50);
    await eventually(() => expect(notices).toContain('trouble'));
    // Whoever goes on publishing is told, and not read any more.
    const third = send(channel, 'q', 101, 10);
    await eventually(() => expect(publisher.told).toEqual(['blocked: low on disk']));
    const received: number[] = [];
    await consumer.channel.consume('q', (message) => {
      received.push(numberOf(message));
      if (message !== null && numberOf(message) <= 20) consumer.channel.ack(message);
    });
    // What was read before the alarm is delivered; it is the publisher who waits to hear that it is safe.
    await eventually(() => expect(received.length).toBeGreaterThan(50));
    expect(received).toEqual(range(1, received.length));
    // A newcomer is served as well, and may speak of what has not to be stored.
    const newcomer = await dial();
    await newcomer.channel.assertQueue('passing', { durable: false });
    expect(second).toEqual([]);
    expect(third).toEqual([]);

    mend();
    await eventually(() => expect(second).toEqual(range(51, 50)), MENDED);
    await eventually(() => expect(third).toEqual(range(101, 10)));
    expect(publisher.told).toEqual(['blocked: low on disk', 'unblocked']);
    expect(notices.filter((type) => type === 'trouble' || type === 'recovered')).toEqual(['trouble', 'recovered']);
    await eventually(() => expect(received).toEqual(range(1, 110)));
    await barrier(consumer);

    files.crash();
    for (const seed of [1, 2, 3]) {
      expect(await foundOn(files.afterCrash(seed))).toEqual(range(21, 90));
    }
  });

  it('a transaction and a declaration are answered only afterwards', async () => {
    const { files, notices, dial } = await start();
    const { connection, channel } = await dial();
    await channel.assertQueue('q', { durable: true });
    const transacting = await connection.createChannel();
    await call(transacting, TX_SELECT);
    const mend = files.fail({ ...fault, times: Number.POSITIVE_INFINITY });
    const answers: string[] = [];
    for (const id of ['1', '2']) transacting.sendToQueue('q', Buffer.from(id), { ...PERSISTENT, messageId: id });
    const committing = call(transacting, TX_COMMIT).then(() => answers.push('committed'));
    await eventually(() => expect(notices).toContain('trouble'));
    const other = await dial();
    const declaring = other.channel.assertQueue('later', { durable: true }).then(() => answers.push('declared'));
    await settled(await dial(), 'q');
    expect(answers).toEqual([]);
    mend();
    await eventually(() => expect(answers).toEqual(['committed', 'declared']), MENDED);
    await Promise.all([committing, declaring]);
    files.crash();
    const again = await start(files.afterCrash());
    const after = await again.dial();
    expect(await after.channel.checkQueue('later')).toMatchObject({ messageCount: 0 });
    expect(await drain(after, 'q')).toEqual([1, 2]);
  });

  it('a crash brings back everything confirmed, and of the rest a beginning', async () => {
    const { files, notices, dial } = await start();
    const { channel } = await dial();
    await channel.assertQueue('q', { durable: true });
    send(channel, 'q', 1, 20);
    await channel.waitForConfirms();
    files.fail({ ...fault, times: Number.POSITIVE_INFINITY });
    const unconfirmed = send(channel, 'q', 21, 20);
    await eventually(() => expect(notices).toContain('trouble'));
    files.crash();
    expect(unconfirmed).toEqual([]);
    for (const seed of [1, 2, 3, 4]) {
      const found = await foundOn(files.afterCrash(seed));
      expect(found.length).toBeGreaterThanOrEqual(20);
      expect(found).toEqual(range(1, found.length));
    }
  });
});

describe('a disk that', () => {
  it('is slow delays confirms and nothing else', async () => {
    const { files, dial } = await start();
    const publisher = await dial();
    const { channel } = publisher;
    await channel.assertQueue('q', { durable: true });
    await channel.assertQueue('passing', { durable: false });
    const goOn = files.hold({ call: 'sync', path: LOG });
    const confirmed = send(channel, 'q', 1, 500);
    const consumer = await dial();
    const received: number[] = [];
    await consumer.channel.consume('q', (message) => {
      received.push(numberOf(message));
      if (message !== null) consumer.channel.ack(message);
    });
    await eventually(() => expect(received).toEqual(range(1, 500)));
    consumer.channel.sendToQueue('passing', Buffer.from('transient'));
    await consumer.channel.waitForConfirms();
    await settled(publisher, 'q');
    expect(confirmed).toEqual([]);
    expect(publisher.told).toEqual([]);
    goOn();
    await eventually(() => expect(confirmed).toEqual(range(1, 500)));
  });

  it('cannot be read for a while keeps consumers waiting, and then gives them everything in order', async () => {
    const { files, dial } = await start(undefined, { residentBytesMax: 1000 });
    const { channel } = await dial();
    await channel.assertQueue('q', { durable: true });
    // What comes finds what came before on disk, and lets it leave memory.
    for (let from = 1; from < 300; from += 20) {
      send(channel, 'q', from, 20, 5000);
      await channel.waitForConfirms();
    }
    const before = files.made.length;
    const mend = files.fail({ call: ['read', 'open'], path: LOG, code: 'EIO', times: Number.POSITIVE_INFINITY });
    const consumer = await dial();
    const received: number[] = [];
    await consumer.channel.consume('q', (message) => received.push(numberOf(message)), { noAck: true });
    await eventually(() => expect(files.made.slice(before).join()).toMatch(/(read|open) /));
    await settled(consumer, 'q');
    expect(received.length).toBeLessThan(300);
    mend();
    await eventually(() => expect(received).toEqual(range(1, 300)), MENDED);
  });

  it('fills up is emptied by acks, and everything that waited is confirmed', async () => {
    const files = new FaultyFiles({ capacityBytes: 400_000 });
    const store = { segmentBytes: 16_384, reserveBytes: 32_768, cleanSegmentsMin: 2 };
    const { notices, dial } = await start(files, store);
    const publisher = await dial();
    await publisher.channel.assertQueue('q', { durable: true });
    const confirmed: number[] = [];
    let sent = 0;
    while (!notices.includes('trouble')) {
      const batch = send(publisher.channel, 'q', sent + 1, 10, 1000);
      sent += 10;
      await eventually(() => expect(batch.length === 10 || notices.includes('trouble')).toBe(true), MENDED);
      confirmed.push(...batch);
      expect(sent).toBeLessThan(2000);
    }
    expect(confirmed.length).toBeGreaterThan(200);
    expect(confirmed.length).toBeLessThan(sent);
    send(publisher.channel, 'q', sent + 1, 10, 1000);
    sent += 10;
    await eventually(() => expect(publisher.told).toEqual(['blocked: low on disk']));
    const consumer = await dial();
    const received: number[] = [];
    await consumer.channel.consume('q', (message) => {
      received.push(numberOf(message));
      if (message !== null) consumer.channel.ack(message);
    });
    await eventually(() => expect(publisher.told).toEqual(['blocked: low on disk', 'unblocked']), MENDED);
    await eventually(() => expect(received).toEqual(range(1, sent)), MENDED);
    await publisher.channel.waitForConfirms();
    await barrier(consumer);
    files.crash();
    expect(await foundOn(files.afterCrash())).toEqual([]);
  });
});
