/** The examples that amqplib ships in its package, RabbitMQ's tutorials among them: run as they are, one process each. */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { useBroker } from '../../support/broker-under-test.ts';
import { eventually } from '../../support/eventually.ts';
import { ForeignProgram, PROGRAMS } from './foreign-program.ts';

const EXAMPLES = join(dirname(createRequire(import.meta.url).resolve('amqplib')), 'examples');

const broker = useBroker();
const started: ForeignProgram[] = [];

/** Starts an example; those that serve until they are interrupted are stopped after the test. */
function start(example: string, ...args: string[]): ForeignProgram {
  const preload = ['--require', join(PROGRAMS, 'redirect-amqp-port.cjs')];
  const program = new ForeignProgram(process.execPath, [...preload, join(EXAMPLES, example), ...args], {
    AMQP_PORT: String(broker.port),
  });
  started.push(program);
  return program;
}

async function printed(program: ForeignProgram, text: string): Promise<void> {
  await eventually(() => expect(program.printed).toContain(text), { timeoutMs: 10_000 });
}

afterEach(async () => {
  await Promise.all(started.splice(0).map((program) => program.stop()));
});

describe.each(['tutorials', 'tutorials/callback_api'])('%s', (folder) => {
  it('1, hello world', async () => {
    const receive = start(`${folder}/receive.js`);
    await receive.waitFor('[*] Waiting for');
    await start(`${folder}/send.js`).succeeds();
    await printed(receive, "[x] Received 'Hello World!'");
  });

  it('2, work queues', async () => {
    const workers = [start(`${folder}/worker.js`), start(`${folder}/worker.js`)];
    for (const worker of workers) await worker.waitFor('[*] Waiting for');
    for (const task of ['one', 'two', 'three', 'four']) await start(`${folder}/new_task.js`, task).succeeds();
    await eventually(
      () => {
        const lines = workers.flatMap((worker) => worker.printed.match(/Received '\w+'/g) ?? []);
        expect(lines.sort()).toEqual(['four', 'one', 'three', 'two'].map((task) => `Received '${task}'`));
        for (const worker of workers) expect(worker.printed).toContain('[x] Done');
      },
      { timeoutMs: 10_000 },
    );
  });

  it('3, publish and subscribe', async () => {
    const subscribers = [start(`${folder}/receive_logs.js`), start(`${folder}/receive_logs.js`)];
    for (const subscriber of subscribers) await subscriber.waitFor('[*] Waiting for');
    await start(`${folder}/emit_log.js`, 'to everybody').succeeds();
    for (const subscriber of subscribers) await printed(subscriber, "[x] 'to everybody'");
  });

  it('4, routing', async () => {
    const errors = start(`${folder}/receive_logs_direct.js`, 'error');
    const all = start(`${folder}/receive_logs_direct.js`, 'info', 'error');
    for (const subscriber of [errors, all]) await subscriber.waitFor('[*] Waiting for');
    await start(`${folder}/emit_log_direct.js`, 'info', 'all is well').succeeds();
    await start(`${folder}/emit_log_direct.js`, 'error', 'all is lost').succeeds();
    await printed(errors, "[x] error:'all is lost'");
    await printed(all, "[x] error:'all is lost'");
    expect(all.printed).toContain("[x] info:'all is well'");
    expect(errors.printed).not.toContain('all is well');
  });

  it('5, topics', async () => {
    const kernel = start(`${folder}/receive_logs_topic.js`, 'kern.*');
    const critical = start(`${folder}/receive_logs_topic.js`, '#.critical', 'kern.#');
    for (const subscriber of [kernel, critical]) await subscriber.waitFor('[*] Waiting for');
    await start(`${folder}/emit_log_topic.js`, 'cron.daily.critical', 'only one').succeeds();
    await start(`${folder}/emit_log_topic.js`, 'kern.critical', 'both, once').succeeds();
    await printed(kernel, "[x] kern.critical:'both, once'");
    await printed(critical, "[x] kern.critical:'both, once'");
    expect(critical.printed.match(/\[x\]/g)).toHaveLength(2);
    expect(kernel.printed).not.toContain('only one');
  });

  it('6, remote procedure call', async () => {
    const server = start(`${folder}/rpc_server.js`);
    await server.waitFor('[x] Awaiting RPC requests');
    const client = start(`${folder}/rpc_client.js`, '30');
    await client.succeeds();
    expect(client.printed).toContain('[.] Got 832040');
  });
});

describe('the others', () => {
  it('direct reply-to', async () => {
    const server = start('direct_reply_to_server.js');
    await server.waitFor('To exit press');
    const client = start('direct_reply_to_client.js');
    await client.succeeds();
    expect(client.printed).toBe(' [.] pong\n');
    await printed(server, '[X] ping');
  });

  it('headers exchange', async () => {
    const program = start('headers.js');
    await eventually(() => expect(program.printed.match(/^hello$/gm)).toHaveLength(2), { timeoutMs: 10_000 });
    expect(program.printed).not.toContain('lost');
  });

  it('waiting for confirms', async () => {
    const program = start('waitForConfirms.js');
    await program.succeeds();
    expect(program.printed).toBe('All messages done\n');
  });
});
