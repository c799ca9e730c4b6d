/** WebSockets through public URLs with programs of others: Chromium as the visitor, nginx in front of the door. */
import { mkdtemp, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { freePort } from '../../../bench/peers/free-port.ts';
import { turnRound } from '../../gateways/reverse-http/application.ts';
import { Scene } from '../../gateways/reverse-http/scene.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith, ForeignProgram } from '../interop/foreign-program.ts';

const CHROMIUM = '/usr/bin/chromium';
const WAIT = { timeoutMs: 20_000 };

/** It talks to the application that it came from. */
const PAGE = `<!doctype html><title>page</title><script>
const socket = new WebSocket(location.href.replace('http', 'ws') + 'chat', ['chat']);
socket.onopen = () => socket.send('hello from ' + socket.protocol);
socket.onmessage = ({ data }) => { document.title = data; };
</script>`;

let scene: Scene;

beforeEach(async () => {
  scene = await Scene.open();
});

afterEach(() => scene.close());

/** Serves the page, and says everything back, on two connections. */
async function application(): Promise<void> {
  for (let count = 0; count < 2; count += 1) {
    const { socket } = await turnRound(scene, '/reversehttp/foo', { Upgrade: 'PTTH/1.0' });
    const server = createServer({ keepAliveTimeout: 0 }, (_request, response) => {
      response.setHeader('Content-Type', 'text/html');
      response.end(PAGE);
    });
    const webSockets = new WebSocketServer({ server, perMessageDeflate: true });
    webSockets.on('connection', (webSocket) => {
      webSocket.on('message', (data) => webSocket.send(`said: ${data}`));
    });
    server.emit('connection', socket);
  }
}

describeWith('chromium', [CHROMIUM, '--version'])('a page in Chromium', () => {
  it('opens a WebSocket to the application that it came from', async () => {
    await application();
    const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
    try {
      const page = await browser.newPage();
      await page.goto(`${scene.base}/http/foo/`);
      await eventually(async () => expect(await page.title()).toBe('said: hello from chat'), WAIT);
    } finally {
      await browser.close();
    }
  });
});

describeWith('nginx', ['nginx', '-v'])('nginx in front', () => {
  it('hands on claims, pages and WebSockets', async () => {
    const port = await freePort();
    const base = `http://127.0.0.1:${port}`;
    await scene.close();
    scene = await Scene.open({ baseUrl: base });
    const folder = await mkdtemp(join(tmpdir(), 'warren-nginx-'));
    const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder};`);
    const configuration = `
      daemon off; worker_processes 1; pid ${folder}/pid; error_log stderr notice;
      events { worker_connections 64; }
      http {
        access_log off; ${paths.join(' ')}
        map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
        server {
          listen 127.0.0.1:${port};
          location / {
            proxy_pass http://127.0.0.1:${scene.port}; proxy_http_version 1.1; proxy_buffering off;
            proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
          }
        }
      }`;
    await writeFile(join(folder, 'nginx.conf'), configuration);
    const nginx = new ForeignProgram('nginx', ['-c', join(folder, 'nginx.conf')]);
    try {
      await eventually(async () => expect((await fetch(`${base}/http/foo/`)).status).toBe(404), WAIT);
      await application();
      const { related } = await scene.claim({ name: 'bar' });
      expect(related).toBe(`${base}/http/bar/`);
      expect(await (await fetch(`${base}/http/foo/`)).text()).toBe(PAGE);
      const webSocket = new WebSocket(`${base.replace('http', 'ws')}/http/foo/chat`);
      const heard = new Promise((resolve) => webSocket.once('message', (data) => resolve(String(data))));
      webSocket.once('open', () => webSocket.send('through both'));
      expect(await heard).toBe('said: through both');
      webSocket.close();
    } finally {
      await nginx.stop();
    }
  });
});
