/** A Warren in this process with its AMQP door on a free port. */
import { type BrokerOptions, createBroker } from '../../broker/broker.ts';
import type { Broker } from '../../broker/port.ts';
import { type AmqpGatewayOptions, startAmqpGateway } from '../../gateways/amqp/gateway.ts';
import { SILENT_LOG } from '../../gateways/log.ts';

export interface EmbeddedOptions {
  readonly broker?: BrokerOptions;
  readonly amqp?: Partial<AmqpGatewayOptions>;
}

export interface EmbeddedWarren {
  readonly host: string;
  readonly port: number;
  readonly vhost: string;
  readonly administration: Broker['administration'];
  readonly embedded: Broker;
  close(): Promise<void>;
}

/** Starts both; `close` ends both. */
export async function startEmbedded(options: EmbeddedOptions = {}): Promise<EmbeddedWarren> {
  const embedded = await createBroker(options.broker);
  const gateway = await startAmqpGateway(embedded, {
    host: '127.0.0.1',
    port: 0,
    connectionsMax: 10_000,
    handshakeTimeoutMs: 10_000,
    log: SILENT_LOG,
    ...options.amqp,
  });
  const [address] = gateway.addresses;
  if (address === undefined) throw new Error('the AMQP door has no address');
  return {
    host: address.host,
    port: address.port,
    vhost: '/',
    administration: embedded.administration,
    embedded,
    async close() {
      await embedded.close();
      await gateway.close();
    },
  };
}
