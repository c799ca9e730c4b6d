import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { AMQPWebSocketClient } from '@cloudamqp/amqp-client';
import { type ChannelModel, type ConsumeMessage, connect } from 'amqplib';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { SIGNAL_ECHO_MS } from '../../../gateways/process-end.ts';
import { eventually } from '../../support/eventually.ts';
import { WarrenProcess, type WarrenProcessOptions } from '../../support/warren-process.ts';

const processes: WarrenProcess[] = [];

afterEach(() => Promise.all(processes.splice(0).map((warren) => warren.stop())));

async function start(options?: WarrenProcessOptions): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start(options);
  processes.push(warren);
  return warren;
}

/** A connection, and the error with which it will be closed. */
async function dial(warren: WarrenProcess): Promise<{ connection: ChannelModel; closed: Promise<Error> }> {
  const connection = await connect(warren.amqpUrl);
  connection.on('error', () => {});
  const closed = new Promise<Error>((resolve) => connection.once('close', resolve));
  return { connection, closed };
}

describe('a shutdown', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('closes connections with 320 and ends with 0: %s', async (signal) => {
    const warren = await start();
    const { closed } = await dial(warren);
    warren.child.kill(signal);
    expect((await closed).message).toMatch(/320 \(CONNECTION-FORCED\)/);
    expect(await warren.exited).toEqual({ code: 0, signal: null });
    expect(warren.log.map(({ msg }) => msg)).toEqual(
      expect.arrayContaining(['shutting down; a second signal ends it at once', 'ended']),
    );
  });

  it('comes when npm is told, whose shell hands no signal on', async () => {
    const warren = await start({ throughShell: true, environment: { npm_lifecycle_event: 'start' } });
    const { closed } = await dial(warren);
    warren.child.kill('SIGTERM');
    expect((await closed).message).toMatch(/320 \(CONNECTION-FORCED\)/);
    await warren.exited;
    expect(warren.log.map(({ msg }) => msg)).toContain('ended');
  });

  it('cancels consumers, refuses new connections, and waits for the acks of what they hold', async () => {
    const warren = await start({ flags: ['--shutdown-grace-seconds=60'] });
    const { connection, closed } = await dial(warren);
    const channel = await connection.createChannel();
    await channel.assertQueue('tasks');
    const received: (ConsumeMessage | null)[] = [];
    await channel.consume('tasks', (message) => received.push(message));
    channel.sendToQueue('tasks', Buffer.from('work'));
    await eventually(() => expect(received).toHaveLength(1));
    warren.child.kill('SIGTERM');
    await eventually(() => expect(received[1]).toBeNull());
    await expect(connect(warren.amqpUrl)).rejects.toThrow('ECONNREFUSED');
    expect(warren.child.exitCode).toBeNull();
    if (received[0]) channel.ack(received[0]);
    expect((await closed).message).toMatch(/320/);
    expect(await warren.exited).toEqual({ code: 0, signal: null });
  });

  it('does not wait longer than it was told to', async () => {
    const warren = await start({ flags: ['--shutdown-grace-seconds=0'] });
    const { connection, closed } = await dial(warren);
    const channel = await connection.createChannel();
    await channel.assertQueue('tasks');
    const received: unknown[] = [];
    await channel.consume('tasks', (message) => received.push(message));
    channel.sendToQueue('tasks', Buffer.from('work'));
    await eventually(() => expect(received).toHaveLength(1));
    warren.child.kill('SIGTERM');
    expect((await closed).message).toMatch(/320/);
    expect(await warren.exited).toEqual({ code: 0, signal: null });
  });

  it('ends at once at a second signal, but not at the echo of the first one', async () => {
    const warren = await start({ flags: ['--shutdown-grace-seconds=60'] });
    const { connection, closed } = await dial(warren);
    const channel = await connection.createChannel();
    await channel.assertQueue('tasks');
    const received: unknown[] = [];
    await channel.consume('tasks', (message) => received.push(message));
    channel.sendToQueue('tasks', Buffer.from('work'));
    await eventually(() => expect(received).toHaveLength(1));
    warren.child.kill('SIGINT');
    warren.child.kill('SIGINT');
    await eventually(() => expect(received[1]).toBeNull());
    const told = performance.now();
    await eventually(() => expect(performance.now() - told).toBeGreaterThan(SIGNAL_ECHO_MS));
    expect(warren.child.exitCode).toBeNull();
    warren.child.kill('SIGINT');
    expect(await warren.exited).toEqual({ code: 1, signal: null });
    expect(warren.log.at(-1)).toMatchObject({ msg: 'ended at once: what was not acked is lost or delivered again' });
    await closed;
  });

  it('closes connections over WebSocket with 320 too', async () => {
    const warren = await start();
    Object.assign(globalThis, { WebSocket: globalThis.WebSocket ?? WebSocket }); // Node has one from 22 on.
    const client = new AMQPWebSocketClient(`ws://127.0.0.1:${warren.door('ws').port}/ws`);
    const closed = new Promise((resolve) => {
      client.onerror = resolve;
    });
    await client.connect();
    warren.child.kill('SIGTERM');
    expect(String(await closed)).toContain('320');
    expect(await warren.exited).toEqual({ code: 0, signal: null });
  });

  it('says goodbye to WebSockets that have not logged in, and does not wait for peers that say nothing', async () => {
    const warren = await start();
    const webSocket = new WebSocket(`ws://127.0.0.1:${warren.door('ws').port}/ws`);
    await once(webSocket, 'open');
    const gone = once(webSocket, 'close');
    warren.child.kill('SIGTERM');
    expect([1000, 1001]).toContain((await gone)[0]);
    expect(await warren.exited).toEqual({ code: 0, signal: null });
  });
});

describe('a fault', () => {
  it('does not come from a reader of standard output or the log that has gone', async () => {
    const warren = await start({ flags: ['--log-level=debug'] });
    warren.child.stdout?.destroy();
    warren.child.stderr?.destroy();
    for (let i = 0; i < 3; i += 1) {
      const { connection } = await dial(warren);
      await connection.close();
    }
    expect(warren.child.exitCode).toBeNull();
  });

  it.runIf(existsSync('/dev/full'))('waits for no log that cannot be written', async () => {
    const full = openSync('/dev/full', 'w');
    const off = ['--stomp-port=off', '--xmpp-port=off', '--http-port=off', '--data-dir=none'];
    const child = spawn(process.execPath, ['dist/gateways/main.js', '--amqp-port=0', ...off], {
      stdio: ['ignore', 'pipe', full],
    });
    closeSync(full);
    const exited = once(child, 'exit');
    try {
      for await (const text of child.stdout ?? []) if (String(text).includes('startup complete')) break;
      child.kill('SIGTERM');
      expect(await exited).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
