/** STOMP 1.2 in the crossing matrix: stompit over TCP. */
import { type Client, connect, type Message } from 'stompit';
import type { Broker } from '../../broker/port.ts';
import { startStompGateway } from '../../gateways/stomp/gateway.ts';
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

/** Properties and the headers that say them. */
const HEADERS = {
  contentType: 'content-type',
  contentEncoding: 'content-encoding',
  persistent: 'persistent',
  priority: 'priority',
  correlationId: 'correlation-id',
  replyTo: 'reply-to',
  expiration: 'expiration',
  messageId: 'amqp-message-id',
  timestamp: 'timestamp',
  type: 'type',
  appId: 'app-id',
} as const;

/** Headers of a MESSAGE that are about its delivery; XMPP says besides whose message it is. */
const TRANSPORT = new Set([
  ...['subscription', 'message-id', 'destination', 'redelivered', 'ack', 'content-length'],
  'user-id',
]);

export const STOMP: Protocol = {
  name: 'STOMP',
  carries: EVERY_ASPECT,
  async start(broker: Broker) {
    const gateway = await startStompGateway(broker, LISTENER);
    const port = gateway.addresses[0]?.port ?? 0;
    return { connect: () => open(port), close: () => gateway.close() };
  },
};

let replyQueues = 0;

async function open(port: number): Promise<Peer> {
  const client = await new Promise<Client>((resolve, reject) => {
    const connectHeaders = { host: '/', login: 'guest', passcode: 'guest' };
    const opening = connect({ host: LISTENER.host, port, connectHeaders }, (error) =>
      error ? reject(error) : resolve(opening),
    );
    opening.on('error', () => {});
  });
  const mailbox = new Mailbox<{ message: Message; body: Buffer }>();

  function send(destination: string, body: Buffer, properties: Properties): Promise<void> {
    const headers: Record<string, string> = {
      destination,
      'content-length': String(body.length),
      ...properties.headers,
    };
    for (const [name, header] of Object.entries(HEADERS)) {
      const value = properties[name as keyof typeof HEADERS];
      if (value !== undefined) headers[header] = String(value);
    }
    return new Promise((resolve, reject) => {
      client.send(headers, { onReceipt: resolve, onError: reject }).end(body);
    });
  }

  function received({ message, body }: { message: Message; body: Buffer }): Received {
    const rest = Object.entries(message.headers).filter(([name]) => !TRANSPORT.has(name));
    const headers = Object.fromEntries(rest);
    const found: Record<string, unknown> = {};
    for (const [name, header] of Object.entries(HEADERS)) {
      const value = headers[header];
      delete headers[header];
      if (value === undefined) continue;
      found[name] = name === 'priority' || name === 'timestamp' ? Number(value) : value;
    }
    if (found.persistent !== undefined) found.persistent = found.persistent === 'true';
    if (Object.keys(headers).length > 0) found.headers = headers;
    return {
      body,
      properties: found,
      reply: (text) => send(message.headers['reply-to'] ?? '', Buffer.from(text), {}),
    };
  }

  return {
    send: (place, { body, properties }) => send(destinationOf(place), body, properties),
    async subscribe(place) {
      client.subscribe({ destination: destinationOf(place), ack: 'client-individual' }, (error, message) => {
        if (!error) void bodyOf(message).then((body) => mailbox.add({ message, body }));
      });
      // Frames are handled in order: when this is answered, the subscription is there.
      await send('/topic/nobody', Buffer.alloc(0), {});
    },
    async receive() {
      const arrived = await mailbox.take();
      client.ack(arrived.message);
      return received(arrived);
    },
    async request(queue, body) {
      const replies = new Mailbox<string>();
      // stompit knows nothing of the subscription that a temporary queue comes with, so this is one of its own.
      replyQueues += 1;
      const name = `stomp-replies-${replyQueues}`;
      client.subscribe({ destination: `/queue/${name}`, ack: 'auto' }, (error, message) => {
        if (!error) void bodyOf(message).then((octets) => replies.add(octets.toString()));
      });
      await send(destinationOf({ queue }), Buffer.from(body), { replyTo: name });
      return replies.take();
    },
    close: () => new Promise((resolve, reject) => client.disconnect((error) => (error ? reject(error) : resolve()))),
  };
}

function destinationOf(place: Place): string {
  const escaped = (name: string): string => encodeURIComponent(name);
  if ('queue' in place) return `/queue/${escaped(place.queue)}`;
  return `/exchange/${escaped(place.exchange)}/${escaped(place.key)}`;
}

async function bodyOf(message: Message): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk);
  return Buffer.concat(chunks);
}
