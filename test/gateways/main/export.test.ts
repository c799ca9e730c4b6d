/** `warren export` over real data folders. */
import { existsSync, lstatSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { warrenCommand } from '../../support/warren-command.ts';
import { exported, fingerprint, fresh, lines, open, sample, within } from './sample-folder.ts';

describe('warren export', () => {
  it('gives definitions as RabbitMQ does, and leaves the folder as it is', async () => {
    const dataDir = await sample();
    const before = fingerprint(dataDir);
    const { code, stdout, stderr } = await exported(dataDir);
    expect([code, stderr]).toEqual([0, '']);
    expect(fingerprint(dataDir)).toEqual(before);
    const definitions = JSON.parse(stdout);
    expect(definitions).toMatchObject({
      rabbitmq_definition_format: 'cluster',
      users: [{ name: 'guest' }, { name: 'ann', tags: ['monitoring'] }],
      vhosts: [{ name: '/' }, { name: 'shop' }],
      policies: [{ name: 'short', definition: { 'max-length': 1000 } }],
    });
    expect(definitions.queues).toHaveLength(3);
    await within(dataDir, async (broker) =>
      expect(await broker.administration.exportDefinitions()).toEqual(definitions),
    );
  });

  it('gives messages on request, of the queues that are named', async () => {
    const dataDir = await sample();
    const before = fingerprint(dataDir);
    const file = fresh('archive.jsonl');
    const { code, stdout, stderr } = await exported(dataDir, '--messages', 'urgent', file);
    expect([code, stdout, stderr]).toEqual([0, '', `warren export: definitions and 2 messages written to ${file}\n`]);
    expect(fingerprint(dataDir)).toEqual(before);
    expect(lines(file)).toMatchObject([
      { warren_archive: 1 },
      { queue: 'urgent', properties: { priority: 9 } },
      { queue: 'urgent', properties: { priority: 1 } },
      { end: true, messages: 2 },
    ]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(file, '..'))).toEqual(['archive.jsonl']);
  });

  it('gives one virtual host', async () => {
    const dataDir = await sample();
    const { stdout } = await exported(dataDir, '--vhost', 'shop', '--all-messages');
    const [head, ...rest] = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(head.definitions).toMatchObject({ original_vhost_name: 'shop', queues: [{ name: 'orders' }] });
    expect(rest).toMatchObject([{ vhost: 'shop', body: Buffer.from('of the shop').toString('base64') }, { end: true }]);
  });

  it.each([
    [['--messages', 'nothing'], "there is no durable queue 'nothing'"],
    [['--messages', 'urgent', '--vhost', 'shop'], "there is no durable queue 'urgent' in virtual host 'shop'"],
    [['--messages', 'orders'], "there is a queue 'orders' in the virtual hosts '/', 'shop': say which with --vhost"],
    [['--vhost', 'nowhere'], "there is no virtual host 'nowhere'"],
    [['/nowhere/archive'], '/nowhere/archive: the folder that it is to be in is not there: make that first, or name'],
    [['/'], '/: it is a folder: name a file in it (EISDIR)'],
  ])('says what there is not: %j', async (words, text) => {
    const dataDir = await sample();
    const { code, stdout, stderr } = await exported(dataDir, ...words);
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain(`warren export: `);
    expect(stderr).toContain(text);
    expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  });

  it('makes no folder where there is none', async () => {
    const dataDir = fresh('data');
    expect(await exported(dataDir)).toEqual({
      code: 1,
      stdout: '',
      stderr: `warren export: there is nothing at ${dataDir}: say with --data-dir where the data folder of the broker is\n`,
    });
    expect(existsSync(dataDir)).toBe(false);
    const parent = join(dataDir, '..');
    const { stderr } = await exported(parent);
    expect(stderr).toContain(
      `${parent} is no data folder of Warren, there is no FORMAT in it: say with --data-dir where`,
    );
    writeFileSync(dataDir, '');
    expect((await exported(dataDir)).stderr).toContain(`${dataDir} is not a folder: say with --data-dir where`);
  });

  it('waits for nobody: a broker that has the folder open must be ended first', async () => {
    const dataDir = fresh('data');
    await open(dataDir);
    const { code, stderr } = await exported(dataDir);
    expect(code).toBe(1);
    expect(stderr).toContain(`process ${process.pid}`);
  });

  it('leaves nothing half of it behind when the disk is full', async () => {
    const dataDir = await sample();
    const file = fresh('archive.jsonl');
    writeFileSync(file, 'the export before');
    const words = ['export', '--data-dir', dataDir, '--all-messages', file];
    const { code, stderr } = await warrenCommand(words, { after: 'ulimit -f 1' });
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^warren export: .*archive\.jsonl: the file is larger than .*\(EFBIG\)$/m),
    ]);
    expect(readFileSync(file, 'utf8')).toBe('the export before');
    expect(readdirSync(join(file, '..'))).toEqual(['archive.jsonl']);
  });

  it('writes through a link, and into what is no file, and puts nothing in their place', async () => {
    const dataDir = await sample();
    const file = fresh('archive.jsonl');
    const link = fresh('link');
    writeFileSync(file, 'the export before');
    symlinkSync(file, link);
    expect(await exported(dataDir, link)).toMatchObject({ code: 0 });
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toMatchObject({ queues: expect.anything() });

    const device = fresh('full');
    symlinkSync('/dev/full', device);
    const { code, stderr } = await exported(dataDir, device);
    expect([code, stderr]).toEqual([1, expect.stringContaining('ENOSPC')]);
    expect(statSync('/dev/full').isCharacterDevice()).toBe(true);
  });

  it('takes the folder from the environment and the configuration file too', async () => {
    const dataDir = await sample();
    const inEnvironment = await warrenCommand(['export'], { environment: { WARREN_DATA_DIR: dataDir } });
    expect(JSON.parse(inEnvironment.stdout).vhosts).toHaveLength(2);
    const config = fresh('warren.toml');
    writeFileSync(config, `data-dir = ${JSON.stringify(dataDir)}\namqp-port = 1`);
    expect(JSON.parse((await warrenCommand(['export', '--config', config])).stdout).vhosts).toHaveLength(2);
  });

  it('takes nothing that it does not know', async () => {
    expect(await warrenCommand(['export', '--data-dir', 'none'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('data-dir is none'),
    });
    expect(await warrenCommand(['export', '--amqp-port', '1'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('See warren export --help'),
    });
    expect(await warrenCommand(['import'])).toMatchObject({ code: 2, stderr: expect.stringContaining("'file'") });
    for (const command of ['export', 'import']) {
      const { code, stdout } = await warrenCommand([command, '--help']);
      expect([code, stdout]).toEqual([0, expect.stringContaining(`Usage: warren ${command} [options]`)]);
    }
  });
});
