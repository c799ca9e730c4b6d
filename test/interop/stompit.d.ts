/** As much of stompit 1.0, which brings no types, as the tests use. */
declare module 'stompit' {
  import type { EventEmitter } from 'node:events';
  import type { Readable, Writable } from 'node:stream';

  type Headers = Record<string, string | number | boolean>;
  type Callback = (error: Error | null) => void;

  interface Message extends Readable {
    readonly headers: Record<string, string>;
    readString(encoding: string, callback: (error: Error | null, text: string) => void): void;
  }
  interface Subscription {
    unsubscribe(): void;
  }
  interface Transaction {
    send(headers: Headers): Writable;
    ack(message: Message): void;
    commit(options?: { onReceipt?: () => void }): void;
    abort(options?: { onReceipt?: () => void }): void;
  }
  interface Client extends EventEmitter {
    readonly headers: Record<string, string>;
    send(headers: Headers, options?: { onReceipt?: () => void; onError?: (error: Error) => void }): Writable;
    subscribe(headers: Headers, listener: (error: Error | null, message: Message) => void): Subscription;
    ack(message: Message): void;
    nack(message: Message): void;
    begin(): Transaction;
    disconnect(callback?: Callback): void;
    destroy(error?: Error): void;
  }
  interface Channel {
    send(headers: Headers, body: string, callback: Callback): void;
    subscribe(
      headers: Headers,
      listener: (error: Error | null, message: Message, subscription: Subscription) => void,
    ): Subscription;
    ack(message: Message): void;
    close(callback?: Callback): void;
  }
  interface Server {
    host: string;
    port: number;
    ssl?: boolean;
    connectHeaders?: Headers;
  }

  export function connect(options: Server, callback: (error: Error | null, client: Client) => void): Client;
  export class ConnectFailover extends EventEmitter {
    constructor(servers: Server[], options?: { initialReconnectDelay?: number; maxReconnects?: number });
    connect(callback: (error: Error | null, client: Client) => void): unknown;
  }
  export class ChannelPool {
    constructor(servers: ConnectFailover);
    channel(callback: (error: Error | null, channel: Channel) => void): void;
    close(): void;
  }
}
