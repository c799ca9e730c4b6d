/** What strangers send, each on a real socket: nothing of it stays in a queue, and nobody else suffers from it. */
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { eventually } from '../../support/eventually.ts';
import { http2Application, ptthApplication, turnRound } from './application.ts';
import { answer, consumerApplication, GUEST, poll, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ bodyIdleMs: 100, bodyBytesMax: 100_000, replyTimeoutMs: 2000 });
});

afterEach(() => scene.close());

/** Claims foo, and says what its application would have seen. */
async function watch(): Promise<string[]> {
  const seen: string[] = [];
  await ptthApplication(scene, 'foo', (request, response) => {
    seen.push(`${request.method} ${request.url}`);
    response.end('fine');
  });
  return seen;
}

const head = (...lines: string[]): string => `${lines.join('\r\n')}\r\n\r\n`;

describe('a request that two readers could read in two ways', () => {
  it.each([
    [
      'a length and chunks',
      `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: 4', 'Transfer-Encoding: chunked')}0\r\n\r\nGET /http/foo/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n`,
    ],
    [
      'chunks and a length',
      `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: chunked', 'Content-Length: 4')}0\r\n\r\n`,
    ],
    [
      'two lengths',
      `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: 4', 'Content-Length: 5')}abcde`,
    ],
    [
      'the same length twice',
      `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: 4', 'Content-Length: 4')}abcd`,
    ],
    ['a length list', `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: 4, 4')}abcd`],
    ['a signed length', `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: +4')}abcd`],
    ['bare line feeds', 'GET /http/foo/ HTTP/1.1\nHost: h\n\n'],
    ['a bare carriage return', head('GET /http/foo/ HTTP/1.1', 'Host: localhost', 'A: b\rC: d')],
    ['a folded line', head('GET /http/foo/ HTTP/1.1', 'Host: localhost', 'A: b', ' c')],
    ['a space before the colon', `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length : 4')}abcd`],
    [
      'an unknown transfer encoding',
      `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: xchunked')}0\r\n\r\n`,
    ],
    [
      'chunks that are not last',
      `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: chunked, identity')}0\r\n\r\n`,
    ],
    [
      'chunks in HTTP/1.0',
      `${head('POST /http/foo/ HTTP/1.0', 'Host: localhost', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    ],
    ['two hosts', head('GET /http/foo/ HTTP/1.1', 'Host: localhost', 'Host: i', 'Connection: close')],
    ['no host', head('GET /http/foo/ HTTP/1.1')],
    ['a NUL', head('GET /http/foo/ HTTP/1.1', 'Host: localhost', 'A: b\0c')],
    [
      'a chunk size that ends in a line feed',
      `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: chunked')}4\nabcd\r\n0\r\n\r\n`,
    ],
  ])('is refused: %s', async (_name, octets) => {
    const seen = await watch();
    const answered = await scene.raw(octets);
    expect(answered).toMatch(/^HTTP\/1\.1 400 /);
    expect(answered).not.toContain('fine');
    // None of it has come through, not even as a second request.
    expect(await (await scene.fetch('/http/foo/next')).text()).toBe('fine');
    expect(seen.filter((line) => line !== 'GET /http/foo/next' && !line.startsWith('POST /http/foo/'))).toEqual([]);
    expect(seen).not.toContain('GET /http/foo/smuggled');
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(0));
  });
});

describe('transfer codings', () => {
  it('besides chunks are 501: nobody would be told how to read them', async () => {
    const seen = await watch();
    const octets = '3\r\nabc\r\n0\r\n\r\n';
    const coded = head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: gzip, chunked');
    expect(await scene.raw(coded + octets)).toMatch(/^HTTP\/1\.1 501 /);
    expect(seen).toEqual([]);
  });

  it('besides chunks make an answer invalid, whoever gives it', async () => {
    const coded = `${head('HTTP/1.1 200 OK', 'Transfer-Encoding: gzip, chunked')}3\r\nabc\r\n0\r\n\r\n`;
    const { first } = await scene.claim({ name: 'foo' });
    const polled = poll(scene, first, () => coded);
    expect((await scene.fetch('/http/foo/')).status).toBe(502);
    await polled;
    const { socket } = await turnRound(scene, '/reversehttp/bar', { Upgrade: 'PTTH/1.0' });
    socket.once('data', () => socket.write(coded));
    expect((await scene.fetch('/http/bar/', { method: 'POST' })).status).toBe(502);
  });
});

describe('sizes', () => {
  it('ends a connection that sends a thousand requests ahead', async () => {
    await scene.claim({ name: 'foo' });
    const socket = await scene.dial(head('GET /http/foo/ HTTP/1.1', 'Host: localhost').repeat(1002));
    await once(socket.resume(), 'close');
    expect(await scene.depth('rhttp.foo')).toBeLessThanOrEqual(1);
  });

  it.each([
    ['a field', head('GET /http/foo/ HTTP/1.1', 'Host: localhost', `A: ${'x'.repeat(20_000)}`)],
    [
      'the fields together',
      head(
        'GET /http/foo/ HTTP/1.1',
        'Host: localhost',
        ...Array.from({ length: 400 }, (_, n) => `A-${n}: ${'x'.repeat(50)}`),
      ),
    ],
    ['the target', head(`GET /http/foo/${'x'.repeat(20_000)} HTTP/1.1`, 'Host: localhost')],
  ])('431 for a head over the limit: %s', async (_name, octets) => {
    expect(await scene.raw(octets)).toMatch(/^HTTP\/1\.1 431 /);
  });

  it.each([
    ['/reversehttp', 64 * 1024],
    ['/exchange/amq.topic/k', 100_000],
    ['/cap', 4096],
  ])('413 for a body over the limit of %s', async (path, max) => {
    const post = (length: number) =>
      scene.raw(
        head(
          `POST ${path} HTTP/1.1`,
          'Host: localhost',
          `Authorization: ${GUEST.Authorization}`,
          `Content-Length: ${length}`,
        ),
      );
    expect(await post(max + 1)).toMatch(/^HTTP\/1\.1 413 /);
  });

  it('503 for more bodies at a time than there is room for, and room again when they are over', async () => {
    await scene.close();
    scene = await Scene.open({ bodiesBytesMax: 50_000 });
    const { first } = await scene.claim({ name: 'foo' });
    const post = head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Connection: close', 'Content-Length: 40000');
    const slow = await scene.dial(post + 'x'.repeat(30_000));
    await eventually(async () => expect(await scene.raw(post + 'x'.repeat(30_000))).toMatch(/^HTTP\/1\.1 503 /));
    slow.destroy();
    const polled = poll(scene, first, () => answer('fine'));
    await eventually(async () => expect(await scene.raw(post + 'x'.repeat(40_000))).toContain('fine'));
    await polled;
  });

  it('413 for a reply over the limit', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const asked = scene.fetch('/http/foo/');
    await (await scene.fetch(first)).text();
    expect((await scene.fetch(first, { method: 'POST', body: 'x'.repeat(100_001) })).status).toBe(413);
    expect((await scene.fetch(first, { method: 'POST', body: answer('small') })).status).toBe(202);
    expect(await (await asked).text()).toBe('small');
  });
});

describe('slowness', () => {
  it('ends the connection of a head that does not come', async () => {
    await scene.close();
    scene = await Scene.open({}, { handshakeTimeoutMs: 50 });
    expect(await scene.raw('GET /http/foo/ HTTP/1.1\r\nHost: localhost\r\nA:')).toBe('');
  });

  it('408 for a body that does not come, wherever it goes', async () => {
    await scene.claim({ name: 'foo' });
    const { first } = await scene.claim({ name: 'bar' });
    const paths = ['/http/foo/', '/reversehttp', '/exchange/amq.topic/k', '/cap', new URL(first).pathname];
    const answers = await Promise.all(
      paths.map((path) =>
        scene.raw(
          `${head(`POST ${path} HTTP/1.1`, 'Host: localhost', `Authorization: ${GUEST.Authorization}`, 'Content-Length: 9')}abc`,
        ),
      ),
    );
    for (const answered of answers) expect(answered).toMatch(/^HTTP\/1\.1 408 /);
    expect(await scene.depth('rhttp.foo')).toBe(0);
  });

  it.each([
    ['read here', '/reversehttp', 'Content-Length: 60000'],
    ['handed on as it comes', '/http/foo/', 'Content-Length: 1000000'],
  ])('408 for a body that comes octet by octet, %s, and its server is free again', async (_name, path, length) => {
    await scene.close();
    scene = await Scene.open({ bodyIdleMs: 200, bodyRateMin: 500, unavailableAfterMs: 50, closeTimeoutMs: 50 });
    await ptthApplication(scene, 'foo', (request) => request.resume());
    const octets = head(`POST ${path} HTTP/1.1`, 'Host: localhost', `Authorization: ${GUEST.Authorization}`, length);
    const socket = await scene.dial(octets);
    const timer = setInterval(() => socket.write('x'), 20);
    const [answered] = await once(socket, 'data');
    clearInterval(timer);
    expect(String(answered)).toMatch(/^HTTP\/1\.1 408 /);
    await eventually(async () => expect((await scene.overview()).busy).toBe(0));
  });

  it('is borne in a body that comes faster than it must', async () => {
    await scene.close();
    scene = await Scene.open({ bodyIdleMs: 100, bodyRateMin: 500 });
    const octets = head('POST /reversehttp HTTP/1.1', 'Host: localhost', `Authorization: ${GUEST.Authorization}`);
    const socket = await scene.dial(octets.replace('\r\n\r\n', '\r\nContent-Length: 1511\r\n\r\nname=foo&x='));
    let left = 15;
    const timer = setInterval(() => {
      socket.write('x'.repeat(100));
      left -= 1;
      if (left === 0) clearInterval(timer);
    }, 25);
    const [answered] = await once(socket, 'data');
    expect(String(answered)).toMatch(/^HTTP\/1\.1 201 /);
  });

  it('frees the server of a request whose body stops coming', async () => {
    await scene.close();
    scene = await Scene.open({ bodyIdleMs: 100, unavailableAfterMs: 50, replyTimeoutMs: 5000, closeTimeoutMs: 50 });
    await ptthApplication(scene, 'foo', (request, response) => request.pipe(response));
    const answered = await scene.raw(
      head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: 1000000').replace('foo/', 'foo/slow'),
    );
    expect(answered).toMatch(/^HTTP\/1\.1 504 |^HTTP\/1\.1 200 /);
    await eventually(async () => expect((await scene.overview()).busy).toBe(0));
  });

  it('leaves a client that does not read its answer', async () => {
    await ptthApplication(scene, 'foo', (_request, response) => {
      const fill = (): void => {
        while (!response.destroyed && response.write(Buffer.alloc(64 * 1024)));
      };
      response.on('drain', fill);
      fill();
    });
    const socket = await scene.dial(head('GET /http/foo/ HTTP/1.1', 'Host: localhost'));
    socket.pause();
    const closed = once(socket, 'close');
    await eventually(async () => expect((await scene.overview()).busy).toBe(0), { timeoutMs: 8000 });
    socket.resume();
    await closed;
  });
});

describe('going away', () => {
  it.each([
    ['in the head', 'POST /http/foo/ HTTP/1.1\r\nHo'],
    ['before the body', head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: 9')],
    ['in the body', `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Content-Length: 9')}abc`],
    ['in a chunk', `${head('POST /http/foo/ HTTP/1.1', 'Host: localhost', 'Transfer-Encoding: chunked')}5\r\nab`],
    ['before the answer', head('GET /http/foo/hang HTTP/1.1', 'Host: localhost')],
  ])('%s leaves nothing behind', async (_name, octets) => {
    await ptthApplication(scene, 'foo', (request, response) => {
      request.resume();
      if (request.url?.endsWith('hang') === false) response.end('fine');
    });
    const socket = await scene.dial(octets);
    // Another request has been through: what came before it has been read.
    expect((await scene.fetch('/reversehttp', { headers: GUEST })).status).toBe(200);
    socket.destroy();
    await eventually(async () => {
      expect(await scene.depth('rhttp.foo')).toBeLessThanOrEqual(1);
      expect((await scene.overview()).busy).toBeLessThanOrEqual(1);
    });
    const { first } = await scene.claim({ name: 'bar' });
    const polled = poll(scene, first, () => answer('bar'));
    expect(await (await scene.fetch('/http/bar/')).text()).toBe('bar');
    await polled;
  });

  it.each([
    ['a claim', 'POST /reversehttp HTTP/1.1'],
    ['a publish', 'POST /exchange/amq.topic/k HTTP/1.1'],
  ])('in the middle of %s changes nothing', async (_name, line) => {
    const socket = await scene.dial(
      `${head(line, 'Host: localhost', `Authorization: ${GUEST.Authorization}`, 'Content-Length: 8')}name=`,
    );
    expect((await scene.fetch('/reversehttp', { headers: GUEST })).status).toBe(200);
    socket.destroy();
    expect(await scene.depth('rhttp.')).toBeUndefined();
  });
});

describe('what can be read and cannot be written', () => {
  const OCTETS = Array.from({ length: 255 }, (_, index) => index + 1);

  it.each(['PTTH/1.0', 'ptth'])('in a request, over %s, costs nobody but its sender', async (upgrade) => {
    const isHttp2 = upgrade === 'ptth';
    const serve = isHttp2 ? http2Application : ptthApplication;
    await serve(scene, 'foo', (_request: unknown, response: { end(body: string): void }) => response.end('fine'));
    await eventually(async () => expect((await scene.overview()).slots).toBeGreaterThan(0));
    const request = (target: string, ...fields: string[]): string =>
      head(`GET /http/foo/${target} HTTP/1.1`, 'Host: localhost', 'Connection: close', ...fields);
    const odd = [
      ...OCTETS.map((octet) => request('', `A: b${String.fromCharCode(octet)}c`)),
      ...OCTETS.map((octet) => request('', `A${String.fromCharCode(octet)}: b`)),
      ...OCTETS.map((octet) => request(String.fromCharCode(octet))),
      request('', 'Content-Type: a', 'Content-Type: b'),
      request('', 'Authorization: a', 'Authorization: b'),
      request('', ':path: /x'),
      request('', 'Proxy-Connection: x', 'HTTP2-Settings: y'),
    ];
    for (let start = 0; start < odd.length; start += 50) {
      const answers = await Promise.all(odd.slice(start, start + 50).map((octets) => scene.raw(octets)));
      for (const answered of answers) expect(answered).toMatch(/^HTTP\/1\.1 (?:200|400) /);
    }
    expect(await (await scene.fetch('/http/foo/')).text()).toBe('fine');
  });

  it('in an answer is a 502, whoever gives it', async () => {
    const channel = await scene.channel();
    await channel.declareQueue({ queue: 'q' });
    await channel.bind({ source: 'amq.rhttp', destination: 'q', destinationKind: 'queue', bindingKey: 'foo' });
    let served = 0;
    const odd = OCTETS.flatMap((octet) => [
      `HTTP/1.1 200 OK\r\nA: b${String.fromCharCode(octet)}c\r\nContent-Length: 0\r\n\r\n`,
      `HTTP/1.1 200 O${String.fromCharCode(octet)}K\r\nContent-Length: 0\r\n\r\n`,
    ]);
    await consumerApplication(scene, 'q', () => odd[served++] ?? '');
    for (let start = 0; start < odd.length; start += 50) {
      const asked = odd.slice(start, start + 50).map(() => scene.fetch('/http/foo/'));
      for (const response of await Promise.all(asked)) {
        await response.text();
        expect([200, 502]).toContain(response.status);
      }
    }
    expect(served).toBe(odd.length);
  });
});

describe('messages that are no requests', () => {
  it('are answered 400 to whoever sent them, and cost no server', async () => {
    await watch();
    const channel = await scene.channel();
    const replies: string[] = [];
    await channel.consume(
      { queue: 'amq.rabbitmq.reply-to', noAck: true },
      { onDeliver: ({ body }) => replies.push(Buffer.from(body).toString()) },
    );
    for (const body of [
      '',
      'no request',
      'GET / HTTP/1.1\r\n\r\n',
      'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx',
    ]) {
      const properties = { replyTo: 'amq.rabbitmq.reply-to', correlationId: 'c' };
      channel.publish(createMessage({ exchange: 'amq.rhttp', routingKey: 'foo', body, properties }));
    }
    await eventually(() => expect(replies).toHaveLength(4));
    for (const reply of replies) expect(reply).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(await (await scene.fetch('/http/foo/')).text()).toBe('fine');
  });

  it.each(['PTTH/1.0', 'poll'])('cannot write fields by the header requesting-client: %s', async (kind) => {
    const seen: string[] = [];
    let polled: Promise<unknown> | undefined;
    const { first } = await scene.claim({ name: 'foo' });
    if (kind === 'poll') {
      polled = poll(scene, first, (_text, envelope) => {
        seen.push(JSON.stringify([...envelope.headers]));
        return answer('');
      });
    } else {
      await ptthApplication(scene, 'foo', (request, response) => {
        seen.push(request.rawHeaders.join('\n'));
        response.end();
      });
    }
    const channel = await scene.channel();
    const headers = { 'requesting-client': '1.2.3.4:5\r\nX-Injected: yes' };
    const body = 'GET / HTTP/1.0\r\n\r\n';
    channel.publish(createMessage({ exchange: 'amq.rhttp', routingKey: 'foo', body, properties: { headers } }));
    await eventually(() => expect(seen).toHaveLength(1));
    expect(seen[0]).not.toContain('njected');
    await polled;
  });

  it('cannot have the door write where their server may not', async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'anna', password: 'x' });
    await administration.setPermission({ vhost: '/', user: 'anna', configure: '^rhttp', write: '', read: '^rhttp' });
    const Authorization = `Basic ${Buffer.from('anna:x').toString('base64')}`;
    const { first } = await scene.claim({ name: 'foo' }, { Authorization });
    const channel = await scene.channel();
    await channel.declareQueue({ queue: 'private' });
    const polled = poll(scene, first, () => answer('secret'));
    const properties = { replyTo: 'private' };
    const body = 'GET / HTTP/1.0\r\n\r\n';
    channel.publish(createMessage({ exchange: 'amq.rhttp', routingKey: 'foo', body, properties }));
    await polled;
    expect(await scene.depth('private')).toBe(0);
  });
});
