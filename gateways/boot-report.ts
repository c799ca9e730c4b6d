/**
 * What a start prints on standard output: a line for each door with its address and a command to try it, and at the end
 * the line by which programs know that the broker is ready.
 */
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GatewayAddress, hostPort } from './gateway.ts';

/** Testcontainers and others wait for this line. */
export const STARTUP_COMPLETE = 'Server startup complete';

/** Whom the commands log in as. */
export interface TryAs {
  readonly user: string;
  readonly vhost: string;
}

/** `amqp   127.0.0.1:5672   try: node examples/hello.mjs amqp://127.0.0.1:5672` */
export function doorLine(address: GatewayAddress, as: TryAs): string {
  const shown = hostPort(address.host, address.port);
  return `${address.label.padEnd(6)} ${shown.padEnd(17)} try: ${tryCommand(address, as)}`;
}

function tryCommand({ label, host, port }: GatewayAddress, as: TryAs): string {
  const target = hostPort(reachable(host), port);
  // Not a word about passwords: whoever sees this output need not know them.
  const user = as.user === 'guest' ? '' : `${encodeURIComponent(as.user)}:PASSWORD@`;
  const vhost = encodeURIComponent(as.vhost);
  switch (label) {
    case 'amqp':
      return `node ${exampleFile()} '${label}://${user}${target}${as.vhost === '/' ? '' : `/${vhost}`}'`.replace(
        ...PLAIN,
      );
    case 'ws':
      return `node ${exampleFile()} '${label}://${user}${target}/ws${as.vhost === '/' ? '' : `?vhost=${vhost}`}'`.replace(
        ...PLAIN,
      );
    case 'wss':
      return `curl --insecure https://${target}/`;
    default:
      return `openssl s_client -brief -connect ${target}`;
  }
}

/** Quotes are for the shell, where the URL needs them. */
const PLAIN = [/'([\w.:/@%[\]-]+)'$/, '$1'] as const;

/** An address under which this machine reaches a listener on `host`. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

/** The example as a path to type, from the working directory. */
function exampleFile(): string {
  const file = fileURLToPath(new URL('../../examples/hello.mjs', import.meta.url));
  const path = relative(process.cwd(), file);
  return path.length < file.length ? path : file;
}
