/**
 * A Warren in this process with its STOMP door on a free port, and a bystander on another connection who notices nothing
 * of what others do wrong.
 */
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { type BrokerOptions, createBroker } from '../../../broker/broker.ts';
import type { Broker, Connection } from '../../../broker/port.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { type StompGatewayOptions, startStompGateway } from '../../../gateways/stomp/gateway.ts';
import { type Headers, RawStomp } from '../../support/raw-stomp.ts';

export interface StompScene {
  readonly broker: Broker;
  readonly port: number;
  /** A program of its own in the broker, for what a STOMP client cannot see. */
  readonly program: Connection;
  /** A name that no other test uses. */
  fresh(name: string): string;
  /** A TCP connection on which nothing has been said. Dropped after the test. */
  dial(): Promise<RawStomp>;
  /** A connection after CONNECTED. */
  connect(headers?: Headers): Promise<RawStomp>;
  /** Messages ready in a queue; undefined when there is none of that name. */
  ready(queue: string): Promise<number | undefined>;
  /** Messages delivered and not settled. */
  unacked(queue: string): Promise<number | undefined>;
}

interface SceneOptions {
  readonly broker?: BrokerOptions;
  readonly stomp?: Partial<StompGatewayOptions>;
}

/** Starts it for the tests of this file and ends it after them. Call once, at the top of the file. */
export function useStomp(options: SceneOptions = {}): StompScene {
  let broker: Broker | undefined;
  let program: Connection | undefined;
  let port = 0;
  let bystander: RawStomp | undefined;
  let close = async (): Promise<void> => {};
  let names = 0;
  const opened: RawStomp[] = [];
  beforeAll(async () => {
    const started = await createBroker(options.broker);
    broker = started;
    program = await started.connect();
    const gateway = await startStompGateway(started, {
      host: '127.0.0.1',
      port: 0,
      connectionsMax: 1000,
      handshakeTimeoutMs: 5000,
      log: SILENT_LOG,
      ...options.stomp,
    });
    port = gateway.addresses[0]?.port ?? 0;
    close = async () => {
      await started.close();
      await gateway.close();
    };
    if (options.stomp?.tls !== undefined) return;
    bystander = await RawStomp.open(port);
    expect((await bystander.login()).command).toBe('CONNECTED');
    await bystander.call('SUBSCRIBE', { id: 0, destination: '/queue/bystander' });
  });
  afterEach(async () => {
    for (const client of opened.splice(0)) client.destroy();
    if (bystander === undefined) return;
    bystander.send('SEND', { destination: '/queue/bystander' }, 'still here');
    expect((await bystander.next()).body).toBe('still here');
  });
  afterAll(async () => {
    bystander?.destroy();
    await close();
  });
  const running = (): Broker => {
    if (broker === undefined) throw new Error('not started yet');
    return broker;
  };
  const view = async (queue: string) => {
    const { queues } = await running().snapshot('/');
    return queues.find(({ name }) => name === queue);
  };
  const scene: StompScene = {
    get broker() {
      return running();
    },
    get port() {
      return port;
    },
    get program() {
      if (program === undefined) throw new Error('not started yet');
      return program;
    },
    fresh(name) {
      names += 1;
      return `${name}-${names}`;
    },
    async dial() {
      const client = await RawStomp.open(port);
      opened.push(client);
      return client;
    },
    async connect(headers) {
      const client = await scene.dial();
      const answer = await client.login(headers);
      expect(answer.command, answer.body).toBe('CONNECTED');
      return client;
    },
    ready: async (queue) => (await view(queue))?.messagesReady,
    unacked: async (queue) => (await view(queue))?.messagesUnacked,
  };
  return scene;
}
