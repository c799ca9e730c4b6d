/** Applications of the tests: `node:http` and `node:http2` servers on connections that they have opened themselves. */
import { once } from 'node:events';
import { createServer, type RequestListener, request, type Server } from 'node:http';
import { createServer as createHttp2Server, type Http2Server, type ServerOptions } from 'node:http2';
import type { Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { GUEST, type Scene } from './scene.ts';

/** Opens a connection for the claim `name` and turns it round. Answers the socket, and the fields of the 101. */
export async function turnRound(
  scene: Scene,
  path: string,
  headers: Record<string, string>,
  method = 'POST',
): Promise<{ socket: Socket; headers: NodeJS.Dict<string | string[]> }> {
  const asking = request({
    port: scene.port,
    method,
    path,
    headers: { Connection: 'Upgrade', ...GUEST, ...headers },
  });
  asking.end();
  const refused = once(asking, 'response').then(([response]) => {
    throw new Error(`refused with ${response.statusCode}`);
  });
  const [response, socket, head] = await Promise.race([once(asking, 'upgrade'), refused]);
  socket.on('error', () => {});
  // HTTP/2 begins at once.
  if (head.length > 0) socket.unshift(head);
  return { socket, headers: response.headers };
}

/** Serves HTTP/1.1 on a connection. */
export function serve1(socket: Socket, listener: RequestListener): Server {
  const server = createServer({ keepAliveTimeout: 0 }, listener);
  server.emit('connection', socket);
  return server;
}

/** Serves HTTP/2 on a connection. */
export function serve2(
  socket: Socket,
  listener: Parameters<typeof createHttp2Server>[1],
  options: ServerOptions = {},
): Http2Server {
  const server = createHttp2Server(options, listener);
  server.on('sessionError', () => {});
  server.emit('connection', socket);
  return server;
}

/** An HTTP/1.1 application of the oldest kind. */
export async function ptthApplication(scene: Scene, name: string, listener: RequestListener): Promise<Socket> {
  const { socket } = await turnRound(scene, `/reversehttp/${name}`, { Upgrade: 'PTTH/1.0' });
  serve1(socket, listener);
  return socket;
}

/** An HTTP/2 application. */
export async function http2Application(
  scene: Scene,
  name: string,
  listener: Parameters<typeof createHttp2Server>[1],
  options: ServerOptions = {},
): Promise<Socket> {
  const { socket } = await turnRound(scene, `/reversehttp/${name}`, { Upgrade: 'ptth', ALPN: 'h2' }, 'GET');
  serve2(socket, listener, options);
  return socket;
}

/** A TLS connection with a reversed protocol, or with any. */
export async function dialTls(scene: Scene, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connectTls({ port: scene.port, host: '127.0.0.1', ...options });
  socket.on('error', () => {});
  await once(socket, 'secureConnect');
  return socket;
}
