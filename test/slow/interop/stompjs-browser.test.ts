/** @stomp/stompjs where it lives: in a page in a browser, over WebSocket. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { useStompDoor } from '../../interop/stomp-door.ts';
import { describeWith } from './foreign-program.ts';

const EXECUTABLE = '/usr/bin/chromium';
const LIBRARY = readFileSync(createRequire(import.meta.url).resolve('@stomp/stompjs'));

const door = useStompDoor();

describeWith('chromium', [EXECUTABLE, '--version'])('stompjs in a browser', () => {
  let browser: Browser;
  let pages: Server;

  beforeAll(async () => {
    pages = createServer((request, response) => {
      const isScript = request.url === '/stomp.js';
      response.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html; charset=utf-8');
      response.end(isScript ? LIBRARY : '<!doctype html><title>stomp</title><script src="/stomp.js"></script>');
    }).listen(0, '127.0.0.1');
    await once(pages, 'listening');
    // Every name leads to this machine, so that a page can have another origin.
    const args = ['--no-sandbox', '--host-resolver-rules=MAP * 127.0.0.1'];
    browser = await chromium.launch({ executablePath: EXECUTABLE, args });
  });
  afterAll(async () => {
    await browser?.close();
    pages?.close();
  });

  async function open(host: string): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(`http://${host}:${(pages.address() as AddressInfo).port}/`);
    return page;
  }

  /** Runs one of the programs below in the page. */
  function run(page: Page, program: string, options: object = {}): Promise<unknown> {
    return page.evaluate(`(${program})(${JSON.stringify({ url: door.webSocketUrl, options })})`);
  }

  it.each([
    ['text', {}],
    ['binary', { forceBinaryWSFrames: true }],
    ['cut into pieces', { splitLargeFrames: true, maxWebSocketChunkSize: 64 }],
  ])('sends, receives, acks and disconnects: %s', async (_how, options) => {
    const page = await open('127.0.0.1');
    const told = await run(page, CONVERSATION, options);
    expect(told).toEqual({
      version: '1.2',
      body: 'żółw 🐇 '.repeat(30),
      header: 'a:b\nc',
      octets: [0, 255, 10, 0, 128],
      receipt: 'sent',
      error: 'not_found',
    });
    await page.close();
  });

  it('a page is told what an AMQP client publishes', async () => {
    const page = await open('localhost');
    const heard = run(page, LISTEN);
    const channel = (await door.broker.connect()).openChannel();
    await page.waitForFunction('window.subscribed === true');
    channel.publish(createMessage({ exchange: 'amq.topic', routingKey: 'page.news', body: 'for the page' }));
    expect(await heard).toBe('for the page');
    await page.close();
  });

  it('a page of another origin gets nowhere', async () => {
    const page = await open('evil.example');
    expect(await run(page, KNOCK)).toBe('closed');
    await page.close();
  });
});

// What follows runs in the page; it is text because nothing of this file is there.

const CONVERSATION = `async ({ url, options }) => {
  const told = {};
  const connect = (more) => new Promise((resolve, reject) => {
    const client = new StompJs.Client({
      brokerURL: url, reconnectDelay: 0, ...options, ...more,
      connectHeaders: { login: 'guest', passcode: 'guest' },
      onConnect: () => resolve(client),
      onStompError: (frame) => { told.error = frame.headers.message; more?.onError?.(); reject(new Error(frame.body)); },
      onWebSocketClose: (event) => reject(new Error('closed ' + event.code)),
    });
    client.activate();
  });
  const client = await connect();
  told.version = client.connectedVersion;
  const next = (act) => new Promise((resolve) => act(resolve));
  const receipt = (id, act) => next((resolve) => { client.watchForReceipt(id, () => resolve(id)); act(); });
  const messages = [];
  let wake;
  const received = async () => {
    while (messages.length === 0) await next((resolve) => { wake = resolve; });
    return messages.shift();
  };
  client.subscribe('/queue/browser', (message) => { messages.push(message); wake?.(); }, { ack: 'client', receipt: 'subscribed' });
  told.receipt = await receipt('sent', () =>
    client.publish({ destination: '/queue/browser', body: 'żółw 🐇 '.repeat(30), headers: { receipt: 'sent', own: 'a:b\\nc' } }));
  const first = await received();
  told.body = first.body;
  told.header = first.headers.own;
  await receipt('acked', () => first.ack({ receipt: 'acked' }));
  client.publish({ destination: '/queue/browser', binaryBody: new Uint8Array([0, 255, 10, 0, 128]) });
  const second = await received();
  told.octets = [...second.binaryBody];
  await receipt('acked too', () => second.ack({ receipt: 'acked too' }));
  await client.deactivate();
  await new Promise((resolve) => {
    connect({ onError: resolve }).then((other) => other.publish({ destination: '/exchange/none/k', body: 'x' }), () => {});
  });
  return told;
}`;

const LISTEN = `({ url }) => new Promise((resolve) => {
  const client = new StompJs.Client({
    brokerURL: url,
    connectHeaders: { login: 'guest', passcode: 'guest' },
    onConnect: () => {
      client.watchForReceipt('s', () => { window.subscribed = true; });
      client.subscribe('/topic/page.*', (message) => resolve(message.body), { receipt: 's' });
    },
  });
  client.activate();
})`;

const KNOCK = `({ url }) => new Promise((resolve) => {
  const client = new StompJs.Client({
    brokerURL: url, reconnectDelay: 0,
    connectHeaders: { login: 'guest', passcode: 'guest' },
    onConnect: () => resolve('connected'),
    onWebSocketClose: () => resolve('closed'),
  });
  client.activate();
})`;
