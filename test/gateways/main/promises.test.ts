/** The table in docs/durability.md, row by row and column by column, with amqplib: what it promises is so. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Channel, type ChannelModel, connect } from 'amqplib';
import { expect, it, onTestFinished } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { WarrenProcess } from '../../support/warren-process.ts';

const ROOT = new URL('../../../', import.meta.url);
const DOCUMENT = readFileSync(new URL('docs/durability.md', ROOT), 'utf8');
const WAITS = ['its confirm', 'tx.commit-ok', 'nothing'] as const;
const EVENTS = ['a consumer crashes', 'SIGTERM', 'kill -9'] as const;

/** A way to publish a message; each has a queue of its own. */
interface Case {
  readonly message: 'persistent' | 'transient';
  readonly queue: 'durable' | 'not durable';
  readonly waits: (typeof WAITS)[number];
}

const CASES: readonly Case[] = (['persistent', 'transient'] as const).flatMap((message) =>
  (['durable', 'not durable'] as const).flatMap((queue) => WAITS.map((waits) => ({ message, queue, waits }))),
);

/** Rows of the table, by the names of its columns. */
function table(): readonly Readonly<Record<string, string>>[] {
  const [, section = ''] = /^## What survives what\n([\s\S]*?)^## /m.exec(DOCUMENT) ?? [];
  const [names = [], , ...rows] = section
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  return rows.map((cells) => Object.fromEntries(cells.map((cell, index) => [names[index] ?? '', cell])));
}

/** What the table promises; exactly one row must be about it. */
function promised({ message, queue, waits }: Case, event: string): string {
  const rows = table().filter(
    (row) =>
      ['any', message].includes(row.message ?? '') &&
      row.queue === queue &&
      ['anything', waits].includes(row['publisher has waited for'] ?? ''),
  );
  expect(rows).toHaveLength(1);
  return rows[0]?.[event] ?? '';
}

function nameOf({ message, queue, waits }: Case): string {
  return `${message}, ${queue}, ${waits}`;
}

async function dial(warren: WarrenProcess): Promise<ChannelModel> {
  const connection = await connect(warren.amqpUrl);
  connection.on('error', () => {});
  return connection;
}

/** Declares the queue of the case, publishes, and waits for what the case waits for. */
async function publish(connection: ChannelModel, scenario: Case): Promise<void> {
  const { message, queue, waits } = scenario;
  const name = nameOf(scenario);
  const options = { persistent: message === 'persistent' };
  if (waits === 'its confirm') {
    const channel = await connection.createConfirmChannel();
    await channel.assertQueue(name, { durable: queue === 'durable' });
    channel.sendToQueue(name, Buffer.from(name), options);
    await channel.waitForConfirms();
    return;
  }
  const channel = await connection.createChannel();
  await channel.assertQueue(name, { durable: queue === 'durable' });
  if (waits === 'tx.commit-ok') await transact(channel);
  channel.sendToQueue(name, Buffer.from(name), options);
  // Passive, so that nothing waits for the disk; but the broker has the message.
  if (waits === 'tx.commit-ok') await commit(channel);
  else await channel.checkQueue(name);
}

/** amqplib has no words for transactions: [AMQP tx.select 90,10], [tx.commit 90,20]. */
interface Rpc {
  rpc(method: number, fields: object, expected: number): Promise<unknown>;
}

function transact(channel: Channel): Promise<unknown> {
  return (channel as unknown as Rpc).rpc(0x5a000a, {}, 0x5a000b);
}

function commit(channel: Channel): Promise<unknown> {
  return (channel as unknown as Rpc).rpc(0x5a0014, {}, 0x5a0015);
}

/** Whether the message is there: taken out of its queue. */
async function isThere(connection: ChannelModel, scenario: Case): Promise<boolean> {
  const channel = await connection.createChannel();
  channel.on('error', () => {});
  try {
    const got = await channel.get(nameOf(scenario), { noAck: true });
    return got !== false && got.content.toString() === nameOf(scenario);
  } catch (error) {
    expect(String(error)).toContain('404');
    return false;
  }
}

it('README.md has the same table', () => {
  const [rows = ''] = /^\| message \| queue \|[\s\S]*?\n\n/m.exec(DOCUMENT) ?? [];
  expect(rows.split('\n').length).toBeGreaterThan(5);
  expect(readFileSync(new URL('README.md', ROOT), 'utf8')).toContain(rows);
});

it.each(EVENTS)('what survives is what the table says: %s', async (event) => {
  const dataDir = mkdtempSync(join(tmpdir(), 'warren-promises-'));
  onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }));
  const start = async (): Promise<WarrenProcess> => {
    const warren = await WarrenProcess.start({ dataDir });
    onTestFinished(() => warren.stop());
    return warren;
  };
  let warren = await start();
  const publisher = await dial(warren);
  for (const scenario of CASES) await publish(publisher, scenario);

  if (event === 'a consumer crashes') {
    const consumer = await dial(warren);
    const channel = await consumer.createChannel();
    let held = 0;
    for (const scenario of CASES) await channel.consume(nameOf(scenario), () => (held += 1));
    await eventually(() => expect(held).toBe(CASES.length));
    // Without a word, as a process that is killed.
    (consumer as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    const watcher = await publisher.createChannel();
    for (const scenario of CASES) {
      await eventually(async () =>
        expect(await watcher.checkQueue(nameOf(scenario))).toMatchObject({ messageCount: 1 }),
      );
    }
  } else {
    warren.child.kill(event === 'SIGTERM' ? 'SIGTERM' : 'SIGKILL');
    await warren.exited;
    warren = await start();
  }

  const connection = await dial(warren);
  for (const scenario of CASES) {
    const promise = promised(scenario, event);
    const found = await isThere(connection, scenario);
    if (promise === 'yes') expect(found, nameOf(scenario)).toBe(true);
    else if (promise === 'no') expect(found, nameOf(scenario)).toBe(false);
    else expect(promise).toBe('nearly');
  }
});
