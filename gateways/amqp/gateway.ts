/** The AMQP 0-9-1 door: TCP or TLS through a listener, or any other stream of octets, such as a WebSocket. */
import type { Broker } from '../../broker/port.ts';
import type { Gateway, GatewayAddress, Transport } from '../gateway.ts';
import { type Listener, type ListenerOptions, listen } from '../listener.ts';
import type { WebSocketDoor } from '../websocket.ts';
import { AmqpConnection } from './connection.ts';
import { type AmqpOptions, resolveOptions } from './options.ts';
import { strayAdvice } from './protocol-header.ts';

export type AmqpGatewayOptions = AmqpOptions & ListenerOptions;

/** Lets one peer in, whatever its transport; the connection lives and ends by itself. Throws RangeError for options. */
export function acceptAmqp(broker: Broker, transport: Transport, options: AmqpOptions = {}): void {
  new AmqpConnection(broker, transport, resolveOptions(options), () => {});
}

/** The door for WebSocket clients. */
export function amqpWebSocketDoor(broker: Broker, options: AmqpOptions = {}): WebSocketDoor {
  return {
    subprotocols: ['amqp'],
    takesNone: true,
    invitation:
      'For AMQP 0-9-1 connect to /ws with the subprotocol "amqp" or none, for instance with @cloudamqp/amqp-client.',
    adviseStray: strayAdvice,
    accept: (transport) => acceptAmqp(broker, transport, options),
  };
}

/** Starts a door on one port: TLS if `options.tls` is given, plain otherwise. Rejects with ListenError. */
export async function startAmqpGateway(broker: Broker, options: AmqpGatewayOptions): Promise<Gateway> {
  const resolved = resolveOptions(options);
  const connections = new Set<AmqpConnection>();
  const listener = await listen({
    ...options,
    receives: true,
    onConnection(transport) {
      const connection = new AmqpConnection(broker, transport, resolved, () => connections.delete(connection));
      connections.add(connection);
    },
  });
  return new AmqpGateway(listener, options.tls === undefined ? 'amqp' : 'amqps', connections);
}

class AmqpGateway implements Gateway {
  readonly name = 'amqp';
  readonly addresses: readonly GatewayAddress[];
  readonly #listener: Listener;
  readonly #connections: ReadonlySet<AmqpConnection>;

  constructor(listener: Listener, label: string, connections: ReadonlySet<AmqpConnection>) {
    this.#listener = listener;
    this.#connections = connections;
    this.addresses = [{ label, ...listener.address }];
  }

  stopAccepting(): void {
    this.#listener.stopAccepting();
  }

  async close(): Promise<void> {
    this.stopAccepting();
    for (const connection of this.#connections) connection.shutDown();
    await this.#listener.close();
  }
}
