/** The command-line tools of librabbitmq, the client in C that other languages wrap. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { amqpUrl } from '../../interop/clients.ts';
import { useBroker } from '../../support/broker-under-test.ts';
import { describeWith } from './foreign-program.ts';

const broker = useBroker();
const run = promisify(execFile);

/** What a tool prints; rejects when its exit code is not 0. */
async function amqp(tool: string, ...args: string[]): Promise<string> {
  const [url = ''] = amqpUrl(broker).split('?');
  const { stdout } = await run(`amqp-${tool}`, ['--url', url, ...args]);
  return stdout;
}

describeWith('amqp-tools', ['amqp-publish', '--usage'])('amqp-tools', () => {
  it('declare, publish, get, consume and delete', async () => {
    const queue = broker.fresh('from-c');
    expect(await amqp('declare-queue', '--queue', queue)).toBe(`${queue}\n`);
    for (const body of ['first', 'second']) await amqp('publish', '--routing-key', queue, '--body', body);
    expect(await amqp('get', '--queue', queue)).toBe('first');
    expect(await amqp('consume', '--queue', queue, '--count', '1', 'cat')).toBe('second');
    await expect(amqp('get', '--queue', queue)).rejects.toMatchObject({ code: 2 });
    await amqp('delete-queue', '--queue', queue);
  });

  it('say what the broker refused', async () => {
    await expect(amqp('get', '--queue', 'no-such-queue')).rejects.toMatchObject({
      stderr: expect.stringContaining(`server channel error 404, message: NOT_FOUND - no queue 'no-such-queue'`),
    });
  });
});
