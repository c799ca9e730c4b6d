/** Who a request is from: Basic, Digest, bearer tokens, client certificates; and what web pages may do. */
import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { loadTls } from '../../../gateways/tls.ts';
import { issue, makeAuthority, writePems } from '../../support/certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { dialTls, ptthApplication } from './application.ts';
import { basic, GUEST, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open();
});

afterEach(async () => {
  vi.useRealTimers();
  await scene.close();
});

/** A login by hand, as RFC 7616 has it. */
class DigestClient {
  nc = 0;
  readonly #fields: Map<string, string>;
  readonly #algorithm: 'MD5' | 'SHA-256';

  constructor(challenge: string, algorithm: 'MD5' | 'SHA-256') {
    const own = challenge.split(/,\s*(?=Digest|Bearer|Basic)/).find((part) => part.includes(`algorithm=${algorithm},`));
    this.#algorithm = algorithm;
    this.#fields = new Map(
      [...(own ?? '').matchAll(/(\w+)="?([^",]+)"?/g)].map(([, name, value]) => [name ?? '', value ?? '']),
    );
  }

  field(name: string): string {
    return this.#fields.get(name) ?? '';
  }

  login(user: string, password: string, uri: string, changes: Record<string, string> = {}): Record<string, string> {
    this.nc += 1;
    const hash = (data: string): string => createHash(this.#algorithm.replace('-', '')).update(data).digest('hex');
    const nc = changes.nc ?? this.nc.toString(16).padStart(8, '0');
    const nonce = changes.nonce ?? this.field('nonce');
    const first = hash(`${user}:${this.field('realm')}:${password}`);
    const response = hash(`${first}:${nonce}:${nc}:cn:auth:${hash(`GET:${changes.uri ?? uri}`)}`);
    const fields = { username: user, realm: this.field('realm'), nonce, uri, cnonce: 'cn', response, ...changes };
    const quoted = Object.entries({ ...fields, nc: undefined }).filter(([, value]) => value !== undefined);
    const list = quoted.map(([name, value]) => `${name}="${value}"`).join(', ');
    return { Authorization: `Digest ${list}, qop=auth, nc=${nc}, algorithm=${this.#algorithm}` };
  }
}

async function challenge(headers: Record<string, string> = {}): Promise<string> {
  const response = await scene.fetch('/reversehttp', { headers });
  expect(response.status).toBe(401);
  return response.headers.get('www-authenticate') ?? '';
}

const status = async (headers: Record<string, string>): Promise<number> =>
  (await scene.fetch('/reversehttp', { headers })).status;

describe('credentials', () => {
  it('are asked for in every way that is known', async () => {
    const asked = await challenge();
    expect(asked).toMatch(
      /^Basic realm="warren", charset="UTF-8", Digest .*algorithm=SHA-256.*, Digest .*MD5.*, Bearer/,
    );
  });

  it.each(['Basic', 'Basic !!', 'Basic eA==', 'Digest x', 'Bearer', 'Negotiate x', 'x', ' '])(
    'that are malformed are refused: %s',
    async (Authorization) => {
      await challenge({ Authorization });
    },
  );

  it('may hold any UTF-8', async () => {
    await scene.broker.administration.putUser({ name: 'ännä', password: 'pässwörd: x', tags: ['monitoring'] });
    expect(await status(basic('ännä', 'pässwörd: x'))).toBe(200);
    expect(await status(basic('ännä', 'pässwörd'))).toBe(401);
  });

  it.each(['MD5', 'SHA-256'] as const)('in Digest with %s prove who one is', async (algorithm) => {
    const client = new DigestClient(await challenge(), algorithm);
    expect(await status(client.login('guest', 'guest', '/reversehttp'))).toBe(200);
    expect(await status(client.login('guest', 'guest', '/reversehttp'))).toBe(200);
    expect(await status(client.login('guest', 'wrong', '/reversehttp'))).toBe(401);
    expect(await status(client.login('nobody', 'guest', '/reversehttp'))).toBe(401);
  });

  it('in Digest are good for one target, once, and with a nonce of ours', async () => {
    const client = new DigestClient(await challenge(), 'SHA-256');
    expect(await status(client.login('guest', 'guest', '/other'))).toBe(401);
    const login = client.login('guest', 'guest', '/reversehttp');
    expect(await status(login)).toBe(200);
    expect(await challenge(login)).toContain('stale=true');
    expect(await challenge(client.login('guest', 'guest', '/reversehttp', { nc: '00000001' }))).toContain('stale=true');
    const foreign = client.login('guest', 'guest', '/reversehttp', { nonce: 'abc.def.ghi' });
    expect(await challenge(foreign)).toContain('stale=true');
    expect(await challenge(client.login('guest', 'wrong', '/reversehttp', { nonce: 'abc.def.ghi' }))).not.toContain(
      'stale',
    );
  });

  it('in Digest are read in no time, whatever they are', async () => {
    const started = performance.now();
    for (const junk of ['a'.repeat(15_000), 'a='.repeat(7000), `a="${'\\'.repeat(14_000)}`, `a${' '.repeat(14_000)}`]) {
      await challenge({ Authorization: `Digest ${junk}` });
    }
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it('in Digest end with their nonce', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const client = new DigestClient(await challenge(), 'MD5');
    vi.setSystemTime(Date.now() + 5 * 60_000 + 1);
    expect(await challenge(client.login('guest', 'guest', '/reversehttp'))).toContain('stale=true');
  });

  it('become a bearer token, good until it ends or its user does', async () => {
    await scene.broker.administration.putUser({ name: 'anna', password: 'x', tags: ['monitoring'] });
    const response = await scene.fetch('/reversehttp-token', { method: 'POST', headers: basic('anna', 'x') });
    const issued = (await response.json()) as { access_token: string; token_type: string; expires_in: number };
    expect(issued).toMatchObject({ token_type: 'Bearer', expires_in: 3600 });
    const bearer = { Authorization: `Bearer ${issued.access_token}` };
    expect(await status(bearer)).toBe(200);
    expect(await status({ Authorization: 'Bearer AAAAAAAAAAAAAAAAAAAAAAAA' })).toBe(401);
    await scene.broker.administration.deleteUser('anna');
    expect(await status(bearer)).toBe(401);

    await scene.close();
    scene = await Scene.open({ tokenSeconds: 0 });
    const short = await scene.fetch('/reversehttp-token', { method: 'POST', headers: GUEST });
    const { access_token } = (await short.json()) as { access_token: string };
    await eventually(async () => expect(await status({ Authorization: `Bearer ${access_token}` })).toBe(401));
  });

  it('are not needed where an anonymous user is', async () => {
    await scene.close();
    scene = await Scene.open({ anonymousUser: 'guest' });
    expect((await scene.claim({ name: 'foo' }, {})).status).toBe(201);
    expect(await status(basic('guest', 'wrong'))).toBe(401);
  });

  it('may be a client certificate', async () => {
    const authority = await makeAuthority('the authority');
    const server = await issue(authority, [{ name: 'commonName', value: 'localhost' }]);
    const client = await issue(authority, [{ name: 'commonName', value: 'guest' }]);
    const files = await writePems({ certificate: server.cert, key: server.key, ca: authority.cert });
    const tls = await loadTls({
      certificateFile: files.certificate,
      keyFile: files.key,
      caFile: files.ca,
      verifyClient: 'optional',
      certificateName: 'common-name',
      minVersion: 'TLSv1.2',
    });
    const secure = await Scene.open({}, { tls });
    const ask = async (identity: object): Promise<string> => {
      const socket = await dialTls(secure, { ca: authority.cert, checkServerIdentity: () => undefined, ...identity });
      socket.write('GET /reversehttp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      return text(socket);
    };
    try {
      expect(await ask({ cert: client.cert, key: client.key })).toMatch(/^HTTP\/1\.1 200 /);
      expect(await ask({})).toMatch(/^HTTP\/1\.1 401 /);
    } finally {
      await secure.close();
    }
  });

  it('of visitors are asked for if so decided, and never reach the application', async () => {
    await scene.close();
    scene = await Scene.open({ visitors: 'users' });
    const { administration } = scene.broker;
    for (const [user, write] of [
      ['reader', '^$'],
      ['writer', '^amq\\.rhttp$'],
    ] as const) {
      await administration.putUser({ name: user, password: 'x' });
      await administration.setPermission({ vhost: '/', user, configure: '', write, read: '' });
    }
    let seen: unknown;
    await ptthApplication(scene, 'foo', (request, response) => {
      seen = request.headers.authorization;
      response.end('x');
    });
    const visit = async (headers: Record<string, string>) => (await scene.fetch('/http/foo/', { headers })).status;
    expect(await visit({})).toBe(401);
    expect(await visit(basic('reader', 'x'))).toBe(403);
    expect(await visit(basic('writer', 'x'))).toBe(200);
    expect(seen).toBeUndefined();
  });

  it('of visitors are the business of the application otherwise', async () => {
    await ptthApplication(scene, 'foo', (request, response) => response.end(request.headers.authorization));
    expect(await (await scene.fetch('/http/foo/', { headers: basic('a', 'b') })).text()).toMatch(/^Basic /);
  });
});

describe('capabilities', () => {
  it('that are guessed look like everything unknown', async () => {
    const answers = await Promise.all(
      ['/cap/AAAAAAAAAAAAAAAAAAAAAAAA', '/cap/x', '/cap/', '/cap/a/b'].map(async (path) => {
        const response = await scene.fetch(path);
        return [response.status, await response.text()];
      }),
    );
    expect(new Set(answers.map(String)).size).toBe(1);
    expect(answers[0]?.[0]).toBe(404);
  });
});

describe('web pages', () => {
  const from = (origin: string, init: RequestInit & { headers?: Record<string, string> } = {}): Promise<Response> =>
    scene.fetch('/reversehttp', { ...init, headers: { Origin: origin, ...init.headers } });

  it('of this machine may do what they like, and read what the door tells in fields', async () => {
    const response = await from('http://localhost:3000', { headers: GUEST });
    expect(response.headers.get('access-control-allow-origin')).toBe('http://localhost:3000');
    expect(response.headers.get('access-control-expose-headers')).toContain('Link, Location, Requesting-Client');
    expect(response.headers.get('vary')).toBe('Origin');
    const refused = await from('http://localhost:3000');
    expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([
      401,
      'http://localhost:3000',
    ]);
  });

  it('get their question answered, without a login', async () => {
    const asked = { 'Access-Control-Request-Method': 'PUT', 'Access-Control-Request-Headers': 'authorization,x-a' };
    const response = await from('http://localhost', { method: 'OPTIONS', headers: asked });
    expect(response.status).toBe(204);
    expect(response.headers.get('access-control-allow-methods')).toContain('PUT');
    expect(response.headers.get('access-control-allow-headers')).toBe('authorization,x-a');
  });

  it('of elsewhere may do nothing', async () => {
    for (const method of ['GET', 'POST', 'OPTIONS']) {
      const response = await from('https://evil.example', { method, headers: GUEST });
      expect([response.status, response.headers.get('access-control-allow-origin')]).toEqual([403, null]);
    }
  });

  it('that have made their own name lead here may do nothing either', async () => {
    const ask = (host: string, site: string) =>
      scene.raw(
        `GET /reversehttp HTTP/1.1\r\nHost: ${host}\r\nSec-Fetch-Site: ${site}\r\nConnection: close\r\n` +
          `Authorization: ${GUEST.Authorization}\r\n\r\n`,
      );
    expect(await ask('evil.example', 'same-origin')).toMatch(/^HTTP\/1\.1 403 /);
    expect(await ask('127.0.0.1:15674', 'same-origin')).toMatch(/^HTTP\/1\.1 200 /);
    expect(await ask('broker.example', 'none')).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('are not of this machine under any other name, which is all that browsers tell over plain HTTP', async () => {
    await scene.close();
    const origins = ['loopback', 'https://listed.example'];
    scene = await Scene.open({ origins, domain: 'claims.example', loginRefusalDelayMs: 0 });
    const ask = (host: string): Promise<string> =>
      scene.raw(
        `GET /reversehttp HTTP/1.1\r\n${host}Connection: close\r\nAuthorization: ${GUEST.Authorization}\r\n\r\n`,
      );
    for (const name of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example:80', 'evilclaims.example']) {
      expect(await ask(`Host: ${name}\r\n`)).toMatch(/^HTTP\/1\.1 401 /);
    }
    const ours = ['localhost', 'a.localhost:1', '127.0.0.1:15674', '[::1]:15674', hostname(), 'listed.example'];
    for (const name of [...ours, 'claims.example:15674']) {
      expect([name, await ask(`Host: ${name}\r\n`)]).toEqual([name, expect.stringMatching(/^HTTP\/1\.1 200 /)]);
    }
    const upgrade = `GET /reversehttp/foo HTTP/1.1\r\nHost: evil.example\r\nUpgrade: ptth\r\nConnection: Upgrade\r\n`;
    expect(await scene.raw(`${upgrade}Authorization: ${GUEST.Authorization}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 401 /);
    // Who may come from anywhere may do so under any name.
    await scene.broker.administration.putUser({ name: 'anna', password: 'x', tags: ['monitoring'] });
    await scene.broker.administration.setPermission({ vhost: '/', user: 'anna', configure: '', write: '', read: '' });
    const anna = `Authorization: ${basic('anna', 'x').Authorization}\r\nConnection: close\r\n`;
    expect(await scene.raw(`GET /reversehttp HTTP/1.1\r\nHost: proxy.example\r\n${anna}\r\n`)).toMatch(
      /^HTTP\/1\.1 200 /,
    );
  });

  it('may read every field of a message', async () => {
    const channel = await scene.channel();
    await channel.declareQueue({ queue: 'q' });
    const properties = { messageId: 'ä', type: 't', headers: { a: 1 }, priority: 1 };
    channel.publish(createMessage({ routingKey: 'q', body: 'x', properties }));
    const response = await scene.fetch('/queue/q', { headers: { ...GUEST, Origin: 'http://localhost' } });
    const exposed = (response.headers.get('access-control-expose-headers') ?? '').toLowerCase().split(', ');
    const fields = [...response.headers.keys()].filter((name) => name.startsWith('amqp-'));
    expect(fields).toContain('amqp-message-id*');
    for (const name of fields) expect(exposed).toContain(name);
  });

  it('may ask for public URLs as the application has it', async () => {
    await ptthApplication(scene, 'foo', (_request, response) => {
      response.setHeader('Access-Control-Allow-Origin', 'https://evil.example');
      response.end('x');
    });
    const response = await scene.fetch('/http/foo/', { headers: { Origin: 'https://evil.example' } });
    expect([response.status, response.headers.get('access-control-allow-origin')]).toEqual([
      200,
      'https://evil.example',
    ]);
  });
});
