/** The STOMP door as `warren` opens it: its port, its options, its place on the WebSocket port. */
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { RawStomp, stompFrame } from '../../support/raw-stomp.ts';
import { WarrenProcess } from '../../support/warren-process.ts';

const started: WarrenProcess[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((warren) => warren.stop()));
});

async function start(...flags: string[]): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start({ flags });
  started.push(warren);
  return warren;
}

it('speaks STOMP on a port of its own, and on that of WebSockets', async () => {
  const warren = await start();
  expect(warren.door('stomp').tryCommand).toContain('CONNECT');
  const client = await RawStomp.open(warren.door('stomp').port);
  expect((await client.login()).headers.server).toMatch(/^Warren\/\d+\.\d+\.\d+/);
  client.destroy();
  const socket = new WebSocket(`ws://127.0.0.1:${warren.door('ws').port}/ws`, 'v12.stomp');
  await once(socket, 'open');
  socket.send(stompFrame('CONNECT', { 'accept-version': '1.2', login: 'guest', passcode: 'guest' }));
  const [answer] = await once(socket, 'message');
  expect(String(answer)).toMatch(/^CONNECTED\n/);
  socket.terminate();
});

it('takes its options', async () => {
  const warren = await start(
    '--stomp-default-user=guest',
    '--stomp-default-pass=guest',
    '--stomp-implicit-connect=on',
    '--stomp-frame-bytes-max=2000',
    '--stomp-topic-exchange=amq.fanout',
    '--stomp-nack-requeue=off',
  );
  const client = await RawStomp.open(warren.door('stomp').port);
  await client.call('SUBSCRIBE', { destination: '/topic/anything', ack: 'client' });
  client.send('SEND', { destination: '/topic/else' }, 'to all');
  const message = await client.next();
  expect(message.body).toBe('to all');
  await client.call('NACK', { 'message-id': message.headers['message-id'] ?? '' });
  expect(client.waiting).toEqual([]);
  client.send('SEND', { destination: '/topic/x' }, 'x'.repeat(2000));
  expect((await client.next()).headers.message).toBe('Frame too large');
  client.destroy();
});

it('a receipt says that a persistent message outlives the process, with its headers', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'warren-stomp-'));
  try {
    const first = await start(`--data-dir=${folder}`);
    const publisher = await RawStomp.open(first.door('stomp').port);
    await publisher.login();
    const headers = { destination: '/queue/kept', persistent: true, own: 'a\\cb', 'content-type': 'text/plain' };
    expect((await publisher.call('SEND', headers, 'still here')).command).toBe('RECEIPT');
    await first.stop();
    const second = await start(`--data-dir=${folder}`);
    const consumer = await RawStomp.open(second.door('stomp').port);
    await consumer.login();
    await consumer.call('SUBSCRIBE', { id: 1, destination: '/queue/kept' });
    expect(await consumer.next()).toMatchObject({
      command: 'MESSAGE',
      headers: { destination: '/queue/kept', persistent: 'true', own: 'a:b', 'content-type': 'text/plain' },
      body: 'still here',
    });
    for (const client of [publisher, consumer]) client.destroy();
  } finally {
    await Promise.all(started.splice(0).map((warren) => warren.stop()));
    await rm(folder, { recursive: true, force: true });
  }
});

it('says what is missing when a client may come without a name, and nobody says who that is', async () => {
  const warren = new WarrenProcess({ flags: ['--stomp-implicit-connect=on'] });
  expect(await warren.exited).toMatchObject({ code: 2 });
  expect(warren.stderr).toContain('stomp-implicit-connect (from the command line) needs stomp-default-user');
});

it('is not there when its port is off', async () => {
  const warren = await start('--stomp-port=off');
  expect(() => warren.door('stomp')).toThrow('no door');
});
