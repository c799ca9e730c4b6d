import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import type { Gateway } from '../../../gateways/gateway.ts';
import type { HttpDoor } from '../../../gateways/http-door.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { loadTls } from '../../../gateways/tls.ts';
import { startWebSocketGateway, type WebSocketOptions } from '../../../gateways/websocket.ts';
import { makeAuthority, writePems } from '../../support/certificates.ts';

const gateways: Gateway[] = [];

afterEach(async () => {
  await Promise.all(gateways.splice(0).map((gateway) => gateway.close()));
});

/** A door that answers every request below `path` with its name, method, target and body. */
function echoDoor(name: string, path: string, more: Partial<HttpDoor> = {}): HttpDoor {
  return {
    invitation: `Ask for ${path}.`,
    takes: ({ url = '' }) => url.startsWith(path),
    onRequest(message, response) {
      void text(message).then((body) => response.end(`${name} ${message.method} ${message.url} ${body}`));
    },
    ...more,
  };
}

async function listenHttp(httpDoors: readonly HttpDoor[], changes: Partial<WebSocketOptions> = {}): Promise<number> {
  const gateway = await startWebSocketGateway({
    host: '127.0.0.1',
    port: 0,
    connectionsMax: 100,
    handshakeTimeoutMs: 5000,
    log: SILENT_LOG,
    doors: [],
    httpDoors,
    origins: ['loopback'],
    messageBytesMax: 1024,
    ...changes,
  });
  gateways.push(gateway);
  return gateway.addresses[0]?.port ?? 0;
}

const url = (port: number, path: string): string => `http://127.0.0.1:${port}${path}`;

describe('HTTP doors', () => {
  it('get the requests they take, in the order of the doors; nobody else gets an answer but 426', async () => {
    const port = await listenHttp([echoDoor('first', '/a'), echoDoor('second', '/')]);
    expect(await (await fetch(url(port, '/a/1?x=2'))).text()).toBe('first GET /a/1?x=2 ');
    expect(await (await fetch(url(port, '/b'), { method: 'POST', body: 'hello' })).text()).toBe('second POST /b hello');
    const alone = await listenHttp([echoDoor('only', '/a')]);
    const refused = await fetch(url(alone, '/b'));
    expect(refused.status).toBe(426);
    expect(await refused.text()).toContain('Ask for /a.');
  });

  it('read a request that asks for a protocol nobody knows as one that did not ask', async () => {
    const port = await listenHttp([echoDoor('door', '/')]);
    const asking = request({ port, path: '/x', method: 'POST', headers: { Connection: 'Upgrade', Upgrade: 'h2c' } });
    const [response] = await once(asking.end('a body'), 'response');
    expect(await text(response)).toBe('door POST /x a body');
  });

  it('take a socket over for a protocol of theirs, with what came after the request', async () => {
    const door = echoDoor('door', '/', {
      onUpgrade(message, socket, head) {
        if (message.headers.upgrade !== 'echo') return false;
        socket.on('error', () => {});
        socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
        socket.end(head);
        return true;
      },
    });
    const socket = connect(await listenHttp([door]), '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nafter');
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 101 [\s\S]*\r\n\r\nafter$/);
  });

  it('may refuse before a client that expects 100 (Continue) has sent its body', async () => {
    const port = await listenHttp([
      echoDoor('door', '/', { onRequest: (_message, response) => response.writeHead(413).end() }),
    ]);
    const asking = request({ port, method: 'POST', headers: { Expect: '100-continue', 'Content-Length': '5' } });
    asking.on('continue', () => asking.end('never'));
    asking.flushHeaders();
    const [response] = await once(asking, 'response');
    expect(response.statusCode).toBe(413);
    asking.destroy();
  });

  it('answer as long as they like: what is timed is the head of a request', async () => {
    let answer = (): void => {};
    const door = echoDoor('door', '/', {
      onRequest: (_message, response) => {
        answer = () => response.end('late');
      },
    });
    const port = await listenHttp([door], { handshakeTimeoutMs: 40 });
    const asked = fetch(url(port, '/'));
    const idle = connect(port, '127.0.0.1');
    await once(idle.resume(), 'close'); // The time of a later connection is over, so that of the first one is, too.
    answer();
    expect(await (await asked).text()).toBe('late');
  });

  it('are waited for when the listener closes, and then said goodbye to', async () => {
    const closed: string[] = [];
    let answer = (): void => {};
    const door = echoDoor('door', '/', {
      onRequest: (_message, response) => {
        answer = () => response.end('last');
      },
      close: () => closed.push('door'),
    });
    const port = await listenHttp([door]);
    const socket = connect(port, '127.0.0.1');
    socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
    await expect.poll(() => answer.toString()).toContain('last');
    const closing = gateways[0]?.close();
    answer();
    expect(await text(socket)).toMatch(/last\r\n0\r\n\r\n$|last$/);
    await closing;
    expect(closed).toEqual(['door']);
  });

  it('are asked for by TLS clients through application protocols of their own', async () => {
    const authority = await makeAuthority('localhost');
    const files = await writePems({ certificate: authority.cert, key: authority.key });
    const tls = await loadTls({
      certificateFile: files.certificate,
      keyFile: files.key,
      verifyClient: 'none',
      certificateName: 'common-name',
      minVersion: 'TLSv1.2',
    });
    const door = echoDoor('door', '/', {
      alpnProtocols: ['odd'],
      accept: ({ socket }, protocol) => socket.on('error', () => {}).end(`${protocol}!`),
    });
    const port = await listenHttp([door], { tls });
    const dial = (protocols: readonly string[]) =>
      connectTls({ port, host: '127.0.0.1', ca: authority.cert, ALPNProtocols: [...protocols] });
    expect(await text(dial(['odd', 'http/1.1']))).toBe('odd!');
    const plain = dial(['http/1.1']);
    plain.write('GET /p HTTP/1.0\r\n\r\n');
    expect(await text(plain)).toMatch(/door GET \/p $/);
    await expect(text(dial(['h2']))).rejects.toThrow(/alert|reset/i);
  });
});
