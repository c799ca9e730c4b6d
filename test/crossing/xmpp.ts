/** XMPP in the crossing matrix: @xmpp/client over TCP, each a user of its own. Properties and octets travel in `<amqp>`. */
import type { Broker } from '../../broker/port.ts';
import { openXmppDoor, startXmppGateway } from '../../gateways/xmpp/gateway.ts';
import { type XmppElement, xml, xmppClient } from '../gateways/xmpp/scene.ts';
import { LISTENER } from '../interop/clients.ts';
import {
  EVERY_ASPECT,
  Mailbox,
  type Peer,
  type Place,
  type Properties,
  type Protocol,
  type Received,
} from './protocol.ts';

const AMQP = 'urn:warren:amqp:0';
const DOMAIN = 'broker.localhost';

/** Properties and the attributes that say them. */
const ATTRIBUTES = {
  contentType: 'content-type',
  contentEncoding: 'content-encoding',
  priority: 'priority',
  correlationId: 'correlation-id',
  replyTo: 'reply-to',
  expiration: 'expiration',
  messageId: 'message-id',
  timestamp: 'timestamp',
  type: 'type',
  appId: 'app-id',
} as const;

export const XMPP: Protocol = {
  name: 'XMPP',
  carries: EVERY_ASPECT,
  async start(broker: Broker) {
    // Base64 of the largest sample.
    const door = await openXmppDoor(broker, { stanzaBytesMax: 4 * 1024 * 1024 });
    const gateway = await startXmppGateway(door, LISTENER);
    const port = gateway.addresses[0]?.port ?? 0;
    return { connect: () => open(broker, port), close: () => gateway.close() };
  },
};

let users = 0;

async function open(broker: Broker, port: number): Promise<Peer> {
  users += 1;
  const username = `crossing-${users}`;
  await broker.administration.putUser({ name: username, password: 'secret' });
  await broker.administration.setPermission({ vhost: '/', user: username, configure: '.*', write: '.*', read: '.*' });
  const client = xmppClient({
    service: `xmpp://${LISTENER.host}:${port}`,
    domain: 'localhost',
    username,
    password: 'secret',
  });
  client.on('error', () => {});
  const mailbox = new Mailbox<XmppElement>();
  const granted = new Mailbox<string>();
  client.on('stanza', (stanza) => {
    if (stanza.is('message')) mailbox.add(stanza);
    if (stanza.is('presence') && stanza.attrs.type === 'subscribed') granted.add(stanza.attrs.from ?? '');
  });
  await client.start();
  await client.send(xml('presence'));

  async function send(place: Place, body: Buffer, properties: Properties): Promise<void> {
    await client.send(xml('message', { type: 'chat', to: addressOf(place) }, amqpElement(body, properties)));
    // Stanzas are handled in order; the answer to this one comes after the publish has been taken.
    await client.iqCaller.request(xml('iq', { type: 'get', to: DOMAIN }, xml('ping', 'urn:xmpp:ping')));
  }

  let inbox: Promise<void> | undefined;

  async function subscribe(place: Place): Promise<void> {
    await client.send(xml('presence', { type: 'subscribe', to: addressOf(place) }));
    await granted.take();
  }

  return {
    send: (place, { body, properties }) => send(place, body, properties),
    subscribe,
    async receive() {
      return received(await mailbox.take(), send);
    },
    async request(queue, body) {
      // Its inbox is there when it follows something. Who asks to follow what he follows already is not answered.
      inbox ??= subscribe({ exchange: 'amq.direct', key: username });
      await inbox;
      await send({ queue }, Buffer.from(body), { replyTo: `${username}@localhost` });
      return received(await mailbox.take(), send).body.toString();
    },
    async close() {
      client.reconnect.stop();
      await client.stop();
    },
  };
}

function received(
  stanza: XmppElement,
  send: (place: Place, body: Buffer, properties: Properties) => Promise<void>,
): Received {
  const amqp = stanza.getChild('amqp', AMQP);
  const encoded = amqp?.getChildText('body');
  const body = encoded ? Buffer.from(encoded, 'base64') : Buffer.from(stanza.getChildText('body') ?? '');
  const found: Record<string, unknown> = {};
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    const value = amqp?.attrs[attribute];
    if (value !== undefined) found[name] = name === 'priority' || name === 'timestamp' ? Number(value) : value;
  }
  if (amqp?.attrs['delivery-mode'] === '2') found.persistent = true;
  const headers = amqp?.getChildren('header') ?? [];
  if (headers.length > 0) {
    found.headers = Object.fromEntries(headers.map((header) => [header.attrs.name ?? '', header.getText()]));
  }
  return {
    body,
    properties: found,
    reply: (text) => send({ queue: String(found.replyTo) }, Buffer.from(text), {}),
  };
}

function amqpElement(body: Buffer, { persistent, headers = {}, ...properties }: Properties): XmppElement {
  const attributes: Record<string, string> = { xmlns: AMQP, ...(persistent && { 'delivery-mode': '2' }) };
  for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
    const value = properties[name as keyof typeof ATTRIBUTES];
    if (value !== undefined) attributes[attribute] = String(value);
  }
  const fields = Object.entries(headers).map(([name, value]) => xml('header', { name }, value));
  return xml('amqp', attributes, ...fields, xml('body', { encoding: 'base64' }, body.toString('base64')));
}

function addressOf(place: Place): string {
  if ('queue' in place) return `queue+${escaped(place.queue)}@${DOMAIN}`;
  return `${escaped(place.exchange)}@${DOMAIN}/${place.key}`;
}

/** XEP-0106, and our own for what case folding would take away. */
function escaped(name: string): string {
  return name.replace(/[^a-z0-9._-]/g, (character) =>
    [...Buffer.from(character)].map((octet) => `\\${octet.toString(16).padStart(2, '0')}`).join(''),
  );
}
