/** The story of the XMPP door with @xmpp/client, over TCP with STARTTLS and over WebSocket, and amqplib publishing. */
import { connect as amqpConnect, type ChannelModel } from 'amqplib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import type { Broker } from '../../broker/port.ts';
import { startAmqpGateway } from '../../gateways/amqp/gateway.ts';
import type { Gateway } from '../../gateways/gateway.ts';
import { SILENT_LOG } from '../../gateways/log.ts';
import { startWebSocketGateway } from '../../gateways/websocket.ts';
import { openXmppDoor, startXmppGateway, xmppWebSocketDoor } from '../../gateways/xmpp/gateway.ts';
import { messagesOf, type XmppClient, type XmppElement, xml, xmppClient } from '../gateways/xmpp/scene.ts';
import { localhostTls } from '../support/certificates.ts';
import { eventually } from '../support/eventually.ts';

let broker: Broker;
let gateways: Gateway[];
let amqp: ChannelModel;
const services = { tcp: '', tls: '', websocket: '' };
const clients: XmppClient[] = [];

beforeAll(async () => {
  // The client has no way to be told of an authority, other than by Node's own environment.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  const { tls } = await localhostTls();
  broker = await createBroker();
  const listener = { host: '127.0.0.1', port: 0, connectionsMax: 100, handshakeTimeoutMs: 10_000, log: SILENT_LOG };
  const door = await openXmppDoor(broker, { tls, withoutTls: 'nobody' });
  const openDoor = await openXmppDoor(broker, { domains: [] });
  gateways = [
    await startXmppGateway(door, listener),
    await startXmppGateway(door, { ...listener, tls }),
    await startWebSocketGateway({
      ...listener,
      tls,
      doors: [xmppWebSocketDoor(door)],
      origins: ['loopback'],
      messageBytesMax: 1024 * 1024,
    }),
    await startAmqpGateway(broker, listener),
    openDoor,
  ];
  const port = (index: number): number => gateways[index]?.addresses[0]?.port ?? 0;
  services.tcp = `xmpp://127.0.0.1:${port(0)}`;
  services.tls = `xmpps://127.0.0.1:${port(1)}`;
  services.websocket = `wss://127.0.0.1:${port(2)}/xmpp-websocket`;
  amqp = await amqpConnect(`amqp://127.0.0.1:${port(3)}`);
});

afterEach(async () => {
  for (const client of clients.splice(0)) {
    client.reconnect.stop();
    await client.stop().catch(() => {});
  }
});

afterAll(async () => {
  await amqp.close();
  await broker.close();
  await Promise.all(gateways.map((gateway) => gateway.close()));
});

async function online(service: string, resource = 'desk', password = 'guest'): Promise<XmppClient> {
  const client = xmppClient({ service, domain: 'localhost', username: 'guest', password, resource });
  client.on('error', () => {});
  clients.push(client);
  await client.start();
  return client;
}

function bodies(messages: readonly XmppElement[]): (string | null)[] {
  return messages.map((message) => message.getChildText('body'));
}

async function follows(client: XmppClient, contact: string): Promise<void> {
  const granted = new Promise<void>((resolve) => {
    client.on('stanza', ({ name, attrs: { type, from } }) => {
      if (name === 'presence' && type === 'subscribed' && from === contact) resolve();
    });
  });
  await client.send(xml('presence', { type: 'subscribe', to: contact }));
  await granted;
}

describe.each(['tcp', 'tls', 'websocket'] as const)('@xmpp/client over %s', (way) => {
  it('logs in, follows an exchange, and receives what amqplib publishes, also what came meanwhile', async () => {
    const channel = await amqp.createConfirmChannel();
    const exchange = `logs-${way}`;
    await channel.assertExchange(exchange, 'topic');
    const client = await online(services[way]);
    const messages = messagesOf(client);
    await client.send(xml('presence'));
    await follows(client, `${exchange}@broker.localhost/app.#`);
    channel.publish(exchange, 'app.login', Buffer.from('first'));
    channel.publish(exchange, 'other', Buffer.from('not for us'));
    channel.publish(exchange, 'app.logout', Buffer.from('second'));
    await eventually(() => expect(bodies(messages)).toEqual(['first', 'second']));
    expect(messages.map(({ attrs }) => attrs.from)).toEqual([
      `${exchange}@broker.localhost/app.login`,
      `${exchange}@broker.localhost/app.logout`,
    ]);
    await client.stop();
    for (let index = 0; index < 200; index += 1) channel.publish(exchange, 'app.n', Buffer.from(`n${index}`));
    await channel.waitForConfirms();

    const again = await online(services[way]);
    const waited = messagesOf(again);
    await again.send(xml('presence'));
    const expected = Array.from({ length: 200 }, (_, index) => `n${index}`);
    await eventually(() => expect(bodies(waited)).toEqual(expected));
    await again.send(xml('presence', { type: 'unsubscribe', to: `${exchange}@broker.localhost/app.#` }));
    await gone();
    await channel.close();
  });

  it('publishes for amqplib to consume, and keeps the id on the way back', async () => {
    const channel = await amqp.createChannel();
    const exchange = `words-${way}`;
    await channel.assertExchange(exchange, 'fanout');
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, exchange, '');
    const client = await online(services[way]);
    const messages = messagesOf(client);
    await client.send(xml('presence'));
    await follows(client, `${exchange}@broker.localhost`);
    const to = `${exchange}@broker.localhost/greeting`;
    await client.send(xml('message', { type: 'chat', id: 'id-1', to }, xml('body', {}, 'grüezi & <hallo>')));
    const got = await eventually(async () => {
      const message = await channel.get(queue, { noAck: true });
      if (message === false) throw new Error('nothing yet');
      return message;
    });
    expect(got.content.toString()).toBe('grüezi & <hallo>');
    expect(got.fields.routingKey).toBe('greeting');
    expect(got.properties).toMatchObject({ contentType: 'text/plain', messageId: 'id-1', userId: 'guest' });
    expect(got.properties.headers).toEqual({ 'xmpp-from': 'guest@localhost/desk' });
    await eventually(() => expect(messages).toHaveLength(1));
    expect(messages[0]?.attrs).toMatchObject({ id: 'id-1', from: to });
    await client.send(xml('presence', { type: 'unsubscribe', to: `${exchange}@broker.localhost` }));
    await gone();
    await channel.close();
  });

  it('loses and reorders nothing when its connection is cut in the middle', async () => {
    const channel = await amqp.createConfirmChannel();
    const exchange = `cut-${way}`;
    await channel.assertExchange(exchange, 'fanout');
    const client = await online(services[way]);
    const messages = messagesOf(client);
    client.reconnect.delay = 10;
    await client.send(xml('presence'));
    await follows(client, `${exchange}@broker.localhost`);
    await eventually(() => expect(client.streamManagement.enabled).toBe(true));
    const count = 300;
    for (let index = 0; index < count; index += 1) {
      channel.publish(exchange, '', Buffer.from(`n${index}`));
      if (index % 100 === 50) {
        await channel.waitForConfirms();
        // It never comes back when it is cut while it changes over to TLS.
        await eventually(() => expect(client.status).toBe('online'), { timeoutMs: 8000 });
        cut(client);
      }
    }
    const expected = Array.from({ length: count }, (_, index) => `n${index}`);
    await eventually(() => expect(bodies(messages).slice(-1)).toEqual([`n${count - 1}`]), { timeoutMs: 8000 });
    // What was on the line when it was cut may come twice; nothing is missing, nothing is out of place.
    expect([...new Set(bodies(messages))]).toEqual(expected);
    await eventually(async () => {
      const queue = (await broker.snapshot('/')).queues.find(({ name }) => name === 'guest@localhost');
      expect([queue?.messagesReady, queue?.messagesUnacked]).toEqual([0, 0]);
    });
    await client.send(xml('presence', { type: 'unsubscribe', to: `${exchange}@broker.localhost` }));
    await gone();
    await channel.close();
  });

  it('is refused with a wrong password', async () => {
    await expect(online(services[way], 'desk', 'wrong')).rejects.toMatchObject({ condition: 'not-authorized' });
  });
});

/** The last binding has gone, and the inbox with it. */
async function gone(): Promise<void> {
  await eventually(async () => {
    const { queues } = await broker.snapshot('/');
    expect(queues.map(({ name }) => name)).not.toContain('guest@localhost');
  });
}

/** As when a cable is pulled. */
function cut(client: XmppClient): void {
  const { socket } = client;
  const inner = (socket as { socket?: { destroy?(): void; terminate?(): void } } | null)?.socket;
  if (inner?.terminate !== undefined) inner.terminate();
  else (inner ?? socket)?.destroy?.();
}
