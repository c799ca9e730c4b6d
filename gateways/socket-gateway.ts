/** What the doors of plain connections have in common: one listener, and the connections that it has let in. */
import type { Gateway, Transport } from './gateway.ts';
import { type ListenerSettings, listen, withListenerDefaults } from './listener.ts';

/** A connection as its door starts and ends it. */
export interface SocketConnection {
  /** Ends it politely; its socket may take a while. */
  shutDown(): void;
}

/**
 * Starts a door on one port: TLS if `options.tls` is given, plain otherwise; its address is labelled `name`, or that with
 * an s. `accept` lets one peer in, and has `onEnded` called when the socket is gone. Rejects with ListenError.
 */
export async function startSocketGateway(
  name: string,
  options: ListenerSettings,
  accept: (transport: Transport, onEnded: () => void) => SocketConnection,
): Promise<Gateway> {
  const connections = new Set<SocketConnection>();
  const listener = await listen({
    ...withListenerDefaults(options),
    receives: true,
    onConnection(transport) {
      const connection = accept(transport, () => connections.delete(connection));
      connections.add(connection);
    },
  });
  const stopAccepting = (): void => listener.stopAccepting();
  return {
    name,
    addresses: [{ label: options.tls === undefined ? name : `${name}s`, ...listener.address }],
    stopAccepting,
    async close() {
      stopAccepting();
      for (const connection of connections) connection.shutDown();
      await listener.close();
    },
  };
}
