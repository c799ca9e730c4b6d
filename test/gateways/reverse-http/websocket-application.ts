/** Applications of the tests that take WebSockets on reversed connections, and visitors who open them: `ws` at both ends. */
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import { type ClientOptions, WebSocket, WebSocketServer } from 'ws';
import { eventually } from '../../support/eventually.ts';
import { turnRound } from './application.ts';
import type { Scene } from './scene.ts';

/** What the last request was that became a WebSocket; over HTTP/2, its fields. */
export const last: { asked: IncomingMessage | undefined; headers: NodeJS.Dict<string | string[]> } = {
  asked: undefined,
  headers: {},
};

export const echo = (webSocket: WebSocket, message?: IncomingMessage): void => {
  last.asked = message;
  webSocket.on('error', () => {});
  webSocket.on('message', (data, isBinary) => webSocket.send(data, { binary: isBinary }));
};

/** An application on a reversed HTTP/1.1 connection that takes WebSockets, and answers everything else. */
export async function webSocketApplication(
  scene: Scene,
  upgrade: Record<string, string> = { Upgrade: 'PTTH/1.0' },
  options: { readonly perMessageDeflate?: boolean; readonly protocols?: readonly string[] } = {},
): Promise<Socket> {
  const { socket } = await turnRound(scene, '/reversehttp/foo', upgrade, 'GET');
  const server = createServer({ keepAliveTimeout: 0 }, (message, response) => response.end(`plain ${message.url}`));
  const { protocols, perMessageDeflate = false } = options;
  const webSockets = new WebSocketServer({
    server,
    perMessageDeflate,
    ...(protocols && { handleProtocols: (offered) => [...offered].find((one) => protocols.includes(one)) ?? false }),
    verifyClient: ({ req }, decide) => decide(!req.url?.includes('/no'), 403, 'not this one', { 'X-Why': 'because' }),
  });
  webSockets.on('connection', echo);
  server.emit('connection', socket);
  return socket;
}

/** The same on HTTP/2, by extended CONNECT [RFC 8441]. */
export async function http2WebSocketApplication(
  scene: Scene,
  settings = { enableConnectProtocol: true },
): Promise<Socket> {
  const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'ptth', ALPN: 'h2' }, 'GET');
  const server = createHttp2Server({ settings });
  server.on('sessionError', () => {});
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {});
    if (headers[':method'] !== 'CONNECT') {
      stream.respond({ ':status': 200 });
      stream.end(`plain ${headers[':path']}`);
      return;
    }
    if (headers[':path']?.includes('/no')) {
      stream.respond({ ':status': 403, 'x-why': 'because' });
      stream.end('not this one');
      return;
    }
    last.headers = headers;
    stream.respond({ ':status': 200 });
    adopt(stream);
  });
  server.emit('connection', socket);
  await eventually(async () => expect((await scene.overview()).slots).toBeGreaterThan(0));
  return socket;
}

/** The server's side of a WebSocket whose handshake is over: what `ws` itself does after its own. */
function adopt(stream: Duplex): void {
  const Adopting = WebSocket as unknown as new (address: null, protocols: undefined, options: object) => WebSocket;
  const webSocket = new Adopting(null, undefined, {});
  const socket = Object.assign(stream, { setTimeout: () => {}, setNoDelay: () => {} });
  const settings = { allowSynchronousEvents: true, maxPayload: 1 << 28, skipUTF8Validation: false };
  (webSocket as unknown as { setSocket(...args: unknown[]): void }).setSocket(socket, Buffer.alloc(0), settings);
  echo(webSocket);
}

export function visit(
  scene: Scene,
  path = '/http/foo/chat?x=1',
  options: ClientOptions = {},
  protocols: string[] = [],
): WebSocket {
  const webSocket = new WebSocket(`ws://127.0.0.1:${scene.port}${path}`, protocols, options);
  webSocket.on('error', () => {});
  return webSocket;
}

/** How the door, or the application, refuses a WebSocket. */
export async function refusal(webSocket: WebSocket): Promise<{ status: number; body: string; why: unknown }> {
  const [, response] = (await once(webSocket, 'unexpected-response')) as [unknown, IncomingMessage];
  return { status: response.statusCode ?? 0, body: await text(response), why: response.headers['x-why'] };
}

export async function said(webSocket: WebSocket, ...messages: (string | Buffer)[]): Promise<string[]> {
  if (webSocket.readyState !== WebSocket.OPEN) await once(webSocket, 'open');
  const heard: string[] = [];
  const all = new Promise<void>((resolve) => {
    webSocket.on('message', (data) => {
      heard.push(String(data));
      if (heard.length === messages.length) resolve();
    });
  });
  for (const message of messages) webSocket.send(message);
  await all;
  return heard;
}
