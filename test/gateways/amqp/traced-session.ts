/** A short AMQP session in a process of its own, for the test that looks at its trace. */
import { createBroker } from '../../../broker/broker.ts';
import { startAmqpGateway } from '../../../gateways/amqp/gateway.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { RawConnection } from '../../support/raw-amqp.ts';

const broker = await createBroker({ defaultPassword: 'sesame' });
const gateway = await startAmqpGateway(broker, {
  ...{ host: '127.0.0.1', port: 0, connectionsMax: 10, handshakeTimeoutMs: 1000 },
  log: SILENT_LOG,
});
const connection = await RawConnection.connect(gateway.addresses[0] ?? { host: '', port: 0 });
await connection.handshake({ password: 'sesame' });
const channel = await connection.openChannel();
await channel.queue('traced');
await channel.consume('traced', { consumerTag: 'c' });
await channel.call('confirm.select');
channel.publish('', 'traced', 'hello');
await channel.next();
await channel.next();
channel.ack(1);
await connection.close();
await gateway.close();
await broker.close();
