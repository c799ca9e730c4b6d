/** Claiming names and managing claims, as an application with an HTTP client sees it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { answer, basic, consumerApplication, GUEST, linksOf, Scene } from './scene.ts';

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open({ unavailableAfterMs: 100, replyTimeoutMs: 2000, pollSeconds: 5 });
});

afterEach(() => scene.close());

describe('claiming', () => {
  it('answers with the request URL, the public URL and the private URL', async () => {
    const response = await scene.fetch('/reversehttp', {
      method: 'POST',
      body: new URLSearchParams({ name: 'Foo', token: 'x' }),
      headers: GUEST,
    });
    expect(response.status).toBe(201);
    const { first, related } = linksOf(response);
    expect(first).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/cap\/[\w-]{24}$/);
    expect(related).toBe(`${scene.base}/http/foo/`);
    expect(response.headers.get('location')).toMatch(/\/cap\/[\w-]{24}$/);
  });

  it('sends the two relations in two fields', async () => {
    const octets = await scene.raw(
      `POST /reversehttp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: ${GUEST.Authorization}\r\n` +
        'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\nname=foo',
    );
    expect(octets.match(/^Link: .*$/gim)).toHaveLength(2);
  });

  it('refreshes with the same token and refuses another, or none', async () => {
    expect((await scene.claim({ name: 'foo', token: 'secret' })).status).toBe(201);
    expect((await scene.claim({ name: 'FOO', token: 'secret' })).status).toBe(204);
    expect((await scene.claim({ name: 'foo', token: 'other' })).status).toBe(403);
    expect((await scene.claim({ name: 'foo' })).status).toBe(403);
    expect((await scene.claim({ name: 'bar' })).status).toBe(201);
    expect((await scene.claim({ name: 'bar' })).status).toBe(403);
  });

  it.each([
    [{}],
    [{ name: '' }],
    [{ name: '-foo' }],
    [{ name: 'foo-' }],
    [{ name: '1foo' }],
    [{ name: 'a.b' }],
    [{ name: 'a'.repeat(64) }],
    [{ name: 'foo\r\nX: y' }],
    [{ name: 'foo', lease: 'soon' }],
    [{ name: 'foo', lease: '-1' }],
    [{ name: 'foo', lease: '1.5' }],
    [{ name: 'foo', token: 'x'.repeat(1025) }],
  ])('refuses %j with 400', async (form) => {
    expect((await scene.claim(form as Record<string, string>)).status).toBe(400);
  });

  it('is a queue, bound to amq.rhttp', async () => {
    await scene.claim({ name: 'foo' });
    const { queues, bindings } = await scene.broker.snapshot('/');
    expect(queues).toMatchObject([{ name: 'rhttp.foo', consumers: [{ active: true }] }]);
    expect(bindings).toMatchObject([{ source: 'amq.rhttp', destination: 'rhttp.foo', bindingKey: 'foo' }]);
  });

  it('takes the right configure on the queue, and read', async () => {
    const { administration } = scene.broker;
    for (const [user, configure, read] of [
      ['no-configure', '^$', '.*'],
      ['no-read', '.*', '^$'],
      ['good', '^rhttp\\.foo$', '^rhttp\\.foo$'],
    ] as const) {
      await administration.putUser({ name: user, password: 'x' });
      await administration.setPermission({ vhost: '/', user, configure, write: '^$', read });
    }
    expect((await scene.claim({ name: 'foo' }, basic('no-configure', 'x'))).status).toBe(403);
    expect((await scene.claim({ name: 'foo' }, basic('no-read', 'x'))).status).toBe(403);
    expect(await scene.depth('rhttp.foo')).toBeUndefined();
    expect((await scene.claim({ name: 'foo' }, basic('good', 'x'))).status).toBe(201);
    expect((await scene.claim({ name: 'bar' }, basic('good', 'x'))).status).toBe(403);
  });

  it('stops at the limit of claims', async () => {
    await scene.close();
    scene = await Scene.open({ claimsMax: 2 });
    expect((await scene.claim({ name: 'a' })).status).toBe(201);
    expect((await scene.claim({ name: 'b' })).status).toBe(201);
    expect((await scene.claim({ name: 'c' })).status).toBe(503);
    expect(await scene.depth('rhttp.c')).toBeUndefined();
  });

  it('stops at the limit of claims, also of many at a time', async () => {
    await scene.close();
    scene = await Scene.open({ claimsMax: 2 });
    const names = Array.from({ length: 8 }, (_, index) => `n${index}`);
    const statuses = (await Promise.all(names.map((name) => scene.claim({ name })))).map(({ status }) => status);
    expect(statuses.filter((status) => status === 201)).toHaveLength(2);
    expect(statuses.filter((status) => status === 503)).toHaveLength(6);
  });

  it('hands out URLs that begin as a proxy in front has them', async () => {
    await scene.close();
    scene = await Scene.open({ baseUrl: 'https://broker.example:444' });
    const { first, related, location } = await scene.claim({ name: 'foo' });
    expect(related).toBe('https://broker.example:444/http/foo/');
    for (const url of [first, location]) expect(url).toMatch(/^https:\/\/broker\.example:444\/cap\/[\w-]{24}$/);
    const polled = await scene.fetch(`${new URL(first).pathname}?wait=0`);
    expect(linksOf(polled).next).toMatch(/^https:\/\/broker\.example:444\/cap\//);
    await scene.close();
    scene = await Scene.open({ baseUrl: 'https://broker.example', domain: 'claims.example' });
    expect((await scene.claim({ name: 'foo' })).related).toBe('https://foo.claims.example/');
  });

  it("stops at the limit of a user's claims, and of nobody else's", async () => {
    await scene.close();
    scene = await Scene.open({ userClaimsMax: 2 });
    await scene.broker.administration.putUser({ name: 'anna', password: 'x' });
    await scene.broker.administration.setPermission({
      vhost: '/',
      user: 'anna',
      configure: '.*',
      write: '',
      read: '.*',
    });
    const names = ['a', 'b', 'c', 'd'];
    const statuses = (await Promise.all(names.map((name) => scene.claim({ name, token: 't' })))).map(
      (one) => one.status,
    );
    expect(statuses.toSorted()).toEqual([201, 201, 429, 429]);
    const { location } = await scene.claim({ name: 'anna', token: 't' }, basic('anna', 'x'));
    // To join is not to claim.
    expect((await scene.claim({ name: 'anna', token: 't' })).status).toBe(204);
    await scene.fetch(location, { method: 'DELETE' });
    expect((await scene.claim({ name: 'anna' })).status).toBe(429);
  });

  it('makes a claim anew while the one before is ending, with a queue of its own', async () => {
    for (let count = 0; count < 20; count += 1) {
      const { location } = await scene.claim({ name: 'foo', token: `t${count}` });
      const ended = scene.fetch(location, { method: 'DELETE' });
      const again = await Promise.all([1, 2].map(() => scene.claim({ name: 'foo', token: `u${count}` })));
      expect((await ended).status).toBe(204);
      for (const { status, location: url } of again) {
        // Whoever came too early met the old one.
        if (status === 201) expect((await scene.fetch(url, { method: 'DELETE' })).status).toBe(204);
        else expect([204, 403]).toContain(status);
      }
      expect(await scene.depth('rhttp.foo')).toBeUndefined();
    }
  });

  it('makes one claim of many attempts at a time', async () => {
    const statuses = (await Promise.all(Array.from({ length: 8 }, () => scene.claim({ name: 'foo', token: 't' })))).map(
      ({ status }) => status,
    );
    expect(statuses.filter((status) => status === 201)).toHaveLength(1);
    expect(statuses.filter((status) => status === 204)).toHaveLength(7);
  });
});

describe('managing claims', () => {
  it('shows name and lease, in a form or a page', async () => {
    const { location } = await scene.claim({ name: 'foo', lease: '90' });
    expect(await (await scene.fetch(location)).text()).toBe('name=foo&lease=90');
    const page = await scene.fetch(location, { headers: { Accept: 'text/html' } });
    expect(await page.text()).toContain('lease 90 s');
  });

  it('changes lease and token, and ignores a name', async () => {
    const { location } = await scene.claim({ name: 'foo', token: 'old' });
    const body = new URLSearchParams({ name: 'bar', lease: '120', token: 'new' });
    expect((await scene.fetch(location, { method: 'PUT', body })).status).toBe(204);
    expect(await (await scene.fetch(location)).text()).toBe('name=foo&lease=120');
    expect((await scene.claim({ name: 'foo', token: 'old' })).status).toBe(403);
    expect((await scene.claim({ name: 'foo', token: 'new' })).status).toBe(204);
    const bad = await scene.fetch(location, { method: 'PUT', body: new URLSearchParams({ lease: 'x' }) });
    expect(bad.status).toBe(400);
  });

  it('brings leases within its bounds', async () => {
    const { location } = await scene.claim({ name: 'foo', lease: '99999999999' });
    expect(await (await scene.fetch(location)).text()).toBe('name=foo&lease=86400');
  });

  it('ends a claim: polls end with 410, URLs with 404, what waits with 404, what is in progress completes', async () => {
    const { first, location } = await scene.claim({ name: 'foo', token: 't' });
    const working = scene.fetch('/http/foo/working').then((response) => response.text());
    const next = linksOf(await scene.fetch(first)).next ?? '';
    const waiting = scene.fetch('/http/foo/waiting');
    await eventually(async () => expect(await scene.depth('rhttp.foo')).toBe(2));
    expect((await scene.fetch(location, { method: 'DELETE' })).status).toBe(204);
    expect((await waiting).status).toBe(404);
    expect((await scene.fetch(first, { method: 'POST', body: answer('done') })).status).toBe(202);
    expect(await working).toBe('done');
    for (const url of [location, next]) expect((await scene.fetch(url)).status).toBe(404);
    expect((await scene.fetch(location, { method: 'DELETE' })).status).toBe(404);
    expect(await scene.depth('rhttp.foo')).toBeUndefined();

    const again = await scene.claim({ name: 'foo' });
    const parked = scene.fetch(again.first);
    await eventually(async () => expect((await scene.overview()).slots).toBe(1));
    await scene.fetch(again.location, { method: 'DELETE' });
    expect((await parked).status).toBe(410);
  });

  it('ends a claim that nobody has served for its lease, and no other', async () => {
    await scene.close();
    scene = await Scene.open({ leaseSecondsMin: 0.05 });
    await scene.claim({ name: 'short', lease: '0' });
    const { first } = await scene.claim({ name: 'served', lease: '0' });
    const parked = scene.fetch(first);
    await eventually(async () => expect(await scene.depth('rhttp.short')).toBeUndefined());
    expect(await scene.depth('rhttp.served')).toBe(0);
    expect((await scene.claim({ name: 'short' })).status).toBe(201);
    await scene.close();
    await parked.catch(() => {});
    scene = await Scene.open();
  });

  it('shows what there is to overseers only, and no capability', async () => {
    const { first, location } = await scene.claim({ name: 'foo' });
    const seen = await (await scene.fetch('/reversehttp', { headers: GUEST })).text();
    expect(JSON.parse(seen)).toMatchObject({ claims: [{ name: 'foo', user: 'guest', slots: 0 }], waiting: 0 });
    const page = await (await scene.fetch('/reversehttp', { headers: { ...GUEST, Accept: 'text/html' } })).text();
    expect(page).toContain('/http/foo/');
    for (const secret of [first, location]) {
      const token = secret.split('/').at(-1) ?? 'none';
      expect(seen + page).not.toContain(token);
      expect(JSON.stringify(scene.lines)).not.toContain(token);
    }
    await scene.broker.administration.putUser({ name: 'plain', password: 'x' });
    expect((await scene.fetch('/reversehttp', { headers: basic('plain', 'x') })).status).toBe(403);
    expect((await scene.fetch('/reversehttp')).status).toBe(401);
  });

  it('leaves the queue alone when somebody else made it, or uses it', async () => {
    const channel = await scene.channel();
    await channel.declareQueue({ queue: 'rhttp.foo', durable: true });
    const { location } = await scene.claim({ name: 'foo' });
    await scene.fetch(location, { method: 'DELETE' });
    expect(await scene.depth('rhttp.foo')).toBe(0);

    const bar = await scene.claim({ name: 'bar' });
    await consumerApplication(scene, 'rhttp.bar', () => answer('consumer'));
    await scene.fetch(bar.location, { method: 'DELETE' });
    expect(await (await scene.fetch('/http/bar/')).text()).toBe('consumer');
  });
});
