/**
 * `npm run example:toy-twitter`: Warren with all its doors and Toy Twitter on them, and what to open and to type.
 * `npm run example:toy-twitter -- --demo` brings people along who talk to one another. `-- --help` lists the options.
 */
import { Command, InvalidArgumentError } from 'commander';
import { playDemo } from './demo.ts';
import { type ComponentOptions, type Server, type ServerOptions, startServer } from './server.ts';

interface Flags {
  readonly host: string;
  readonly httpPort: number;
  readonly amqpPort: number;
  readonly stompPort: number;
  readonly xmppPort: number;
  readonly dataDir?: string;
  readonly home: string;
  readonly component?: string;
  readonly componentServer: string;
  readonly componentSecret?: string;
  readonly origin?: readonly string[];
  readonly demo?: boolean;
}

function port(text: string): number {
  const value = Number(text);
  if (!/^\d{1,5}$/.test(text) || value > 65_535) throw new InvalidArgumentError('A port is a number from 0 to 65535.');
  return value;
}

const command: Command = new Command('example:toy-twitter')
  .description('Warren with all its doors, and Toy Twitter on them.')
  .option('--host <address>', 'address to listen on; 0.0.0.0 for everybody who can reach this machine', '127.0.0.1')
  .option('--http-port <port>', 'for the page; 0 = any free one, here and below', port, 15_674)
  .option('--amqp-port <port>', 'for AMQP', port, 5672)
  .option('--stomp-port <port>', 'for STOMP', port, 61_613)
  .option('--xmpp-port <port>', 'for XMPP clients', port, 5222)
  .option('--data-dir <folder>', 'where everything is kept (default: in memory, until Ctrl-C)')
  .option('--home <domain>', 'XMPP domain of those who sign in on the page', 'localhost')
  .option('--component <domain>', 'be a component of another XMPP server, too, under this domain')
  .option('--component-server <host:port>', 'that server', '127.0.0.1:5347')
  .option('--component-secret <secret>', 'what it knows us by (or COMPONENT_SECRET)')
  .option('--origin <origin...>', 'https://… of the page, when a proxy stands in front of it')
  .option('--demo', 'with people who talk to one another');

function componentsOf(flags: Flags): ComponentOptions[] {
  const { component: domain, componentServer, componentSecret = process.env.COMPONENT_SECRET } = flags;
  if (domain === undefined) return [];
  const [, host, number] = /^(.+):(\d+)$/.exec(componentServer) ?? [];
  if (componentSecret === undefined) command.error('--component needs a --component-secret');
  if (host === undefined) command.error('--component-server is host:port');
  return [{ domain, host, port: Number(number), secret: componentSecret }];
}

function optionsOf(flags: Flags): ServerOptions {
  return {
    host: flags.host,
    ports: { amqp: flags.amqpPort, stomp: flags.stompPort, xmpp: flags.xmppPort, http: flags.httpPort },
    home: flags.home,
    components: componentsOf(flags),
    origins: flags.origin ?? [],
    ...(flags.dataDir !== undefined && { dataDir: flags.dataDir }),
    complain: (line) => console.error(line),
  };
}

function introduce({ url, urlsOutside, ports, bots, names }: Server, flags: Flags): void {
  const amqp = `amqp://guest:guest@127.0.0.1:${ports.amqp}`;
  const cli = 'npx tsx examples/toy-twitter/command-line.ts';
  const target = ports.amqp === 5672 ? '' : `--url ${amqp} `;
  const kept =
    flags.dataDir === undefined ? 'in memory only, until Ctrl-C (--data-dir FOLDER keeps it)' : flags.dataDir;
  console.log(`
  Toy Twitter, on one Warren with all its doors

  open   ${[url, ...urlsOutside].join('  ')}
         in two windows, sign in under two names, follow each other, and talk
  type   ${cli} ${target}--as zoe post "Good morning"
         ${cli} ${target}--as zoe follow ${flags.demo ? 'anna' : 'NAME'}
         ${cli} ${target}--as zoe timeline --live
  chat   sign in on the page, log in with name@${names.home} and its passcode on XMPP port ${ports.xmpp},
         and add ${bots.join(' or ')} to your contacts
  bind   a queue of yours to the exchange twitter.user.anna, key say, at ${amqp}
  kept   ${kept}
`);
}

const flags = command.parse().opts<Flags>();
const server = await startServer(optionsOf(flags)).catch((error: unknown) => {
  const message = error instanceof Error ? error.message : String(error);
  return command.error(
    `Toy Twitter cannot start: ${message}. The options …-port choose other ports; 0 is any free one.`,
  );
});
introduce(server, flags);
const demo = flags.demo ? playDemo(server, (line) => console.log(`  ${line}`)) : undefined;

let ending = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (ending) process.exit(1);
    ending = true;
    void (async () => {
      await demo?.stop();
      await server.close();
    })();
  });
}
