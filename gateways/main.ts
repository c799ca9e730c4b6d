#!/usr/bin/env node
/**
 * The command `warren`, and the only place where broker, doors and process meet: reads the configuration, opens the
 * doors, says where they are, and ends it all when told to.
 *
 *   SIGTERM, SIGINT   no new connections, consumers cancelled, acks awaited, connections closed with 320, exit 0;
 *                     at the second one exit 1 at once
 *   SIGHUP            read the TLS certificate again
 *   exit code         0 ended as told, 1 could not start or broke, 2 wrong configuration
 *
 * Besides, `warren export` and `warren import` for the data folder of a broker that does not run: gateways/commands/.
 */
import { readFile } from 'node:fs/promises';
import type { Definitions } from '../broker/administration/administration.ts';
import { createBroker } from '../broker/broker.ts';
import { RestoreError } from '../broker/definition-log.ts';
import type { Broker } from '../broker/port.ts';
import { StoreError } from '../broker/storage/store-error.ts';
import type { StoreNotice } from '../broker/store.ts';
import { AddressRanges } from './addresses.ts';
import { amqpWebSocketDoor, startAmqpGateway } from './amqp/gateway.ts';
import type { AmqpOptions } from './amqp/options.ts';
import { dataLine, doorLine, STARTUP_COMPLETE } from './boot-report.ts';
import { ConfigError, readConfig } from './config.ts';
import { diskOf, watchDisk } from './disk-alarm.ts';
import type { Gateway } from './gateway.ts';
import type { HttpDoor } from './http-door.ts';
import { ListenError, type ListenerOptions } from './listener.ts';
import { watchMemory } from './memory-alarm.ts';
import { type Config, OPTIONS, spelled } from './options.ts';
import { packageVersion } from './package.ts';
import { openLog, type ProcessLog } from './pino-log.ts';
import { endOnFault, endOnSignal, endWithLauncher, reloadOnSignal } from './process-end.ts';
import { reverseHttpDoor } from './reverse-http/gateway.ts';
import type { ReverseHttpOptions } from './reverse-http/options.ts';
import { startStompGateway, stompWebSocketDoor } from './stomp/gateway.ts';
import type { StompOptions } from './stomp/options.ts';
import { loadTls, TlsError, type TlsIdentity } from './tls.ts';
import { startWebSocketGateway } from './websocket.ts';
import { openXmppDoor, startXmppGateway, xmppWebSocketDoor } from './xmpp/gateway.ts';
import { readDomains, readServer, type XmppOptions } from './xmpp/options.ts';

const EXIT_FAILED = 1;
const EXIT_MISCONFIGURED = 2;

/** As which RabbitMQ `compat-product` presents the broker: the last 3.x, whose behaviour is Warren's. */
const COMPAT_RABBITMQ = { product: 'RabbitMQ', version: '3.13.7' };

/** Something that keeps the process from starting; the message is for whoever started it. */
class StartError extends Error {
  override readonly name = 'StartError';
}

interface Running {
  readonly broker: Broker;
  readonly gateways: readonly Gateway[];
  readonly tls: TlsIdentity | undefined;
}

async function main(): Promise<void> {
  const [command, ...words] = process.argv.slice(2);
  // Loaded only when asked for: the broker needs none of it.
  if (command === 'export') {
    const { exportCommand } = await import('./commands/export-command.ts');
    process.exitCode = await exportCommand(words, process.env);
  } else if (command === 'import') {
    const { importCommand } = await import('./commands/import-command.ts');
    process.exitCode = await importCommand(words, process.env);
  } else await runBroker();
}

async function runBroker(): Promise<void> {
  const request = await readConfig(process.argv.slice(2), process.env).catch((error: unknown) => {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    process.exit(EXIT_MISCONFIGURED);
  });
  if (!request.run) {
    process.stdout.write(request.text);
    return;
  }
  const { config } = request;
  const log = openLog({ level: config.logLevel, format: config.logFormat });
  endOnFault(log);
  const running = await start(config, log).catch(async (error: unknown) => {
    if (!(error instanceof StartError))
      log.error({ err: error }, error instanceof Error ? error.message : String(error));
    // Some tell of one thing on each line, and a log has one line for each.
    else for (const line of error.message.split('\n')) log.error({}, line.trim());
    await log.close();
    process.exit(EXIT_FAILED);
  });
  endOnSignal({ ...running, graceMs: config.shutdownGraceSeconds * 1000, log });
  endWithLauncher();
  reloadOnSignal(running.tls, log);
  const user = await userToTry(running.broker, config.defaultUser);
  console.log(dataLine(config.dataDir));
  for (const address of running.gateways.flatMap((gateway) => gateway.addresses)) {
    console.log(doorLine(address, { user, vhost: config.defaultVhost }));
  }
  console.log(STARTUP_COMPLETE);
}

/** As whom the commands of the start log in: definitions, or the data folder, may have others than `preferred`. */
async function userToTry(broker: Broker, preferred: string): Promise<string> {
  const names = (await broker.administration.users()).map(({ name }) => name);
  return names.includes(preferred) ? preferred : (names[0] ?? preferred);
}

/** The broker with all its doors open. Rejects with StartError when something outside this program is in the way. */
async function start(config: Config, log: ProcessLog): Promise<Running> {
  const tls = await startTls(config);
  const broker = await startBroker(config, log);
  try {
    const { administration } = broker;
    watchMemory({ administration, highWatermark: config.memoryHighWatermark, log });
    if (config.dataDir !== 'none') {
      const disk = await diskOf(config.dataDir);
      await watchDisk({ administration, freeLimit: config.diskFreeLimit, disk, log });
    }
    if (config.loadDefinitions !== undefined) await loadDefinitions(broker, config.loadDefinitions, log);
    return { broker, gateways: await openDoors(broker, config, tls, log), tls };
  } catch (error) {
    await broker.close();
    throw error;
  }
}

/** The broker without doors, with all that its data folder holds. */
async function startBroker(config: Config, log: ProcessLog): Promise<Broker> {
  try {
    return await createBroker({
      name: config.clusterName,
      defaultUser: config.defaultUser,
      defaultPassword: config.defaultPass,
      defaultVhost: config.defaultVhost,
      loopbackUsers: config.loopbackUsers,
      bodyBytesMax: config.messageBytesMax,
      consumerTimeoutMs: config.consumerTimeoutSeconds * 1000,
      ...(config.dataDir !== 'none' && { dataDir: config.dataDir }),
      recover: config.recover,
      messageMemoryBytes: config.messageMemory,
      onStoreEvent: (event) => logStoreEvent(event, log),
    });
  } catch (error) {
    if (error instanceof StoreError || error instanceof RestoreError)
      throw new StartError(`data-dir: ${error.message}`);
    throw error;
  }
}

function logStoreEvent(event: StoreNotice, log: ProcessLog): void {
  if (!('text' in event)) return;
  const isBad = event.type === 'trouble' || event.type === 'damage';
  log[isBad ? 'error' : 'info']({}, event.text);
}

async function startTls(config: Config): Promise<TlsIdentity | undefined> {
  const { tlsCertificateFile: certificateFile, tlsKeyFile: keyFile, tlsCaFile: caFile } = config;
  if (certificateFile === undefined || keyFile === undefined) return undefined;
  try {
    return await loadTls({
      certificateFile,
      keyFile,
      ...(caFile !== undefined && { caFile }),
      verifyClient: config.tlsVerifyClient,
      certificateName: config.tlsCertificateName,
      minVersion: config.tlsMinVersion,
    });
  } catch (error) {
    if (error instanceof TlsError) throw new StartError(error.message);
    throw error;
  }
}

/** Imports the definitions of `file`; where they bring users of their own, the well-known guest goes. */
async function loadDefinitions(broker: Broker, file: string, log: ProcessLog): Promise<void> {
  const { administration } = broker;
  const guest = OPTIONS.defaultUser.default;
  const before = await administration.users();
  try {
    const definitions: Definitions = JSON.parse(await readFile(file, 'utf8'));
    if (typeof definitions !== 'object' || definitions === null || Array.isArray(definitions)) {
      throw new StartError('it is no JSON object');
    }
    await administration.importDefinitions(definitions, {
      onSkipped: (what) => log.warn({ file }, `not imported: ${what}`),
    });
    const users = Array.isArray(definitions.users) ? definitions.users : [];
    const isNamed = users.some((user) => user.name === guest);
    // Where there were others, somebody has made guest on purpose.
    if (users.length > 0 && !isNamed && before.length === 1 && before[0]?.name === guest)
      await administration.deleteUser(guest);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new StartError(`load-definitions: cannot import ${file}: ${error.message}`);
  }
  log.info({ file }, 'definitions imported');
}

/** Opens every door that is not off; closes those already open when one cannot be. */
async function openDoors(
  broker: Broker,
  config: Config,
  tls: TlsIdentity | undefined,
  log: ProcessLog,
): Promise<Gateway[]> {
  const gateways: Gateway[] = [];
  const open = async (name: PortOption, start: (listener: ListenerOptions) => Promise<Gateway>): Promise<void> => {
    const isSecure = name === 'amqpsPort' || name === 'stompsPort' || name === 'xmppsPort' || name === 'httpsPort';
    if (isSecure && !tls) return;
    const ports = portsOf(config, name);
    // Nobody has asked for all ports of a default: one of them is enough.
    let spare = config[name] === OPTIONS[name].default ? ports.length - 1 : 0;
    for (const port of ports) {
      try {
        gateways.push(await start({ ...listenerOptions(config, log), port, ...(isSecure && tls && { tls }) }));
      } catch (error) {
        if (error instanceof ListenError && error.reason === 'in-use' && spare > 0) {
          spare -= 1;
          log.warn({}, `${error.message}; this door is at its other port only, see --${spelled(name)}`);
          continue;
        }
        await Promise.all(gateways.map((gateway) => gateway.close()));
        throw error instanceof ListenError ? new StartError(`${error.message}; ${cure(error, name)}`) : error;
      }
    }
  };
  const amqp = amqpOptions(config, log);
  const stomp = stompOptions(config, log);
  const xmpp = await openXmppDoor(broker, xmppOptions(config, tls, log));
  const webSocket = {
    doors: [amqpWebSocketDoor(broker, amqp), stompWebSocketDoor(broker, stomp), xmppWebSocketDoor(xmpp)],
    httpDoors: [openReverseHttp(broker, config, log)],
    origins: config.websocketOrigins,
    messageBytesMax: config.websocketMessageBytesMax,
  };
  const startAmqp = (listener: ListenerOptions): Promise<Gateway> => startAmqpGateway(broker, { ...amqp, ...listener });
  const startStomp = (listener: ListenerOptions): Promise<Gateway> =>
    startStompGateway(broker, { ...stomp, ...listener });
  const startWebSocket = (listener: ListenerOptions): Promise<Gateway> =>
    startWebSocketGateway({ ...listener, ...webSocket });
  await open('amqpPort', startAmqp);
  await open('amqpsPort', startAmqp);
  await open('stompPort', startStomp);
  await open('stompsPort', startStomp);
  await open('xmppPort', (listener) => startXmppGateway(xmpp, listener));
  await open('xmppsPort', (listener) => startXmppGateway(xmpp, listener));
  await open('httpPort', startWebSocket);
  await open('httpsPort', startWebSocket);
  if (gateways.length === 0) throw new StartError('every port is off: there is nothing to do; see warren --help');
  return [...gateways, xmpp];
}

type PortOption =
  | 'amqpPort'
  | 'amqpsPort'
  | 'stompPort'
  | 'stompsPort'
  | 'xmppPort'
  | 'xmppsPort'
  | 'httpPort'
  | 'httpsPort';

function portsOf(config: Config, name: PortOption): readonly number[] {
  return [config[name]].flat().filter((port) => port !== 'off');
}

function listenerOptions(config: Config, log: ProcessLog): Omit<ListenerOptions, 'port' | 'tls'> {
  return {
    host: config.host,
    proxyProtocolSources: new AddressRanges(config.proxyProtocolSources),
    connectionsMax: config.connectionsMax,
    handshakeTimeoutMs: config.handshakeTimeoutSeconds * 1000,
    log,
  };
}

function amqpOptions(config: Config, log: ProcessLog): AmqpOptions {
  return {
    version: packageVersion(),
    channelMax: config.channelsMax,
    frameMaxBytes: config.frameBytesMax,
    heartbeatSeconds: config.heartbeatSeconds,
    handshakeTimeoutMs: config.handshakeTimeoutSeconds * 1000,
    bodyBytesMax: config.messageBytesMax,
    outbox: { highWaterBytes: config.outgoingBytesMax },
    log,
    ...(config.compatProduct === 'RabbitMQ' && { announcedProduct: COMPAT_RABBITMQ }),
  };
}

/** Throws StartError for an upstream that is none. */
function openReverseHttp(broker: Broker, config: Config, log: ProcessLog): HttpDoor {
  try {
    return reverseHttpDoor(broker, reverseHttpOptions(config, log));
  } catch (error) {
    throw error instanceof RangeError ? new StartError(`reverse-http-upstreams: ${error.message}`) : error;
  }
}

function reverseHttpOptions(config: Config, log: ProcessLog): ReverseHttpOptions {
  const { reverseHttpDomain: domain, reverseHttpAnonymousUser: anonymousUser, reverseHttpBaseUrl: baseUrl } = config;
  return {
    visitors: config.reverseHttpVisitors,
    origins: config.websocketOrigins,
    slotsPath: config.reverseHttpSlotsPath,
    claimsMax: config.reverseHttpClaimsMax,
    userClaimsMax: config.reverseHttpUserClaimsMax,
    pollSeconds: config.reverseHttpPollSeconds,
    replyTimeoutMs: config.reverseHttpReplySeconds * 1000,
    idleMs: config.reverseHttpIdleSeconds * 1000,
    tunnelsMax: config.reverseHttpTunnelsMax,
    bodyBytesMax: config.reverseHttpBodyBytesMax,
    relayAllow: config.reverseHttpRelayAllow,
    upstreams: config.reverseHttpUpstreams,
    ...(domain !== undefined && { domain: domain.toLowerCase() }),
    ...(anonymousUser !== undefined && { anonymousUser }),
    ...(baseUrl !== undefined && { baseUrl }),
    log,
  };
}

function xmppOptions(config: Config, tls: TlsIdentity | undefined, log: ProcessLog): XmppOptions {
  const { defaultVhost: userVhost, xmppComponentSecret: secret = '', xmppComponentUser: componentUser } = config;
  const server = { ...readServer(config.xmppComponentServer), secret };
  return {
    version: packageVersion(),
    userDomain: config.xmppUserDomain,
    userVhost,
    domains: readDomains(config.xmppDomains, userVhost),
    components: readDomains(config.xmppComponents, userVhost).map((domain) => ({ ...domain, ...server })),
    ...(componentUser !== undefined && { componentUser }),
    ...(tls && { tls }),
    withoutTls: config.xmppWithoutTls,
    stanzaBytesMax: config.xmppStanzaBytesMax,
    handshakeTimeoutMs: config.handshakeTimeoutSeconds * 1000,
    resumeMs: config.xmppResumeSeconds * 1000,
    log,
  };
}

function stompOptions(config: Config, log: ProcessLog): StompOptions {
  const { stompDefaultUser: username, stompDefaultPass: password = '' } = config;
  return {
    version: packageVersion(),
    implicitConnect: config.stompImplicitConnect === 'on',
    topicExchange: config.stompTopicExchange,
    nackRequeue: config.stompNackRequeue === 'on',
    frameBytesMax: config.stompFrameBytesMax,
    handshakeTimeoutMs: config.handshakeTimeoutSeconds * 1000,
    outbox: { highWaterBytes: config.outgoingBytesMax },
    log,
    ...(username !== undefined && { defaultLogin: { username, password } }),
  };
}

/** What to do about a port that cannot be listened on. */
function cure(error: ListenError, name: PortOption): string {
  const flag = `--${spelled(name)}`;
  switch (error.reason) {
    case 'in-use':
      return `choose another with ${flag} (0 = any free one), or end that program`;
    case 'not-allowed':
      return `choose one above 1023 with ${flag}`;
    case 'no-such-address':
      return 'choose another with --host';
    case 'other':
      return `see ${flag} and --host`;
  }
}

await main();
