/** The AMQP door before an engine that is late, or broken: what becomes of the channel, the connection, the others. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { ChannelEvents, ConsumerEvents, Got } from '../../../broker/port.ts';
import { startAmqpGateway } from '../../../gateways/amqp/gateway.ts';
import { type Deviation, deviating } from '../../support/engine-in-between.ts';
import { eventually } from '../../support/eventually.ts';
import { RawConnection } from '../../support/raw-amqp.ts';
import { closesConnection, type RawChannel } from '../../support/raw-channel.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const MESSAGE = createMessage({ exchange: '', routingKey: 'late', body: 'late' });
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Two connections with a channel each to a door before such an engine. */
async function scene(deviation: Deviation) {
  const broker = await createBroker();
  const { log, lines } = recordedLog();
  const gateway = await startAmqpGateway(deviating(broker, deviation), {
    ...{ host: '127.0.0.1', port: 0, connectionsMax: 10, handshakeTimeoutMs: 1000, log },
    closeTimeoutMs: 100,
  });
  closing.push(
    () => broker.close(),
    () => gateway.close(),
  );
  const dial = async (): Promise<RawConnection> => {
    const connection = await RawConnection.connect(gateway.addresses[0] ?? { host: '', port: 0 });
    closing.push(() => connection.destroy());
    await connection.handshake();
    return connection;
  };
  const connection = await dial();
  const channel = await connection.openChannel();
  const bystander = await (await dial()).openChannel();
  return { broker, connection, channel, bystander, lines };
}

/** Ends the channel by an error. */
async function refuse(channel: RawChannel): Promise<void> {
  expect(await channel.refused('basic.ack', { deliveryTag: 9 })).toMatchObject({ scope: 'channel', code: 406 });
}

/** Nothing has come on `channel` although another one of its connection has been answered since. */
async function expectSilence(connection: RawConnection, channel: RawChannel): Promise<void> {
  const other = await connection.openChannel();
  await other.call('basic.qos');
  await other.call('basic.qos');
  expect(channel.pending).toEqual([]);
}

describe('on a channel that has been closed nothing is written any more', () => {
  it.each<[string, (events: Partial<ChannelEvents>) => void]>([
    ['a confirm', (events) => events.onConfirm?.(1, false, true)],
    ['a confirm out of order', (events) => events.onConfirm?.(7, false, true)],
    ['a refusal', (events) => events.onConfirm?.(1, false, false)],
    ['a return', (events) => events.onReturn?.(MESSAGE)],
  ])('%s', async (_name, late) => {
    const known: Partial<ChannelEvents>[] = [];
    const { connection, channel } = await scene((_channel, events) => {
      known.push(events);
      return {};
    });
    await refuse(channel);
    if (known[0] === undefined) throw new Error('no channel was opened');
    late(known[0]);
    await expectSilence(connection, channel);
  });

  it('a delivery', async () => {
    const consumers: ConsumerEvents[] = [];
    const { connection, channel } = await scene((real) => ({
      consume(spec, events) {
        consumers.push(events);
        return real.consume(spec, events);
      },
    }));
    await channel.consume(await channel.queue('late'));
    await refuse(channel);
    consumers[0]?.onDeliver?.(MESSAGE, 1, false);
    await expectSilence(connection, channel);
  });

  it('the answer of a basic.get', async () => {
    let answer: ((got: Got) => void) | undefined;
    const consumers: ConsumerEvents[] = [];
    const { connection, channel } = await scene((real) => ({
      consume(spec, events) {
        consumers.push(events);
        return real.consume(spec, events);
      },
      get: () =>
        new Promise((resolve) => {
          answer = resolve;
        }),
    }));
    const queue = await channel.queue('late');
    await channel.consume(queue);
    channel.send('basic.get', { queue });
    await eventually(() => expect(answer).toBeDefined());
    // This client has not said that it understands basic.cancel, so the timeout of a consumer ends its channel.
    consumers[0]?.onCancel?.('timeout', 'too late');
    expect(await channel.closed()).toMatchObject({ scope: 'channel', code: 406 });
    answer?.({ message: MESSAGE, deliveryTag: 1, redelivered: false, messageCount: 0 });
    await expectSilence(connection, channel);
  });
});

describe('a defect', () => {
  it.each<[string, Deviation, string]>([
    ['of a control method', () => ({ declareQueue: () => Promise.reject(new TypeError('planted')) }), 'queue.declare'],
    [
      'of a publish',
      () => ({
        publish() {
          throw new TypeError('planted');
        },
      }),
      'basic.publish',
    ],
  ])('%s is 541 to the peer, and in the log with its stack', async (_name, deviation, method) => {
    const { channel, bystander, lines } = await scene(deviation);
    if (method === 'basic.publish') channel.publish('', 'q', 'x');
    else channel.send(method, { queue: 'q' });
    expect(await channel.closed()).toEqual(closesConnection(541, 'INTERNAL_ERROR', method));
    const [line] = lines.filter(({ level }) => level === 'error');
    expect(line?.fields.err).toMatchObject({ message: 'planted', stack: expect.stringContaining('engine.test.ts') });
    expect(await bystander.call('basic.qos')).toEqual({});
  });

  it('that keeps a channel from being closed ends its connection, and no other', async () => {
    const { connection, channel, bystander, lines } = await scene(() => ({
      close() {
        throw new TypeError('planted');
      },
    }));
    await refuse(channel);
    expect(await connection.control.closed()).toEqual(closesConnection(541, 'INTERNAL_ERROR', 'basic.ack'));
    expect(lines.filter(({ level }) => level === 'error')).toHaveLength(1);
    expect(await bystander.call('basic.qos')).toEqual({});
  });

  it.each(['publish', 'declareQueue'])('that breaks an invariant ends the process: in %s', async (verb) => {
    const script = fileURLToPath(new URL('broken-session.ts', import.meta.url));
    const { code, stdout } = await new Promise<{ code: unknown; stdout: string }>((resolve) => {
      execFile(process.execPath, ['--import', 'tsx', script, verb], (error, printed) =>
        resolve({ code: error?.code ?? 0, stdout: printed }),
      );
    });
    expect(stdout).toBe('a fault in the broker; it ends here rather than go on wrong: broken invariant: planted\n');
    expect(code).toBe(1);
  });
});

describe('the log', () => {
  it('tells at info why a channel was closed', async () => {
    const { channel, lines } = await scene(() => ({}));
    await refuse(channel);
    expect(lines.filter(({ level }) => level !== 'debug')).toEqual([
      {
        level: 'info',
        fields: { peer: expect.stringMatching(/^127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+$/), channel: 1, code: 406 },
        message: 'closing a channel: PRECONDITION_FAILED - unknown delivery tag 9',
      },
    ]);
  });

  it('warns when a connection is closed for what its peer did, not when somebody here ends it', async () => {
    const { broker, channel, bystander, connection, lines } = await scene(() => ({}));
    await channel.refused('basic.qos', { prefetchSize: 1 });
    await connection.untilEnded();
    await broker.close();
    await bystander.closed();
    expect(lines.filter(({ level }) => level !== 'debug').map(({ level, fields }) => [level, fields.code])).toEqual([
      ['warn', 540],
      ['info', 320],
    ]);
  });
});
