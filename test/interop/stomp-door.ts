/** A Warren in this process with a STOMP door and a WebSocket listener, for the clients of others. */
import { afterAll, beforeAll } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import type { Broker } from '../../broker/port.ts';
import type { Gateway } from '../../gateways/gateway.ts';
import { startStompGateway, stompWebSocketDoor } from '../../gateways/stomp/gateway.ts';
import { startWebSocketGateway } from '../../gateways/websocket.ts';
import { LISTENER } from './clients.ts';

export interface StompDoor {
  readonly broker: Broker;
  readonly host: string;
  readonly port: number;
  /** `ws://127.0.0.1:…/ws` */
  readonly webSocketUrl: string;
}

/** For this test file; what it says is there when the tests run. Call at the top of the file. */
export function useStompDoor(): StompDoor {
  let broker: Broker | undefined;
  let tcp: Gateway | undefined;
  let webSocket: Gateway | undefined;
  beforeAll(async () => {
    broker = await createBroker();
    tcp = await startStompGateway(broker, LISTENER);
    const doors = [stompWebSocketDoor(broker)];
    webSocket = await startWebSocketGateway({
      ...LISTENER,
      doors,
      origins: ['loopback'],
      messageBytesMax: 1024 * 1024,
    });
  });
  afterAll(async () => {
    await broker?.close();
    await Promise.all([tcp?.close(), webSocket?.close()]);
  });
  const portOf = (gateway: Gateway | undefined): number => gateway?.addresses[0]?.port ?? 0;
  return {
    get broker() {
      if (broker === undefined) throw new Error('the broker is not started yet');
      return broker;
    },
    host: LISTENER.host,
    get port() {
      return portOf(tcp);
    },
    get webSocketUrl() {
      return `ws://${LISTENER.host}:${portOf(webSocket)}/ws`;
    },
  };
}
