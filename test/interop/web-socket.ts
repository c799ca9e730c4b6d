/** AMQP over WebSocket beside the broker under test: Warren's own listener, or a relay where the broker has none. */
import { connect } from 'node:net';
import { afterAll, beforeAll } from 'vitest';
import { createWebSocketStream, WebSocketServer } from 'ws';
import type { BrokerUnderTest } from '../support/broker-under-test.ts';

/** For this test file; `url` is there when the tests run. Call after `useBroker`. */
export function useWebSocket(broker: BrokerUnderTest): { readonly url: string } {
  let relay: WebSocketServer | undefined;
  beforeAll(async () => {
    relay = new WebSocketServer({ host: '127.0.0.1', port: 0 });
    relay.on('connection', (webSocket) => {
      const stream = createWebSocketStream(webSocket);
      const socket = connect(broker.port, broker.host);
      stream.on('error', () => socket.destroy());
      socket.on('error', () => stream.destroy());
      stream.pipe(socket).pipe(stream);
    });
    await new Promise((resolve) => relay?.once('listening', resolve));
  });
  afterAll(() => {
    relay?.close();
  });
  return {
    get url() {
      const address = relay?.address();
      if (typeof address !== 'object' || address === null) throw new Error('the WebSocket listener is not started yet');
      return `ws://127.0.0.1:${address.port}/ws/amqp`;
    },
  };
}
