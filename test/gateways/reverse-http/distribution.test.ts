/** Work distribution: slots, the least busy first, tiers of gateways. */
import type { ServerResponse } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { http2Application, ptthApplication } from './application.ts';
import { answer, consumerApplication, poll, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ closeTimeoutMs: 200 });
});

afterEach(() => scene.close());

const slots = async (of: Scene = scene, name = 'foo'): Promise<unknown> =>
  (await of.fetch(`/http/${name}/.slots`)).json();

describe('.slots', () => {
  it('counts parked polls, reversed connections and consumers of other doors', async () => {
    const { first } = await scene.claim({ name: 'foo' });
    expect(await slots()).toEqual({ name: 'foo', slots: 0, free: 0, busy: 0, waiting: 0, unlimited: 0 });
    const parked = poll(scene, first, () => answer(''));
    const answers: ServerResponse[] = [];
    await ptthApplication(scene, 'foo', (_request, response) => void answers.push(response));
    await http2Application(scene, 'foo', () => {}, { settings: { maxConcurrentStreams: 4 } });
    const channel = await scene.channel();
    channel.prefetch(3);
    await channel.consume({ queue: 'rhttp.foo' }, { onDeliver: () => {} });
    await consumerApplication(scene, 'rhttp.foo', () => answer(''));
    await eventually(async () =>
      expect(await slots()).toEqual({ name: 'foo', slots: 9, free: 9, busy: 0, waiting: 0, unlimited: 1 }),
    );
    await scene.close();
    await parked.catch(() => {});
    scene = await Scene.open();
  });

  it('tells busy slots and what waits for a free one', async () => {
    const answers: ServerResponse[] = [];
    await ptthApplication(scene, 'foo', (_request, response) => void answers.push(response));
    const asked = [1, 2, 3].map(() => scene.fetch('/http/foo/'));
    await eventually(async () =>
      expect(await slots()).toEqual({ name: 'foo', slots: 1, free: 0, busy: 1, waiting: 2, unlimited: 0 }),
    );
    for (let count = 0; count < 3; count += 1) (await eventually(() => answers[count] ?? Promise.reject())).end('x');
    await Promise.all(asked);
  });

  it('is 404 for a name that nobody serves', async () => {
    expect((await scene.fetch('/http/nobody/.slots')).status).toBe(404);
  });

  it.each([
    ['.free', '/http/foo/.free', '{"name"'],
    ['.free', '/http/foo/.slots', 'served'],
    ['off', '/http/foo/.slots', 'served'],
  ])('is where the option says: %s, %s', async (slotsPath, path, beginning) => {
    await scene.close();
    scene = await Scene.open({ slotsPath });
    await ptthApplication(scene, 'foo', (_request, response) => response.end('served'));
    expect((await (await scene.fetch(path)).text()).slice(0, beginning.length)).toBe(beginning);
  });

  it('is found by host too', async () => {
    await scene.close();
    scene = await Scene.open({ domain: 'example.org' });
    await ptthApplication(scene, 'foo', (_request, response) => response.end('served'));
    const ask = (host: string, path: string) =>
      scene.raw(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    expect(await ask('FOO.example.org:80', '/.slots')).toContain('"slots":1');
    expect(await ask('foo.example.org', '/anything')).toMatch(/served$/);
    expect(await ask('other.example.org', '/')).toMatch(/^HTTP\/1\.1 404 /);
    expect(await ask('a.b.example.org', '/reversehttp')).toMatch(/^HTTP\/1\.1 404 /);
    expect((await scene.claim({ name: 'bar' })).related).toBe(`http://bar.example.org:${scene.port}/`);
  });
});

describe('sharing work', () => {
  it('gives a request to the least busy server', async () => {
    const taken: string[] = [];
    const answers: ServerResponse[] = [];
    const wide = { settings: { maxConcurrentStreams: 10 } };
    for (const name of ['one', 'two']) {
      await http2Application(
        scene,
        'foo',
        (_request, response) => {
          taken.push(name);
          answers.push(response as unknown as ServerResponse);
        },
        wide,
      );
    }
    await eventually(async () => expect(await slots()).toMatchObject({ slots: 20 }));
    const asked = Array.from({ length: 10 }, () => scene.fetch('/http/foo/'));
    await eventually(() => expect(taken).toHaveLength(10));
    expect(taken.filter((name) => name === 'one')).toHaveLength(5);
    // All that one of them has is done: it is the less busy one now.
    for (const [index, name] of taken.entries()) if (name === 'two') answers[index]?.end('x');
    await eventually(async () => expect(await slots()).toMatchObject({ busy: 5 }));
    const more = Array.from({ length: 5 }, () => scene.fetch('/http/foo/'));
    await eventually(() => expect(taken).toHaveLength(15));
    expect(taken.slice(10)).toEqual(['two', 'two', 'two', 'two', 'two']);
    for (const response of answers) response.end('x');
    await Promise.all([...asked, ...more]);
  });

  it('gives a request that waits to whoever is free first', async () => {
    const answers: ServerResponse[] = [];
    for (let count = 0; count < 2; count += 1) {
      await ptthApplication(scene, 'foo', (_request, response) => void answers.push(response));
    }
    const asked = [1, 2, 3].map(async () => (await scene.fetch('/http/foo/')).text());
    await eventually(() => expect(answers).toHaveLength(2));
    answers[1]?.end('second');
    (await eventually(() => answers[2] ?? Promise.reject())).end('third');
    answers[0]?.end('first');
    expect((await Promise.all(asked)).sort()).toEqual(['first', 'second', 'third']);
  });
});

describe('tiers', () => {
  it('add up: a gateway parks as many polls above as it has free slots below', async () => {
    const upstream = `foo=http://guest:guest@127.0.0.1:${scene.port}/reversehttp?token=t`;
    const below = await Promise.all([1, 2].map(() => Scene.open({ upstreams: [upstream], closeTimeoutMs: 200 })));
    try {
      const answers: ServerResponse[] = [];
      for (const tier of below) {
        for (let count = 0; count < 2; count += 1) {
          await ptthApplication(tier, 'foo', (request, response) => {
            response.setHeader('X-Client', request.headers['requesting-client'] ?? '');
            answers.push(response);
          });
        }
      }
      await eventually(async () => expect(await slots()).toMatchObject({ slots: 4, free: 4 }), { timeoutMs: 8000 });
      const asked = [1, 2, 3, 4, 5].map(() => scene.fetch('/http/foo/deep'));
      await eventually(() => expect(answers).toHaveLength(4));
      await eventually(async () => expect(await slots()).toMatchObject({ free: 0, busy: 4, waiting: 1 }));
      for (let count = 0; count < 5; count += 1) {
        (await eventually(() => answers[count] ?? Promise.reject(), { timeoutMs: 8000 })).end(`answer ${count}`);
      }
      const responses = await Promise.all(asked);
      expect(responses.every(({ headers }) => /^127\.0\.0\.1:\d+$/.test(headers.get('x-client') ?? ''))).toBe(true);
      const texts = await Promise.all(responses.map((response) => response.text()));
      expect(texts.sort()).toEqual([0, 1, 2, 3, 4].map((count) => `answer ${count}`));
    } finally {
      await Promise.all(below.map((tier) => tier.close()));
    }
    await eventually(async () => expect(await slots()).toMatchObject({ slots: 0 }), { timeoutMs: 8000 });
  });

  it('say once that the gateway above is not there, without its password, and go on trying', async () => {
    const tier = await Scene.open({ upstreams: ['foo=http://guest:pssst@127.0.0.1:1/reversehttp'] });
    try {
      await ptthApplication(tier, 'foo', (_request, response) => response.end('x'));
      const warnings = () => tier.lines.filter(({ level }) => level === 'warn');
      await eventually(() => expect(warnings()).toMatchObject([{ fields: { claim: 'foo' } }]));
      expect(JSON.stringify(tier.lines)).not.toContain('pssst');
    } finally {
      await tier.close();
    }
    await expect(Scene.open({ upstreams: ['foo=ftp://guest:pssst@x'] })).rejects.toThrow('is no NAME=http');
  });
});
