/** AMQP over WebSocket beside the broker under test: Warren's own listener, or a relay where the broker has none. */
import { type AddressInfo, connect } from 'node:net';
import { afterAll, beforeAll } from 'vitest';
import { createWebSocketStream, WebSocketServer } from 'ws';
import { amqpWebSocketDoor } from '../../gateways/amqp/gateway.ts';
import { startWebSocketGateway } from '../../gateways/websocket.ts';
import { type BrokerUnderTest, isWarren } from '../support/broker-under-test.ts';
import { LISTENER } from './clients.ts';

interface WebSocketDoor {
  readonly port: number;
  close(): unknown;
}

/** For this test file; `url` is there when the tests run. Call after `useBroker`. */
export function useWebSocket(broker: BrokerUnderTest): { readonly url: string } {
  let door: WebSocketDoor | undefined;
  beforeAll(async () => {
    door = isWarren ? await startWarrens(broker) : await startRelay(broker);
  });
  afterAll(() => door?.close());
  return {
    get url() {
      if (door === undefined) throw new Error('the WebSocket listener is not started yet');
      return `ws://${LISTENER.host}:${door.port}/ws/amqp`;
    },
  };
}

async function startWarrens({ embedded }: BrokerUnderTest): Promise<WebSocketDoor> {
  const gateway = await startWebSocketGateway({
    ...LISTENER,
    doors: [amqpWebSocketDoor(embedded)],
    origins: ['loopback'],
    messageBytesMax: 16 * 1024 * 1024,
  });
  return { port: gateway.addresses[0]?.port ?? 0, close: () => gateway.close() };
}

/** What people put before a RabbitMQ, which has no AMQP over WebSocket. */
async function startRelay(broker: BrokerUnderTest): Promise<WebSocketDoor> {
  const relay = new WebSocketServer({ host: LISTENER.host, port: 0 });
  relay.on('connection', (webSocket) => {
    const stream = createWebSocketStream(webSocket);
    const socket = connect(broker.port, broker.host);
    stream.on('error', () => socket.destroy());
    socket.on('error', () => stream.destroy());
    stream.pipe(socket).pipe(stream);
  });
  await new Promise((resolve) => relay.once('listening', resolve));
  return { port: (relay.address() as AddressInfo).port, close: () => relay.close() };
}
