/** The AMQP 0-9-1 door: TCP or TLS through a listener, or any other stream of octets, such as a WebSocket. */
import type { Broker } from '../../broker/port.ts';
import type { Gateway, Transport } from '../gateway.ts';
import type { ListenerSettings } from '../listener.ts';
import { startSocketGateway } from '../socket-gateway.ts';
import type { WebSocketDoor } from '../websocket.ts';
import { AmqpConnection } from './connection.ts';
import { type AmqpOptions, resolveOptions } from './options.ts';
import { strayAdvice } from './protocol-header.ts';

export type AmqpGatewayOptions = AmqpOptions & ListenerSettings;

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
  return startSocketGateway(
    'amqp',
    options,
    (transport, onEnded) => new AmqpConnection(broker, transport, resolved, onEnded),
  );
}
