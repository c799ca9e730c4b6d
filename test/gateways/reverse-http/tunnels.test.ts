/** WebSockets, and other protocols that begin as HTTP, through public URLs: `ws` at both ends. */
import { once } from 'node:events';
import { createServer, type RequestListener, request } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import type { ReverseHttpOptions } from '../../../gateways/reverse-http/options.ts';
import { eventually } from '../../support/eventually.ts';
import { ptthApplication, turnRound } from './application.ts';
import { basic, consumerApplication, GUEST, Scene } from './scene.ts';
import {
  echo,
  http2WebSocketApplication,
  last,
  refusal,
  said,
  visit,
  webSocketApplication,
} from './websocket-application.ts';

let scene: Scene;

async function reopen(options: ReverseHttpOptions): Promise<void> {
  await scene.close();
  scene = await Scene.open({ closeTimeoutMs: 200, ...options });
}

beforeEach(async () => {
  scene = await Scene.open({ closeTimeoutMs: 200 });
});

afterEach(() => scene.close());

describe.each([
  ['PTTH/1.0', () => webSocketApplication(scene)],
  ['ptth with HTTP/1.1', () => webSocketApplication(scene, { Upgrade: 'ptth' })],
  ['ptth with HTTP/2', () => http2WebSocketApplication(scene)],
])('a WebSocket over %s', (_name, application) => {
  it('is opened, used in both directions and closed with its code', async () => {
    await application();
    const webSocket = visit(scene);
    const large = 'y'.repeat(300_000);
    expect(await said(webSocket, 'hello', large, Buffer.from('octets'))).toEqual(['hello', large, 'octets']);
    webSocket.close(4001, 'enough');
    const [code, reason] = await once(webSocket, 'close');
    expect([code, String(reason)]).toEqual([4001, 'enough']);
  });

  it('is refused by the application in its own words', async () => {
    await application();
    expect(await refusal(visit(scene, '/http/foo/no'))).toEqual({ status: 403, body: 'not this one', why: 'because' });
  });

  it('ends when either end is lost', async () => {
    const socket = await application();
    const webSocket = visit(scene);
    await said(webSocket, 'hello');
    socket.destroy();
    expect((await once(webSocket, 'close'))[0]).toBe(1006);
    await application();
    const again = visit(scene);
    await said(again, 'hello');
    again.terminate();
    await eventually(async () => expect((await scene.overview()).busy).toBe(0));
  });

  it('ends after a time of silence, and not while something is said', async () => {
    await reopen({ idleMs: 400 });
    await application();
    const webSocket = visit(scene);
    await said(webSocket, 'hello');
    const begun = performance.now();
    let count = 0;
    const timer = setInterval(() => {
      count += 1;
      webSocket.send(String(count));
      if (count === 8) clearInterval(timer);
    }, 100);
    await once(webSocket, 'close');
    expect(count).toBe(8);
    expect(performance.now() - begun).toBeGreaterThan(1150);
  });
});

describe('a WebSocket over HTTP/1.1', () => {
  it('keeps what both ends have to agree on, and tells who asks', async () => {
    await webSocketApplication(scene, undefined, { perMessageDeflate: true, protocols: ['b'] });
    const webSocket = visit(scene, '/http/foo/chat?x=1', { headers: { 'X-Own': 'yes', 'Requesting-Client': 'me' } }, [
      'a',
      'b',
    ]);
    expect(await said(webSocket, 'compressed '.repeat(200))).toHaveLength(1);
    expect([webSocket.protocol, webSocket.extensions]).toEqual(['b', 'permessage-deflate']);
    expect(last.asked?.url).toBe('/http/foo/chat?x=1');
    expect(last.asked?.headers).toMatchObject({ 'x-own': 'yes', upgrade: 'websocket', connection: 'Upgrade' });
    expect(last.asked?.headers['requesting-client']).toMatch(/^127\.0\.0\.1:\d+$/);
  });

  it('takes its connection, whose slot is busy until the end, and then is gone', async () => {
    await webSocketApplication(scene);
    const webSocket = visit(scene);
    await said(webSocket, 'hello');
    expect(await scene.overview()).toMatchObject({ slots: 1, free: 0, busy: 1 });
    webSocket.close();
    await eventually(async () => expect((await scene.overview()).slots).toBe(0));
  });

  it('waits for a connection to be free, before requests that came later', async () => {
    let finish = (): void => {};
    const slow: RequestListener = (message, response) => {
      if (message.url?.endsWith('/slow')) finish = () => response.end('slow');
      else response.end('later');
    };
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    const server = createServer({ keepAliveTimeout: 0 }, slow);
    new WebSocketServer({ server }).on('connection', echo);
    server.emit('connection', socket);
    const first = scene.fetch('/http/foo/slow');
    await eventually(async () => expect((await scene.overview()).busy).toBe(1));
    const webSocket = visit(scene);
    const opened = once(webSocket, 'open');
    const left = visit(scene);
    await eventually(() => expect(left.readyState).toBe(WebSocket.CONNECTING));
    left.terminate();
    finish();
    expect(await (await first).text()).toBe('slow');
    await opened;
    expect(await said(webSocket, 'hello')).toEqual(['hello']);
  });

  it('goes with the claim only when it is over', async () => {
    const { location } = await scene.claim({ name: 'foo' });
    await webSocketApplication(scene);
    const webSocket = visit(scene);
    await said(webSocket, 'hello');
    expect((await scene.fetch(location, { method: 'DELETE' })).status).toBe(204);
    expect(await said(webSocket, 'still here')).toEqual(['still here']);
  });

  it('is handed on under a host of its own as well', async () => {
    await reopen({ domain: 'claims.example' });
    await webSocketApplication(scene);
    const webSocket = visit(scene, '/chat', { headers: { Host: 'foo.claims.example' } });
    expect(await said(webSocket, 'hello')).toEqual(['hello']);
    expect(last.asked?.url).toBe('/chat');
  });

  it('comes after the answers to what was asked before on the same connection', async () => {
    await webSocketApplication(scene);
    await webSocketApplication(scene);
    const socket = await scene.dial(
      `GET /http/foo/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /http/foo/2 HTTP/1.1\r\nHost: x\r\n\r\n${HANDSHAKE}`,
    );
    let heard = '';
    socket.on('data', (octets: Buffer) => {
      heard += octets.toString('latin1');
    });
    await eventually(() => expect(heard).toMatch(/plain \/http\/foo\/1HTTP.*plain \/http\/foo\/2HTTP\/1\.1 101 /s));
  });

  it('has what its client was quick to say, but not without end', async () => {
    await webSocketApplication(scene);
    // A masked frame with the text "hi", before the answer.
    const frame = '\x81\x82\x00\x00\x00\x00hi';
    const socket = await scene.dial(`${HANDSHAKE}${frame}`);
    let heard = '';
    socket.on('data', (octets: Buffer) => {
      heard += octets.toString('latin1');
    });
    await eventually(() => expect(heard).toMatch(/ 101 .*\r\n\r\n..hi$/s));
    const eager = await scene.dial(HANDSHAKE);
    eager.write(Buffer.alloc(200_000));
    await new Promise((resolve) => eager.once('close', resolve));
  });
});

const HANDSHAKE =
  'GET /http/foo/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n';

describe('a WebSocket over HTTP/2', () => {
  it('has no key there, and leaves its connection to others', async () => {
    await http2WebSocketApplication(scene);
    const one = visit(scene);
    const two = visit(scene, '/http/foo/two', {}, []);
    expect(await said(one, 'hello')).toEqual(['hello']);
    expect(await said(two, 'hello')).toEqual(['hello']);
    expect(last.headers).toMatchObject({
      ':protocol': 'websocket',
      ':path': '/http/foo/two',
      'sec-websocket-version': '13',
    });
    expect(last.headers['sec-websocket-key']).toBeUndefined();
    expect(await (await scene.fetch('/http/foo/x')).text()).toBe('plain /http/foo/x');
    expect(await scene.overview()).toMatchObject({ slots: 100, busy: 2 });
  });

  it('is 501 where the application takes none, and 400 without a key', async () => {
    await http2WebSocketApplication(scene, { enableConnectProtocol: false });
    expect((await refusal(visit(scene))).status).toBe(501);
    await http2WebSocketApplication(scene);
    expect(await scene.raw(HANDSHAKE.replace(/AAAA/, 'A'))).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe('a request for another protocol', () => {
  it('is 404 where nobody has claimed, and 501 where requests are messages', async () => {
    expect((await refusal(visit(scene, '/http/nobody/'))).status).toBe(404);
    expect((await refusal(visit(scene, '/http/-/'))).status).toBe(404);
    await scene.claim({ name: 'foo' });
    await consumerApplication(scene, 'rhttp.foo', () => 'HTTP/1.1 200 OK\r\n\r\n');
    const refused = await refusal(visit(scene));
    expect(refused.status).toBe(501);
    expect(refused.body).toMatch(/nobody who serves this can change the protocol/);
  });

  it('is 504 after a while where nobody serves, and served where somebody comes in time', async () => {
    await reopen({ unavailableAfterMs: 300 });
    await scene.claim({ name: 'foo' });
    expect((await refusal(visit(scene))).status).toBe(504);
    await reopen({ unavailableAfterMs: 5000 });
    await scene.claim({ name: 'foo' });
    const webSocket = visit(scene);
    await webSocketApplication(scene);
    expect(await said(webSocket, 'hello')).toEqual(['hello']);
  });

  it('is 504 when no connection is free in time', async () => {
    await reopen({ replyTimeoutMs: 300 });
    await webSocketApplication(scene);
    await said(visit(scene), 'hello');
    expect((await refusal(visit(scene))).status).toBe(504);
  });

  it('is 503 when there are as many as allowed, until one is over', async () => {
    await reopen({ tunnelsMax: 1 });
    await webSocketApplication(scene);
    await webSocketApplication(scene);
    const only = visit(scene);
    await said(only, 'hello');
    expect((await refusal(visit(scene))).status).toBe(503);
    only.close();
    await once(only, 'close');
    await eventually(async () => expect((await scene.overview()).slots).toBe(1));
    expect(await said(visit(scene), 'hello')).toEqual(['hello']);
  });

  it('is no event when its client has gone before it was refused', async () => {
    await reopen({ tunnelsMax: 0 });
    for (let count = 0; count < 30; count += 1) {
      const socket = await scene.dial(HANDSHAKE);
      if (count % 2 === 0) socket.resetAndDestroy();
      else setImmediate(() => socket.resetAndDestroy());
    }
    expect((await refusal(visit(scene))).status).toBe(503);
  });

  it('is no event when its client goes in the middle of an answer that is none to it', async () => {
    await ptthApplication(scene, 'foo', (_message, response) => response.end('x'.repeat(3_000_000)));
    for (let count = 0; count < 10; count += 1) {
      await eventually(async () => expect((await scene.overview()).free).toBe(1));
      const socket = await scene.dial(HANDSHAKE);
      await once(socket, 'data');
      socket.resetAndDestroy();
    }
    await eventually(async () => expect(await scene.overview()).toMatchObject({ slots: 1, free: 1 }));
  });

  it('may be for any protocol', async () => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    const server = createServer();
    server.on('upgrade', (_message, far: Duplex, head) => {
      far.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: shout\r\nConnection: Upgrade\r\n\r\nfirst ');
      far.write(head);
      far.on('data', (octets: Buffer) => far.write(String(octets).toUpperCase()));
    });
    server.emit('connection', socket);
    const asking = request({
      port: scene.port,
      path: '/http/foo/',
      headers: { Connection: 'Upgrade', Upgrade: 'shout' },
    });
    const [response, near, rest] = await once(asking.end(), 'upgrade');
    expect(response.headers.upgrade).toBe('shout');
    let heard = String(rest);
    near.on('data', (octets: Buffer) => {
      heard += octets;
    });
    near.write('loud');
    await eventually(() => expect(heard).toBe('first LOUD'));
    near.destroy();
  });

  it.each(['h2c', 'TLS/1.0', 'HTTP/2.0', 'websocket, h2c'])(
    'is none for %s, by which HTTP would go past the door unread',
    async (protocol) => {
      let raw = '';
      await ptthApplication(scene, 'foo', (message, response) => {
        raw = message.rawHeaders.join(' ');
        response.end('as usual');
      });
      const heard = await scene.raw(
        `GET /http/foo/ HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\n` +
          'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n',
      );
      expect(heard).toMatch(/^HTTP\/1\.1 200 [\s\S]*as usual$/);
      expect(raw).not.toMatch(/upgrade|http2/i);
    },
  );

  it.each([
    ['with a body', HANDSHAKE.replace('\r\n\r\n', '\r\nContent-Length: 2\r\n\r\nhi')],
    ['of HTTP/1.0', HANDSHAKE.replace('HTTP/1.1', 'HTTP/1.0')],
    ['with two hosts', HANDSHAKE.replace('Host: x', 'Host: x\r\nHost: y')],
  ])('%s is 400', async (_name, octets) => {
    await webSocketApplication(scene);
    expect(await scene.raw(octets)).toMatch(/^HTTP\/1\.1 400 [\s\S]*\r\nConnection: close\r\n/i);
    expect(await scene.overview()).toMatchObject({ slots: 1, free: 1 });
  });

  it('is 502 when applications change to a protocol that nobody asked for, and their connections end', async () => {
    const sockets: Socket[] = [];
    for (let count = 0; count < 4; count += 1) {
      const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
      socket.once('data', () =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n'),
      );
      sockets.push(socket);
    }
    expect(await scene.raw(HANDSHAKE)).toMatch(/^HTTP\/1\.1 502 /);
    // Three tries, as for any request that may be sent again.
    await eventually(() => expect(sockets.filter(({ destroyed }) => destroyed)).toHaveLength(3));
  });

  it('goes to another server when one dies of it', async () => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    socket.once('data', () => socket.destroy());
    const webSocket = visit(scene);
    await eventually(() => expect(socket.destroyed).toBe(true));
    await webSocketApplication(scene);
    expect(await said(webSocket, 'hello')).toEqual(['hello']);
  });

  it('is answered as any other request by an application that does not know the protocol', async () => {
    await ptthApplication(scene, 'foo', (_message, response) => response.end('x'.repeat(3_000_000)));
    const heard = await scene.raw(HANDSHAKE);
    expect(heard).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(heard.match(/x{100}/g)?.length).toBeGreaterThan(29_990);
    expect((await scene.fetch('/http/foo/')).status).toBe(200);
  });
});

describe('visitors who must be users', () => {
  beforeEach(async () => {
    await reopen({ visitors: 'users' });
    const { administration } = scene.broker;
    for (const [user, write] of [
      ['anna', '^amq\\.rhttp$'],
      ['berta', '^$'],
    ] as const) {
      await administration.putUser({ name: user, password: 'x' });
      await administration.setPermission({ vhost: '/', user, configure: '', write, read: '' });
    }
    await webSocketApplication(scene);
  });

  it('log in for a WebSocket too, and their password stays here', async () => {
    expect((await refusal(visit(scene))).status).toBe(401);
    expect((await refusal(visit(scene, '/http/foo/', { headers: basic('berta', 'x') }))).status).toBe(403);
    const webSocket = visit(scene, '/http/foo/', { headers: basic('anna', 'x') });
    expect(await said(webSocket, 'hello')).toEqual(['hello']);
    expect(last.asked?.headers.authorization).toBeUndefined();
  });

  it('are not whoever has made a page that their browser shows', async () => {
    const from = (origin: string): WebSocket => visit(scene, '/http/foo/', { headers: GUEST, origin });
    expect((await refusal(from('https://elsewhere.example'))).status).toBe(403);
    expect(await said(from(`http://127.0.0.1:${scene.port}`), 'hello')).toEqual(['hello']);
  });
});

describe('a door that closes', () => {
  it('ends what goes through it', async () => {
    await webSocketApplication(scene);
    const webSocket = visit(scene);
    await said(webSocket, 'hello');
    const closed = once(webSocket, 'close');
    await Promise.all([scene.close(), closed]);
    scene = await Scene.open();
  });
});
