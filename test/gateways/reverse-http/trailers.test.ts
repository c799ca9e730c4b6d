/** What comes before an answer (1xx) and after a body (trailers), through every kind of server. */
import { once } from 'node:events';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { INTERIM_MAX } from '../../../gateways/reverse-http/ask.ts';
import { eventually } from '../../support/eventually.ts';
import { http2Application, ptthApplication, turnRound } from './application.ts';
import { consumerApplication, poll, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ closeTimeoutMs: 200, replyTimeoutMs: 3000 });
});

afterEach(() => scene.close());

interface Heard {
  readonly status: number;
  readonly body: string;
  readonly trailers: readonly string[];
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly interim: readonly { readonly status: number; readonly headers: readonly string[] }[];
}

/** Asks with `node:http`, and tells all that came. */
async function ask(
  path: string,
  options: { method?: string; body?: string; trailers?: Record<string, string>; headers?: Record<string, string> } = {},
): Promise<Heard> {
  const { method = 'GET', body, trailers, headers = {} } = options;
  const asking = request({ port: scene.port, path, method, headers });
  const interim: { status: number; headers: string[] }[] = [];
  asking.on('information', ({ statusCode: status, rawHeaders }) => interim.push({ status, headers: rawHeaders }));
  if (body !== undefined) asking.write(body);
  if (trailers !== undefined) asking.addTrailers(trailers);
  asking.end();
  const [response] = (await once(asking, 'response')) as [IncomingMessage];
  const all = await text(response);
  const { statusCode: status = 0, rawTrailers } = response;
  return { status, body: all, trailers: rawTrailers, headers: response.headers, interim };
}

/** Answers with a body and trailers, in which it tells the ones that it got. */
function withTrailers(message: IncomingMessage, response: ServerResponse): void {
  void text(message).then((body) => {
    response.writeHead(200, { Trailer: 'X-Sum' });
    response.write(`${body} `);
    response.addTrailers([
      ['X-Sum', '42'],
      ['Set-Cookie', 'never=1'],
    ]);
    response.end(JSON.stringify(message.trailers));
  });
}

const CHUNKED = { 'Transfer-Encoding': 'chunked', Trailer: 'X-Checked' };
const SENT = { method: 'POST', headers: CHUNKED, trailers: { 'X-Checked': 'yes', Authorization: 'no' } };

describe('trailers', () => {
  it.each([
    ['short', 'x'],
    ['streaming', 'x'.repeat(200_000)],
  ])('of a %s body go both ways over HTTP/1.1', async (_name, body) => {
    await ptthApplication(scene, 'foo', withTrailers);
    const heard = await ask('/http/foo/', { ...SENT, body });
    expect(heard.body).toBe(`${body} {"x-checked":"yes"}`);
    expect(heard.trailers).toEqual(['X-Sum', '42']);
    expect(heard.headers.trailer).toBe('X-Sum');
  });

  it.each([
    ['short', 'x'],
    ['streaming', 'x'.repeat(200_000)],
  ])('of a %s body go both ways over HTTP/2', async (_name, body) => {
    await http2Application(scene, 'foo', (message, response) => {
      void text(message).then((all) => {
        response.addTrailers({ 'x-sum': '42' });
        response.end(`${all} ${JSON.stringify(message.trailers)}`);
      });
    });
    await eventually(async () => expect((await scene.overview()).slots).toBe(100));
    const heard = await ask('/http/foo/', { ...SENT, body });
    expect(heard.body).toBe(`${body} {"x-checked":"yes"}`);
    expect(heard.trailers).toEqual(['x-sum', '42']);
  });

  it('are in the message that a request is, and are taken from the message that an answer is', async () => {
    await scene.claim({ name: 'foo' });
    let asked = '';
    await consumerApplication(scene, 'rhttp.foo', (octets) => {
      asked = octets;
      return 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 42\r\nHost: x\r\n\r\n';
    });
    const heard = await ask('/http/foo/', { ...SENT, body: 'abc' });
    expect(heard).toMatchObject({ body: 'hi', trailers: ['X-Sum', '42'] });
    expect(asked).toMatch(/\r\n\r\n3\r\nabc\r\n0\r\nX-Checked: yes\r\nAuthorization: no\r\n\r\n$/);
  });

  it('come from a poller too, and none to who asks by HTTP/1.0', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const answer =
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n';
    const served = poll(scene, first, () => answer);
    expect(await ask('/http/foo/')).toMatchObject({ body: 'hi', trailers: ['X-Sum', '42'] });
    const again = poll(scene, await served, () => answer);
    expect(await scene.raw('GET /http/foo/ HTTP/1.0\r\nHost: x\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 [\s\S]*\r\n\r\nhi$/);
    await again;
  });
});

describe('interim answers', () => {
  it('are handed on over HTTP/1.1: 103 and any other, but those between neighbours', async () => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    socket.on('data', () => {
      socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n');
      socket.write('HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n');
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
    const heard = await ask('/http/foo/');
    expect(heard).toMatchObject({ status: 200, body: 'ok' });
    expect(heard.interim).toEqual([
      { status: 102, headers: [] },
      { status: 103, headers: ['Link', '</a.css>; rel=preload'] },
    ]);
    // A client of HTTP/1.0 would take them for the answer.
    expect(await scene.raw('GET /http/foo/ HTTP/1.0\r\nHost: x\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('are handed on over HTTP/2', async () => {
    await http2Application(scene, 'foo', (_message, response) => {
      response.writeEarlyHints({ link: '</a.css>; rel=preload' });
      response.end('ok');
    });
    await eventually(async () => expect((await scene.overview()).slots).toBe(100));
    const heard = await ask('/http/foo/');
    expect(heard).toMatchObject({ status: 200, body: 'ok' });
    expect(heard.interim).toEqual([{ status: 103, headers: ['link', '</a.css>; rel=preload'] }]);
  });

  it(`are ${INTERIM_MAX} at most`, async () => {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    socket.on('data', () => {
      socket.write('HTTP/1.1 102 Processing\r\n\r\n'.repeat(INTERIM_MAX + 8));
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
    expect((await ask('/http/foo/')).interim).toHaveLength(INTERIM_MAX);
  });
});

describe('an application that stops in the middle of its answer', () => {
  beforeEach(async () => {
    await scene.close();
    scene = await Scene.open({ closeTimeoutMs: 100, idleMs: 300 });
  });

  it('does not hold the client for ever, and loses its HTTP/1.1 connection', async () => {
    await ptthApplication(scene, 'foo', (_message, response) => {
      response.write('half');
    });
    const response = await scene.fetch('/http/foo/');
    await expect(response.text()).rejects.toThrow();
    await eventually(async () => expect((await scene.overview()).slots).toBe(0));
  });

  it('loses its HTTP/2 stream only', async () => {
    const closed: string[] = [];
    await http2Application(scene, 'foo', (message, response) => {
      message.stream.on('close', () => closed.push(message.url));
      response.write('half');
    });
    await eventually(async () => expect((await scene.overview()).slots).toBe(100));
    const response = await scene.fetch('/http/foo/a');
    await expect(response.text()).rejects.toThrow();
    await eventually(() => expect(closed).toEqual(['/http/foo/a']));
    expect(await scene.overview()).toMatchObject({ slots: 100, free: 100 });
  });

  it('may be as slow as it likes while something comes', async () => {
    await ptthApplication(scene, 'foo', (_message, response) => {
      let count = 0;
      const timer = setInterval(() => {
        count += 1;
        response.write('.');
        if (count < 10) return;
        clearInterval(timer);
        response.end();
      }, 60);
    });
    expect(await (await scene.fetch('/http/foo/')).text()).toBe('..........');
  });
});
