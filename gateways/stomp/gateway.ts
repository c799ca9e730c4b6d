/** The STOMP door: TCP or TLS through a listener, or a WebSocket. */
import type { Broker } from '../../broker/port.ts';
import type { Gateway, Transport } from '../gateway.ts';
import type { ListenerSettings } from '../listener.ts';
import { startSocketGateway } from '../socket-gateway.ts';
import type { WebSocketDoor } from '../websocket.ts';
import { StompConnection } from './connection.ts';
import { resolveOptions, type StompOptions } from './options.ts';

/** A client's first frame, which may have line ends before it. */
const BEGINNING = /^[\r\n]*(CONNECT|STOMP)\r?\n/;
const BEGINNING_BYTES = 32;

export type StompGatewayOptions = StompOptions & ListenerSettings;

/** Lets one peer in, whatever its transport; the connection lives and ends by itself. */
export function acceptStomp(broker: Broker, transport: Transport, options: StompOptions = {}): void {
  new StompConnection(broker, transport, resolveOptions(options), () => {});
}

/** The door for WebSocket clients: browsers mostly, which write text messages. */
export function stompWebSocketDoor(broker: Broker, options: StompOptions = {}): WebSocketDoor {
  return {
    subprotocols: ['v12.stomp', 'v11.stomp', 'v10.stomp'],
    takesText: true,
    // COMPAT: RabbitMQ's Web STOMP takes clients that name no subprotocol, so there are such (stompjs's Stomp.over).
    recognises: (octets) => BEGINNING.test(Buffer.from(octets.subarray(0, BEGINNING_BYTES)).toString('latin1')),
    invitation: 'For STOMP connect to /ws with the subprotocol "v12.stomp", for instance with @stomp/stompjs.',
    accept: (transport) => acceptStomp(broker, transport, options),
  };
}

/** Starts a door on one port: TLS if `options.tls` is given, plain otherwise. Rejects with ListenError. */
export async function startStompGateway(broker: Broker, options: StompGatewayOptions): Promise<Gateway> {
  const resolved = resolveOptions(options);
  return startSocketGateway(
    'stomp',
    options,
    (transport, onEnded) => new StompConnection(broker, transport, resolved, onEnded),
  );
}
