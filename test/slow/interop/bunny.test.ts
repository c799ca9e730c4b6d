/** Bunny, the AMQP client of Ruby, which compares reply texts word by word. */
import { expect, it } from 'vitest';
import { amqpUrl, forceClosed } from '../../interop/clients.ts';
import { itAdministered, useBroker } from '../../support/broker-under-test.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith, ForeignProgram } from './foreign-program.ts';

const broker = useBroker();

function start(scenario: string): ForeignProgram {
  return new ForeignProgram('ruby', ['bunny-client.rb', amqpUrl(broker), scenario]);
}

describeWith('ruby-bunny', ['ruby', '-e', 'require "bunny"'])('Bunny', () => {
  it.each([
    'hello_world',
    'topics_and_headers',
    'exchange_to_exchange',
    'confirms_and_returns',
    'acknowledgements',
    'errors',
    'refused',
    'transactions',
  ])('%s', async (scenario) => {
    const program = start(scenario);
    await program.succeeds();
    expect(program.printed).toContain('done\n');
  });

  itAdministered('recovers its channel, queue and consumer after 320', async () => {
    const program = start('recovers');
    try {
      await program.waitFor('consuming');
      await forceClosed(broker);
      const channel = await (await broker.amqplib()).createChannel();
      await eventually(
        async () => expect(await channel.checkQueue('bunny-recovers')).toMatchObject({ consumerCount: 1 }),
        { timeoutMs: 20_000, everyMs: 50 },
      );
      channel.sendToQueue('bunny-recovers', Buffer.from('again'));
      await program.succeeds();
    } finally {
      await program.stop();
    }
  });
});
