/** The two default ports of HTTP, on an address of this machine where nobody else listens. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { MAIN } from '../../support/warren-process.ts';

const HOST = '127.0.0.78';
const blockers: Server[] = [];

afterEach(() => {
  for (const blocker of blockers.splice(0)) blocker.close();
});

async function block(port: number): Promise<void> {
  const blocker = createServer().listen(port, HOST);
  blockers.push(blocker);
  await once(blocker, 'listening');
}

/** Starts the program until it is complete, or has ended; then ends it. */
async function run(flags: readonly string[]): Promise<{ doors: string[]; stderr: string }> {
  const common = [`--host=${HOST}`, '--amqp-port=0', '--stomp-port=off', '--xmpp-port=off', '--data-dir=none'];
  const child = spawn(process.execPath, [MAIN, ...common, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (stdout.includes('Server startup complete')) child.kill('SIGTERM');
  });
  await once(child, 'close');
  return { doors: [...stdout.matchAll(/^ws +[\d.]+:(\d+)/gm)].map(([, port = '']) => port), stderr };
}

// Other systems have one loopback address only.
describe.runIf(process.platform === 'linux')('the ports of HTTP', () => {
  it('are where people look for HTTP, and where RabbitMQ has its Web STOMP', async () => {
    expect(await run([])).toMatchObject({ doors: ['8080', '15674'] });
  });

  it.each([
    [8080, '15674'],
    [15674, '8080'],
  ])('are one when %d, which nobody asked for, is taken', async (taken, other) => {
    await block(taken);
    const { doors, stderr } = await run([]);
    expect(doors).toEqual([other]);
    expect(stderr).toContain(`port ${taken} on ${HOST} is in use by another program`);
    expect(stderr).toContain('--http-port');
  });

  it('are an error when both are taken', async () => {
    await block(8080);
    await block(15674);
    const { doors, stderr } = await run([]);
    expect(doors).toEqual([]);
    expect(stderr).toContain('choose another with --http-port');
  });

  it('are an error when one that was asked for is taken', async () => {
    await block(8080);
    const { doors, stderr } = await run(['--http-port=8080,15674']);
    expect(doors).toEqual([]);
    expect(stderr).toContain(`port 8080 on ${HOST} is in use by another program; choose another with --http-port`);
  });

  it('are as many as one likes', async () => {
    expect((await run(['--http-port=0,0,0'])).doors).toHaveLength(3);
  });
});
