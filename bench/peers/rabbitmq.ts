/**
 * RabbitMQ as Debian's `rabbitmq-server` installs it: a node of our own, beside any that the machine runs. The server's
 * own start script is called directly, since Debian's wrapper insists on the user `rabbitmq`; name, ports, data, logs,
 * cookie and the Erlang port mapper are the bench's, and nothing outside the temporary folder is written.
 */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild } from './child.ts';
import { freePort } from './free-port.ts';
import type { Peer } from './peer.ts';

const SERVER = '/usr/lib/rabbitmq/bin/rabbitmq-server';
const READY = /Starting broker\.\.\. completed/;

/** Debian's RabbitMQ with its defaults and its STOMP plugin, but for where its files are and how much it logs. */
export const RABBITMQ: Peer = {
  name: 'rabbitmq',
  missing: () => (existsSync(SERVER) ? undefined : `${SERVER} is not there (apt-get install rabbitmq-server)`),
  version: () => {
    const shown = execFileSync('dpkg-query', ['-W', '-f', `\${Version}`, 'rabbitmq-server'], { encoding: 'utf8' });
    return `RabbitMQ ${shown} (Debian)`;
  },
  start: async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rabbitmq-bench-'));
    const port = await freePort();
    const stompPort = await freePort();
    const mapperPort = String(await freePort());
    await writeFile(
      join(folder, 'rabbitmq.conf'),
      `listeners.tcp.default = 127.0.0.1:${port}\nstomp.listeners.tcp.1 = 127.0.0.1:${stompPort}\n` +
        'log.file.level = error\nlog.console = false\n',
    );
    await writeFile(join(folder, 'enabled_plugins'), '[rabbitmq_stomp].\n');
    const env = {
      ...process.env,
      HOME: folder,
      ERL_EPMD_PORT: mapperPort,
      RABBITMQ_NODENAME: `bench${port}@localhost`,
      RABBITMQ_DIST_PORT: String(await freePort()),
      RABBITMQ_MNESIA_BASE: join(folder, 'mnesia'),
      RABBITMQ_LOG_BASE: join(folder, 'log'),
      RABBITMQ_CONFIG_FILE: join(folder, 'rabbitmq'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, 'enabled_plugins'),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      // Makes the script become the server instead of watching over it: then its pid is the one to measure and to end.
      RABBITMQ_ALLOW_INPUT: '1',
      RABBITMQ_SERVER_START_ARGS: '-noinput',
    };
    const child = await startChild(SERVER, [], { cwd: folder, env }, READY);
    return {
      endpoint: { host: '127.0.0.1', port, stompPort, username: 'guest', password: 'guest', vhost: '/' },
      pid: child.pid,
      stop: async () => {
        await child.stop();
        // The port mapper outlives its node; ours serves no other.
        execFileSync('epmd', ['-port', mapperPort, '-kill'], { stdio: 'ignore' });
        await rm(folder, { recursive: true, force: true });
      },
    };
  },
};
