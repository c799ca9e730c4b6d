/** @stomp/stompjs 7, the client of web pages, in Node: over TCP with its TCPWrapper's like, and over WebSocket. */
import { connect as connectTcp } from 'node:net';
import { Client, type IFrame, type IMessage, type StompConfig } from '@stomp/stompjs';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { eventually } from '../support/eventually.ts';
import { Inbox } from './clients.ts';
import { useStompDoor } from './stomp-door.ts';

const door = useStompDoor();
const clients: Client[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.deactivate({ force: true })));
});

/** A TCP socket that looks like a WebSocket, as the library's documentation suggests for Node. */
function tcpSocket() {
  const socket = connectTcp(door.port, door.host);
  const wrapper = {
    binaryType: 'arraybuffer',
    url: `tcp://${door.host}:${door.port}`,
    readyState: 0,
    onopen: undefined as undefined | ((event: unknown) => void),
    onclose: undefined as undefined | ((event: unknown) => void),
    onerror: undefined as undefined | ((event: unknown) => void),
    onmessage: undefined as undefined | ((event: { data: Uint8Array }) => void),
    send: (data: string | ArrayBuffer) => void socket.write(typeof data === 'string' ? data : new Uint8Array(data)),
    close: () => void socket.end(),
  };
  socket.on('connect', () => {
    wrapper.readyState = 1;
    wrapper.onopen?.({});
  });
  socket.on('data', (data) => wrapper.onmessage?.({ data: new Uint8Array(data) }));
  socket.on('error', (error) => wrapper.onerror?.(error));
  socket.on('close', () => {
    wrapper.readyState = 3;
    wrapper.onclose?.({});
  });
  return wrapper;
}

const PROTOCOLS = ['v12.stomp', 'v11.stomp', 'v10.stomp'];

const TRANSPORTS: readonly (readonly [string, () => Partial<StompConfig>])[] = [
  ['TCP', () => ({ webSocketFactory: tcpSocket as unknown as NonNullable<StompConfig['webSocketFactory']> })],
  ['WebSocket, text', () => ({ webSocketFactory: () => new WebSocket(door.webSocketUrl, PROTOCOLS) })],
  [
    'WebSocket, binary',
    () => ({ forceBinaryWSFrames: true, webSocketFactory: () => new WebSocket(door.webSocketUrl, PROTOCOLS) }),
  ],
  [
    'WebSocket, frames cut into pieces',
    () => ({
      splitLargeFrames: true,
      maxWebSocketChunkSize: 50,
      webSocketFactory: () => new WebSocket(door.webSocketUrl, PROTOCOLS),
    }),
  ],
];

function open(config: StompConfig): Promise<Client> {
  return new Promise((resolve, reject) => {
    const client = new Client({
      connectHeaders: { login: 'guest', passcode: 'guest', host: '/' },
      reconnectDelay: 10,
      ...config,
      onConnect: (frame: IFrame) => {
        config.onConnect?.(frame);
        resolve(client);
      },
      onStompError: (frame) => {
        config.onStompError?.(frame);
        reject(new Error(frame.headers.message));
      },
    });
    clients.push(client);
    client.activate();
  });
}

function receipt(client: Client, act: (headers: Record<string, string>) => void): Promise<void> {
  receipts += 1;
  const id = `r-${receipts}`;
  return new Promise((resolve) => {
    client.watchForReceipt(id, () => resolve());
    act({ receipt: id });
  });
}
let receipts = 0;

describe.each(TRANSPORTS)('over %s', (_name, transport) => {
  it('agrees on 1.2 and heart-beats', async () => {
    const client = await open({ ...transport(), heartbeatIncoming: 200, heartbeatOutgoing: 300 });
    expect(client.connectedVersion).toBe('1.2');
  });

  it('sends and receives text with headers, and acks', async () => {
    const client = await open(transport());
    const destination = `/queue/stompjs-${receipts}`;
    const inbox = new Inbox<IMessage>();
    client.subscribe(destination, inbox.add, { ack: 'client' });
    const body = 'żółw 🐇 '.repeat(20);
    await receipt(client, (headers) => client.publish({ destination, body, headers: { ...headers, own: 'a:b\n' } }));
    await eventually(() => expect(inbox.items).toHaveLength(1));
    expect(inbox.items[0]?.body).toBe(body);
    expect(inbox.items[0]?.headers).toMatchObject({ own: 'a:b\n', destination });
    await receipt(client, (headers) => inbox.items[0]?.ack(headers));
    const { queues } = await door.broker.snapshot('/');
    expect(queues.find(({ name }) => `/queue/${name}` === destination)).toMatchObject({ messagesUnacked: 0 });
  });

  it('sends and receives octets', async () => {
    const client = await open(transport());
    const inbox = new Inbox<IMessage>();
    await receipt(client, (headers) => client.subscribe('/topic/octets', inbox.add, headers));
    const binaryBody = Uint8Array.from({ length: 1000 }, (_, index) => index % 256);
    client.publish({ destination: '/topic/octets', binaryBody });
    await eventually(() => expect(inbox.items).toHaveLength(1));
    expect([...(inbox.items[0]?.binaryBody ?? [])]).toEqual([...binaryBody]);
  });

  it('commits what a transaction holds', async () => {
    const client = await open(transport());
    const inbox = new Inbox<IMessage>();
    await receipt(client, (headers) => client.subscribe('/topic/tx', inbox.add, headers));
    const transaction = client.begin();
    client.publish({ destination: '/topic/tx', body: 'in it', headers: { transaction: transaction.id } });
    await receipt(client, (headers) => client.publish({ destination: '/topic/none', headers }));
    expect(inbox.items).toEqual([]);
    transaction.commit();
    await eventually(() => expect(inbox.items.map(({ body }) => body)).toEqual(['in it']));
  });

  it('connects again after an ERROR, and subscribes anew', async () => {
    const connected = new Inbox<IFrame>();
    const errors = new Inbox<IFrame>();
    const client = await open({ ...transport(), onConnect: connected.add, onStompError: errors.add });
    client.publish({ destination: '/exchange/none/k', headers: { receipt: 'bad' } });
    await eventually(() => expect(connected.items).toHaveLength(2));
    expect(errors.items[0]?.headers).toMatchObject({ message: 'not_found', 'receipt-id': 'bad' });
    await receipt(client, (headers) => client.publish({ destination: '/topic/x', headers }));
  });

  it('deactivates politely', async () => {
    const client = await open(transport());
    await client.deactivate();
    expect(client.connected).toBe(false);
  });
});
