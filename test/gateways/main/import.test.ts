/** `warren import` into real data folders. */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { MAIN } from '../../support/warren-process.ts';
import {
  bodies,
  channelOf,
  drain,
  exported,
  fresh,
  imported,
  lines,
  open,
  put,
  sample,
  within,
} from './sample-folder.ts';

/** Octets in the log of a data folder. */
function logBytes(dataDir: string): number {
  const folder = join(dataDir, 'log');
  return readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

/** Begins an import and kills it when so many octets of it are in the log; answers what has ended it. */
async function killImport(dataDir: string, file: string, bytes: number): Promise<NodeJS.Signals | null> {
  const child = spawn(process.execPath, [MAIN, 'import', '--data-dir', dataDir, file], { stdio: 'ignore' });
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.once('exit', (_, signal) => resolve(signal)));
  await eventually(() => expect(logBytes(dataDir)).toBeGreaterThan(bytes), { timeoutMs: 10_000, everyMs: 1 });
  child.kill('SIGKILL');
  return ended;
}

describe('warren import', () => {
  it('makes in another folder what was in the first, to the octet', async () => {
    const from = await sample();
    const to = fresh('data');
    const archive = fresh('archive.jsonl');
    const again = fresh('again.jsonl');
    expect((await exported(from, '--all-messages', archive)).code).toBe(0);
    expect(await imported(to, archive)).toEqual({
      code: 0,
      stdout: '',
      stderr: `warren import: definitions and 7 messages imported into ${to}\n`,
    });
    expect((await exported(to, '--all-messages', again)).code).toBe(0);
    const made = lines(again);
    // The user that a new folder has was in the first one, too.
    expect(made).toEqual(lines(archive));

    const [first, second] = await Promise.all(
      [from, to].map((dataDir) =>
        within(dataDir, async (broker) => {
          const channel = await channelOf(broker);
          const [delayed] = await broker.administration.delayedMessages('/');
          return {
            orders: await drain(channel, 'orders'),
            urgent: await drain(channel, 'urgent'),
            shop: await drain(await channelOf(broker, 'shop'), 'orders'),
            delayed: { ...delayed, id: '', dueMs: Math.round((delayed?.dueMs ?? 0) / 60_000) },
          };
        }),
      ),
    );
    expect(second).toEqual(first);
    expect(second?.orders.map(({ body, redelivered }) => [body, redelivered])).toEqual([
      ['order 0', true],
      ['order 1', false],
      ['order 2', false],
    ]);
    expect(second?.urgent.map(({ body }) => body)).toEqual(['fast', 'slow']);
    expect(second?.delayed).toMatchObject({ exchange: 'later', bodyBytes: 8 });
  });

  it('takes the time that was left, not the time that has passed since', async () => {
    const from = await sample();
    const archive = fresh('archive.jsonl');
    await exported(from, '--messages', 'orders', '--vhost', '/', archive);
    const changed = readFileSync(archive, 'utf8').replace(/"expires_in_ms":\d+/, '"expires_in_ms":0');
    expect(changed).not.toBe(readFileSync(archive, 'utf8'));
    writeFileSync(archive, changed);
    const to = fresh('data');
    expect((await imported(to, '--vhost', '/', archive)).code).toBe(0);
    await within(to, async (broker) => {
      const channel = await channelOf(broker);
      await eventually(async () => expect((await broker.snapshot('/')).queues[0]?.messagesReady).toBe(2));
      expect(await bodies(channel, 'orders')).toEqual(['order 0', 'order 2']);
    });
  });

  it('takes definitions that RabbitMQ has exported, and drops the guest whom everybody knows', async () => {
    const file = fresh('definitions.json');
    const hash = 'kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR';
    const users = [{ name: 'ann', password_hash: hash, hashing_algorithm: 'rabbit_password_hashing_sha256', tags: '' }];
    const queues = [{ name: 'q', vhost: '/', durable: true, auto_delete: false, arguments: {} }];
    writeFileSync(
      file,
      JSON.stringify({ rabbit_version: '3.8.9', users, vhosts: [{ name: '/' }], queues }, undefined, 2),
    );
    const dataDir = fresh('data');
    expect(await imported(dataDir, file)).toMatchObject({
      code: 0,
      stderr: `warren import: definitions imported into ${dataDir}\n`,
    });
    await within(dataDir, async (broker) => {
      expect((await broker.administration.users()).map(({ name }) => name)).toEqual(['ann']);
      expect((await broker.snapshot('/')).queues).toMatchObject([{ name: 'q' }]);
    });
  });

  it('adds to what is there: messages come after those before, each as it was', async () => {
    const dataDir = await sample();
    const archive = fresh('archive.jsonl');
    await exported(dataDir, '--messages', 'orders', '--vhost', 'shop', archive);
    await within(dataDir, async (broker) => put(await channelOf(broker, 'shop'), 'orders', 'since then'));
    for (const count of [1, 2]) expect((await imported(dataDir, '--vhost', 'shop', archive)).code, `${count}`).toBe(0);
    await within(dataDir, async (broker) => {
      const shop = await channelOf(broker, 'shop');
      expect(await bodies(shop, 'orders')).toEqual(['of the shop', 'since then', 'of the shop', 'of the shop']);
      expect(await bodies(await channelOf(broker), 'orders')).toHaveLength(3);
    });
    await within(dataDir, async (broker) =>
      expect(await bodies(await channelOf(broker, 'shop'), 'orders')).toEqual([]),
    );
  });

  it('goes into another virtual host when told so', async () => {
    const from = await sample();
    const archive = fresh('archive.jsonl');
    await exported(from, '--messages', 'orders', '--vhost', 'shop', archive);
    const to = fresh('data');
    expect(await imported(to, archive)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        "it was exported from one virtual host ('shop'): say with --vhost which one it is for",
      ),
    });
    expect((await imported(to, '--vhost', '/', archive)).code).toBe(0);
    await within(to, async (broker) =>
      expect(await bodies(await channelOf(broker), 'orders')).toEqual(['of the shop']),
    );
  });

  describe('of something wrong', () => {
    const message = (change: object = {}): string =>
      JSON.stringify({ vhost: '/', queue: 'q', exchange: '', routing_key: 'q', properties: {}, body: '', ...change });
    const archive = (definitions: object, ...messages: readonly string[]): string =>
      [
        JSON.stringify({ warren_archive: 1, definitions }),
        ...messages,
        JSON.stringify({ end: true, messages: messages.length }),
        '',
      ].join('\n');
    const queues = [{ name: 'q', vhost: '/', durable: true, arguments: {} }];

    it.each([
      ['no JSON', 'hello', 'it is neither an archive nor JSON'],
      ['an empty file', '', 'it is neither an archive nor JSON'],
      ['half a file', archive({ queues }, message(), message()).slice(0, -40), 'is no JSON object'],
      [
        'a file without its last line',
        archive({ queues }, message()).split('{"end"')[0] ?? '',
        'it is cut off after 1',
      ],
      ['no text', Buffer.from([0x7b, 0xff, 0xfe]), 'it is not text in UTF-8'],
      [
        'a queue that is nowhere',
        archive({}, message()),
        "messages of 'q' in virtual host '/', and there is no such durable",
      ],
      [
        'a queue that does not last',
        archive({ queues: [{ ...queues[0], durable: false }] }, message()),
        'no such durable',
      ],
      ['a virtual host that is nowhere', archive({ queues: [{ ...queues[0], vhost: 'x' }] }), "'x'"],
      ['a body that is none', archive({ queues }, message({ body: '!' })), 'line 2: body should be base64'],
      ['the last of many', archive({ queues }, message(), message({ queue: 'r' })), "messages of 'r'"],
      ['a newer archive', '{"warren_archive":2}', 'it is an archive of format 2'],
    ])('changes nothing and says what: %s', async (_name, content, text) => {
      const dataDir = fresh('data');
      await within(dataDir, async (broker) => {
        const channel = await channelOf(broker);
        await channel.declareQueue({ queue: 'there', durable: true });
        put(channel, 'there', 'before');
      });
      const file = fresh('archive.jsonl');
      writeFileSync(file, content);
      const { code, stdout, stderr } = await imported(dataDir, file);
      expect([code, stdout]).toEqual([1, '']);
      expect(stderr).toContain(`warren import: ${file}: `);
      expect(stderr).toContain(text);
      expect(stderr).toMatch(/\. Nothing has been imported\n$/);
      await within(dataDir, async (broker) => {
        expect((await broker.snapshot('/')).queues.map(({ name, messagesReady }) => [name, messagesReady])).toEqual([
          ['there', 1],
        ]);
        expect(await bodies(await channelOf(broker), 'there')).toEqual(['before']);
      });
    });

    it('does not touch the folder when the file cannot be read as a whole', async () => {
      const dataDir = fresh('data');
      const file = fresh('archive.jsonl');
      expect(await imported(dataDir, file)).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`${file}: there is no such file: look how it is spelt`),
      });
      writeFileSync(file, archive({ queues }, message()).slice(0, -9));
      expect((await imported(dataDir, file)).code).toBe(1);
      expect(existsSync(dataDir)).toBe(false);
    });

    it('changes nothing when it is killed on the way', async () => {
      const dataDir = fresh('data');
      await within(dataDir, async (broker) => {
        const channel = await channelOf(broker);
        await channel.declareQueue({ queue: 'q', durable: true });
        put(channel, 'q', 'before');
      });
      const count = 20_000;
      const body = Buffer.alloc(1024, 'x').toString('base64');
      const file = fresh('archive.jsonl');
      writeFileSync(
        file,
        archive({ queues: [...queues, { ...queues[0], name: 'new' }] }, ...new Array(count).fill(message({ body }))),
      );
      expect(await killImport(dataDir, file, 3 * 1024 * 1024)).toBe('SIGKILL');
      await within(dataDir, async (broker) => {
        expect((await broker.snapshot('/')).queues.map(({ name, messagesReady }) => [name, messagesReady])).toEqual([
          ['q', 1],
        ]);
      });
      // Told again, it does all of it.
      expect(await imported(dataDir, file)).toMatchObject({ code: 0 });
      await within(dataDir, async (broker) => {
        expect((await broker.snapshot('/')).queues.map(({ name, messagesReady }) => [name, messagesReady])).toEqual([
          ['q', count + 1],
          ['new', 0],
        ]);
      });
    });

    it('and of a folder that a broker has open', async () => {
      const dataDir = fresh('data');
      await open(dataDir);
      const file = fresh('archive.jsonl');
      writeFileSync(file, archive({ queues }, message()));
      const { code, stderr } = await imported(dataDir, file);
      expect([code, stderr]).toEqual([1, expect.stringContaining(`process ${process.pid}`)]);
    });
  });
});
