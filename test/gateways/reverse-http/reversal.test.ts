/** Connections that turn round: every generation, what streams over them, and what becomes of requests when they die. */
import { once } from 'node:events';
import type { RequestListener, ServerResponse } from 'node:http';
import { constants } from 'node:http2';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { http2Application, ptthApplication, serve1, serve2, turnRound } from './application.ts';
import { basic, GUEST, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ closeTimeoutMs: 200 });
});

afterEach(() => scene.close());

const echo: RequestListener = (request, response) => {
  void text(request).then((body) => response.end(`${request.method} ${request.url} ${body}`));
};

const slots = async (): Promise<number> => (await scene.overview()).slots;

describe('PTTH/1.0', () => {
  it('switches exactly as the first clients expect it', async () => {
    const socket = await scene.dial(
      `POST /reversehttp/foo HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${GUEST.Authorization}\r\n` +
        'Upgrade: PTTH/1.0\r\nConnection: Upgrade\r\n\r\n',
    );
    const [chunk] = await once(socket, 'data');
    expect(String(chunk)).toBe('HTTP/1.1 101 Switching Protocols\r\nUpgrade: PTTH/1.0\r\nConnection: Upgrade\r\n\r\n');
    void scene.fetch('/http/foo/x?y').catch(() => {});
    const [asked] = await once(socket, 'data');
    expect(String(asked)).toMatch(/^GET \/http\/foo\/x\?y HTTP\/1\.1\r\n/);
    expect(String(asked)).toMatch(/\r\nRequesting-Client: 127\.0\.0\.1:\d+\r\n/);
  });

  it.each(['/reversehttp/foo', '/http/foo', '/http/foo/any/path'])('takes the path %s', async (path) => {
    const { socket } = await turnRound(scene, path, { Upgrade: 'PTTH/1.0' });
    serve1(socket, echo);
    expect(await (await scene.fetch('/http/foo/a', { method: 'POST', body: 'b' })).text()).toBe('POST /http/foo/a b');
  });

  it('is asked under targets with a host in them too, as every server has to take them', async () => {
    await scene.close();
    scene = await Scene.open({ domain: 'claims.example' });
    await ptthApplication(scene, 'foo', echo);
    const ask = (target: string): Promise<string> =>
      scene.raw(`GET ${target} HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n`);
    for (const target of ['http://any/http/foo/a', 'http://foo.claims.example/a', 'HTTP://foo.claims.example']) {
      expect(await ask(target)).toMatch(new RegExp(`^HTTP/1\\.1 200 [^]*GET ${target} $`));
    }
    expect(await ask('http://any/reversehttp')).toMatch(/^HTTP\/1\.1 401 /);
    expect(await ask('http://any')).toMatch(/^HTTP\/1\.1 426 /);
  });

  it('is for paths of claims only', async () => {
    const turned = turnRound(scene, '/exchange/abcfoo', { Upgrade: 'PTTH/1.0' });
    await expect(turned).rejects.toThrow('refused with 404');
    expect(await scene.depth('rhttp.foo')).toBeUndefined();
  });

  it('makes the claim, and only its maker, or who knows its token, may join it', async () => {
    for (const user of ['anna', 'berta']) {
      await scene.broker.administration.putUser({ name: user, password: 'x' });
      await scene.broker.administration.setPermission({ vhost: '/', user, configure: '.*', write: '', read: '.*' });
    }
    await scene.claim({ name: 'foo', token: 't' }, basic('anna', 'x'));
    const join = (user: string, query = '') =>
      turnRound(scene, `/reversehttp/foo${query}`, { ...basic(user, 'x'), Upgrade: 'PTTH/1.0' });
    await join('anna');
    await expect(join('berta')).rejects.toThrow('refused with 403');
    await expect(join('berta', '?token=no')).rejects.toThrow('refused with 403');
    await join('berta', '?token=t');
    await eventually(async () => expect(await slots()).toBe(2));
    await expect(turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0', Authorization: '' })).rejects.toThrow(
      '401',
    );
  });

  it('serves one request after another on a connection, several on several', async () => {
    let busy = 0;
    let busyMax = 0;
    const slow: RequestListener = (_request, response) => {
      busy += 1;
      busyMax = Math.max(busyMax, busy);
      setImmediate(() => {
        busy -= 1;
        response.end('done');
      });
    };
    for (let count = 0; count < 3; count += 1) await ptthApplication(scene, 'foo', slow);
    const texts = await Promise.all(Array.from({ length: 30 }, async () => (await scene.fetch('/http/foo/')).text()));
    expect(texts).toEqual(Array.from({ length: 30 }, () => 'done'));
    expect(busyMax).toBeLessThanOrEqual(3);
    expect(await scene.overview()).toMatchObject({ slots: 3, free: 3, busy: 0 });
  });

  it('hands on what concerns both ends and nothing that concerns one connection', async () => {
    let raw: string[] = [];
    await ptthApplication(scene, 'foo', (request, response) => {
      raw = request.rawHeaders;
      response.writeHead(200, { 'X-Answer': 'kept', 'Keep-Alive': 'timeout=1', Connection: 'X-Hop', 'X-Hop': 'gone' });
      response.end('x');
    });
    const octets = await scene.raw(
      'GET /http/foo/ HTTP/1.1\r\nHost: example\r\nConnection: close, X-Drop\r\nX-Drop: 1\r\nTE: trailers\r\n' +
        'x-KEPT: 1\r\nX-Kept: 2\r\nRequesting-Client: 1.2.3.4:5\r\n\r\n',
    );
    expect(raw.slice(0, 6)).toEqual(['Host', 'example', 'x-KEPT', '1', 'X-Kept', '2']);
    expect(raw.join('\n')).not.toMatch(/X-Drop|TE\n|1\.2\.3\.4/);
    expect(octets).toContain('X-Answer: kept');
    expect(octets).not.toMatch(/X-Hop|timeout=1/);
  });

  it('streams bodies both ways', async () => {
    await scene.close();
    scene = await Scene.open({ bodyBytesMax: 1024 * 1024 });
    await ptthApplication(scene, 'foo', (request, response) => request.pipe(response));
    const socket = await scene.dial(
      'POST /http/foo/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n',
    );
    const [chunk] = await once(socket, 'data');
    expect(String(chunk)).toContain('first');
    // More than the limit of what would have to be kept.
    const megabytes = 8;
    for (let count = 0; count < megabytes; count += 1) socket.write(`100000\r\n${'x'.repeat(1024 * 1024)}\r\n`);
    socket.write('0\r\n\r\n');
    const rest = Buffer.concat(await socket.toArray()).toString();
    expect(rest.match(/x/g)).toHaveLength(megabytes * 1024 * 1024);
    expect(rest).toMatch(/\r\n0\r\n\r\n$/);
  });

  it('lets an application go on answering for as long as it likes', async () => {
    let answer: ServerResponse | undefined;
    await ptthApplication(scene, 'foo', (_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      response.write('data: 1\n\n');
      answer = response;
    });
    const response = await scene.fetch('/http/foo/');
    const reader = response.body?.getReader();
    expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe('data: 1\n\n');
    answer?.write('data: 2\n\n');
    expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe('data: 2\n\n');
    await reader?.cancel();
    // Nobody waits for it any more; there is no other way to stop it.
    await eventually(async () => expect(await slots()).toBe(0));
  });

  it('goes on after an answer to HEAD that tells no length', async () => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    socket.on('data', (octets: Buffer) => {
      const isHead = octets.toString().startsWith('HEAD');
      socket.write(`HTTP/1.1 200 OK\r\nX: y\r\n${isHead ? '' : 'Content-Length: 4\r\n'}\r\n${isHead ? '' : 'fine'}`);
    });
    for (let count = 0; count < 3; count += 1) {
      expect((await scene.fetch('/http/foo/', { method: 'HEAD' })).headers.get('x')).toBe('y');
      expect(await (await scene.fetch('/http/foo/')).text()).toBe('fine');
    }
  });

  it('ends the connection of an application that speaks before it is asked', async () => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    await eventually(async () => expect(await slots()).toBe(1));
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    await once(socket.resume(), 'close');
    await eventually(async () => expect(await slots()).toBe(0));
  });

  it.each([
    ['another protocol', { Upgrade: 'PTTH/2.0' }, 400],
    ['no protocol of ours', { Upgrade: 'ptth', ALPN: 'h3' }, 400],
    ['a page', { Upgrade: 'PTTH/1.0', Origin: 'http://localhost' }, 403],
    ['a body', { Upgrade: 'PTTH/1.0', 'Content-Length': '1' }, 400],
    ['a wrong password', { Upgrade: 'PTTH/1.0', ...basic('guest', 'x') }, 401],
  ])('refuses %s', async (name, headers, status) => {
    const refused = turnRound(scene, '/reversehttp/foo', headers);
    // What asks for a protocol that nobody knows is read as if it had not asked, here as the COMET fallback.
    if (name === 'another protocol') await expect(Promise.race([refused, waited()])).resolves.toBe('waited');
    else await expect(refused).rejects.toThrow(`refused with ${status}`);
  });
});

async function waited(): Promise<string> {
  await eventually(async () => expect(await slots()).toBe(1));
  return 'waited';
}

describe('ptth', () => {
  it.each([
    [undefined, 'http%2F1.1'],
    ['http%2F1.1', 'http%2F1.1'],
    ['h2, http%2f1.1', 'h2'],
  ])('answers ALPN %s with %s', async (offered, chosen) => {
    const alpn = offered === undefined ? {} : { ALPN: offered };
    const { headers } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'ptth', ...alpn }, 'GET');
    expect(headers).toMatchObject({ upgrade: 'ptth', connection: 'Upgrade', alpn: chosen });
  });

  it('serves over HTTP/2, as many requests at a time as the application takes streams', async () => {
    const waiting: (() => void)[] = [];
    await http2Application(
      scene,
      'foo',
      (request, response) => {
        waiting.push(() => {
          response.writeHead(201, { 'x-path': request.url });
          response.end(`${request.method} ${request.headers.host ?? request.authority}`);
        });
      },
      { settings: { maxConcurrentStreams: 5 } },
    );
    await eventually(async () => expect(await slots()).toBe(5));
    const answers = Array.from({ length: 8 }, (_, index) => scene.fetch(`/http/foo/${index}`));
    await eventually(() => expect(waiting).toHaveLength(5));
    await eventually(async () => expect(await scene.overview()).toMatchObject({ slots: 5, free: 0, busy: 5 }));
    for (let count = 0; count < 8; count += 1) (await eventually(() => waiting[count] ?? Promise.reject()))();
    const responses = await Promise.all(answers);
    expect(responses.map(({ status }) => status)).toEqual(Array.from({ length: 8 }, () => 201));
    expect(responses.map(({ headers }) => headers.get('x-path'))).toEqual(
      Array.from({ length: 8 }, (_, index) => `/http/foo/${index}`),
    );
    expect(await responses[0]?.text()).toMatch(/^GET 127\.0\.0\.1:/);
  });

  it('streams over HTTP/2', async () => {
    await http2Application(scene, 'foo', (request, response) => request.pipe(response));
    await eventually(async () => expect(await slots()).toBe(100));
    const body = Buffer.alloc(3 * 1024 * 1024, 'y');
    const response = await scene.fetch('/http/foo/', { method: 'PUT', body });
    expect(Buffer.from(await response.arrayBuffer()).equals(body)).toBe(true);
  });

  it('tells the application that nobody waits any more', async () => {
    const closed: string[] = [];
    await http2Application(scene, 'foo', (request) => {
      request.stream.on('close', () => closed.push(request.url));
    });
    await eventually(async () => expect(await slots()).toBe(100));
    const socket = await scene.dial('GET /http/foo/left HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await eventually(async () => expect((await scene.overview()).busy).toBe(1));
    socket.destroy();
    await eventually(() => expect(closed).toEqual(['/http/foo/left']));
    expect(await scene.overview()).toMatchObject({ slots: 100, free: 100 });
  });

  it('is left when it has gone silent, and what may be sent again goes to another', async () => {
    await scene.close();
    scene = await Scene.open({ pongTimeoutMs: 150 });
    const begunAt = performance.now();
    const hops: Socket[] = [];
    const router = createTcpServer((near) => {
      const far = connect(scene.port, '127.0.0.1');
      for (const hop of [near, far]) hop.on('error', () => {});
      hops.push(near.pipe(far), far.pipe(near));
    }).listen(0, '127.0.0.1');
    await once(router, 'listening');
    const behindRouter: Scene = Object.create(scene, { port: { value: (router.address() as AddressInfo).port } });
    await http2Application(behindRouter, 'foo', (request, response) => response.end(request.url));
    await eventually(async () => expect(await slots()).toBe(100));
    await eventually(() => expect(performance.now() - begunAt).toBeGreaterThan(300));
    // It is asked for a sign of life with this one, and gives it.
    expect(await (await scene.fetch('/http/foo/a')).text()).toBe('/http/foo/a');
    // The router forgets the connection: nobody is told, and nothing gets through.
    for (const hop of hops) hop.unpipe().pause();
    const forgottenAt = performance.now();
    await ptthApplication(scene, 'foo', (_request, response) => response.end('another'));
    await eventually(() => expect(performance.now() - forgottenAt).toBeGreaterThan(200));
    expect(await (await scene.fetch('/http/foo/b')).text()).toBe('another');
    expect(await slots()).toBe(1);
    for (const hop of hops) hop.destroy();
    router.close();
  });

  it('asks again for what the application has refused to begin with, whatever the method', async () => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'ptth', ALPN: 'h2' }, 'GET');
    let asked = 0;
    serve2(socket, () => {}).on('stream', (stream) => {
      asked += 1;
      if (asked === 1) stream.close(constants.NGHTTP2_REFUSED_STREAM);
      else stream.end('at last');
    });
    expect(await (await scene.fetch('/http/foo/', { method: 'POST', body: 'once' })).text()).toBe('at last');
    expect(asked).toBe(2);
  });
});

describe('a server that dies', () => {
  /** Two applications: the first takes one request and dies of it. */
  async function firstDies(method: string): Promise<Response> {
    let victim: Socket | undefined;
    victim = await ptthApplication(scene, 'foo', () => victim?.destroy());
    await eventually(async () => expect(await slots()).toBe(1));
    const asked = scene.fetch('/http/foo/', { method });
    await eventually(async () => expect(await slots()).toBe(0));
    await ptthApplication(scene, 'foo', echo);
    return asked;
  }

  it('has an idempotent request served by another', async () => {
    expect(await (await firstDies('PUT')).text()).toBe('PUT /http/foo/ ');
  });

  it('costs any other request a 502', async () => {
    expect((await firstDies('POST')).status).toBe(502);
  });

  it('does not make a request go round for ever', async () => {
    let served = 0;
    const dying = async (): Promise<void> => {
      const socket: Socket = await ptthApplication(scene, 'foo', () => {
        served += 1;
        socket.destroy();
      });
    };
    for (let count = 0; count < 5; count += 1) await dying();
    expect((await scene.fetch('/http/foo/')).status).toBe(502);
    expect(served).toBe(3);
  });

  it('in the middle of its answer cuts the answer off', async () => {
    const socket: Socket = await ptthApplication(scene, 'foo', (_request, response) => {
      response.writeHead(200, { 'Content-Length': 100 });
      response.write('half', () => socket.destroy());
    });
    const response = await scene.fetch('/http/foo/');
    await expect(response.text()).rejects.toThrow();
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(0));
  });

  it.each([
    ['no HTTP', 'nonsense\r\n\r\n'],
    ['both a length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello'],
    ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n'],
    ['a head without end', `HTTP/1.1 200 OK\r\n${'X: y\r\n'.repeat(20_000)}`],
  ])('answering with %s is the same as dying', async (_name, octets) => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    socket.once('data', () => socket.write(octets));
    expect((await scene.fetch('/http/foo/', { method: 'POST' })).status).toBe(502);
    await eventually(() => expect(socket.destroyed).toBe(true));
    expect(await scene.depth('rhttp.foo')).toBe(0);
  });

  it('is dismissed when the claim ends, after what it is serving', async () => {
    const { location } = await scene.claim({ name: 'foo' });
    let answer = (): void => {};
    const socket = await ptthApplication(scene, 'foo', (_request, response) => {
      answer = () => response.end('last');
    });
    const asked = scene.fetch('/http/foo/');
    await eventually(async () => expect((await scene.overview()).busy).toBe(1));
    const closed = once(socket, 'close');
    await scene.fetch(location, { method: 'DELETE' });
    answer();
    expect(await (await asked).text()).toBe('last');
    await closed;
  });
});
