/** The reversehttp.net protocol, as an application with an HTTP client sees it. */
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { eventually } from '../../support/eventually.ts';
import { answer, consumerApplication, linksOf, poll, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ unavailableAfterMs: 100, replyTimeoutMs: 2000, pollSeconds: 5 });
});

afterEach(() => scene.close());

describe('serving', () => {
  it('gives the request as it was received and relays the answer', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    let envelope: Response | undefined;
    let request = '';
    const polled = poll(scene, first, (text, response) => {
      envelope = response;
      request = text;
      return answer('hello', '203 Sure', 'X-Thing: a\r\nx-thing: b\r\n');
    });
    const asked =
      'PUT /http/foo/a%20b?c=d HTTP/1.1\r\nHost: example\r\nx-ODD:  spaced \r\nConnection: close\r\n' +
      'Content-Length: 4\r\n\r\nbody';
    const octets = await scene.raw(asked);
    const next = await polled;
    expect(request).toBe(asked.replace('x-ODD:  spaced ', 'x-ODD: spaced'));
    expect(envelope?.headers.get('content-type')).toBe('message/http');
    expect(envelope?.headers.get('requesting-client')).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(next).not.toBe(first);
    expect(octets).toMatch(/^HTTP\/1\.1 203 Sure\r\nX-Thing: a\r\nx-thing: b\r\nContent-Length: 5\r\n/);
    expect(octets).toMatch(/\r\n\r\nhello$/);
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(0));
  });

  it('frames a chunked body in chunks again', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    let request = '';
    const polled = poll(scene, first, (text) => {
      request = text;
      return answer('');
    });
    await scene.raw(
      'POST /http/foo/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n' +
        '3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n',
    );
    await polled;
    expect(request).toMatch(/\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nabcdefg\r\n0\r\n\r\n$/);
  });

  it('follows the chain of request URLs, in the order of arrival', async () => {
    let { first: url } = await scene.claim({ name: 'foo' });
    const answers = Array.from({ length: 5 }, (_, index) => scene.fetch(`/http/foo/${index}`).then((r) => r.text()));
    for (let count = 0; count < 5; count += 1) {
      url = await poll(scene, url, (text) => answer(text.split(' ')[1] ?? ''));
    }
    expect(await Promise.all(answers)).toEqual([0, 1, 2, 3, 4].map((index) => `/http/foo/${index}`));
  });

  it('says 204 with the next URL when nothing came in time, sooner if the poller prefers', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const response = await scene.fetch(first, { headers: { Prefer: 'wait=0' } });
    expect(response.status).toBe(204);
    const next = linksOf(response).next ?? '';
    const again = await scene.fetch(`${next}?wait=0`);
    expect([again.status, linksOf(again).next]).toEqual([204, next]);
  });

  it('does not reorder what comes on one connection', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const socket = await scene.dial(
      'POST /http/foo/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nab' +
        'GET /http/foo/2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /http/foo/3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    const seen: string[] = [];
    let url = first;
    for (let count = 0; count < 3; count += 1) {
      url = await poll(scene, url, (text) => {
        seen.push(text.split(' ')[1] ?? '');
        return answer(String(count));
      });
    }
    const octets = Buffer.concat(await socket.toArray()).toString();
    expect(seen).toEqual(['/http/foo/1', '/http/foo/2', '/http/foo/3']);
    expect([...octets.matchAll(/\r\n\r\n(\d)/g)].map(([, body]) => body)).toEqual(['0', '1', '2']);
  });

  it('shares the requests among several pollers in turn', async () => {
    const { first } = await scene.claim({ name: 'foo', token: 't' });
    const { first: second } = await scene.claim({ name: 'foo', token: 't' });
    const counts = [0, 0];
    const serve = async (index: number, start: string): Promise<void> => {
      for (let url = start; url !== ''; ) {
        url = await poll(scene, url, () => {
          counts[index] = (counts[index] ?? 0) + 1;
          return answer('');
        });
      }
    };
    const servers = [serve(0, first), serve(1, second)];
    for (let count = 0; count < 10; count += 1) await (await scene.fetch('/http/foo/')).text();
    expect(Math.min(...counts)).toBeGreaterThanOrEqual(4);
    await scene.close();
    await Promise.allSettled(servers);
    scene = await Scene.open();
  });

  it('gives the same request again to a poller who asks again, until he replies', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const asked = scene.fetch('/http/foo/once');
    const request = await (await scene.fetch(first)).text();
    const again = await scene.fetch(first);
    expect(await again.text()).toBe(request);
    expect((await scene.fetch(first, { method: 'POST', body: answer('one') })).status).toBe(202);
    expect(await (await asked).text()).toBe('one');
    expect((await scene.fetch(first)).status).toBe(404);
    expect((await scene.fetch(first, { method: 'POST', body: answer('two') })).status).toBe(404);
  });

  it('takes a reply of any content type, but no invalid one', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const asked = scene.fetch('/http/foo/');
    await (await scene.fetch(first)).text();
    const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
    const posted = await scene.fetch(first, { method: 'POST', body: 'HTTP/1.1 200 OK\r\n\r\nbody', headers });
    expect(posted.status).toBe(202);
    expect(await (await asked).text()).toBe('body');
  });

  it.each([
    ['nothing', ''],
    ['no HTTP', 'hello'],
    ['an interim response only', 'HTTP/1.1 100 Continue\r\n\r\n'],
    ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n'],
    ['a length that is more than there is', 'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello'],
    ['both a length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nhello'],
    ['bare line feeds', 'HTTP/1.1 200 OK\nContent-Length: 5\n\nhello'],
    ['a folded line', 'HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 5\r\n\r\nhello'],
    ['two responses', `${answer('a')}${answer('b')}`],
  ])('refuses %s as a reply with 400, and tells the requestor 502', async (_name, reply) => {
    const { first } = await scene.claim({ name: 'foo' });
    const asked = scene.fetch('/http/foo/');
    await (await scene.fetch(first)).text();
    expect((await scene.fetch(first, { method: 'POST', body: reply })).status).toBe(400);
    expect((await asked).status).toBe(502);
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(0));
  });

  it('answers HEAD without a body, and says its length', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const polled = poll(scene, first, () => 'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n');
    const response = await scene.fetch('/http/foo/', { method: 'HEAD' });
    expect([response.status, response.headers.get('content-length')]).toEqual([200, '1234']);
    await polled;
  });

  it('answers HEAD also where the application has answered it like GET', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const polled = poll(scene, first, () => 'HTTP/1.1 200 OK\r\nX: y\r\n\r\nHello');
    const octets = await scene.raw('HEAD /http/foo/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    expect(octets).toMatch(/^HTTP\/1\.1 200 OK\r\nX: y\r\n/);
    expect(octets).toMatch(/\r\n\r\n$/);
    await polled;
  });

  it('gives several requests at a time to whoever can read application/http', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const answers = Array.from({ length: 3 }, (_, index) => scene.fetch(`/http/foo/${index}`).then((r) => r.text()));
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(3));
    const envelope = await scene.fetch(first, { headers: { Accept: 'message/http, application/http' } });
    expect(envelope.headers.get('content-type')).toBe('application/http');
    const requests = [...(await envelope.text()).matchAll(/^GET (\S+)/gm)].map(([, target]) => target);
    expect(requests).toEqual(['/http/foo/0', '/http/foo/1', '/http/foo/2']);
    const chunked = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n';
    const body = `${answer('zero')}${chunked}HTTP/1.1 200 OK\r\n\r\ntwo`;
    const headers = { 'Content-Type': 'application/http' };
    expect((await scene.fetch(first, { method: 'POST', body, headers })).status).toBe(202);
    expect(await Promise.all(answers)).toEqual(['zero', 'one', 'two']);
  });

  it('says 502 to all of a pipeline when there are not as many answers', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const asked = [1, 2].map(() => scene.fetch('/http/foo/'));
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(2));
    await (await scene.fetch(first, { headers: { Accept: 'application/http' } })).text();
    expect((await scene.fetch(first, { method: 'POST', body: answer('only one') })).status).toBe(400);
    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([502, 502]);
  });

  it('gives one at a time to whoever accepts anything', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const answers = [scene.fetch('/http/foo/1'), scene.fetch('/http/foo/2')];
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(2));
    const envelope = await scene.fetch(first, { headers: { Accept: '*/*' } });
    expect(envelope.headers.get('content-type')).toBe('message/http');
    expect((await envelope.text()).match(/^GET /gm)).toHaveLength(1);
    await Promise.allSettled([scene.close(), ...answers]);
    scene = await Scene.open();
  });
});

describe('what the gateway answers itself', () => {
  it('404: nobody has claimed it', async () => {
    expect((await scene.fetch('/http/nobody/x')).status).toBe(404);
    expect((await scene.fetch('/http/-not-a-label-/x')).status).toBe(404);
  });

  it('504: nobody polls; the message does not stay', async () => {
    await scene.claim({ name: 'foo' });
    expect((await scene.fetch('/http/foo/')).status).toBe(504);
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(0));
  });

  it('no 504 for what came while the only poller was answering somebody else', async () => {
    await scene.close();
    scene = await Scene.open({ unavailableAfterMs: 1000 });
    let { first: url } = await scene.claim({ name: 'foo' });
    const asked = Array.from({ length: 4 }, async (_, index) => (await scene.fetch(`/http/foo/${index}`)).text());
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(4));
    const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 300));
    // Together it is away for longer than that, at no time by itself.
    for (let count = 0; count < 4; count += 1) {
      await pause();
      url = await poll(scene, url, async (text) => {
        await pause();
        return answer(text.split(' ')[1] ?? '');
      });
    }
    expect(await Promise.all(asked)).toEqual([0, 1, 2, 3].map((index) => `/http/foo/${index}`));
  });

  it('no 504 for a consumer of a queue of its own that takes its time', async () => {
    await scene.close();
    scene = await Scene.open({ unavailableAfterMs: 30 });
    const channel = await scene.channel();
    await channel.declareQueue({ queue: 'mine' });
    await channel.bind({ source: 'amq.rhttp', destination: 'mine', destinationKind: 'queue', bindingKey: 'foo' });
    await channel.consume(
      { queue: 'mine', noAck: true },
      {
        onDeliver: ({ properties: { replyTo = '', correlationId = '' } }) =>
          void setTimeout(() => {
            const properties = { correlationId };
            channel.publish(createMessage({ routingKey: replyTo, body: answer('at last'), properties }));
          }, 700),
      },
    );
    expect(await (await scene.fetch('/http/foo/')).text()).toBe('at last');
  });

  it('no 504 yet for a busy application; 504 when it takes too long', async () => {
    await scene.close();
    scene = await Scene.open({ unavailableAfterMs: 30, replyTimeoutMs: 400 });
    const { first } = await scene.claim({ name: 'foo' });
    const slow = scene.fetch('/http/foo/slow');
    await (await scene.fetch(first)).text();
    const started = performance.now();
    const waiting = scene.fetch('/http/foo/waits');
    expect((await waiting).status).toBe(504);
    expect(performance.now() - started).toBeGreaterThan(300);
    expect((await slow).status).toBe(504);
    expect((await scene.fetch(first, { method: 'POST', body: answer('late') })).status).toBe(404);
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(0));
  });

  it('503: publishers are held back', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const polled = poll(scene, first, () => answer('fine'));
    expect((await scene.fetch('/http/foo/')).status).toBe(200);
    await polled;
    await scene.broker.administration.setAlarm('memory', true);
    expect((await scene.fetch('/http/foo/')).status).toBe(503);
  });

  it('413: a body over the limit, before it is read', async () => {
    await scene.close();
    scene = await Scene.open({ bodyBytesMax: 2000 });
    await scene.claim({ name: 'foo' });
    const head = 'POST /http/foo/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2001\r\nExpect: 100-continue\r\n\r\n';
    expect(await scene.raw(head)).toMatch(/^HTTP\/1\.1 413 /);
    const chunked = `POST /http/foo/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n7d1\r\n${'x'.repeat(2001)}`;
    expect(await scene.raw(chunked)).toMatch(/^HTTP\/1\.1 413 /);
    expect(await scene.depth('rhttp.foo')).toBe(0);
  });

  it('drops a request whose client has gone before anybody took it', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    const socket = await scene.dial('GET /http/foo/gone HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(1));
    const closed = once(socket, 'close');
    socket.destroy();
    await closed;
    const asked = scene.fetch('/http/foo/stays').then((response) => response.text());
    await poll(scene, first, (text) => answer(text.split(' ')[1] ?? ''));
    expect(await asked).toBe('/http/foo/stays');
    expect(await scene.depth('rhttp.foo')).toBe(0);
  });

  it('gives a request to another poller when its poller is lost, if it may be sent twice', async () => {
    const { first } = await scene.claim({ name: 'foo', token: 't' });
    const { first: second } = await scene.claim({ name: 'foo', token: 't' });
    const parked = await scene.dial(`GET ${new URL(first).pathname} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    await eventually(async () => expect((await scene.overview()).slots).toBe(1));
    parked.destroy();
    await eventually(async () => expect((await scene.overview()).slots).toBe(0));
    const asked = scene.fetch('/http/foo/x').then((response) => response.text());
    await poll(scene, second, () => answer('second'));
    expect(await asked).toBe('second');
  });
});

describe('other doors', () => {
  it('serve by consuming from the queue, and share the load', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    await consumerApplication(scene, 'rhttp.foo', (text) => answer(`consumer ${text.split(' ')[1]}`));
    const polled = poll(scene, first, () => answer('poller'));
    const texts = await Promise.all([1, 2, 3].map(async (n) => (await scene.fetch(`/http/foo/${n}`)).text()));
    expect(texts.filter((text) => text === 'poller')).toHaveLength(1);
    expect(texts.filter((text) => text.startsWith('consumer /http/foo/'))).toHaveLength(2);
    await polled;
  });

  it('serve a name that nobody has claimed over HTTP', async () => {
    const channel = await scene.channel();
    await channel.declareQueue({ queue: 'mine' });
    await channel.bind({ source: 'amq.rhttp', destination: 'mine', destinationKind: 'queue', bindingKey: 'foo' });
    await consumerApplication(scene, 'mine', () => answer('from elsewhere'));
    expect(await (await scene.fetch('/http/foo/')).text()).toBe('from elsewhere');
  });

  it('are told 502 for an answer that is none', async () => {
    await scene.claim({ name: 'foo' });
    await consumerApplication(scene, 'rhttp.foo', () => 'no HTTP');
    expect((await scene.fetch('/http/foo/')).status).toBe(502);
  });
});
