/** A place of Toy Twitter on free ports, for tests that come in by its doors. */
import { type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { type Server, type ServerOptions, startServer } from '../../examples/toy-twitter/server.ts';
import { messagesOf, type XmppClient, type XmppElement, xml, xmppClient } from '../gateways/xmpp/scene.ts';
import { eventually } from '../support/eventually.ts';

export const FREE_PORTS = { amqp: 0, stomp: 0, xmpp: 0, http: 0 };

/** Somebody with a chat client. */
export interface Chatter {
  readonly client: XmppClient;
  /** All stanzas that came. */
  readonly stanzas: readonly XmppElement[];
  /** Texts of all messages that came. */
  readonly texts: readonly string[];
  /** Writes to Rabbiter. */
  say(text: string): Promise<void>;
  /** Writes, and answers what comes for an answer. */
  ask(text: string): Promise<string>;
  presence(attributes?: object, ...children: unknown[]): Promise<void>;
  stop(): Promise<void>;
}

/** What the page is answered. */
export interface SignedIn {
  readonly status: number;
  readonly body: {
    readonly name?: string;
    readonly passcode?: string;
    readonly joined?: string;
    readonly message?: string;
  };
}

export interface Place {
  readonly server: Server;
  readonly amqp: ChannelModel;
  /** Lines about what went wrong. */
  readonly complaints: readonly string[];
  /** Signs somebody in over HTTP, as the page does. */
  signIn(name: unknown, passcode?: unknown, headers?: Record<string, string>): Promise<SignedIn>;
  /** Logs in with XMPP, under a name that is signed in first. */
  chatter(name: string, resource?: string): Promise<Chatter>;
  /** Of somebody who has logged in with XMPP. */
  passcodeOf(name: string): string;
  /** The same, and has added Rabbiter. */
  rabbit(name: string, resource?: string): Promise<Chatter>;
}

/** Call at the top of a file. */
export function usePlace(options: ServerOptions = {}): Place {
  let server: Server;
  let amqp: ChannelModel;
  const complaints: string[] = [];
  const stops: (() => Promise<unknown>)[] = [];
  const passcodes = new Map<string, string>();

  beforeAll(async () => {
    server = await startServer({ ports: FREE_PORTS, complain: (line) => complaints.push(line), ...options });
    amqp = await connect(`amqp://127.0.0.1:${server.ports.amqp}`);
  });
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
  });
  afterAll(async () => {
    await amqp?.close();
    await server?.close();
  });

  const place: Place = {
    get server() {
      return server;
    },
    get amqp() {
      return amqp;
    },
    complaints,
    async signIn(name, passcode, headers = {}) {
      const url = `http://127.0.0.1:${server.ports.http}/toy-twitter/session`;
      const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ name, passcode }) });
      return { status: response.status, body: (await response.json()) as SignedIn['body'] };
    },
    async chatter(name, resource = 'desk') {
      const known = passcodes.get(name);
      const { passcode } = await server.accounts.signIn(name, known, true);
      passcodes.set(name, passcode);
      const service = `xmpp://127.0.0.1:${server.ports.xmpp}`;
      const client = xmppClient({ service, domain: 'localhost', username: name, password: passcode, resource });
      const chatter = await listen(client, server.bots[0] ?? '');
      stops.push(() => chatter.stop());
      return chatter;
    },
    passcodeOf: (name) => passcodes.get(name) ?? '',
    async rabbit(name, resource) {
      const chatter = await place.chatter(name, resource);
      await chatter.presence();
      const graph = await server.twitter.graph();
      if (!graph.isContact(name)) await chatter.presence({ type: 'subscribe', to: server.bots[0] });
      await eventually(async () => {
        if (!(await server.twitter.graph()).isContact(name)) throw new Error(`${name} is no contact yet`);
        if ((await consumers(amqp, name)) === 0) throw new Error(`${name} is not read to yet`);
      });
      return chatter;
    },
  };
  return place;
}

/** Logs a client in whose options are made; presence is left to the test. */
export async function listen(client: XmppClient, bot: string): Promise<Chatter> {
  const stanzas: XmppElement[] = [];
  client.on('error', () => {});
  client.on('stanza', (stanza) => stanzas.push(stanza));
  const messages = messagesOf(client);
  await client.start();
  const texts = (): string[] => messages.map((message) => message.getChildText('body') ?? '');
  const say = (text: string): Promise<void> =>
    client.send(xml('message', { type: 'chat', to: bot }, xml('body', {}, text)));
  return {
    client,
    stanzas,
    get texts() {
      return texts();
    },
    say,
    async ask(text) {
      const before = messages.length;
      await say(text);
      return eventually(
        () => {
          const [answer] = texts().slice(before);
          if (answer === undefined) throw new Error(`no answer to ${text}`);
          return answer;
        },
        { timeoutMs: 10_000 },
      );
    },
    presence: (attributes = {}, ...children) => client.send(xml('presence', attributes, ...children)),
    async stop() {
      client.reconnect.stop();
      await client.stop().catch(() => {});
    },
  };
}

/** Who reads somebody's inbox. */
export async function consumers(amqp: ChannelModel, name: string): Promise<number> {
  const channel = await amqp.createChannel();
  channel.on('error', () => {});
  try {
    const { consumerCount } = await channel.checkQueue(`twitter.inbox.${name}`);
    return consumerCount;
  } catch {
    return -1;
  } finally {
    await channel.close().catch(() => {});
  }
}
