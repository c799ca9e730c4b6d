/** Celery: a real worker that takes tasks from the broker, and a program that sends them and waits for the results. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { amqpUrl, forceClosed } from '../../interop/clients.ts';
import { itAdministered, useBroker } from '../../support/broker-under-test.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith, ForeignProgram, PYTHON } from './foreign-program.ts';

const broker = useBroker();

function environment(): Record<string, string> {
  const [url = ''] = amqpUrl(broker).split('?');
  return { BROKER_URL: url.replace('amqp:', 'pyamqp:') };
}

function client(scenario: string): ForeignProgram {
  return new ForeignProgram(PYTHON, ['celery-client.py', scenario], environment());
}

describeWith('celery', [PYTHON, '-c', 'import celery'])('Celery', () => {
  let worker: ForeignProgram;

  beforeAll(async () => {
    const command = ['-m', 'celery', '-A', 'celery_tasks', 'worker', '--concurrency=1', '--loglevel=info'];
    worker = new ForeignProgram(PYTHON, command, environment());
    await worker.waitFor(' ready.');
  });

  afterAll(async () => {
    await worker.stop();
  });

  it.each([
    'first_task',
    'chained_and_grouped',
    'retried_and_delayed',
    'failed',
    'rejected',
    'acked_late_with_priority',
    'controlled',
  ])('%s', async (scenario) => {
    const program = client(scenario);
    await program.succeeds();
    expect(program.printed).toContain('done\n');
  });

  itAdministered('the worker connects again after 320 and takes tasks again', async () => {
    await forceClosed(broker);
    await worker.waitFor('Connection to broker lost');
    await eventually(
      async () => {
        const channel = await (await broker.amqplib()).createChannel();
        expect(await channel.checkQueue('celery')).toMatchObject({ consumerCount: 1 });
      },
      { timeoutMs: 20_000, everyMs: 100 },
    );
    await client('first_task').succeeds();
  });
});
