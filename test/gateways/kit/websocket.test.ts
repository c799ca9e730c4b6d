import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { WebSocket } from 'ws';
import { AddressRanges } from '../../../gateways/addresses.ts';
import type { Gateway, Transport } from '../../../gateways/gateway.ts';
import { loadTls } from '../../../gateways/tls.ts';
import {
  GOODBYE_TIMEOUT_MS,
  isOriginAllowed,
  startWebSocketGateway,
  type WebSocketOptions,
} from '../../../gateways/websocket.ts';
import { makeAuthority, writePems } from '../../support/certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { recordedLog } from '../../support/recorded-log.ts';

const opened: { terminate(): void }[] = [];
const gateways: Gateway[] = [];

afterEach(async () => {
  vi.useRealTimers();
  for (const webSocket of opened.splice(0)) webSocket.terminate();
  await Promise.all(gateways.splice(0).map((gateway) => gateway.close()));
});

interface Accepted extends Transport {
  readonly door: string;
}

/** A listener with two doors, `amqp` and `stomp`, that keep what they are given. */
async function listenWebSocket(changes: Partial<WebSocketOptions> = {}) {
  const accepted: Accepted[] = [];
  const { log, lines } = recordedLog();
  const door = (name: string) => (transport: Transport) => {
    transport.socket.on('error', () => {});
    accepted.push({ ...transport, door: name });
  };
  const gateway = await startWebSocketGateway({
    host: '127.0.0.1',
    port: 0,
    connectionsMax: 100,
    handshakeTimeoutMs: 5000,
    log,
    doors: [
      { subprotocols: ['amqp'], takesNone: true, invitation: 'AMQP is spoken here.', accept: door('amqp') },
      {
        subprotocols: ['v12.stomp', 'v11.stomp'],
        invitation: 'STOMP too.',
        adviseStray: (octets) => (Buffer.from(octets).toString().startsWith('CONNECT\n') ? 'wrong door' : undefined),
        accept: door('stomp'),
      },
    ],
    origins: ['loopback'],
    messageBytesMax: 1024 * 1024,
    ...changes,
  });
  gateways.push(gateway);
  const [address] = gateway.addresses;
  if (!address) throw new Error('the listener has no address');
  return { gateway, accepted, lines, url: `ws://127.0.0.1:${address.port}/ws`, address };
}

interface DialOptions {
  readonly subprotocols?: readonly string[];
  readonly origin?: string;
  readonly ca?: string;
}

async function dial(url: string, { subprotocols = [], ...options }: DialOptions = {}): Promise<WebSocket> {
  const webSocket = new WebSocket(url, [...subprotocols], options);
  webSocket.on('error', () => {});
  opened.push(webSocket);
  await once(webSocket, 'open');
  return webSocket;
}

/** The answer to a handshake that is refused. */
async function refused(url: string, options: DialOptions = {}): Promise<{ status: number; text: string }> {
  const webSocket = new WebSocket(url, [...(options.subprotocols ?? [])], options);
  webSocket.on('error', () => {});
  const [, response] = await once(webSocket, 'unexpected-response');
  const chunks = await response.toArray();
  return { status: response.statusCode, text: Buffer.concat(chunks).toString() };
}

async function onlyOne(accepted: readonly Accepted[]): Promise<Accepted> {
  return eventually(() => {
    const [first, ...others] = accepted;
    if (!first || others.length > 0) throw new Error(`${accepted.length} connections`);
    return first;
  });
}

describe('the WebSocket listener', () => {
  it('gives a client that asks for no subprotocol to the door that takes such clients', async () => {
    const { accepted, url } = await listenWebSocket();
    const webSocket = await dial(url);
    const { door, peer } = await onlyOne(accepted);
    expect(webSocket.protocol).toBe('');
    expect(door).toBe('amqp');
    expect(peer).toMatchObject({ remoteAddress: '127.0.0.1', loopback: true, encrypted: false });
  });

  it.each([
    [['amqp'], 'amqp', 'amqp'],
    [['v12.stomp'], 'v12.stomp', 'stomp'],
    [['mqtt', 'v11.stomp', 'amqp'], 'v11.stomp', 'stomp'],
  ])('finds the door for the subprotocols %s', async (subprotocols, subprotocol, door) => {
    const { accepted, url } = await listenWebSocket();
    const webSocket = await dial(url, { subprotocols });
    expect(webSocket.protocol).toBe(subprotocol);
    expect((await onlyOne(accepted)).door).toBe(door);
  });

  it.each(['/', '/ws', '/ws/amqp?x=1', '/any/where'])('takes the path %s', async (path) => {
    const { accepted, url } = await listenWebSocket();
    await dial(new URL(path, url).href);
    expect((await onlyOne(accepted)).door).toBe('amqp');
  });

  it('refuses subprotocols that no door speaks, and names those there are', async () => {
    const { accepted, url } = await listenWebSocket();
    expect(await refused(url, { subprotocols: ['mqtt'] })).toEqual({
      status: 400,
      text: 'no such WebSocket subprotocol here: mqtt; there are: amqp, v12.stomp, v11.stomp\n',
    });
    expect(accepted).toEqual([]);
  });

  it('refuses a client without subprotocol when no door takes one', async () => {
    const { url } = await listenWebSocket({
      doors: [{ subprotocols: ['v12.stomp'], invitation: '', accept: () => {} }],
    });
    expect((await refused(url)).status).toBe(400);
  });

  it('refuses a page from elsewhere and says which option allows it', async () => {
    const { accepted, url, lines } = await listenWebSocket();
    expect(await refused(url, { origin: 'https://evil.example' })).toEqual({
      status: 403,
      text: 'pages from https://evil.example may not connect; see --websocket-origins\n',
    });
    expect(accepted).toEqual([]);
    expect(lines).toMatchObject([{ level: 'warn', fields: { origin: 'https://evil.example' } }]);
    await dial(url, { origin: 'http://localhost:3000' });
    expect(accepted).toHaveLength(1);
  });

  it('answers plain HTTP in a sentence', async () => {
    const { url } = await listenWebSocket();
    const response = await fetch(url.replace('ws:', 'http:'));
    expect(response.status).toBe(426);
    expect(response.headers.get('upgrade')).toBe('websocket');
    expect(await response.text()).toBe(
      'This is the WebSocket port of a message broker. AMQP is spoken here. STOMP too.\n',
    );
  });

  it('answers an upgrade to anything else, and a malformed handshake, with 400', async () => {
    const { address } = await listenWebSocket();
    for (const headers of [
      { Connection: 'Upgrade', Upgrade: 'h2c' },
      { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' },
    ]) {
      const [response] = await once(request({ port: address.port, headers }).end(), 'response');
      expect(response.statusCode).toBe(400);
    }
  });

  it.each([
    ['a client that some door knows', 'CONNECT\naccept-version:1.2\n\n\0', 'warn', 'wrong door'],
    ['one that none knows', 'mumble\r\n\r\n', 'debug', 'no HTTP on the WebSocket port'],
  ] as const)('answers who speaks no HTTP with 400, and logs it: %s', async (_name, spoken, level, message) => {
    const { address, lines } = await listenWebSocket();
    const socket = connect(address.port, '127.0.0.1');
    socket.write(spoken);
    const octets = Buffer.concat(await socket.toArray()).toString();
    expect(octets).toMatch(/^HTTP\/1\.1 400 /);
    expect(octets).toContain('AMQP is spoken here.');
    expect(lines).toMatchObject([{ level, message }]);
    // There may be a login in what it said.
    expect(JSON.stringify(lines)).not.toMatch(/rawPacket|mumble/);
  });

  it('answers 431 to a header section over the limit', async () => {
    const { address } = await listenWebSocket();
    const headers = { 'X-Padding': 'x'.repeat(17 * 1024) };
    const [response] = await once(request({ port: address.port, headers }).end(), 'response');
    expect(response.statusCode).toBe(431);
  });

  it('drops a connection that is no WebSocket in time', async () => {
    const { address } = await listenWebSocket({ handshakeTimeoutMs: 30 });
    const socket = connect(address.port, '127.0.0.1');
    socket.write('GET /ws HTTP/1.1\r\nHost: x\r\n');
    expect(Buffer.concat(await socket.toArray()).toString()).toBe('');
  });

  it('keeps a WebSocket open after the time for its handshake', async () => {
    const { accepted, url } = await listenWebSocket({ handshakeTimeoutMs: 30 });
    const webSocket = await dial(url);
    const { socket } = await onlyOne(accepted);
    const idle = connect(Number(new URL(url).port), '127.0.0.1');
    await once(idle.resume(), 'close'); // A connection that came later has been dropped, so this one's time is over too.
    webSocket.send('hello'.repeat(2), { binary: true });
    expect(String((await once(socket, 'data'))[0])).toBe('hellohello');
  });

  it('lets the doors say goodbye first when it closes, and then says 1001 to what is left', async () => {
    const { gateway, accepted, url } = await listenWebSocket();
    const messages: string[] = [];
    const first = await dial(url);
    first.on('message', (data: Buffer) => messages.push(String(data)));
    const { socket } = await onlyOne(accepted);
    const second = await dial(url);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const closed = gateway.close();
    socket.resume().end('farewell');
    expect((await once(first, 'close'))[0]).toBe(1000);
    expect(messages).toEqual(['farewell']);
    expect(second.readyState).toBe(WebSocket.OPEN);
    const gone = once(second, 'close');
    vi.advanceTimersByTime(GOODBYE_TIMEOUT_MS);
    vi.useRealTimers();
    expect((await gone).map(String)).toEqual(['1001', 'shutting down']);
    await closed;
  });

  it('speaks TLS and the PROXY protocol like every listener', async () => {
    const authority = await makeAuthority('localhost');
    const files = await writePems({ certificate: authority.cert, key: authority.key });
    const tls = await loadTls({
      certificateFile: files.certificate,
      keyFile: files.key,
      verifyClient: 'none',
      certificateName: 'common-name',
      minVersion: 'TLSv1.2',
    });
    const secure = await listenWebSocket({ tls });
    expect(secure.address.label).toBe('wss');
    await dial(`wss://localhost:${secure.address.port}/ws`, { ca: authority.cert });
    expect((await onlyOne(secure.accepted)).peer.encrypted).toBe(true);

    const proxied = await listenWebSocket({ proxyProtocolSources: new AddressRanges(['127.0.0.1']) });
    const socket = connect(proxied.address.port, '127.0.0.1');
    socket.write('PROXY TCP4 192.0.2.7 198.51.100.1 40212 80\r\n');
    const webSocket = new WebSocket(proxied.url, { createConnection: () => socket });
    opened.push(webSocket);
    await once(webSocket, 'open');
    expect((await onlyOne(proxied.accepted)).peer.remoteAddress).toBe('192.0.2.7');
  });
});

describe('a WebSocket as a stream', () => {
  async function pair(changes: Partial<WebSocketOptions> = {}) {
    const { accepted, url } = await listenWebSocket(changes);
    const webSocket = await dial(url);
    const messages: Buffer[] = [];
    webSocket.on('message', (data: Buffer) => messages.push(data));
    const { socket } = await onlyOne(accepted);
    return { webSocket, socket, messages };
  }

  it('carries octets both ways, one message for one write', async () => {
    const { webSocket, socket, messages } = await pair();
    socket.write('one');
    await eventually(() => expect(messages.map(String)).toEqual(['one']));
    socket.write('two');
    await eventually(() => expect(messages.map(String)).toEqual(['one', 'two']));
    webSocket.send(Buffer.from('three'));
    expect(String((await once(socket, 'data'))[0])).toBe('three');
  });

  it('sends writes that were made together in few messages, in order and whole', async () => {
    const { socket, messages } = await pair();
    const chunks = Array.from({ length: 500 }, (_, index) => Buffer.alloc(1000, index % 256));
    socket.cork();
    for (const chunk of chunks) socket.write(chunk);
    socket.uncork();
    const all = Buffer.concat(chunks);
    await eventually(() => expect(Buffer.concat(messages).length).toBe(all.length));
    expect(Buffer.concat(messages).equals(all)).toBe(true);
    expect(messages.length).toBeLessThan(20);
  });

  it('stops reading from the network while nobody reads from it', async () => {
    const { webSocket, socket } = await pair();
    const chunk = Buffer.alloc(64 * 1024);
    let sent = 0;
    const total = 500; // 32 MB, more than the kernel holds
    for (let i = 0; i < total; i += 1) webSocket.send(chunk, () => (sent += 1));
    await eventually(() => expect(socket.readableLength).toBeGreaterThan(0));
    await new Promise(setImmediate);
    expect(socket.readableLength).toBeLessThan(4 * 1024 * 1024);
    expect(sent).toBeLessThan(total);
    let received = 0;
    socket.on('data', (octets: Buffer) => (received += octets.length));
    await eventually(() => expect(received).toBe(total * chunk.length), { timeoutMs: 10_000 });
  });

  it('tells the writer to wait while the peer does not read', async () => {
    const { webSocket, socket, messages } = await pair();
    webSocket.pause();
    const chunk = Buffer.alloc(256 * 1024);
    let written = 0;
    while (socket.write(chunk) && written < 200) {
      written += 1;
      await new Promise(setImmediate);
    }
    expect(written).toBeLessThan(200);
    webSocket.resume();
    if (socket.writableNeedDrain) await once(socket, 'drain');
    socket.write('last');
    await eventually(() => expect(String(messages.at(-1))).toMatch(/last$/));
  });

  it('ends with 1003 at a text message, of which the door sees nothing', async () => {
    const { webSocket, socket } = await pair();
    const octets = socket.toArray();
    webSocket.send(Buffer.from('binary'));
    webSocket.send('text');
    webSocket.send(Buffer.from('more'));
    expect((await once(webSocket, 'close')).map(String)).toEqual(['1003', 'binary messages only']);
    expect(Buffer.concat(await octets).toString()).toBe('binary');
    expect(socket.destroyed).toBe(true);
  });

  it('ends with 1009 at a message over the limit', async () => {
    const { webSocket, socket } = await pair({ messageBytesMax: 1000 });
    const failed = once(socket, 'error').catch((error) => [error]);
    webSocket.send(Buffer.alloc(1001));
    expect((await once(webSocket, 'close'))[0]).toBe(1009);
    expect((await failed)[0].code).toBe('WS_ERR_UNSUPPORTED_MESSAGE_LENGTH');
    expect(socket.destroyed).toBe(true);
  });

  it('ends with 1000 when the door ends it, what was written before included', async () => {
    const { webSocket, socket, messages } = await pair();
    socket.resume().end('bye');
    expect((await once(webSocket, 'close'))[0]).toBe(1000);
    expect(messages.map(String)).toEqual(['bye']);
    await eventually(() => expect(socket.destroyed).toBe(true));
  });

  it('ends for the door when the peer closes, or vanishes', async () => {
    for (const leave of ['close', 'terminate'] as const) {
      const { webSocket, socket } = await pair();
      const octets = socket.toArray();
      webSocket.send(Buffer.from('last words'));
      await eventually(() => expect(webSocket.bufferedAmount).toBe(0));
      webSocket[leave]();
      expect(Buffer.concat(await octets).toString()).toBe('last words');
      await eventually(() => expect(socket.destroyed).toBe(true));
    }
  });

  it('is gone at once when the door destroys it', async () => {
    const { webSocket, socket } = await pair();
    socket.destroy();
    expect((await once(webSocket, 'close'))[0]).toBe(1006);
  });
});

describe('origins', () => {
  it.each([
    [undefined, ['loopback'], true],
    ['http://localhost:5173', ['loopback'], true],
    ['https://app.localhost', ['loopback'], true],
    ['http://127.0.0.1:8080', ['loopback'], true],
    ['http://[::1]:8080', ['loopback'], true],
    ['http://localhost.evil.example', ['loopback'], false],
    ['http://127.0.0.1.evil.example', ['loopback'], false],
    ['https://app.example', ['loopback'], false],
    ['null', ['loopback'], false],
    ['null', ['null'], true],
    ['https://app.example', ['https://app.example'], true],
    ['https://APP.example', ['https://app.EXAMPLE'], true],
    ['https://app.example:8443', ['https://app.example'], false],
    ['http://app.example', ['https://app.example'], false],
    ['http://localhost', ['https://app.example'], false],
    ['https://anything.example', ['*'], true],
    ['', ['loopback'], false],
  ])('%s with %j: %s', (origin, allowed, expected) => {
    expect(isOriginAllowed(origin, allowed)).toBe(expected);
  });
});
