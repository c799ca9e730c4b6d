/** A session in a process of its own whose engine finds an invariant broken in the verb that is named. */
import { assert } from '../../../broker/assert.ts';
import { createBroker } from '../../../broker/broker.ts';
import { startAmqpGateway } from '../../../gateways/amqp/gateway.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { endOnFault } from '../../../gateways/process-end.ts';
import { deviating } from '../../support/engine-in-between.ts';
import { RawConnection } from '../../support/raw-amqp.ts';

endOnFault({
  ...SILENT_LOG,
  error: (fields, message) => console.log(`${message}: ${(fields as { err: Error }).err.message}`),
  close: async () => {},
});
const verb = process.argv[2] === 'publish' ? 'publish' : 'declareQueue';
const broker = deviating(await createBroker(), () => ({
  publish: () => assert(verb !== 'publish', 'planted'),
  declareQueue: async ({ queue }) => {
    assert(verb !== 'declareQueue', 'planted');
    return { queue, messageCount: 0, consumerCount: 0 };
  },
}));
const gateway = await startAmqpGateway(broker, {
  ...{ host: '127.0.0.1', port: 0, connectionsMax: 10, handshakeTimeoutMs: 1000 },
  log: SILENT_LOG,
});
const connection = await RawConnection.connect(gateway.addresses[0] ?? { host: '', port: 0 });
await connection.handshake();
const channel = await connection.openChannel();
await channel.call('confirm.select');
channel.publish('', 'nowhere', 'x');
await channel.queue('q');
console.log('nothing has happened');
process.exit();
