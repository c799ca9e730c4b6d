import { exec } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { connect } from 'amqplib';
import { afterEach, describe, expect, it } from 'vitest';
import { hasIpv6 } from '../../support/ipv6.ts';
import { WarrenProcess, type WarrenProcessOptions } from '../../support/warren-process.ts';

const processes: WarrenProcess[] = [];

afterEach(() => Promise.all(processes.splice(0).map((warren) => warren.stop())));

async function start(options?: WarrenProcessOptions): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start(options);
  processes.push(warren);
  return warren;
}

/** Waits until a process that cannot start has ended. */
async function failed(flags: readonly string[], environment: Record<string, string> = {}) {
  const warren = new WarrenProcess({ flags, environment });
  processes.push(warren);
  const { code } = await warren.exited;
  return { code, stdout: warren.stdout, stderr: warren.stderr };
}

function write(name: string, content: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'warren-start-')), name);
  writeFileSync(path, content);
  return path;
}

/** Processor time that a process has used; undefined where there is no /proc. */
function cpuMs(pid: number | undefined): number | undefined {
  const file = `/proc/${pid}/stat`;
  if (!existsSync(file)) return undefined;
  const fields = readFileSync(file, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  const ticksPerSecond = 100; // The kernel's USER_HZ.
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerSecond;
}

/** Whether these credentials get in. */
async function canLogIn(warren: WarrenProcess, user: string, password: string, vhost = '/'): Promise<boolean> {
  const url = new URL(warren.amqpUrl);
  try {
    const connection = await connect({
      hostname: url.hostname,
      port: Number(url.port),
      username: user,
      password,
      vhost,
    });
    await connection.close();
    return true;
  } catch {
    return false;
  }
}

describe('a start', () => {
  it('prints a line for each door and the line that programs wait for', async () => {
    const warren = await start();
    expect(warren.stdout.split('\n')).toEqual([
      'data   in memory only: all of it ends with this process (--data-dir none)',
      expect.stringMatching(/^amqp {3}127\.0\.0\.1:\d+ +try: node examples\/hello\.mjs amqp:\/\/127\.0\.0\.1:\d+$/),
      expect.stringMatching(/^stomp {2}127\.0\.0\.1:\d+ +try: node -e "net\.connect/),
      expect.stringMatching(/^xmpp {3}127\.0\.0\.1:\d+ +try: node -e "net\.connect/),
      expect.stringMatching(/^ws {5}127\.0\.0\.1:\d+ +try: node examples\/hello\.mjs ws:\/\/127\.0\.0\.1:\d+\/ws$/),
      'Server startup complete',
      '',
    ]);
    expect(warren.door('amqp').port).not.toBe(0);
  });

  it.each(['amqp', 'ws'])('suggests a command that works: %s', async (label) => {
    const warren = await start();
    const { stdout } = await promisify(exec)(warren.door(label).tryCommand);
    expect(stdout).toBe(`Hello from ${label}!\n`);
  });

  it.each([
    ['stomp', 'CONNECTED\nversion:1.0'],
    ['xmpp', '<mechanism>SCRAM-SHA-256</mechanism>'],
  ])('suggests a command that is answered: %s', async (label, answer) => {
    const warren = await start();
    const { stdout } = await promisify(exec)(warren.door(label).tryCommand);
    expect(stdout).toContain(answer);
  });

  it('takes less than a second', async () => {
    const begun = performance.now();
    const warren = await start();
    const wallMs = performance.now() - begun;
    // Tests share the machine, so what counts is the processor time where it can be had. A start waits for nothing.
    expect(cpuMs(warren.child.pid) ?? wallMs).toBeLessThan(1000);
  });

  it.runIf(hasIpv6)('opens what it is told to only', async () => {
    const warren = await start({ flags: ['--stomp-port=off', '--xmpp-port=off', '--http-port=off', '--host=::1'] });
    expect(warren.stdout).toMatch(
      /^amqp {3}\[::1\]:\d+ +try: node examples\/hello\.mjs 'amqp:\/\/\[::1\]:\d+'\nServer/m,
    );
  });

  it('is not alone responsible for the port: says who is in the way and how to choose another', async () => {
    const blocker = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => blocker.once('listening', resolve));
    const address = blocker.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    const { code, stdout, stderr } = await failed([`--amqp-port=${port}`]);
    blocker.close();
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(JSON.parse(stderr).msg).toBe(
      `port ${port} on 127.0.0.1 is in use by another program; choose another with --amqp-port (0 = any free one), or end that program`,
    );
  });

  it('needs something to listen on', async () => {
    expect(
      (await failed(['--amqp-port=off', '--stomp-port=off', '--xmpp-port=off', '--http-port=off'])).stderr,
    ).toContain('every port is off');
    expect((await failed(['--host=192.0.2.1'])).stderr).toContain(
      '192.0.2.1 is no address of this machine; choose another with --host',
    );
  });
});

describe('the configuration of a process', () => {
  it('ends the process with 2 and sentences when it is wrong', async () => {
    const { code, stdout, stderr } = await failed(['--amqp-port=x', '--disk-free-limit=5%'], {
      WARREN_LOG_LEVEL: 'loud',
    });
    expect(code).toBe(2);
    expect(stdout).toBe('');
    expect(stderr.trim().split('\n')).toEqual([
      'log-level: "loud" (from WARREN_LOG_LEVEL) is not allowed: it takes error, warn, info or debug',
      'disk-free-limit: "5%" (from the command line) is not allowed: it takes a share of the disk like 0.05, or octets (at least 1 MiB) like 512MiB or 2GB, 0 = off',
      'amqp-port: "x" (from the command line) is not allowed: it takes a whole number, 0 (any free port) to 65535, or off',
    ]);
  });

  it('prints help and version, and ends well', async () => {
    const help = await failed(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toContain('Usage: warren [options]');
    expect(await failed(['--version'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });

  it("makes the first user and virtual host from RabbitMQ's variables", async () => {
    const warren = await start({
      environment: { RABBITMQ_DEFAULT_USER: 'ann', RABBITMQ_DEFAULT_PASS: 'pä ss', RABBITMQ_DEFAULT_VHOST: 'shop' },
    });
    expect(await canLogIn(warren, 'ann', 'pä ss', 'shop')).toBe(true);
    expect(await canLogIn(warren, 'ann', 'wrong', 'shop')).toBe(false);
    expect(await canLogIn(warren, 'guest', 'guest', 'shop')).toBe(false);
    expect(warren.door('amqp').tryCommand).toContain('ann:PASSWORD@');
  });
});

describe('definitions', () => {
  const definitions = {
    users: [{ name: 'carol', password_hash: '', hashing_algorithm: 'rabbit_password_hashing_sha256', tags: '' }],
    vhosts: [{ name: '/' }],
    permissions: [],
    exchanges: [
      { name: 'orders', vhost: '/', type: 'topic', durable: true, auto_delete: false, internal: false, arguments: {} },
    ],
    queues: [{ name: 'invoices', vhost: '/', durable: true, auto_delete: false, arguments: {} }],
    bindings: [
      {
        source: 'orders',
        vhost: '/',
        destination: 'invoices',
        destination_type: 'queue',
        routing_key: 'paid.#',
        arguments: {},
      },
    ],
  };

  it('are there before the first client is', async () => {
    const { users: _none, ...topology } = definitions;
    const warren = await start({ flags: ['--load-definitions', write('definitions.json', JSON.stringify(topology))] });
    const connection = await connect(warren.amqpUrl);
    const channel = await connection.createChannel();
    channel.publish('orders', 'paid.twice', Buffer.from('hello'));
    await channel.checkExchange('orders');
    const message = await channel.get('invoices');
    expect(message).toMatchObject({ content: Buffer.from('hello') });
    await connection.close();
  });

  it('leave out what does not fit, and the log says what', async () => {
    const { users: _none, ...topology } = definitions;
    const queues = [...topology.queues, { name: 'amq.mine', vhost: '/', durable: true }];
    const file = write('definitions.json', JSON.stringify({ ...topology, queues }));
    const warren = await start({ flags: ['--load-definitions', file] });
    expect(warren.log).toContainEqual(
      expect.objectContaining({ file, msg: expect.stringMatching(/^not imported: .*amq\.mine/) }),
    );
  });

  it('that bring users end the well-known guest', async () => {
    const warren = await start({
      flags: ['--load-definitions', write('definitions.json', JSON.stringify(definitions))],
    });
    expect(await canLogIn(warren, 'guest', 'guest')).toBe(false);
  });

  it('that bring users leave the first user somebody has chosen', async () => {
    const warren = await start({
      flags: ['--load-definitions', write('definitions.json', JSON.stringify(definitions))],
      environment: { RABBITMQ_DEFAULT_USER: 'ann', RABBITMQ_DEFAULT_PASS: 'secret' },
    });
    expect(await canLogIn(warren, 'ann', 'secret')).toBe(true);
  });

  it.each([
    ['no JSON', '{', 'JSON'],
    ['something else', '[]', 'it is no JSON object'],
    ['a wrong queue', '{"queues":[{"name":"q","vhost":"nowhere"}]}', 'nowhere'],
  ])('that are %s keep it from starting', async (_name, content, reason) => {
    const file = write('definitions.json', content);
    const { code, stdout, stderr } = await failed(['--load-definitions', file]);
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(JSON.parse(stderr).msg).toContain(`load-definitions: cannot import ${file}: `);
    expect(stderr).toContain(reason);
  });

  it('that are not there keep it from starting', async () => {
    const { code, stderr } = await failed(['--load-definitions=/nowhere/definitions.json']);
    expect(code).toBe(1);
    expect(stderr).toContain('load-definitions: cannot import /nowhere/definitions.json: ENOENT');
  });
});
