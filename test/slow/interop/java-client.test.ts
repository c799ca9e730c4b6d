/** RabbitMQ's client for Java, on which Spring AMQP stands: what that reads from a refusal is compared word by word. */
import { expect, it } from 'vitest';
import { amqpUrl, forceClosed } from '../../interop/clients.ts';
import { itAdministered, useBroker } from '../../support/broker-under-test.ts';
import { describeWith, ForeignProgram } from './foreign-program.ts';

const broker = useBroker();
const JARS = ['amqp-client', 'slf4j-api', 'slf4j-nop'].map((name) => `/usr/share/java/${name}.jar`);

function start(scenario: string): ForeignProgram {
  return new ForeignProgram('java', ['-cp', JARS.join(':'), 'JavaClient.java', amqpUrl(broker), scenario]);
}

const probe = ['sh', '-c', `javac -version && ls ${JARS.join(' ')}`];

describeWith('librabbitmq-client-java libslf4j-java default-jdk-headless', probe)('the Java client', () => {
  it('does what its documentation shows, and reads what the broker refuses', async () => {
    const program = start('all');
    await program.succeeds();
    expect(program.printed.trim().split('\n')).toEqual([
      'ok helloWorld',
      'ok workQueue',
      'ok remoteProcedureCall',
      'ok confirmsAndReturns',
      'ok channelErrors',
      'ok exclusiveConsumer',
      'ok refused',
      'ok consumerCancelled',
      'done',
    ]);
  });

  itAdministered('recovers its exclusive queue and its consumer after 320', async () => {
    const program = start('recovers');
    try {
      await program.waitFor('consuming');
      await forceClosed(broker);
      await program.waitFor('recovered');
      await program.succeeds();
    } finally {
      await program.stop();
    }
  });
});
