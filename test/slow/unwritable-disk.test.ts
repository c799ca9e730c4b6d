/** A disk that takes no more: the operating system refuses to let any file grow beyond a limit. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConfirmChannel, connect } from 'amqplib';
import { afterEach, expect, test } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { WarrenProcess, type WarrenProcessOptions } from '../support/warren-process.ts';

/** In blocks of 512 octets, or of 1024 with some shells. */
const LIMIT = 'ulimit -f 2000';
const TOO_LARGE = Buffer.alloc(8 * 1024 * 1024);
const PERSISTENT = { persistent: true };

const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function start(options: WarrenProcessOptions): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start(options);
  ends.push(() => warren.stop());
  return warren;
}

async function dial(warren: WarrenProcess, blocked: string[] = []): Promise<ConfirmChannel> {
  const connection = await connect(warren.amqpUrl);
  connection.on('error', () => {}).on('blocked', (reason) => blocked.push(reason));
  const channel = await connection.createConfirmChannel();
  channel.on('error', () => {});
  await channel.assertQueue('q', { durable: true });
  return channel;
}

test('a shutdown that cannot store everything says so and ends with 1; what was confirmed is there', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'warren-unwritable-'));
  ends.push(() => rmSync(dataDir, { recursive: true }));
  const warren = await start({ dataDir, after: LIMIT });
  const blocked: string[] = [];
  const channel = await dial(warren, blocked);
  for (const text of ['one', 'two']) channel.sendToQueue('q', Buffer.from(text), PERSISTENT);
  await channel.waitForConfirms();

  const consumer = await dial(warren);
  let isConfirmed = false;
  channel.sendToQueue('q', TOO_LARGE, PERSISTENT, (error) => {
    isConfirmed = error === null;
  });
  await eventually(() =>
    expect(warren.log.map(({ msg }) => msg)).toContainEqual(expect.stringMatching(/^cannot write/)),
  );
  // Publishers are held back, everybody else goes on.
  channel.sendToQueue('q', Buffer.from('held back'), PERSISTENT);
  await eventually(() => expect(blocked).toEqual(['low on disk']));
  const got = await consumer.get('q', { noAck: true });
  expect(got !== false && got.content.toString()).toBe('one');
  expect(isConfirmed).toBe(false);

  warren.child.kill('SIGTERM');
  expect(await warren.exited).toEqual({ code: 1, signal: null });
  expect(isConfirmed).toBe(false);
  expect(warren.log.map(({ level, msg }) => [level, msg])).toContainEqual([
    50,
    expect.stringMatching(/^the last changes could not be written to the data folder: .* What was confirmed is safe$/),
  ]);

  const after = await dial(await start({ dataDir }));
  const texts: string[] = [];
  for (let message = await after.get('q'); message !== false; message = await after.get('q')) {
    texts.push(message.content.toString());
  }
  // Whether the first one was taken could not be written down either: it may come again.
  expect(texts.slice(-1)).toEqual(['two']);
  expect(texts.slice(0, -1)).toSatisfy((before: string[]) => before.length === 0 || before.join() === 'one');
});
