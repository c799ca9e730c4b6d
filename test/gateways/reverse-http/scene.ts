/** A broker with a reverse-HTTP door on a free port, and what the tests of the door speak to it with. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { Broker, Channel } from '../../../broker/port.ts';
import type { Gateway } from '../../../gateways/gateway.ts';
import type { ListenerOptions } from '../../../gateways/listener.ts';
import { reverseHttpDoor } from '../../../gateways/reverse-http/gateway.ts';
import type { ReverseHttpOptions } from '../../../gateways/reverse-http/options.ts';
import { startWebSocketGateway } from '../../../gateways/websocket.ts';
import { type LogLine, recordedLog } from '../../support/recorded-log.ts';

/** guest, guest. */
export const GUEST = { Authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}` };

export function basic(user: string, password: string): Record<string, string> {
  return { Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` };
}

/** What a claim was answered with. */
export interface Claimed {
  readonly status: number;
  readonly first: string;
  readonly related: string;
  readonly location: string;
}

export class Scene {
  readonly broker: Broker;
  readonly port: number;
  readonly lines: readonly LogLine[];
  readonly #gateway: Gateway;
  readonly #sockets: Socket[] = [];

  private constructor(broker: Broker, gateway: Gateway, lines: readonly LogLine[]) {
    this.broker = broker;
    this.#gateway = gateway;
    this.port = gateway.addresses[0]?.port ?? 0;
    this.lines = lines;
  }

  static async open(options: ReverseHttpOptions = {}, listener: Partial<ListenerOptions> = {}): Promise<Scene> {
    const broker = await createBroker();
    const { log, lines } = recordedLog();
    const gateway = await startWebSocketGateway({
      host: '127.0.0.1',
      port: 0,
      connectionsMax: 20_000,
      handshakeTimeoutMs: 5000,
      log,
      doors: [],
      httpDoors: [reverseHttpDoor(broker, { log, ...options })],
      origins: ['loopback'],
      messageBytesMax: 1024,
      ...listener,
    });
    return new Scene(broker, gateway, lines);
  }

  get base(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** A path of the door, or a whole URL. */
  fetch(target: string, init: RequestInit = {}): Promise<Response> {
    return fetch(target.startsWith('/') ? this.base + target : target, { redirect: 'manual', ...init });
  }

  async claim(form: Record<string, string>, headers: Record<string, string> = GUEST): Promise<Claimed> {
    const response = await this.fetch('/reversehttp', { method: 'POST', body: new URLSearchParams(form), headers });
    const relations = linksOf(response);
    const location = response.headers.get('location') ?? '';
    await response.text();
    return {
      status: response.status,
      first: relations.first ?? '',
      related: relations.related ?? '',
      location,
    };
  }

  /** A connection on which a test speaks by itself. */
  async dial(text = ''): Promise<Socket> {
    const socket = connect(this.port, '127.0.0.1');
    socket.on('error', () => {});
    this.#sockets.push(socket);
    await once(socket, 'connect');
    if (text !== '') socket.write(text, 'latin1');
    return socket;
  }

  /** All that comes on a connection until the other side ends it. */
  async raw(text: string): Promise<string> {
    const socket = await this.dial(text);
    return Buffer.concat(await socket.toArray()).toString('latin1');
  }

  /** The only claim, as overseers see it. */
  async overview(): Promise<{ slots: number; free: number; busy: number }> {
    const response = await this.fetch('/reversehttp', { headers: GUEST });
    const { claims } = (await response.json()) as { claims: { slots: number; free: number; busy: number }[] };
    const [claim] = claims;
    if (claim === undefined) throw new Error('no claim');
    return claim;
  }

  async channel(): Promise<Channel> {
    return (await this.broker.connect()).openChannel();
  }

  /** Ready and unacked messages of a queue; undefined when it is not there. */
  async depth(queue: string): Promise<number | undefined> {
    const { queues } = await this.broker.snapshot('/');
    const view = queues.find(({ name }) => name === queue);
    return view && view.messagesReady + view.messagesUnacked;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.#gateway.close();
    await this.broker.close();
  }
}

/** The relations of the `Link` fields, `rel` to URL. */
export function linksOf(response: Response): Record<string, string> {
  const fields = response.headers.get('link') ?? '';
  return Object.fromEntries(
    [...fields.matchAll(/<([^>]*)>; rel="(\w+)"/g)].map(([, url, relation]) => [relation, url]),
  );
}

/** An application that polls as its author would write it: `reply` gets the embedded request and answers a response. */
export async function poll(
  scene: Scene,
  url: string,
  reply: (request: string, envelope: Response) => string | Promise<string>,
): Promise<string> {
  const envelope = await scene.fetch(url);
  const next = linksOf(envelope).next ?? '';
  if (envelope.status !== 200) {
    await envelope.text();
    return next;
  }
  const request = Buffer.from(await envelope.arrayBuffer()).toString('latin1');
  const body = Buffer.from(await reply(request, envelope), 'latin1');
  const headers = { 'Content-Type': 'message/http' };
  const posted = await scene.fetch(url, { method: 'POST', body, headers });
  await posted.text();
  return next;
}

/** A whole response. */
export function answer(body: string, status = '200 OK', headers = ''): string {
  return `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${headers}\r\n${body}`;
}

/** A consumer of another door that answers every request in `queue` with `reply`. */
export async function consumerApplication(
  scene: Scene,
  queue: string,
  reply: (request: string) => string,
): Promise<Channel> {
  const channel = await scene.channel();
  await channel.consume(
    { queue },
    {
      onDeliver: (message, deliveryTag) => {
        const { replyTo = '', correlationId = '' } = message.properties;
        const body = Buffer.from(reply(Buffer.from(message.body).toString('latin1')), 'latin1');
        const properties = { correlationId, contentType: 'message/http' };
        channel.publish(createMessage({ routingKey: replyTo, body, properties }));
        channel.ack(deliveryTag);
      },
    },
  );
  return channel;
}
