/** The door over TLS, with client certificates, and over WebSocket. */
import { once } from 'node:events';
import { connect as connectTls } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { Broker } from '../../../broker/port.ts';
import { amqpWebSocketDoor } from '../../../gateways/amqp/gateway.ts';
import type { Gateway } from '../../../gateways/gateway.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { startStompGateway, stompWebSocketDoor } from '../../../gateways/stomp/gateway.ts';
import { loadTls } from '../../../gateways/tls.ts';
import { startWebSocketGateway } from '../../../gateways/websocket.ts';
import { issue, type KeyPair, makeAuthority, writePems } from '../../support/certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { RawStomp, stompFrame } from '../../support/raw-stomp.ts';

const LISTENER = { host: '127.0.0.1', port: 0, connectionsMax: 100, handshakeTimeoutMs: 5000, log: SILENT_LOG };

let broker: Broker;
beforeAll(async () => {
  broker = await createBroker();
});
afterAll(() => broker.close());

const opened: (() => unknown)[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((close) => close()));
});

async function dial(gateway: Gateway): Promise<RawStomp> {
  const client = await RawStomp.open(gateway.addresses[0]?.port ?? 0);
  opened.push(() => client.destroy());
  return client;
}

describe('TLS', () => {
  let authority: KeyPair;
  let alice: KeyPair;
  let gateway: Gateway;

  beforeAll(async () => {
    authority = await makeAuthority('Test CA');
    alice = await issue(authority, [{ name: 'commonName', value: 'alice' }]);
    const server = await issue(authority, [{ name: 'commonName', value: 'localhost' }]);
    const files = await writePems({ certificate: server.cert, key: server.key, ca: authority.cert });
    const tls = await loadTls({
      certificateFile: files.certificate,
      keyFile: files.key,
      caFile: files.ca,
      verifyClient: 'optional',
      certificateName: 'common-name',
      minVersion: 'TLSv1.2',
    });
    gateway = await startStompGateway(broker, { ...LISTENER, tls });
    await broker.administration.putUser({ name: 'alice' });
    await broker.administration.setPermission({ vhost: '/', user: 'alice', configure: '.*', write: '.*', read: '.*' });
  });
  afterAll(() => gateway.close());

  async function dialTls(certificate?: KeyPair): Promise<RawStomp> {
    const { host, port } = gateway.addresses[0] ?? { host: '', port: 0 };
    const socket = connectTls({ host, port, ca: authority.cert, ...certificate });
    await once(socket, 'secureConnect');
    const client = new RawStomp(socket);
    opened.push(() => client.destroy());
    return client;
  }

  it('is announced as stomps and takes a login', async () => {
    expect(gateway.addresses[0]?.label).toBe('stomps');
    expect((await (await dialTls()).login()).command).toBe('CONNECTED');
  });

  it('a client certificate is a login', async () => {
    const client = await dialTls(alice);
    client.send('CONNECT', { 'accept-version': '1.2', host: '/' });
    expect((await client.next()).command).toBe('CONNECTED');
    const names = (await broker.administration.connections()).map(({ username }) => username);
    expect(names).toContain('alice');
  });

  it('without one, and without a login, nobody gets in', async () => {
    const client = await dialTls();
    client.send('CONNECT', { 'accept-version': '1.2', host: '/' });
    expect((await client.next()).headers.message).toBe('Bad CONNECT');
  });
});

describe('options', () => {
  async function start(
    options: Parameters<typeof startStompGateway>[1] extends infer O ? Partial<O> : never,
  ): Promise<Gateway> {
    const gateway = await startStompGateway(broker, { ...LISTENER, ...options });
    opened.push(() => gateway.close());
    return gateway;
  }
  const defaultLogin = { username: 'guest', password: 'guest' };

  it('the default user is whoever gives no login', async () => {
    const client = await dial(await start({ defaultLogin }));
    client.send('CONNECT', { 'accept-version': '1.2' });
    expect((await client.next()).command).toBe('CONNECTED');
  });

  it('with implicit connect the first frame needs no CONNECT, and gets no CONNECTED', async () => {
    const client = await dial(await start({ defaultLogin, implicitConnect: true }));
    client.write('SUBSCRIBE\ndestination:/queue/implicit\nack:auto\n\n\0SEND\ndestination:/queue/implicit\n\nhello\0');
    expect(await client.next()).toMatchObject({ command: 'MESSAGE', body: 'hello' });
  });

  it('another topic exchange', async () => {
    const client = await dial(await start({ topicExchange: 'amq.fanout' }));
    await client.login();
    await client.call('SUBSCRIBE', { id: 1, destination: '/topic/whatever' });
    client.send('SEND', { destination: '/topic/x' }, 'to all');
    expect((await client.next()).headers.destination).toBe('/topic/x');
  });

  it('NACK without requeue drops where that is the default', async () => {
    const client = await dial(await start({ nackRequeue: false }));
    await client.login();
    await client.call('SUBSCRIBE', { id: 1, destination: '/queue/nacked', ack: 'client' });
    client.send('SEND', { destination: '/queue/nacked' });
    await client.call('NACK', { id: (await client.next()).headers.ack ?? '' });
    const { queues } = await broker.snapshot('/');
    expect(queues.find(({ name }) => name === 'nacked')).toMatchObject({ messagesReady: 0, messagesUnacked: 0 });
  });

  it('at a shutdown everybody is told', async () => {
    const gateway = await start({});
    const client = await dial(gateway);
    await client.login();
    const closed = gateway.close();
    expect((await client.next()).headers.message).toBe('connection_forced');
    client.destroy();
    await closed;
  });
});

describe('WebSocket', () => {
  let gateway: Gateway;
  beforeAll(async () => {
    const doors = [stompWebSocketDoor(broker)];
    gateway = await startWebSocketGateway({ ...LISTENER, doors, origins: ['loopback'], messageBytesMax: 1_000_000 });
  });
  afterAll(() => gateway.close());

  const LOGIN = stompFrame('CONNECT', { 'accept-version': '1.2', login: 'guest', passcode: 'guest', host: '/' });

  interface Received {
    readonly text: string;
    readonly isBinary: boolean;
  }

  async function open(protocols: string | string[] = 'v12.stomp', options = {}) {
    const { host, port } = gateway.addresses[0] ?? { host: '', port: 0 };
    const socket = new WebSocket(`ws://${host}:${port}/ws`, protocols, options);
    const received: Received[] = [];
    socket.on('message', (data: Buffer, isBinary) => received.push({ text: data.toString('latin1'), isBinary }));
    opened.push(() => socket.terminate());
    await once(socket, 'open');
    return { socket, received };
  }

  async function openSession(asText: boolean) {
    const { socket, received } = await open();
    socket.send(asText ? LOGIN.toString() : LOGIN);
    await eventually(() => expect(received[0]?.text).toMatch(/^CONNECTED/));
    const subscribe = stompFrame('SUBSCRIBE', { id: 1, destination: '/topic/ws', receipt: 's' });
    socket.send(asText ? subscribe.toString() : subscribe);
    await eventually(() => expect(received[1]?.text).toMatch(/^RECEIPT/));
    return { socket, received };
  }

  it.each([
    [['v10.stomp', 'v11.stomp', 'v12.stomp'], 'v10.stomp'],
    [['v12.stomp', 'v11.stomp'], 'v12.stomp'],
    [['v11.stomp'], 'v11.stomp'],
  ])('of %j the first is spoken', async (offered, chosen) => {
    expect((await open(offered)).socket.protocol).toBe(chosen);
  });

  it.each([true, false])('who writes text (%s) is answered in text', async (asText) => {
    const { received } = await openSession(asText);
    expect(received.map(({ isBinary }) => isBinary)).toEqual([!asText, !asText]);
  });

  it('a body that is no text reaches a client that writes text, in a binary message', async () => {
    const { received } = await openSession(true);
    const channel = (await broker.connect()).openChannel();
    channel.publish(createMessage({ exchange: 'amq.topic', routingKey: 'ws', body: new Uint8Array([255, 0, 254]) }));
    await eventually(() => expect(received[2]).toMatchObject({ isBinary: true }));
    expect(received[2]?.text.endsWith('\n\n\xff\0\xfe\0')).toBe(true);
  });

  it('a frame may be cut anywhere across messages, inside a letter too', async () => {
    const { socket, received } = await openSession(false);
    const frame = stompFrame('SEND', { destination: '/topic/ws' }, 'grüße');
    for (const octet of frame) socket.send(Buffer.of(octet));
    await eventually(() => expect(received[2]?.text).toMatch(/^MESSAGE/));
    expect(Buffer.from(received[2]?.text ?? '', 'latin1').toString()).toContain('\n\ngrüße\0');
  });

  it('an ERROR arrives before the close', async () => {
    const { socket, received } = await openSession(true);
    socket.send('NONSENSE\n\n\0');
    await once(socket, 'close');
    expect(received[2]?.text).toMatch(/^ERROR\nmessage:Bad command\n/);
  });

  it('a page of another origin is refused', async () => {
    await expect(open('v12.stomp', { origin: 'https://evil.example' })).rejects.toThrow('403');
    await open('v12.stomp', { origin: 'http://localhost:8080' });
  });

  it('who names no subprotocol is known by the first frame', async () => {
    for (const first of [LOGIN.toString(), Buffer.concat([Buffer.from('\n'), LOGIN])]) {
      const { socket, received } = await open([]);
      socket.send(first);
      await eventually(() => expect(received[0]?.text).toMatch(/^CONNECTED/));
      expect(received[0]?.isBinary).toBe(typeof first !== 'string');
    }
  });

  it('an AMQP client that names none is no STOMP client', async () => {
    const both = [amqpWebSocketDoor(broker), stompWebSocketDoor(broker)];
    const other = await startWebSocketGateway({ ...LISTENER, doors: both, origins: [], messageBytesMax: 1000 });
    opened.push(() => other.close());
    const socket = new WebSocket(`ws://127.0.0.1:${other.addresses[0]?.port}/ws`);
    opened.push(() => socket.terminate());
    await once(socket, 'open');
    socket.send(Buffer.from('AMQP\0\0\x09\x01', 'latin1'));
    const [answer] = await once(socket, 'message');
    expect(Buffer.from(answer).subarray(0, 1)).toEqual(Buffer.of(1));
    expect(Buffer.from(answer).toString('latin1')).toContain('PLAIN');
  });

  it.each(['v13.stomp', 'mqtt'])('the subprotocol %s is refused', async (subprotocol) => {
    await expect(open(subprotocol)).rejects.toThrow('400');
  });
});
