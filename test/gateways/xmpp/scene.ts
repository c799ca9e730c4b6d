/** A broker with its XMPP door on free ports, and clients for tests: a raw one, and @xmpp/client. */

import { createRequire } from 'node:module';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { WebSocket } from 'ws';
import { type BrokerOptions, createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { Broker, Channel } from '../../../broker/port.ts';
import type { Gateway } from '../../../gateways/gateway.ts';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { startWebSocketGateway } from '../../../gateways/websocket.ts';
import {
  openXmppDoor,
  startXmppGateway,
  type XmppDoor,
  type XmppOptions,
  xmppWebSocketDoor,
} from '../../../gateways/xmpp/gateway.ts';
import { eventually } from '../../support/eventually.ts';

const LISTENER = { host: '127.0.0.1', port: 0, connectionsMax: 1000, handshakeTimeoutMs: 10_000, log: SILENT_LOG };

export interface XmppScene {
  readonly broker: Broker;
  readonly door: XmppDoor;
  /** Of the client port. */
  readonly port: number;
  readonly webSocketUrl: string;
  /** A channel with every right. */
  readonly channel: Channel;
  publish(exchange: string, routingKey: string, body: string | Uint8Array, properties?: object): void;
  /** A raw client with an open connection and nothing else. */
  raw(): Promise<RawClient>;
  /** A raw client that has logged in and bound `resource`. */
  login(resource: string, user?: string): Promise<RawClient>;
}

/** Call once, at the top of a file or a describe. Users: guest, and `anna` and `berta`, whose password is `secret`. */
export function useXmpp(
  options: {
    readonly xmpp?: XmppOptions | (() => XmppOptions);
    readonly broker?: BrokerOptions | (() => Promise<Broker>);
  } = {},
): XmppScene {
  let broker: Broker;
  let door: XmppDoor;
  let gateways: Gateway[] = [];
  let channel: Channel;
  const raws: RawClient[] = [];
  beforeAll(async () => {
    broker = await (typeof options.broker === 'function' ? options.broker() : createBroker(options.broker));
    for (const name of ['anna', 'berta']) {
      await broker.administration.putUser({ name, password: 'secret' });
      await broker.administration.setPermission({ vhost: '/', user: name, configure: '.*', write: '.*', read: '.*' });
    }
    channel = (await broker.connect()).openChannel();
    door = await openXmppDoor(broker, typeof options.xmpp === 'function' ? options.xmpp() : options.xmpp);
    gateways = [
      await startXmppGateway(door, LISTENER),
      await startWebSocketGateway({
        ...LISTENER,
        doors: [xmppWebSocketDoor(door)],
        origins: ['loopback'],
        messageBytesMax: 1024 * 1024,
      }),
    ];
  });
  afterEach(() => {
    for (const raw of raws.splice(0)) raw.socket.destroy();
  });
  afterAll(async () => {
    await broker.close();
    await Promise.all(gateways.map((gateway) => gateway.close()));
  });
  const scene: XmppScene = {
    get broker() {
      return broker;
    },
    get door() {
      return door;
    },
    get port() {
      return gateways[0]?.addresses[0]?.port ?? 0;
    },
    get webSocketUrl() {
      return `ws://127.0.0.1:${gateways[1]?.addresses[0]?.port}/xmpp-websocket`;
    },
    get channel() {
      return channel;
    },
    publish(exchange, routingKey, body, properties = {}) {
      channel.publish(createMessage({ exchange, routingKey, body, properties }));
    },
    async raw() {
      const raw = await RawClient.connect(scene.port);
      raws.push(raw);
      return raw;
    },
    async login(resource, user = 'guest') {
      const raw = await scene.raw();
      await raw.login(user, user === 'guest' ? 'guest' : 'secret', resource);
      return raw;
    },
  };
  return scene;
}

const HEADER =
  "<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/** Speaks XML by hand, and remembers all that it was told. */
export class RawClient {
  readonly socket: Socket;
  #heard = '';
  #taken = 0;
  closed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      this.#heard += text;
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }

  static async connect(port: number): Promise<RawClient> {
    const socket = connect(port, '127.0.0.1');
    const raw = new RawClient(socket);
    await new Promise((resolve) => socket.once('connect', resolve));
    return raw;
  }

  /** All that has come since the last `until`. */
  get heard(): string {
    return this.#heard.slice(this.#taken);
  }

  /** Stanzas that have come since stream management was enabled. */
  get managedCount(): number {
    const [, managed = ''] = this.#heard.split('<enabled');
    return managed.match(/<(?:message|presence|iq)[ >]/g)?.length ?? 0;
  }

  say(text: string): void {
    this.socket.write(text);
  }

  header(): void {
    this.say(HEADER);
  }

  /** Waits for a text or pattern in what has not been taken yet, takes what there is up to its end, and answers it. */
  async until(wanted: string | RegExp): Promise<string> {
    return eventually(() => {
      const { heard } = this;
      const match = typeof wanted === 'string' ? undefined : wanted.exec(heard);
      const at = typeof wanted === 'string' ? heard.indexOf(wanted) : (match?.index ?? -1);
      if (at < 0) throw new Error(`still waiting for ${wanted}; heard: ${heard}`);
      const end = at + (typeof wanted === 'string' ? wanted.length : (match?.[0].length ?? 0));
      this.#taken += end;
      return heard.slice(0, end);
    });
  }

  async login(user: string, password: string, resource?: string): Promise<void> {
    this.header();
    await this.until('</stream:features>');
    const plain = Buffer.from(`\0${user}\0${password}`).toString('base64');
    this.say(`<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${plain}</auth>`);
    await this.until('<success');
    this.header();
    await this.until('</stream:features>');
    if (resource === undefined) return;
    this.say(
      `<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>${resource}</resource></bind></iq>`,
    );
    await this.until('</bind></iq>');
  }

  /** Waits until what was said has been taken care of. */
  async settled(): Promise<string> {
    this.say("<iq type='get' id='settled' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    return this.until(/<iq[^>]*id="settled"[^>]*\/>/);
  }

  /** The bodies of the messages in what has not been taken yet. */
  get bodies(): string[] {
    return [...this.heard.matchAll(/<message[^>]*>.*?<body>(.*?)<\/body>/gs)].map(([, body = '']) => body);
  }

  async ended(): Promise<string> {
    await eventually(() => {
      if (!this.closed) throw new Error(`still open; heard: ${this.heard}`);
    });
    return this.heard;
  }
}

// ---- @xmpp/client, which brings no types

/** An element as xmpp.js has it. */
export interface XmppElement {
  readonly name: string;
  readonly attrs: Readonly<Record<string, string | undefined>>;
  getChild(name: string, xmlns?: string): XmppElement | undefined;
  getChildText(name: string): string | null;
  getChildren(name: string): XmppElement[];
  getText(): string;
  is(name: string): boolean;
  toString(): string;
}

export interface XmppClient {
  start(): Promise<{ toString(): string }>;
  stop(): Promise<unknown>;
  send(element: XmppElement): Promise<void>;
  on(event: 'stanza', listener: (stanza: XmppElement) => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
  on(event: 'online' | 'offline' | 'disconnect', listener: () => void): void;
  readonly iqCaller: { request(iq: XmppElement): Promise<XmppElement> };
  readonly socket: { destroy?(): void; pause?(): void; readonly socket?: { destroy?(): void } } | null;
  readonly streamManagement: { readonly enabled: boolean; readonly id: string; readonly outbound: number };
  readonly reconnect: { delay: number; stop(): void };
  readonly status: string;
}

const require = createRequire(import.meta.url);
// It expects that of a browser; Node 20 has none.
Object.assign(globalThis, { WebSocket: globalThis.WebSocket ?? WebSocket });

export const { client: xmppClient, xml } = require('@xmpp/client') as {
  client(options: {
    service: string;
    domain?: string;
    username: string;
    password: string;
    resource?: string;
  }): XmppClient;
  xml(name: string, attributes?: string | object, ...children: unknown[]): XmppElement;
};

/** The messages that a client gets, as they come. */
export function messagesOf(client: XmppClient): XmppElement[] {
  const messages: XmppElement[] = [];
  client.on('stanza', (stanza) => {
    if (stanza.is('message') && stanza.getChild('body')) messages.push(stanza);
  });
  return messages;
}
