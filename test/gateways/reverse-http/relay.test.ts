/** The relay: off, on, and for whom. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isInner } from '../../../gateways/reverse-http/relay.ts';
import { answer, GUEST, Scene } from './scene.ts';

let scene: Scene;
const elsewhere = createServer((request, response) => {
  if (request.url === '/hang') return;
  if (request.url === '/cut') return void response.destroy();
  if (request.url === '/gzip') {
    request.socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n');
    return;
  }
  if (request.url === '/switch') {
    request.socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n');
    return;
  }
  void text(request).then((body) => {
    response.setHeader('X-Host', request.headers.host ?? '');
    if (request.url === '/sum') {
      response.write(`${body} ${request.headers['transfer-encoding']} ${JSON.stringify(request.trailers)}`);
      response.addTrailers({ 'X-Sum': '42' });
      response.end();
    } else if (request.url === '/away') response.writeHead(302, { Location: 'http://127.0.0.1:1/' }).end();
    else response.end(`${request.method} ${request.url} ${body}`);
  });
});
let port = 0;

beforeEach(async () => {
  elsewhere.listen(0, '127.0.0.1');
  await once(elsewhere, 'listening');
  port = (elsewhere.address() as AddressInfo).port;
});

afterEach(async () => {
  await scene.close();
  elsewhere.closeAllConnections();
  elsewhere.close();
  await once(elsewhere, 'close');
});

const relay = (host: string, body: string, headers: Record<string, string> = {}): Promise<Response> =>
  scene.fetch(`/relay/${host}`, {
    method: 'POST',
    body,
    headers: { ...GUEST, 'Content-Type': 'message/http', ...headers },
  });

const REQUEST = 'PUT /x?y HTTP/1.1\r\nHost: whatever\r\nContent-Length: 4\r\n\r\nbody';

describe('the relay', () => {
  it('is off, also for whoever may do everything', async () => {
    scene = await Scene.open();
    expect((await relay(`127.0.0.1:${port}`, REQUEST)).status).toBe(403);
  });

  it('performs a request for a listed host, as that host', async () => {
    scene = await Scene.open({ relayAllow: [`127.0.0.1:${port}`] });
    const response = await relay(`127.0.0.1:${port}`, REQUEST);
    expect([response.status, response.headers.get('content-type')]).toEqual([200, 'message/http']);
    const embedded = await response.text();
    expect(embedded).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(embedded).toContain(`X-Host: 127.0.0.1:${port}\r\n`);
    expect(embedded).toMatch(/\r\n\r\nPUT \/x\?y body$/);
  });

  it('hands on trailers both ways', async () => {
    scene = await Scene.open({ relayAllow: [`127.0.0.1:${port}`] });
    const chunked =
      'POST /sum HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Ours: 1\r\n\r\n';
    const embedded = await (await relay(`127.0.0.1:${port}`, chunked)).text();
    expect(embedded).toContain('a chunked {"x-ours":"1"}');
    expect(embedded).toMatch(/\r\n0\r\nX-Sum: 42\r\n\r\n$/);
  });

  it('does not go where a redirection leads', async () => {
    scene = await Scene.open({ relayAllow: [`127.0.0.1:${port}`] });
    const embedded = await (await relay(`127.0.0.1:${port}`, 'GET /away HTTP/1.1\r\nHost: x\r\n\r\n')).text();
    expect(embedded).toMatch(/^HTTP\/1\.1 302 [\s\S]*\r\nLocation: http:\/\/127\.0\.0\.1:1\/\r\n/);
  });

  it.each([
    ...[
      '127.0.0.1',
      '10.1.2.3',
      '172.31.0.1',
      '192.168.0.1',
      '169.254.169.254',
      '100.64.0.1',
      '0.0.0.0',
      '255.255.255.255',
    ],
    ...['::', '::1', '::ffff:127.0.0.1', '::ffff:7f00:1', '::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b:1::1'],
    ...['2002:7f00:1::', '2001:0:7f00:1::', 'fd00::1', 'fe80::1', 'fec0::1', 'ff02::1'],
  ])('takes %s for an inner address', (address) => {
    expect(isInner(address)).toBe(true);
  });

  it.each(['1.1.1.1', '172.32.0.1', '100.128.0.1', '::ffff:1.1.1.1', '2606:4700::1111'])(
    'takes %s for none',
    (address) => {
      expect(isInner(address)).toBe(false);
    },
  );

  it('answers 502 when the host wants to speak another protocol', async () => {
    scene = await Scene.open({ relayAllow: [`127.0.0.1:${port}`] });
    const response = await relay(`127.0.0.1:${port}`, 'GET /switch HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(response.status).toBe(502);
  });

  it('takes a login', async () => {
    scene = await Scene.open({ relayAllow: [`127.0.0.1:${port}`] });
    expect((await scene.fetch(`/relay/127.0.0.1:${port}`, { method: 'POST', body: REQUEST })).status).toBe(401);
  });

  it.each([
    ['a host that is not listed', () => `127.0.0.1:${port + 1}`, 403],
    ['another port of a listed host', () => 'localhost', 403],
    ['no host', () => '', 400],
    ['an impossible port', () => 'localhost:70000', 400],
    ['an address in disguise', () => '2130706433', 400],
    ['user information', () => 'guest@localhost', 400],
    ['no address in brackets', () => '[localhost]', 400],
  ])('refuses %s', async (_name, host, status) => {
    scene = await Scene.open({ relayAllow: [`127.0.0.1:${port}`] });
    expect((await relay(host(), REQUEST)).status).toBe(status);
  });

  it('does not follow a listed name to this machine, unless its address is listed too', async () => {
    scene = await Scene.open({ relayAllow: [`localhost:${port}`, `*.example:${port}`] });
    expect((await relay(`localhost:${port}`, REQUEST)).status).toBe(403);
    await scene.close();
    scene = await Scene.open({ relayAllow: [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`] });
    expect([200, 502]).toContain((await relay(`localhost:${port}`, REQUEST)).status);
  });

  it.each([
    ['a pipeline', REQUEST, { 'Content-Type': 'application/http' }, 415],
    ['no request', 'hello', {}, 400],
    ['a response', answer('x'), {}, 400],
    ['two requests', `${REQUEST}${REQUEST}`, {}, 400],
    ['a target that cannot be written', 'GET /\u00e4 HTTP/1.1\r\nHost: x\r\n\r\n', {}, 400],
    ['an answer in another coding', 'GET /gzip HTTP/1.1\r\nHost: x\r\n\r\n', {}, 502],
    ['a host that cuts off', 'GET /cut HTTP/1.1\r\nHost: localhost\r\n\r\n', {}, 502],
    ['a host that hangs', 'GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n', {}, 504],
  ])('answers %s with an error', async (_name, body, headers, status) => {
    scene = await Scene.open({ relayAllow: [`127.0.0.1:${port}`], replyTimeoutMs: 200 });
    expect((await relay(`127.0.0.1:${port}`, body, headers as Record<string, string>)).status).toBe(status);
  });
});
