/**
 * For tests of what no well-behaved client sends: a guilty peer, and a bystander on another connection who notices
 * nothing. Limits are small, so that they are met soon.
 */
import { connect, type Socket } from 'node:net';
import { afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type BrokerUnderTest, useBroker } from '../../support/broker-under-test.ts';
import { eventually } from '../../support/eventually.ts';
import { RawConnection } from '../../support/raw-amqp.ts';
import type { RawChannel, Refusal } from '../../support/raw-channel.ts';
import { frame, methodFrame } from '../../support/raw-frames.ts';
import { type LogLine, recordedLog } from '../../support/recorded-log.ts';

export const BODY_BYTES_MAX = 1_000_000;

/** A publish on channel 1 that leads nowhere; its content must follow. */
export const publish = methodFrame(1, 'basic.publish', { routingKey: 'nowhere' });
/** A body frame on channel 1. */
export const body = (text: string): Buffer => frame(3, 1, Buffer.from(text));

/** `octets` with another last octet. */
export function damaged(octets: Buffer): Buffer {
  const copy = Buffer.from(octets);
  copy[copy.length - 1] = 0;
  return copy;
}

export interface Scene {
  readonly broker: BrokerUnderTest;
  readonly lines: readonly LogLine[];
  /** Whatever happens to others, this one goes on; made sure of after each test. */
  bystander: RawChannel;
  guilty: RawConnection;
  /** Channel 1 of the guilty one. */
  channel: RawChannel;
  /** The guilty one sends octets; answers how the broker refused them. */
  refusal(...octets: Uint8Array[]): Promise<Refusal>;
  /** Is there a queue of that name? */
  exists(queue: string): Promise<boolean>;
  connectionCount(): Promise<number>;
  /** A socket that has opened a connection and channel 1, and then does nothing of what a client does. */
  openSocket(): Promise<Socket>;
}

/** Call once, at the top of the file. */
export function useScene(): Scene {
  const { log, lines } = recordedLog();
  const broker = useBroker({
    broker: { bodyBytesMax: BODY_BYTES_MAX },
    amqp: {
      log,
      bodyBytesMax: BODY_BYTES_MAX,
      handshakeTimeoutMs: 300,
      closeTimeoutMs: 300,
      loginRefusalDelayMs: 50,
      outbox: { highWaterBytes: 100_000, stuckBytes: 300_000 },
    },
  });
  const nobody = undefined as never;
  const scene: Scene = {
    ...{ broker, lines, bystander: nobody, guilty: nobody, channel: nobody },
    refusal(...octets) {
      scene.guilty.write(Buffer.concat(octets));
      return scene.channel.closed();
    },
    async exists(queue) {
      const { queues } = await broker.embedded.snapshot('/');
      return queues.some((view) => view.name === queue);
    },
    connectionCount: async () => (await broker.embedded.administration.connections()).length,
    openSocket: () => openSocket(broker),
  };
  beforeAll(async () => {
    const connection = await RawConnection.connect(broker);
    await connection.handshake();
    scene.bystander = await connection.openChannel();
    return () => connection.close();
  });
  beforeEach(async () => {
    scene.guilty = await broker.connect();
    scene.channel = await scene.guilty.openChannel();
  });
  afterEach(async () => {
    expect(await scene.bystander.call('basic.qos')).toEqual({});
  });
  return scene;
}

async function openSocket(broker: BrokerUnderTest): Promise<Socket> {
  const socket = connect(broker.port, broker.host);
  const answers: Buffer[] = [];
  socket.on('data', (chunk) => answers.push(chunk));
  socket.on('error', () => {});
  socket.write(
    Buffer.concat([
      Buffer.from('AMQP\0\0\x09\x01'),
      methodFrame(0, 'connection.start-ok', { mechanism: 'PLAIN', response: '\0guest\0guest' }),
      methodFrame(0, 'connection.tune-ok', { channelMax: 100, frameMax: 131072 }),
      methodFrame(0, 'connection.open', { virtualHost: '/' }),
      methodFrame(1, 'channel.open'),
    ]),
  );
  await eventually(() => expect(Buffer.concat(answers).includes(Buffer.from([0, 20, 0, 11]))).toBe(true));
  return socket;
}
