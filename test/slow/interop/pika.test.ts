/** pika, the usual AMQP client of Python. */
import { expect, it } from 'vitest';
import { amqpUrl, forceClosed } from '../../interop/clients.ts';
import { itAdministered, useBroker } from '../../support/broker-under-test.ts';
import { describeWith, ForeignProgram, PYTHON } from './foreign-program.ts';

const broker = useBroker();

function start(scenario: string): ForeignProgram {
  return new ForeignProgram(PYTHON, ['pika-client.py', amqpUrl(broker), scenario]);
}

describeWith('python3-pika', [PYTHON, '-c', 'import pika'])('pika', () => {
  it.each([
    'hello_world',
    'properties_and_get',
    'confirms_and_returns',
    'transactions',
    'channel_errors',
    'refused',
    'consumer_cancelled',
  ])('%s', async (scenario) => {
    const program = start(scenario);
    await program.succeeds();
    expect(program.printed).toBe('done\n');
  });

  itAdministered('connects again after 320, as its documentation has it', async () => {
    const program = start('recovers');
    try {
      await program.waitFor('consuming 1');
      await forceClosed(broker);
      await program.waitFor('consuming 2');
      const channel = await (await broker.amqplib()).createChannel();
      channel.sendToQueue('pika-recovers', Buffer.from('again'));
      await program.waitFor('got again');
      await program.succeeds();
    } finally {
      await program.stop();
    }
  });
});
