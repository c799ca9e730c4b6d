/**
 * The application behind every way in, in a process of its own: `application.ts KIND [WARREN_PORT AMQP_PORT]`. It answers
 * each request with one kilobyte, over a port of its own (`direct`), over connections that it has turned round (`ptth`,
 * `ptth-h2`), over long polls (`poll`) or as an AMQP consumer (`amqp`). Prints `ready PORT`.
 */
import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { connect } from 'amqplib';

/** Servers at a time, where one serves one request at a time. */
const SERVERS = 64;
const BODY = Buffer.alloc(1024, 'x');
const RESPONSE = Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n`), BODY]);
const AUTHORIZATION = { Authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}` };

const [kind = '', warrenPort = '0', amqpPort = '0'] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true });
const server = createServer((_request, response) => response.end(BODY));

async function turnRound(headers: Record<string, string>): Promise<Socket> {
  const asking = request({
    port: Number(warrenPort),
    method: 'POST',
    path: '/reversehttp/bench',
    headers: { Connection: 'Upgrade', ...AUTHORIZATION, ...headers },
  });
  asking.end();
  const [, socket, head] = (await once(asking, 'upgrade')) as [IncomingMessage, Socket, Buffer];
  if (head.length > 0) socket.unshift(head);
  return socket;
}

async function ask(method: string, url: string, body?: Buffer): Promise<{ link: string; status: number }> {
  const asking = request(url, { method, agent, headers: AUTHORIZATION });
  asking.end(body);
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  await buffer(response);
  return { link: String(response.headers.link), status: response.statusCode ?? 0 };
}

const relation = (link: string, name: string): string => new RegExp(`<([^>]*)>; rel="${name}"`).exec(link)?.[1] ?? '';

async function poll(): Promise<void> {
  const claim = Buffer.from('name=bench&token=t');
  const claimed = await ask('POST', `http://127.0.0.1:${warrenPort}/reversehttp`, claim);
  for (let url = relation(claimed.link, 'first'); ; ) {
    const { link, status } = await ask('GET', url);
    if (status === 200) await ask('POST', url, RESPONSE);
    url = relation(link, 'next');
  }
}

async function consume(): Promise<void> {
  const channel = await (await connect(`amqp://guest:guest@127.0.0.1:${amqpPort}`, { noDelay: true })).createChannel();
  await channel.assertQueue('rhttp.bench', { durable: false });
  await channel.bindQueue('rhttp.bench', 'amq.rhttp', 'bench');
  await channel.prefetch(SERVERS);
  await channel.consume('rhttp.bench', (message) => {
    if (message === null) return;
    const { replyTo, correlationId } = message.properties;
    channel.sendToQueue(replyTo, RESPONSE, { correlationId });
    channel.ack(message);
  });
}

switch (kind) {
  case 'direct':
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    break;
  case 'ptth':
    server.keepAliveTimeout = 0;
    for (let count = 0; count < SERVERS; count += 1)
      server.emit('connection', await turnRound({ Upgrade: 'PTTH/1.0' }));
    break;
  case 'ptth-h2': {
    const settings = { maxConcurrentStreams: SERVERS };
    const http2 = createHttp2Server({ settings }, (_request, response) => response.end(BODY));
    http2.emit('connection', await turnRound({ Upgrade: 'ptth', ALPN: 'h2' }));
    break;
  }
  case 'poll':
    for (let count = 0; count < SERVERS; count += 1) void poll();
    break;
  case 'amqp':
    await consume();
    break;
  default:
    throw new Error(`no way in is called ${kind}`);
}
console.log(`ready ${(server.address() as AddressInfo | null)?.port ?? 0}`);
