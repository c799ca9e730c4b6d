/**
 * Warren with all its doors, and on them Toy Twitter: the page, the accounts, Rabbiter. One process, as a program that holds
 * a broker has it; what the people do goes through the doors, as everybody's does.
 */
import { randomBytes } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { type Broker, createBroker } from 'warren';
import { startAmqpGateway } from 'warren/amqp';
import { reverseHttpDoor } from 'warren/reverse-http';
import { startStompGateway, stompWebSocketDoor } from 'warren/stomp';
import { startWebSocketGateway } from 'warren/websocket';
import { openXmppDoor, startXmppGateway, type XmppDoor, type XmppOptions, xmppWebSocketDoor } from 'warren/xmpp';
import { Accounts } from './accounts.ts';
import { Names } from './names.ts';
import { pageDoor } from './page-door.ts';
import { Rabbiter } from './rabbiter.ts';
import { Twitter } from './twitter.ts';

/** What is decided about the place. */
export interface ServerOptions {
  /** Address to listen on (default 127.0.0.1: this machine only). */
  readonly host?: string;
  /** 0 = any free one; the defaults are those of the protocols. */
  readonly ports?: { readonly amqp?: number; readonly stomp?: number; readonly xmpp?: number; readonly http?: number };
  /** Where everything is kept; absent: in memory. */
  readonly dataDir?: string;
  /** XMPP domain of those who are at home here (default `localhost`). */
  readonly home?: string;
  /** Domain in which Rabbiter is an address for them (default `broker.localhost`). */
  readonly botDomain?: string;
  /** Other servers, for whose users Rabbiter is an address in `domain`. */
  readonly components?: readonly ComponentOptions[];
  /** Origins beside this machine's that the page may be served from, as when a proxy stands in front. */
  readonly origins?: readonly string[];
  /** People that Rabbiter reads to at a time, at each of its addresses. */
  readonly readersMax?: number;
  /** Users of the broker. */
  readonly accountsMax?: number;
  /** For lines about what went wrong. */
  readonly complain?: (line: string) => void;
}

export interface ComponentOptions {
  readonly domain: string;
  readonly host: string;
  readonly port: number;
  readonly secret: string;
}

/** A place that is open. */
export interface Server {
  readonly broker: Broker;
  readonly twitter: Twitter;
  readonly names: Names;
  readonly accounts: Accounts;
  readonly xmpp: XmppDoor;
  /** Addresses of Rabbiter, the one for those at home first. */
  readonly bots: readonly string[];
  readonly ports: { readonly amqp: number; readonly stomp: number; readonly xmpp: number; readonly http: number };
  /** Of the page, on this machine. */
  readonly url: string;
  /** The same as other machines see it; none when it is for this machine only. */
  readonly urlsOutside: readonly string[];
  close(): Promise<void>;
}

const PORTS = { amqp: 5672, stomp: 61613, xmpp: 5222, http: 15674 };
const VHOST = '/';
const BOT = 'rabbiter';
/** The user of the broker as whom this program itself does things. */
const SERVICE_USER = 'toy-twitter';

const CONNECTIONS_MAX = 10_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** A post is never so long; this is for frames of STOMP and stanzas of XMPP. */
const MESSAGE_BYTES_MAX = 256 * 1024;

/** Opens the place. Rejects with what a port in use, a data folder or amqplib says. */
export async function startServer(options: ServerOptions = {}): Promise<Server> {
  const closings: (() => Promise<unknown>)[] = [];
  const close = async (): Promise<void> => {
    for (const end of closings.splice(0).reverse()) await end();
  };
  try {
    return await open(options, closings, close);
  } catch (error) {
    await close();
    throw error;
  }
}

async function open(
  options: ServerOptions,
  closings: (() => Promise<unknown>)[],
  close: () => Promise<void>,
): Promise<Server> {
  const { host = '127.0.0.1', dataDir, home = 'localhost', origins = [], complain = () => {} } = options;
  const ports = { ...PORTS, ...options.ports };
  const names = new Names(home);
  const log = logTo(complain);
  const onDefect = (error: unknown): void => complain(`toy-twitter: ${String(error)}`);
  const kit = { host, connectionsMax: CONNECTIONS_MAX, handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS, log };

  const broker = await createBroker(dataDir === undefined ? {} : { dataDir });
  closings.push(() => broker.close());
  const opened = async <Door extends { close(): Promise<void> }>(door: Promise<Door>): Promise<Door> => {
    const opening = await door;
    closings.push(() => opening.close());
    return opening;
  };
  const amqp = await opened(startAmqpGateway(broker, { ...kit, port: ports.amqp }));
  const stomp = await opened(startStompGateway(broker, { ...kit, port: ports.stomp }));
  const xmpp = await opened(openXmppDoor(broker, xmppOptions(options, log)));
  const xmppPort = await opened(startXmppGateway(xmpp, { ...kit, port: ports.xmpp }));
  const portOf = (door: { addresses: readonly { port: number }[] }): number => door.addresses[0]?.port ?? 0;

  const twitter = await Twitter.connect(await serviceUrl(broker, host, portOf(amqp)));
  closings.push(() => twitter.close());
  await twitter.keepGraph();
  const { accountsMax, readersMax } = options;
  const accounts = new Accounts({
    broker,
    vhost: VHOST,
    twitter,
    names,
    ...(accountsMax !== undefined && { accountsMax }),
  });
  const allowed = ['loopback', ...origins];
  const web = await opened(
    startWebSocketGateway({
      ...kit,
      port: ports.http,
      doors: [stompWebSocketDoor(broker, { log }), xmppWebSocketDoor(xmpp)],
      httpDoors: [
        pageDoor({ accounts, twitter, xmpp: { bot: botIn(xmpp), xmppPort: portOf(xmppPort) }, onDefect }),
        reverseHttpDoor(broker, { log }),
      ],
      origins: allowed,
      messageBytesMax: MESSAGE_BYTES_MAX,
    }),
  );
  const urlsOutside = outsideAddresses(host).map((address) => `http://${address}:${portOf(web)}/`);
  // A page may connect from where it was served; only now it is known where that is.
  allowed.push(...urlsOutside.map((url) => new URL(url).origin));
  const bots: string[] = [];
  const own = options.components?.map(({ domain }) => domain) ?? [];
  for (const domain of xmpp.exchangeDomains) {
    const address = `${BOT}@${domain}`;
    const isOfOthers = own.includes(domain);
    // Who comes from another server cannot be somebody who is at home here, whatever that server says.
    const serves = (name: string): boolean => name.includes('@') === isOfOthers;
    const rabbiter = new Rabbiter({
      address,
      twitter,
      names,
      serves,
      send: (stanza, settlement) => xmpp.send(stanza, settlement),
      onDefect,
      ...(readersMax !== undefined && { readersMax }),
    });
    const unregister = xmpp.register(address, rabbiter);
    closings.push(async () => {
      await rabbiter.close();
      unregister();
    });
    await rabbiter.start();
    bots.push(address);
  }
  const isEverywhere = host === '0.0.0.0' || host === '::';
  return {
    broker,
    twitter,
    names,
    accounts,
    xmpp,
    bots,
    ports: { amqp: portOf(amqp), stomp: portOf(stomp), xmpp: portOf(xmppPort), http: portOf(web) },
    url: `http://${isEverywhere || host === '127.0.0.1' ? 'localhost' : host}:${portOf(web)}/`,
    urlsOutside,
    close,
  };
}

/** The address of Rabbiter for those who are at home here. */
function botIn({ exchangeDomains: [domain = ''] }: XmppDoor): string {
  return `${BOT}@${domain}`;
}

function xmppOptions(options: ServerOptions, log: XmppOptions['log']): XmppOptions {
  const { home = 'localhost', botDomain = 'broker.localhost', components = [] } = options;
  return {
    userDomain: home,
    domains: [{ domain: botDomain, vhost: VHOST }],
    components: components.map((component) => ({ ...component, vhost: VHOST })),
    stanzaBytesMax: MESSAGE_BYTES_MAX,
    ...(log && { log }),
  };
}

/** A user with every right, whom nobody else can be: the password is new with every start. */
async function serviceUrl(broker: Broker, host: string, port: number): Promise<string> {
  const password = randomBytes(24).toString('base64url');
  const rights = { configure: '.*', write: '.*', read: '.*' };
  await broker.administration.putUser({ name: SERVICE_USER, password });
  await broker.administration.setPermission({ vhost: VHOST, user: SERVICE_USER, ...rights });
  const target = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '[::1]' : host;
  return `amqp://${SERVICE_USER}:${password}@${target}:${port}/${encodeURIComponent(VHOST)}`;
}

/** Under which addresses other machines reach what listens on `host`. */
function outsideAddresses(host: string): string[] {
  if (host === '127.0.0.1' || host === '::1' || host === 'localhost') return [];
  if (host !== '0.0.0.0' && host !== '::') return [host.includes(':') ? `[${host}]` : host];
  return Object.values(networkInterfaces()).flatMap((list = []) =>
    // Addresses of a link alone need the name of the link, which no page's address can have.
    list
      .filter(({ internal, scopeid, family }) => !internal && !scopeid && (family === 'IPv4' || host === '::'))
      .map(({ address, family }) => (family === 'IPv6' ? `[${address}]` : address)),
  );
}

function logTo(complain: (line: string) => void): NonNullable<XmppOptions['log']> {
  const line = (fields: object, message: string): void => complain(`${message} ${JSON.stringify(fields)}`);
  return { error: line, warn: line, info: () => {}, debug: () => {} };
}
