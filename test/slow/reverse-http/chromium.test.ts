/** A page in a browser: it serves requests, publishes, and follows an exchange across a reconnect. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { Scene } from '../../gateways/reverse-http/scene.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith } from '../interop/foreign-program.ts';

const CHROMIUM = '/usr/bin/chromium';
const WAIT = { timeoutMs: 20_000 };

/** What the page can do; its functions are called by name. */
const SCRIPT = `
const authorization = { Authorization: 'Basic ' + btoa('guest:guest') };
const relation = (response, rel) => new RegExp('<([^>]*)>; rel="' + rel + '"').exec(response.headers.get('Link'))?.[1];
async function serve(base, name, respond) {
  const claimed = await fetch(base + '/reversehttp', { method: 'POST', headers: authorization, body: new URLSearchParams({ name }) });
  let url = relation(claimed, 'first');
  document.title = 'serving';
  while (url) {
    const envelope = await fetch(url);
    const next = relation(envelope, 'next');
    const request = await envelope.text();
    if (envelope.status === 200) {
      const body = 'the page answers ' + request.split(' ')[1] + ' to ' + (envelope.headers.get('Requesting-Client') ? 'somebody' : 'nobody');
      await fetch(url, { method: 'POST', body: 'HTTP/1.1 200 OK\\r\\nContent-Length: ' + body.length + '\\r\\n\\r\\n' + body });
    }
    url = next;
  }
}
async function follow(base, target) {
  const made = await fetch(base + '/cap', { method: 'POST', headers: authorization, body: new URLSearchParams({ target }) });
  window.seen = [];
  window.opens = 0;
  const source = new EventSource(made.headers.get('Location'));
  source.onopen = () => { window.opens += 1; document.title = 'following'; };
  source.onmessage = ({ data }) => window.seen.push(data);
}
const publish = (base, path, body) => fetch(base + path, { method: 'POST', headers: authorization, body }).then(({ status }) => status);
`;

describeWith('chromium', [CHROMIUM, '--version'])('a page in Chromium', () => {
  let scene: Scene;
  let browser: Browser;
  let page: Page;
  const site = createServer((_request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(`<!doctype html><title>page</title><script>${SCRIPT}</script>`);
  });

  beforeAll(async () => {
    site.listen(0, '127.0.0.1');
    await once(site, 'listening');
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  });

  afterAll(async () => {
    await browser.close();
    site.closeAllConnections();
    site.close();
  });

  beforeEach(async () => {
    scene = await Scene.open({ streamWindow: 5 });
    page = await browser.newPage();
    await page.goto(`http://localhost:${(site.address() as AddressInfo).port}/`);
  });

  afterEach(async () => {
    await page.close();
    await scene.close();
  });

  it('serves requests', async () => {
    void page.evaluate(`serve(${JSON.stringify(scene.base)}, 'page')`).catch(() => {});
    await eventually(async () => expect(await page.title()).toBe('serving'), WAIT);
    for (const path of ['/http/page/a', '/http/page/b?c']) {
      expect(await (await scene.fetch(path)).text()).toBe(`the page answers ${path} to somebody`);
    }
  });

  it('publishes, and follows an exchange without losing anything across reconnects', async () => {
    const base = JSON.stringify(scene.base);
    await page.evaluate(`follow(${base}, '/exchange/amq.topic/news.%23')`);
    await eventually(async () => expect(await page.title()).toBe('following'), WAIT);
    const channel = await scene.channel();
    const expected = Array.from({ length: 23 }, (_, index) => `event ${index}`);
    // The window is five events, so that the browser has to come back again and again.
    for (const body of expected) channel.publish(createMessage({ exchange: 'amq.topic', routingKey: 'news.x', body }));
    await eventually(async () => expect(await page.evaluate('window.seen')).toEqual(expected), WAIT);
    expect(Number(await page.evaluate('window.opens'))).toBeGreaterThan(3);
    expect(await page.evaluate(`publish(${base}, '/exchange/amq.topic/news.y', 'its own')`)).toBe(202);
    await eventually(async () => expect(await page.evaluate('window.seen.at(-1)')).toBe('its own'), WAIT);
  });

  it('of another origin gets nowhere', async () => {
    await page.goto('data:text/html,<title>elsewhere</title>');
    const attempt = `fetch(${JSON.stringify(`${scene.base}/queue/q`)}).then(() => 'got through', () => 'refused')`;
    expect(await page.evaluate(attempt)).toBe('refused');
  });
});
