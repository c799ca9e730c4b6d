/** Connections that are reversed from the first octet: TLS with ALPN rh1 and rh2. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { loadTls } from '../../../gateways/tls.ts';
import { issue, makeAuthority, writePems } from '../../support/certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { dialTls, serve1, serve2 } from './application.ts';
import { GUEST, Scene } from './scene.ts';

describe('TLS', () => {
  async function secureScene() {
    const authority = await makeAuthority('the authority');
    const server = await issue(authority, [{ name: 'commonName', value: 'localhost' }]);
    const client = await issue(authority, [{ name: 'commonName', value: 'foo' }]);
    const files = await writePems({ certificate: server.cert, key: server.key, ca: authority.cert });
    const tls = await loadTls({
      certificateFile: files.certificate,
      keyFile: files.key,
      caFile: files.ca,
      verifyClient: 'optional',
      certificateName: 'common-name',
      minVersion: 'TLSv1.2',
    });
    const options = { domain: 'example.org', closeTimeoutMs: 300, bodyIdleMs: 600 };
    const secure = await Scene.open(options, { tls });
    const { administration } = secure.broker;
    await administration.putUser({ name: 'foo' });
    await administration.setPermission({ vhost: '/', user: 'foo', configure: '^rhttp', write: '', read: '^rhttp' });
    const plain = { ca: authority.cert, checkServerIdentity: () => undefined };
    const ask = async (host: string): Promise<string> => {
      const socket = await dialTls(secure, plain);
      socket.write(`GET /x HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      return text(socket);
    };
    return { secure, plain, identity: { ...plain, cert: client.cert, key: client.key }, ask };
  }

  it.each([
    ['rh1', serve1],
    ['rh2', serve2],
  ] as const)('%s: a certificate says who it is, and it or the server name which claim', async (protocol, serve) => {
    const { secure, identity, ask } = await secureScene();
    try {
      const byName = await dialTls(secure, { ...identity, ALPNProtocols: [protocol], servername: 'bar.example.org' });
      expect(byName.alpnProtocol).toBe(protocol);
      serve(byName, (_request: unknown, response: { end(body: string): void }) => response.end('bar here'));
      const byCertificate = await dialTls(secure, { ...identity, ALPNProtocols: [protocol] });
      serve(byCertificate, (_request: unknown, response: { end(body: string): void }) => response.end('foo here'));
      await eventually(async () => expect(await ask('bar.example.org')).toContain('bar here'));
      await eventually(async () => expect(await ask('foo.example.org:443')).toContain('foo here'));
    } finally {
      await secure.close();
    }
  });

  it('asks a peer without a certificate who it is', async () => {
    const { secure, plain, ask } = await secureScene();
    try {
      const socket = await dialTls(secure, { ...plain, ALPNProtocols: ['rh1'] });
      const server = createServer((request, response) => {
        if (request.url !== '/.well-known/reversehttp') return void response.end('introduced');
        response.writeHead(200, { 'Content-Type': 'application/x-www-form-urlencoded', ...GUEST });
        response.end('name=baz');
      });
      server.emit('connection', socket);
      await eventually(async () => expect(await ask('baz.example.org')).toContain('introduced'));
    } finally {
      await secure.close();
    }
  });

  it('does not wait for one who says who he is octet by octet', async () => {
    const { secure, plain } = await secureScene();
    try {
      const socket = await dialTls(secure, { ...plain, ALPNProtocols: ['rh1'] });
      const begun = performance.now();
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n');
      const timer = setInterval(() => socket.write('x'), 50);
      await new Promise((resolve) => socket.resume().once('close', resolve));
      clearInterval(timer);
      expect(performance.now() - begun).toBeLessThan(5000);
    } finally {
      await secure.close();
    }
  });

  it.each([
    ['a wrong password', { Authorization: 'Basic eDp5' }, 'name=baz'],
    ['no credentials', {}, 'name=baz'],
    ['no name', GUEST, ''],
  ])('closes on one who gives %s, or nothing', async (_name, headers, body) => {
    const { secure, plain } = await secureScene();
    try {
      const socket = await dialTls(secure, { ...plain, ALPNProtocols: ['rh1'] });
      serve1(socket, (_request, response) => {
        response.writeHead(200, headers as Record<string, string>);
        response.end(body);
      });
      const silent = await dialTls(secure, { ...plain, ALPNProtocols: ['rh1'] });
      await Promise.all([once(socket, 'close'), once(silent.resume(), 'close')]);
    } finally {
      await secure.close();
    }
  });
});
