/**
 * The table of options. One name serves everywhere: `amqp-port` is the flag `--amqp-port`, the environment variable
 * `WARREN_AMQP_PORT` and the key `amqp-port` of the configuration file. docs/configuration.md shows this table, and a
 * test keeps the two equal. The defaults stand here once: doors that are started without the table take them from it.
 */
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import {
  ADDRESS_RANGES,
  BASE_URL,
  choice,
  DATA_FOLDER,
  DISK,
  DOMAIN,
  domains,
  FILE,
  integer,
  type Kind,
  list,
  MEMORY,
  OCTETS,
  ORIGINS,
  octets,
  PORT,
  PORTS,
  text,
} from './option-kinds.ts';
import { HIGH_WATER_BYTES } from './outbox.ts';

export interface Option<Value> {
  readonly kind: Kind<Value>;
  readonly default: Value;
  /** Where the default differs from machine to machine, what to write about it. */
  readonly defaultText?: string;
  /** Further environment variables, which count after the own one. */
  readonly alsoFrom?: readonly string[];
  /** Never shown, not even when it is wrong. */
  readonly secret?: boolean;
  /** A sentence without its full stop. */
  readonly help: string;
  /** The heading it stands under. */
  readonly group: Group;
}

type Group =
  | 'General'
  | 'Storage'
  | 'Listening'
  | 'TLS'
  | 'AMQP'
  | 'STOMP'
  | 'XMPP'
  | 'WebSocket'
  | 'Reverse HTTP'
  | 'Users'
  | 'Limits';

function option<Value>(
  group: Group,
  kind: Kind<Value>,
  defaultValue: Value,
  help: string,
  more: Pick<Option<Value>, 'defaultText' | 'alsoFrom' | 'secret'> = {},
): Option<Value> {
  return { group, kind, default: defaultValue, help, ...more };
}

/** An option that is not there unless somebody sets it. */
function optional<Value>(group: Group, kind: Kind<Value>, help: string): Option<Value | undefined> {
  return { group, kind, default: undefined, help };
}

const MEBIBYTE = 1024 * 1024;
/** Where the command keeps things, seen from the working directory, unless it is told otherwise. */
const DATA_FOLDER_NAME = 'warren-data';
const SECONDS_MAX = 10 * 365 * 24 * 3600;

/** Every option, in the order in which they are shown. */
export const OPTIONS = {
  config: optional('General', FILE, 'Configuration file in TOML; its keys are the names of these options'),
  loadDefinitions: optional('General', FILE, 'Definitions (JSON, as RabbitMQ exports them) to import at the start'),
  clusterName: option('General', text('name'), `warren@${hostname()}`, 'Name under which clients see this broker', {
    defaultText: 'warren@ and the name of the machine',
  }),
  shutdownGraceSeconds: option(
    'General',
    integer('seconds', 0, 3600),
    5,
    'After SIGTERM, how long consumers have to ack what they hold',
  ),
  logLevel: option(
    'General',
    choice('level', ['error', 'warn', 'info', 'debug']),
    'info',
    'Least level that is logged',
  ),
  logFormat: option(
    'General',
    choice('format', ['auto', 'text', 'json']),
    'auto',
    'Form of the log on standard error; auto is text on a terminal and JSON elsewhere',
  ),

  dataDir: option(
    'Storage',
    DATA_FOLDER,
    resolve(DATA_FOLDER_NAME),
    'Folder for messages and definitions; none keeps them in memory, and they end with the process',
    { defaultText: DATA_FOLDER_NAME },
  ),
  recover: option(
    'Storage',
    choice('how', ['refuse', 'salvage']),
    'refuse',
    'When part of the data folder cannot be read: do not start, or start with what can be read',
  ),
  messageMemory: option(
    'Storage',
    OCTETS,
    32 * MEBIBYTE,
    'Memory for the bodies of waiting messages; what is more is on disk only until its turn comes',
  ),
  diskFreeLimit: option(
    'Storage',
    DISK,
    128 * MEBIBYTE,
    'Free space on the disk of the data folder below which publishers are held back',
  ),

  host: option(
    'Listening',
    text('address', 'a name or address of this machine'),
    '127.0.0.1',
    'Address on which all ports listen; 0.0.0.0 is every IPv4 address, :: every address',
  ),
  amqpPort: option('Listening', PORT, 5672, 'Port for AMQP 0-9-1'),
  amqpsPort: option('Listening', PORT, 5671, 'Port for AMQP 0-9-1 over TLS, when there is a certificate'),
  stompPort: option('Listening', PORT, 61613, 'Port for STOMP'),
  stompsPort: option('Listening', PORT, 61614, 'Port for STOMP over TLS, when there is a certificate'),
  xmppPort: option('Listening', PORT, 5222, 'Port for XMPP clients, with STARTTLS when there is a certificate'),
  xmppsPort: option('Listening', PORT, 5223, 'Port for XMPP clients over TLS, when there is a certificate'),
  httpPort: option('Listening', PORTS, [8080, 15674], 'Ports for HTTP, and for WebSocket clients of every protocol'),
  httpsPort: option(
    'Listening',
    PORTS,
    [8443, 15673],
    'Ports for HTTP and WebSocket clients over TLS, when there is a certificate',
  ),
  connectionsMax: option(
    'Listening',
    integer('count', 1, 1_000_000),
    65_536,
    'Connections open at a time on each port; one more is closed at once',
  ),
  handshakeTimeoutSeconds: option(
    'Listening',
    integer('seconds', 1, 600),
    10,
    'How long a new connection may take until it is open; counted for TLS and for the protocol each',
  ),
  proxyProtocolSources: option(
    'Listening',
    ADDRESS_RANGES,
    [],
    'Addresses of proxies whose connections begin with a PROXY protocol header (version 1 or 2)',
  ),

  tlsCertificateFile: optional('TLS', FILE, 'Certificate of the broker and its intermediate ones (PEM)'),
  tlsKeyFile: optional('TLS', FILE, 'Private key of the certificate (PEM, not encrypted)'),
  tlsCaFile: optional('TLS', FILE, 'Authorities that client certificates must come from (PEM)'),
  tlsVerifyClient: option(
    'TLS',
    choice('how', ['none', 'optional', 'required']),
    'none',
    'Whether clients are asked for a certificate, and refused without a good one',
  ),
  tlsCertificateName: option(
    'TLS',
    choice('part', ['common-name', 'subject']),
    'common-name',
    "What of a client's certificate is its user name (SASL EXTERNAL)",
  ),
  tlsMinVersion: option('TLS', choice('version', ['TLSv1.2', 'TLSv1.3']), 'TLSv1.2', 'Oldest version of TLS taken'),

  heartbeatSeconds: option(
    'AMQP',
    integer('seconds', 0, 65_535, ', 0 = none'),
    60,
    'Heartbeat offered to clients; a client may choose another',
  ),
  frameBytesMax: option('AMQP', octets(4096, 16 * MEBIBYTE), 131_072, 'Largest frame offered to clients'),
  channelsMax: option('AMQP', integer('count', 1, 65_535), 2047, 'Channels offered to each connection'),
  compatProduct: option(
    'AMQP',
    choice('product', ['Warren', 'RabbitMQ']),
    'Warren',
    'Product that clients are told; RabbitMQ for those that look for it (kombu)',
  ),

  stompFrameBytesMax: option(
    'STOMP',
    octets(1024, 512 * MEBIBYTE),
    4 * MEBIBYTE,
    'Largest STOMP frame taken, its head and its body together',
  ),
  stompDefaultUser: optional('STOMP', text('name'), 'User that a STOMP client is who gives no login'),
  stompDefaultPass: {
    ...optional('STOMP', text('password'), 'Password of that user'),
    secret: true,
  },
  stompImplicitConnect: option(
    'STOMP',
    choice('switch', ['on', 'off']),
    'off',
    'Whether a client may begin without CONNECT, as the default user',
  ),
  stompTopicExchange: option(
    'STOMP',
    text('exchange'),
    'amq.topic',
    'Exchange behind destinations of the form /topic/',
  ),
  stompNackRequeue: option(
    'STOMP',
    choice('switch', ['on', 'off']),
    'on',
    'Whether a NACK without the header requeue puts the message back into its queue',
  ),

  xmppUserDomain: option('XMPP', DOMAIN, 'localhost', 'Domain of the users: guest is guest@localhost'),
  xmppDomains: option(
    'XMPP',
    domains('domains like broker.localhost, or staging.localhost=/staging for another virtual host'),
    ['broker.localhost'],
    'Domains in which the exchanges of a virtual host are contacts',
  ),
  xmppWithoutTls: option(
    'XMPP',
    choice('who', ['loopback', 'everyone', 'nobody']),
    'loopback',
    'Who may log in without TLS; loopback is this machine',
  ),
  xmppStanzaBytesMax: option('XMPP', octets(10_000, 16 * MEBIBYTE), 256 * 1024, 'Largest stanza, in and out'),
  xmppResumeSeconds: option('XMPP', integer('seconds', 0, 3600), 300, 'How long a lost stream may be resumed'),
  xmppComponents: option(
    'XMPP',
    domains('domains like broker.example.org, or broker.example.org=/vhost'),
    [],
    'Domains that Warren serves as a component of another XMPP server',
  ),
  xmppComponentServer: option(
    'XMPP',
    text('address', 'a name or address with a port'),
    '127.0.0.1:5347',
    'Where that server takes its components (Prosody 5347, ejabberd as configured)',
  ),
  xmppComponentSecret: {
    ...optional('XMPP', text('secret'), 'What the server and its component both know'),
    secret: true,
  },
  xmppComponentUser: optional(
    'XMPP',
    text('name'),
    'User of the broker with whose rights the users of that server act',
  ),

  websocketOrigins: option(
    'WebSocket',
    ORIGINS,
    ['loopback'],
    'Origins of web pages that may connect; programs that are no browsers always may',
  ),
  websocketMessageBytesMax: option(
    'WebSocket',
    octets(1024, 1024 * MEBIBYTE),
    16 * MEBIBYTE,
    'Largest WebSocket message taken',
  ),

  reverseHttpBaseUrl: optional(
    'Reverse HTTP',
    BASE_URL,
    'Where clients find this door, if an HTTP proxy is in front of it; absent: where each one says that it has found it',
  ),
  reverseHttpDomain: optional(
    'Reverse HTTP',
    DOMAIN,
    'Domain whose subdomains are public URLs too: the claim foo is at foo.DOMAIN',
  ),
  reverseHttpVisitors: option(
    'Reverse HTTP',
    choice('whom', ['everyone', 'users']),
    'everyone',
    'Whose requests for public URLs are taken; users are those who may write on the exchange amq.rhttp',
  ),
  reverseHttpAnonymousUser: optional(
    'Reverse HTTP',
    text('name'),
    'User as whom those claim, publish and consume who come without credentials',
  ),
  reverseHttpSlotsPath: option(
    'Reverse HTTP',
    text('segment', 'a path segment, or off'),
    '.slots',
    'What to append to a public URL to see how many of its slots are free',
  ),
  reverseHttpClaimsMax: option('Reverse HTTP', integer('count', 1, 1_000_000), 10_000, 'Claims at a time'),
  reverseHttpUserClaimsMax: option(
    'Reverse HTTP',
    integer('count', 1, 1_000_000),
    1000,
    'Claims of one user at a time',
  ),
  reverseHttpPollSeconds: option(
    'Reverse HTTP',
    integer('seconds', 1, 3600),
    60,
    'How long a poll waits for a request or a message',
  ),
  reverseHttpReplySeconds: option(
    'Reverse HTTP',
    integer('seconds', 1, 3600),
    60,
    'How long a request for a public URL waits for its answer to begin',
  ),
  reverseHttpIdleSeconds: option(
    'Reverse HTTP',
    integer('seconds', 1, 86_400),
    300,
    'How long an answer that has begun, or a connection that has changed its protocol, may stand still',
  ),
  reverseHttpTunnelsMax: option(
    'Reverse HTTP',
    integer('count', 0, 1_000_000, ', 0 = none are taken'),
    10_000,
    'Connections to public URLs at a time that change their protocol, such as WebSockets',
  ),
  reverseHttpBodyBytesMax: option(
    'Reverse HTTP',
    octets(1024, 512 * MEBIBYTE),
    16 * MEBIBYTE,
    'Largest body taken over HTTP, unless it streams over a reversed connection',
  ),
  reverseHttpRelayAllow: option(
    'Reverse HTTP',
    list('hosts', 'hosts like example.org, example.org:8080 or *.example.org'),
    [],
    'Hosts to which users may have requests relayed; none turns the relay off',
  ),
  reverseHttpUpstreams: option(
    'Reverse HTTP',
    list('claims', 'claims like foo=http://USER:PASSWORD@HOST:PORT/reversehttp?token=TOKEN'),
    [],
    'Names that this broker serves for another one, with its own servers of the same names',
    { secret: true },
  ),

  defaultUser: option('Users', text('name'), 'guest', 'User that a new broker begins with, with every right', {
    alsoFrom: ['RABBITMQ_DEFAULT_USER'],
  }),
  defaultPass: option('Users', text('password'), 'guest', 'Password of that user', {
    alsoFrom: ['RABBITMQ_DEFAULT_PASS'],
    secret: true,
  }),
  defaultVhost: option('Users', text('name'), '/', 'Virtual host that a new broker begins with', {
    alsoFrom: ['RABBITMQ_DEFAULT_VHOST'],
  }),
  loopbackUsers: option('Users', list('names', 'user names'), ['guest'], 'Users that may come from this machine only'),

  memoryHighWatermark: option(
    'Limits',
    MEMORY,
    0.6,
    'Memory in use above which publishers are held back until consumers have taken enough',
  ),
  messageBytesMax: option('Limits', octets(1, 512 * MEBIBYTE), 128 * MEBIBYTE, 'Largest message body'),
  outgoingBytesMax: option(
    'Limits',
    octets(65_536, 1024 * MEBIBYTE),
    HIGH_WATER_BYTES,
    'Octets held for a client that is slow to read, before it gets no more messages',
  ),
  consumerTimeoutSeconds: option(
    'Limits',
    integer('seconds', 0, SECONDS_MAX, ', 0 = any'),
    0,
    'How long a delivery may stay unacked before its consumer is cancelled',
  ),
};

export type OptionName = keyof typeof OPTIONS;

/** Names of all options, in the order in which they are shown. */
export const OPTION_NAMES = Object.keys(OPTIONS) as readonly OptionName[];

/** The values of all options. */
export type Config = {
  readonly [Name in OptionName]: (typeof OPTIONS)[Name] extends Option<infer Value> ? Value : never;
};

/** `amqpPort` becomes `amqp-port`, the name by which people know it. */
export function spelled(name: OptionName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** Environment variables in which an option is looked for; the first that is set and not empty counts. */
export function variables(name: OptionName): readonly string[] {
  const own = `WARREN_${spelled(name).replaceAll('-', '_').toUpperCase()}`;
  const { alsoFrom = [] }: Option<unknown> = OPTIONS[name];
  return [own, ...alsoFrom];
}

/** The default as a person would write it; undefined when there is none. */
export function defaultText(name: OptionName): string | undefined {
  const { default: value, defaultText: written, kind }: Option<unknown> = OPTIONS[name];
  if (written !== undefined) return written;
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.join(',');
  return value === undefined ? undefined : (kind.write?.(value) ?? String(value));
}
