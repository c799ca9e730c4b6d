/** The process and its data folder, as a user has them: started, ended and killed, with amqplib as the client. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelModel, type ConfirmChannel, connect, type GetMessage } from 'amqplib';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { warrenCommand } from '../../support/warren-command.ts';
import { WarrenProcess, type WarrenProcessOptions } from '../../support/warren-process.ts';

const processes: WarrenProcess[] = [];
const folders: string[] = [];

afterEach(async () => {
  await Promise.all(processes.splice(0).map((warren) => warren.stop()));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'warren-durability-'));
  folders.push(folder);
  return folder;
}

async function start(dataDir: string | null, options: WarrenProcessOptions = {}): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start({ ...options, dataDir });
  processes.push(warren);
  return warren;
}

/** Waits until a process that cannot start has ended; answers what it has logged, too. */
async function failed(dataDir: string, flags: readonly string[] = []): Promise<{ code: number | null; msg: string }> {
  const warren = new WarrenProcess({ dataDir, flags });
  processes.push(warren);
  const { code } = await warren.exited;
  return { code, msg: warren.log.map(({ msg }) => msg).join('\n') };
}

async function dial(warren: WarrenProcess): Promise<{ connection: ChannelModel; channel: ConfirmChannel }> {
  const connection = await connect(warren.amqpUrl);
  connection.on('error', () => {});
  const channel = await connection.createConfirmChannel();
  channel.on('error', () => {});
  return { connection, channel };
}

/** Takes everything out of a queue. */
async function drain(channel: ConfirmChannel, queue: string): Promise<GetMessage[]> {
  const messages: GetMessage[] = [];
  for (;;) {
    const message = await channel.get(queue);
    if (message === false) return messages;
    messages.push(message);
  }
}

function contents(messages: readonly GetMessage[]): string[] {
  return messages.map(({ content }) => content.toString());
}

async function end(warren: WarrenProcess): Promise<void> {
  warren.child.kill('SIGTERM');
  expect(await warren.exited).toEqual({ code: 0, signal: null });
}

async function kill(warren: WarrenProcess): Promise<void> {
  warren.child.kill('SIGKILL');
  await warren.exited;
}

const PERSISTENT = { persistent: true };

describe('a data folder', () => {
  it('keeps what is durable and persistent across SIGTERM, confirmed or not, and nothing else', async () => {
    const dataDir = temporaryFolder();
    const before = await start(dataDir);
    const { channel } = await dial(before);
    await channel.assertExchange('shop', 'topic', { durable: true });
    await channel.assertQueue('orders', { durable: true });
    await channel.assertQueue('passing', { durable: false });
    await channel.bindQueue('orders', 'shop', 'order.#');
    for (let number = 0; number < 100; number += 1) {
      channel.publish('shop', 'order.new', Buffer.from(String(number)), { ...PERSISTENT, headers: { number } });
    }
    channel.publish('shop', 'order.new', Buffer.from('transient'));
    channel.sendToQueue('passing', Buffer.from('gone'), PERSISTENT);
    // Said after them on the same channel, so the broker has them; nobody has waited for a confirm.
    await channel.checkQueue('orders');
    await end(before);

    const after = await dial(await start(dataDir));
    const messages = await drain(after.channel, 'orders');
    expect(contents(messages)).toEqual(Array.from({ length: 100 }, (_, number) => String(number)));
    expect(messages[99]).toMatchObject({
      fields: { exchange: 'shop', routingKey: 'order.new', redelivered: false },
      properties: { deliveryMode: 2, headers: { number: 99 } },
    });
    await after.channel.checkExchange('shop');
    await expect(after.channel.checkQueue('passing')).rejects.toThrow('404');
  });

  it('keeps what has been confirmed across SIGKILL, and what was delivered and not acked comes back as that', async () => {
    const dataDir = temporaryFolder();
    const before = await start(dataDir);
    const { channel } = await dial(before);
    await channel.assertQueue('q', { durable: true });
    for (let number = 0; number < 50; number += 1) channel.sendToQueue('q', Buffer.from(String(number)), PERSISTENT);
    await channel.waitForConfirms();
    const first = await channel.get('q');
    if (first !== false) channel.ack(first);
    await channel.get('q');
    // The confirm of a later message comes after the ack and the delivery are on disk.
    channel.sendToQueue('q', Buffer.from('50'), PERSISTENT);
    await channel.waitForConfirms();
    await kill(before);

    const after = await dial(await start(dataDir));
    const messages = await drain(after.channel, 'q');
    expect(contents(messages)).toEqual(Array.from({ length: 50 }, (_, number) => String(number + 1)));
    expect(messages.map(({ fields }) => fields.redelivered)).toEqual([true, ...new Array(49).fill(false)]);
  });

  it('keeps acks across SIGTERM', async () => {
    const dataDir = temporaryFolder();
    const before = await start(dataDir);
    const { channel } = await dial(before);
    await channel.assertQueue('q', { durable: true });
    for (const text of ['a', 'b', 'c']) channel.sendToQueue('q', Buffer.from(text), PERSISTENT);
    await channel.waitForConfirms();
    const [first] = [await channel.get('q')];
    if (first !== false) channel.ack(first);
    await channel.checkQueue('q');
    await end(before);
    const after = await dial(await start(dataDir));
    expect(contents(await drain(after.channel, 'q'))).toEqual(['b', 'c']);
  });

  it('keeps users, and makes the first one only once', async () => {
    const dataDir = temporaryFolder();
    const definitions = join(temporaryFolder(), 'definitions.json');
    const ann = { name: 'ann', password: 'secret', tags: ['administrator'] };
    const permissions = [{ user: 'ann', vhost: '/', configure: '.*', write: '.*', read: '.*' }];
    writeFileSync(definitions, JSON.stringify({ users: [ann], permissions }));
    await end(await start(dataDir, { flags: [`--load-definitions=${definitions}`] }));
    const again = await start(dataDir, { environment: { RABBITMQ_DEFAULT_USER: 'bob', RABBITMQ_DEFAULT_PASS: 'bob' } });
    const url = (user: string): string => again.amqpUrl.replace('//', `//${user}@`);
    await (await connect(url('ann:secret'))).close();
    await expect(connect(url('guest:guest'))).rejects.toThrow('403');
    await expect(connect(url('bob:bob'))).rejects.toThrow('403');
  });

  it('is warren-data in the working directory when nobody says otherwise, and the start says where', async () => {
    const cwd = temporaryFolder();
    const warren = await start(null, { cwd });
    expect(warren.stdout).toMatch(new RegExp(`^data   .*${cwd}/warren-data$`, 'm'));
    const { channel } = await dial(warren);
    await channel.assertQueue('q', { durable: true });
    await end(warren);
    const { channel: after } = await dial(await start(null, { cwd }));
    await after.checkQueue('q');
  });

  it('belongs to one process: a second one is told which, and how to have its own', async () => {
    const dataDir = temporaryFolder();
    const warren = await start(dataDir);
    const { code, msg } = await failed(dataDir);
    expect(code).toBe(1);
    expect(msg).toContain(`process ${warren.child.pid}`);
    expect(msg).toMatch(/^data-dir: .* choose another data folder$/);
    await (await dial(warren)).connection.close();
  });

  it('that cannot be used keeps the process from starting, and says why', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'file');
    writeFileSync(file, 'mine');
    for (const dataDir of [file, folder]) {
      const { code, msg } = await failed(dataDir);
      expect(code).toBe(1);
      expect(msg).toContain(`data-dir: `);
      expect(msg).toContain(dataDir);
    }
  });

  it('is let go of when a port is in use', async () => {
    const dataDir = temporaryFolder();
    const other = await start('none');
    const { code, msg } = await failed(dataDir, [`--amqp-port=${other.door('amqp').port}`]);
    expect([code, msg]).toEqual([1, expect.stringContaining('is in use by another program')]);
    await end(await start(dataDir));
  });
});

describe('a damaged data folder', () => {
  /** A folder with ten messages, of which one in the middle has a flipped bit. */
  async function damaged(): Promise<{ dataDir: string; segment: string }> {
    const dataDir = temporaryFolder();
    const warren = await start(dataDir);
    const { channel } = await dial(warren);
    await channel.assertQueue('q', { durable: true });
    for (let number = 0; number < 10; number += 1) {
      channel.sendToQueue('q', Buffer.from(`message ${number}`), PERSISTENT);
      await channel.waitForConfirms();
    }
    await end(warren);
    const segment = join(dataDir, 'log', readdirSync(join(dataDir, 'log'))[0] ?? '');
    const octets = readFileSync(segment);
    const at = octets.indexOf('message 5');
    octets[at] = (octets[at] ?? 0) ^ 1;
    writeFileSync(segment, octets);
    return { dataDir, segment };
  }

  it('keeps the process from starting: it says where, what was there and what to do', async () => {
    const { dataDir, segment } = await damaged();
    const before = readFileSync(segment);
    const { code, msg } = await failed(dataDir);
    expect(code).toBe(1);
    expect(msg).toContain(`${segment}, octet `);
    expect(msg).toContain('it held 1 message');
    expect(msg).toContain('--recover salvage');
    expect(readFileSync(segment)).toEqual(before);
  });

  it('is salvaged when told so: what is intact is there, and the log says what is missing', async () => {
    const { dataDir, segment } = await damaged();
    const warren = await start(dataDir, { flags: ['--recover=salvage'] });
    expect(warren.log).toContainEqual(expect.objectContaining({ level: 50, msg: expect.stringContaining(segment) }));
    const messages = contents(await drain((await dial(warren)).channel, 'q'));
    expect(messages).toEqual([0, 1, 2, 3, 4, 6, 7, 8, 9].map((number) => `message ${number}`));
    expect(readdirSync(dataDir)).toContainEqual(expect.stringMatching(/^damaged-/));
  });

  it('that has lost the first of its definitions twice is salvaged, too: whatever was there can be reached', async () => {
    const { dataDir, segment } = await damaged();
    // The header of the first record is of 56 octets; behind it is what a new folder begins with.
    for (const path of [segment, segment.replace(/log$/, 'state')]) {
      const octets = readFileSync(path);
      octets.fill(0, 60, 100);
      writeFileSync(path, octets);
    }
    expect((await failed(dataDir)).msg).toContain('it held 3 definitions');
    const words = ['export', '--data-dir', dataDir, '--messages=q', '--recover=salvage'];
    expect((await warrenCommand(words)).stdout.trimEnd().split('\n')).toHaveLength(11);

    const warren = await start(dataDir, { flags: ['--recover=salvage'] });
    expect(warren.log.map(({ msg }) => msg)).toEqual(
      expect.arrayContaining([
        "the vhost '/' is missing and has been made anew, without its description and limits",
        "no user is left; 'guest' has been made, who may do everything",
      ]),
    );
    await end(warren);
    const { channel } = await dial(await start(dataDir));
    expect(await drain(channel, 'q')).toHaveLength(9);
  });

  it('can be looked at: an export has what a salvage would leave, and changes nothing', async () => {
    const { dataDir } = await damaged();
    const names = readdirSync(dataDir, { recursive: true }).filter((name) => name !== 'lock');
    const refused = await warrenCommand(['export', '--data-dir', dataDir]);
    expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('is damaged') });
    const words = ['export', '--data-dir', dataDir, '--messages=q', '--recover=salvage'];
    const { code, stdout, stderr } = await warrenCommand(words);
    expect([code, stderr]).toEqual([0, expect.stringContaining('it held 1 message')]);
    expect(stdout.trimEnd().split('\n')).toHaveLength(11);
    expect(readdirSync(dataDir, { recursive: true }).filter((name) => name !== 'lock')).toEqual(names);
    expect((await failed(dataDir)).code).toBe(1);
  });
});

describe('disk-free-limit', () => {
  it('holds back publishers from the start when too little is free, and consumers go on', async () => {
    const dataDir = temporaryFolder();
    const before = await start(dataDir);
    const { channel } = await dial(before);
    await channel.assertQueue('q', { durable: true });
    channel.sendToQueue('q', Buffer.from('there'), PERSISTENT);
    await channel.waitForConfirms();
    await end(before);

    const flags = ['--disk-free-limit=1000000G', '--memory-high-watermark=1MiB'];
    const warren = await start(dataDir, { flags });
    const publisher = await dial(warren);
    const reasons: string[] = [];
    publisher.connection.on('blocked', (reason) => reasons.push(reason));
    // The memory alarm comes with the first collection of garbage.
    await eventually(() =>
      expect(warren.log.map(({ msg }) => msg)).toContainEqual(expect.stringMatching(/^memory alarm: /)),
    );
    publisher.channel.sendToQueue('q', Buffer.from('held back'), PERSISTENT);
    await eventually(() => expect(reasons).toEqual(['low on memory & disk']));
    expect(warren.log.map(({ msg }) => msg)).toContainEqual(
      expect.stringMatching(
        /^disk alarm: publishers wait until there is room; disk-free-limit is \d+ MiB, and the whole/,
      ),
    );
    const consumer = await dial(warren);
    expect(contents(await drain(consumer.channel, 'q'))).toEqual(['there']);
  });

  it('is about the disk alone when memory is well', async () => {
    const warren = await start(temporaryFolder(), { flags: ['--disk-free-limit=1000000G'] });
    const { connection, channel } = await dial(warren);
    const blocked = new Promise((resolve) => connection.once('blocked', resolve));
    await channel.assertQueue('q', { durable: true });
    channel.sendToQueue('q', Buffer.from('held back'));
    expect(await blocked).toBe('low on disk');
  });
});
