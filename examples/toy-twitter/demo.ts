/**
 * People for `--demo`: Anna, Ben and Carla come in over AMQP, Juliet and Romeo over XMPP, as users of Warren's own client
 * port who talk to Rabbiter. They follow one another, and say their lines for as long as somebody watches.
 */
import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { setTimeout as delay } from 'node:timers/promises';
import { CONNECTIONS_EACH } from './accounts.ts';
import type { Server } from './server.ts';

/** Between two lines, unless told otherwise. */
const LINE_EVERY_MS = 2500;
/** On users of the broker that a demonstration made, so that the next one on the same data may have them again. */
const DEMO_TAG = 'toy-twitter-demo';

export interface Demo {
  stop(): Promise<void>;
}

interface Voice {
  say(text: string): Promise<unknown>;
}

/** Who follows whom. */
const FOLLOWS: readonly (readonly [string, string])[] = [
  ['anna', 'ben'],
  ['ben', 'anna'],
  ['carla', 'anna'],
  ['carla', 'ben'],
  ['carla', 'juliet'],
  ['romeo', 'juliet'],
  ['juliet', 'romeo'],
  ['anna', 'juliet'],
  ['ben', 'carla'],
];

const LINES: readonly (readonly [who: string, text: string])[] = [
  ['anna', 'Good morning! One exchange for what I send.'],
  ['ben', 'And one queue for what I read. Morning, @anna.'],
  ['juliet', 'O Romeo, Romeo, wherefore art thou Romeo? (I am on XMPP, in a chat client.)'],
  ['carla', 'One binding for each follow. That is the whole data model.'],
  ['romeo', '/me climbs the garden wall.'],
  ['anna', 'I can hear @juliet from a web page. Which door did she take?'],
  ['juliet', 'What is in a door? That which we call a queue by any other protocol would smell as sweet.'],
  ['ben', 'Closing the laptop now. Whatever you say will wait for me.'],
  ['carla', '<b>This is no HTML</b>, it is what I typed.'],
  ['romeo', 'Shall I hear more, or shall I speak at this?'],
  ['ben', 'Back again, and nothing is lost.'],
];

/** Lets them come in. */
export function playDemo(server: Server, tell: (line: string) => void, everyMs = LINE_EVERY_MS): Demo {
  const ending = new AbortController();
  const clients: XmppClient[] = [];
  const playing = play({ server, tell, ending: ending.signal, everyMs, clients }).catch((error: unknown) => {
    if (!ending.signal.aborted) tell(`The demonstration has ended: ${error instanceof Error ? error.message : error}`);
  });
  return {
    async stop() {
      ending.abort();
      await playing;
      await Promise.all(clients.map((client) => client.stop().catch(() => {})));
    },
  };
}

interface Play {
  readonly server: Server;
  readonly tell: (line: string) => void;
  readonly ending: AbortSignal;
  readonly everyMs: number;
  /** Those who are to be stopped in the end. */
  readonly clients: XmppClient[];
}

async function play({ server, tell, ending, everyMs, clients }: Play): Promise<void> {
  const { twitter } = server;
  const voices = new Map<string, Voice>();
  for (const name of ['anna', 'ben', 'carla']) {
    // Somebody has these names then, and nobody can sign in as them.
    await comeIn(server, name);
    voices.set(name, { say: (text) => twitter.post(name, text) });
  }
  for (const name of ['juliet', 'romeo']) {
    const client = await chatter(server, name);
    clients.push(client);
    const to = server.bots[0];
    voices.set(name, { say: (text) => client.send(xml('message', { type: 'chat', to }, xml('body', {}, text))) });
  }
  for (const [who, whom] of FOLLOWS) await twitter.follow(who, whom);
  tell(`demo   ${[...voices.keys()].join(', ')} are here and talking; sign in on the page and follow them`);
  for (let index = 0; !ending.aborted; index += 1) {
    const [who, text] = LINES[index % LINES.length] ?? ['anna', ''];
    await voices.get(who)?.say(text);
    await pause(everyMs, ending);
  }
}

/**
 * Signs one of the cast in; resolves with a passcode that is new each time. A name that a person has taken stays his: then
 * it rejects with TwitterError, taken.
 */
async function comeIn({ broker, accounts }: Server, name: string): Promise<string> {
  const { administration } = broker;
  const known = (await administration.users()).find((user) => user.name === name);
  if (known === undefined || !known.tags.includes(DEMO_TAG)) await accounts.signIn(name, undefined, true);
  const password = randomBytes(16).toString('base64url');
  await administration.putUser({ name, password, tags: [DEMO_TAG], limits: { maxConnections: CONNECTIONS_EACH } });
  await accounts.signIn(name, password, true);
  return password;
}

/** Resolves when the time is over, or the demonstration. */
async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  await delay(milliseconds, undefined, { signal }).catch(() => {});
}

// ---- XMPP, with a client that brings no types

interface XmppElement {
  readonly name: string;
  readonly attrs: Readonly<Record<string, string | undefined>>;
}

interface XmppClient {
  start(): Promise<unknown>;
  stop(): Promise<unknown>;
  send(element: XmppElement): Promise<void>;
  on(event: 'stanza', listener: (stanza: XmppElement) => void): void;
  on(event: 'error', listener: (error: Error) => void): void;
}

const require = createRequire(import.meta.url);
const { client: xmppClient, xml } = require('@xmpp/client') as {
  client(options: object): XmppClient;
  xml(name: string, attributes?: object, ...children: unknown[]): XmppElement;
};

/** Logs somebody in with the XMPP port and lets him add Rabbiter; resolves when he is welcome. */
async function chatter(server: Server, name: string): Promise<XmppClient> {
  const { names, ports, bots } = server;
  const passcode = await comeIn(server, name);
  const service = `xmpp://127.0.0.1:${ports.xmpp}`;
  const client = xmppClient({ service, domain: names.home, username: name, password: passcode, resource: 'demo' });
  const [bot] = bots;
  client.on('error', () => {});
  await client.start();
  const welcome = new Promise<void>((resolve) => {
    client.on('stanza', (stanza) => {
      if (stanza.name !== 'presence' || stanza.attrs.from?.split('/', 1)[0] !== bot) return;
      // Whoever has added it before is not told so again, but sees that it is there.
      if (stanza.attrs.type === 'subscribed' || stanza.attrs.type === undefined) resolve();
    });
  });
  await client.send(xml('presence'));
  await client.send(xml('presence', { type: 'subscribe', to: bot }));
  await welcome;
  return client;
}
