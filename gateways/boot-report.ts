/**
 * What a start prints on standard output: where everything is kept, a line for each door with its address and a command
 * to try it, and at the end the line by which programs know that the broker is ready.
 */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { type GatewayAddress, hostPort } from './gateway.ts';
import { packageFolder } from './package.ts';

/** Testcontainers and others wait for this line. */
export const STARTUP_COMPLETE = 'Server startup complete';

const LABEL_LENGTH = 6;

/** `data   /srv/app/warren-data`, or that nothing is kept. */
export function dataLine(dataDir: string): string {
  const where = dataDir === 'none' ? 'in memory only: all of it ends with this process (--data-dir none)' : dataDir;
  return `${'data'.padEnd(LABEL_LENGTH)} ${where}`;
}

/** Whom the commands log in as. */
interface TryAs {
  readonly user: string;
  readonly vhost: string;
}

/** `amqp   127.0.0.1:5672   try: node examples/hello.mjs amqp://127.0.0.1:5672` */
export function doorLine(address: GatewayAddress, as: TryAs): string {
  const shown = hostPort(address.host, address.port);
  return `${address.label.padEnd(LABEL_LENGTH)} ${shown.padEnd(17)} try: ${tryCommand(address, as)}`;
}

function tryCommand({ label, host, port }: GatewayAddress, as: TryAs): string {
  const target = hostPort(reachable(host), port);
  // Not a word about passwords: whoever sees this output need not know them.
  const user = as.user === 'guest' ? '' : `${encodeURIComponent(as.user)}:PASSWORD@`;
  const vhost = as.vhost === '/' ? undefined : encodeURIComponent(as.vhost);
  switch (label) {
    case 'amqp':
      return hello(`amqp://${user}${target}${vhost === undefined ? '' : `/${vhost}`}`) ?? greet(reachable(host), port);
    case 'ws':
      return hello(`ws://${user}${target}/ws${vhost === undefined ? '' : `?vhost=${vhost}`}`) ?? knock('http', target);
    case 'stomp':
      return logIn(reachable(host), port, as);
    case 'xmpp':
      return introduce(reachable(host), port);
    case 'wss':
      return knock('https', target);
    default:
      return `openssl s_client -brief -connect ${shellWord(target)}`;
  }
}

/** The first program of examples/; undefined in an installed package, which lacks the client that it speaks through. */
function hello(url: string): string | undefined {
  if (!existsSync(join(packageFolder(), 'node_modules/@cloudamqp/amqp-client'))) return undefined;
  const file = join(packageFolder(), 'examples/hello.mjs');
  const path = relative(process.cwd(), file);
  return `node ${shellWord(path.length < file.length ? path : file)} ${shellWord(url)}`;
}

/** Opens an AMQP connection with nothing but Node and shows how the broker introduces itself. */
function greet(host: string, port: number): string {
  return `node -e "net.connect(${port}, '${host}').end('AMQP\\0\\0\\t\\x01').pipe(process.stdout)"`;
}

/** Logs in by STOMP: the answer is CONNECTED. */
function logIn(host: string, port: number, as: TryAs): string {
  // What a shell or JavaScript would read more into is left to whoever sees this.
  const plain = (name: string, word: string): string => (/^[\w.@/-]+$/.test(name) ? name : word);
  const headers = [`login:${plain(as.user, 'USER')}`, `passcode:${as.user === 'guest' ? 'guest' : 'PASSWORD'}`];
  if (as.vhost !== '/') headers.push(`host:${plain(as.vhost, 'VHOST')}`);
  const frame = ['CONNECT', ...headers, '', '\\0'].join('\\n');
  return `node -e "net.connect(${port}, '${host}').end('${frame}').pipe(process.stdout)"`;
}

/** Opens an XMPP stream: the answer says what the broker offers. */
function introduce(host: string, port: number): string {
  const attributes = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'";
  const header = `<stream:stream ${attributes}>`.replaceAll("'", '\\x27');
  return `node -e "net.connect(${port}, '${host}').end('${header}').pipe(process.stdout)"`;
}

function knock(scheme: 'http' | 'https', target: string): string {
  return `curl ${scheme === 'https' ? '--insecure ' : ''}${shellWord(`${scheme}://${target}/`)}`;
}

/** Quoted where a shell would read more into it. */
function shellWord(text: string): string {
  return /^[\w.:/@%-]+$/.test(text) ? text : `'${text}'`;
}

/** An address under which this machine reaches a listener on `host`. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}
