/** stompit, the STOMP client of Node over TCP, as its documentation has it used. */
import { once } from 'node:events';
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net';
import { type Channel, ChannelPool, type Client, ConnectFailover, connect, type Message } from 'stompit';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { Inbox } from './clients.ts';
import { useStompDoor } from './stomp-door.ts';

const door = useStompDoor();
const opened: Client[] = [];
afterEach(() => {
  for (const client of opened.splice(0)) client.destroy();
});

const LOGIN = { host: '/', login: 'guest', passcode: 'guest', 'heart-beat': '5000,5000' };

function open(headers = {}): Promise<Client> {
  return new Promise((resolve, reject) => {
    const connectHeaders = { ...LOGIN, ...headers };
    const client = connect({ host: door.host, port: door.port, connectHeaders }, (error) =>
      error ? reject(error) : resolve(client),
    );
    client.on('error', () => {});
    opened.push(client);
  });
}

function send(client: Client, headers: Record<string, string | number>, body: string | Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    client.send(headers, { onReceipt: resolve, onError: reject }).end(body);
  });
}

function textOf(message: Message): Promise<string> {
  return new Promise((resolve, reject) => {
    message.readString('utf-8', (error, text) => (error ? reject(error) : resolve(text)));
  });
}

function disconnect(client: Client): Promise<void> {
  return new Promise((resolve, reject) => client.disconnect((error) => (error ? reject(error) : resolve())));
}

describe('a client', () => {
  it('sends, receives with headers, acks and says goodbye', async () => {
    const client = await open();
    const inbox = new Inbox<{ text: string; headers: Record<string, string> }>();
    client.subscribe({ destination: '/queue/stompit', ack: 'client-individual' }, (error, message) => {
      if (error) return;
      void textOf(message).then((text) => {
        inbox.add({ text, headers: message.headers });
        client.ack(message);
      });
    });
    await send(client, { destination: '/queue/stompit', 'content-type': 'text/plain', own: 'a:b\\c\nd' }, 'hello');
    await eventually(() => expect(inbox.items).toHaveLength(1));
    expect(inbox.items[0]).toMatchObject({
      text: 'hello',
      headers: { 'content-type': 'text/plain', own: 'a:b\\c\nd' },
    });
    await disconnect(client);
    const { queues } = await door.broker.snapshot('/');
    expect(queues.find(({ name }) => name === 'stompit')).toMatchObject({ messagesReady: 0, messagesUnacked: 0 });
  });

  it('streams a body of megabytes, with and without its length', async () => {
    const client = await open();
    const body = Buffer.alloc(3_000_000, 'megabyte ');
    const sizes = new Inbox<number>();
    client.subscribe({ destination: '/queue/large', ack: 'auto' }, (_error, message) => {
      let size = 0;
      message.on('data', (chunk: Buffer) => {
        size += chunk.length;
      });
      message.on('end', () => sizes.add(size));
    });
    await send(client, { destination: '/queue/large', 'content-length': body.length }, body);
    await send(client, { destination: '/queue/large' }, body);
    await eventually(() => expect(sizes.items).toEqual([body.length, body.length]));
  });

  it('nacks, and gets it again', async () => {
    const client = await open();
    const seen = new Inbox<string>();
    client.subscribe({ destination: '/queue/nacked', ack: 'client-individual' }, (_error, message) => {
      seen.add(String(message.headers.redelivered));
      void textOf(message).then(() => (seen.items.length === 1 ? client.nack(message) : client.ack(message)));
    });
    await send(client, { destination: '/queue/nacked' }, 'again');
    await eventually(() => expect(seen.items).toEqual(['false', 'true']));
  });

  it('commits a transaction, and aborts one', async () => {
    const client = await open();
    const inbox = new Inbox<string>();
    client.subscribe(
      { destination: '/queue/tx', ack: 'auto' },
      (_error, message) => void textOf(message).then(inbox.add),
    );
    for (const verdict of ['abort', 'commit'] as const) {
      const transaction = client.begin();
      transaction.send({ destination: '/queue/tx' }).end(verdict);
      await new Promise<void>((resolve) => transaction[verdict]({ onReceipt: resolve }));
    }
    await eventually(() => expect(inbox.items).toEqual(['commit']));
  });

  it('is told why it is refused', async () => {
    await expect(open({ passcode: 'wrong' })).rejects.toThrow('Bad CONNECT');
    const client = await open();
    await expect(send(client, { destination: '/exchange/none/k' }, 'x')).rejects.toThrow('not_found');
  });
});

describe('a pool of channels', () => {
  it('sends with a receipt, and connects again when the connection is lost', async () => {
    // What is between the client and the broker, and can fail.
    const sockets = new Set<Socket>();
    const relay = createServer((socket) => {
      const onward = connectTcp(door.port, door.host);
      sockets.add(socket);
      socket.on('close', () => onward.destroy()).pipe(onward);
      onward.on('close', () => socket.destroy()).pipe(socket);
    }).listen(0, door.host);
    await once(relay, 'listening');
    const { port } = relay.address() as AddressInfo;
    const servers = new ConnectFailover([{ host: door.host, port, connectHeaders: LOGIN }], {
      initialReconnectDelay: 10,
    });
    const pool = new ChannelPool(servers);
    try {
      const channel = await new Promise<Channel>((resolve, reject) =>
        pool.channel((error, made) => (error ? reject(error) : resolve(made))),
      );
      const inbox = new Inbox<string>();
      channel.subscribe({ destination: '/queue/pool', ack: 'client' }, (error, message) => {
        if (error) return;
        void textOf(message).then((text) => {
          inbox.add(text);
          channel.ack(message);
        });
      });
      const sendOver = (text: string): Promise<void> =>
        new Promise((resolve, reject) =>
          channel.send({ destination: '/queue/pool' }, text, (error) => (error ? reject(error) : resolve())),
        );
      await sendOver('before');
      await eventually(() => expect(inbox.distinct).toEqual(['before']));
      for (const socket of sockets) socket.destroy();
      await sendOver('after');
      await eventually(() => expect(inbox.distinct).toEqual(['before', 'after']));
      channel.close();
    } finally {
      pool.close();
      relay.close();
      for (const socket of sockets) socket.destroy();
    }
  });
});
