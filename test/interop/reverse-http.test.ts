/** The reverse-HTTP door with clients that others wrote: npm's `reverse-http` as a server, amqplib as a server. */
import type { RequestListener, Server } from 'node:http';
import { createRequire } from 'node:module';
import { type ChannelModel, connect } from 'amqplib';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { startAmqpGateway } from '../../gateways/amqp/gateway.ts';
import type { Gateway } from '../../gateways/gateway.ts';
import { answer, GUEST, poll, Scene } from '../gateways/reverse-http/scene.ts';
import { eventually } from '../support/eventually.ts';
import { LISTENER } from './clients.ts';

interface ReverseServerOptions {
  readonly hostname: string;
  readonly port: number;
  readonly path: string;
  readonly headers: Record<string, string>;
}

type ReverseHttp = (options: ReverseServerOptions, onRequest: RequestListener) => Server & { destroy(): void };

const reverseHttp = createRequire(import.meta.url)('reverse-http') as ReverseHttp;

let scene: Scene;
let amqp: Gateway;
const ends: (() => unknown)[] = [];

beforeEach(async () => {
  scene = await Scene.open();
  amqp = await startAmqpGateway(scene.broker, { ...LISTENER, port: 0 });
});

afterEach(async () => {
  for (const end of ends.splice(0)) await end();
  await amqp.close();
  await scene.close();
});

function serve(name: string, listener: RequestListener): void {
  const server = reverseHttp(
    { hostname: '127.0.0.1', port: scene.port, path: `/reversehttp/${name}`, headers: { ...GUEST } },
    listener,
  );
  server.on('error', () => {});
  ends.push(() => server.destroy());
}

async function dialAmqp(): Promise<ChannelModel> {
  const connection = await connect(`amqp://guest:guest@${LISTENER.host}:${amqp.addresses[0]?.port}`);
  ends.push(() => connection.close());
  return connection;
}

it('reverse-http serves, one request after another, and comes back when its connection ends', async () => {
  let count = 0;
  serve('fruit', (request, response) => {
    count += 1;
    if (request.url?.endsWith('/bye')) response.setHeader('Connection', 'close');
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => response.end(`${request.method} ${request.url} ${body} ${count}`));
  });
  const ask = async (path: string, init?: RequestInit) => (await scene.fetch(`/http/fruit${path}`, init)).text();
  await eventually(async () => expect((await scene.overview()).slots).toBe(1));
  expect(await ask('/a')).toBe('GET /http/fruit/a  1');
  expect(await ask('/b', { method: 'POST', body: 'pear' })).toBe('POST /http/fruit/b pear 2');
  expect(await ask('/bye')).toContain('3');
  await eventually(async () => expect(await ask('/again')).toMatch(/^GET \/http\/fruit\/again/));
});

it('amqplib serves by consuming, and shares the load with a poller and with reverse-http', async () => {
  const { first } = await scene.claim({ name: 'foo', token: 't' });
  serve('foo', (_request, response) => response.end('reverse-http'));
  const channel = await (await dialAmqp()).createChannel();
  await channel.prefetch(1);
  await channel.consume('rhttp.foo', (message) => {
    if (message === null) return;
    const { replyTo, correlationId, contentType } = message.properties;
    expect(contentType).toBe('message/http');
    expect(message.content.toString()).toMatch(/^GET \/http\/foo\/ HTTP\/1\.1\r\n/);
    channel.sendToQueue(replyTo, Buffer.from(answer('amqplib')), { correlationId });
    channel.ack(message);
  });
  const polled = poll(scene, first, () => answer('poller'));
  await eventually(async () => expect((await scene.overview()).slots).toBe(2));
  const texts: string[] = [];
  for (let count = 0; count < 12; count += 1) texts.push(await (await scene.fetch('/http/foo/')).text());
  await polled;
  expect(new Set(texts)).toEqual(new Set(['amqplib', 'poller', 'reverse-http']));
});

it('amqplib asks like a visitor', async () => {
  serve('foo', (request, response) => response.end(`hello ${request.headers['x-from']}`));
  await eventually(async () => expect((await scene.overview()).slots).toBe(1));
  const channel = await (await dialAmqp()).createChannel();
  const replied = new Promise<string>((resolve) => {
    void channel.consume('amq.rabbitmq.reply-to', (message) => resolve(String(message?.content)), { noAck: true });
  });
  const request = 'GET /greeting HTTP/1.1\r\nHost: foo\r\nX-From: amqplib\r\n\r\n';
  channel.publish('amq.rhttp', 'foo', Buffer.from(request), { replyTo: 'amq.rabbitmq.reply-to', correlationId: '1' });
  expect(await replied).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*Content-Length: 13\r\n\r\nhello amqplib$/);
});
