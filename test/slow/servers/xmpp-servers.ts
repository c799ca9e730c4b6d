/** Prosody and ejabberd from Debian, each with one user and with Warren as its component, in folders and on ports of their own. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../../bench/peers/free-port.ts';
import { eventually } from '../../support/eventually.ts';

export const SECRET = 'between-us';
export const USER = { username: 'romeo', password: 'capulet' };
/** The domain of Warren in them. */
export const COMPONENT_DOMAIN = 'broker.localhost';

/** Servers in languages that take their time. */
const START_TIMEOUT_MS = 60_000;

export interface XmppServer {
  readonly name: string;
  /** Of its user. */
  readonly domain: string;
  readonly clientPort: number;
  readonly componentPort: number;
  /** Again after a stop: with what it has kept. */
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Stops it, and removes what it has kept. */
  remove(): Promise<void>;
}

async function listening(port: number, printed: () => string): Promise<void> {
  await eventually(
    async () => {
      const socket = connect(port, '127.0.0.1');
      try {
        await once(socket, 'connect');
      } catch (error) {
        throw new Error(`nobody listens on ${port} yet: ${error}\n${printed()}`);
      } finally {
        socket.destroy();
      }
    },
    { timeoutMs: START_TIMEOUT_MS, everyMs: 100 },
  );
}

export async function prosody(): Promise<XmppServer> {
  const folder = mkdtempSync(join(tmpdir(), 'warren-prosody-'));
  const [clientPort, componentPort] = [await freePort(), await freePort()];
  const domain = 'montague.localhost';
  const config = join(folder, 'prosody.cfg.lua');
  writeFileSync(
    config,
    `pidfile = "${folder}/prosody.pid"
data_path = "${folder}/data"
certificates = "${folder}"
run_as_root = true
log = { warn = "*console" }
interfaces = { "127.0.0.1" }
c2s_ports = { ${clientPort} }
c2s_direct_tls_ports = {}
component_ports = { ${componentPort} }
component_interfaces = { "127.0.0.1" }
modules_enabled = { "roster", "saslauth", "disco", "ping" }
modules_disabled = { "s2s" }
authentication = "internal_plain"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
VirtualHost "${domain}"
Component "${COMPONENT_DOMAIN}"
  component_secret = "${SECRET}"
`,
  );
  const accounts = join(folder, 'data', domain.replace('.', '%2e'), 'accounts');
  mkdirSync(accounts, { recursive: true });
  writeFileSync(join(accounts, `${USER.username}.dat`), `return { ["password"] = "${USER.password}"; };\n`);
  let child: ChildProcess | undefined;
  let printed = '';
  const server: XmppServer = {
    name: 'Prosody',
    domain,
    clientPort,
    componentPort,
    async start() {
      child = spawn('prosody', ['-F', '--config', config], { stdio: ['ignore', 'pipe', 'pipe'] });
      for (const stream of [child.stdout, child.stderr]) {
        stream?.setEncoding('utf8').on('data', (text: string) => {
          printed += text;
        });
      }
      await listening(clientPort, () => printed);
    },
    async stop() {
      if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
    async remove() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return server;
}

export async function ejabberd(): Promise<XmppServer> {
  const folder = mkdtempSync(join(tmpdir(), 'warren-ejabberd-'));
  const [clientPort, componentPort] = [await freePort(), await freePort()];
  const domain = 'montague.localhost';
  writeFileSync(
    join(folder, 'ejabberd.yml'),
    `hosts: ["${domain}"]
loglevel: warning
auth_method: internal
listen:
  - {port: ${clientPort}, ip: "127.0.0.1", module: ejabberd_c2s}
  - port: ${componentPort}
    ip: "127.0.0.1"
    module: ejabberd_service
    access: all
    hosts: {"${COMPONENT_DOMAIN}": {password: "${SECRET}"}}
modules:
  mod_roster: {versioning: true}
  mod_disco: {}
  mod_ping: {}
  mod_offline: {}
  mod_stream_mgmt: {}
  mod_admin_extra: {}
`,
  );
  writeFileSync(join(folder, 'inetrc'), '{lookup, ["file", "native"]}.\n');
  writeFileSync(join(folder, 'ctl.cfg'), 'INET_DIST_INTERFACE=127.0.0.1\nERL_EPMD_ADDRESS=127.0.0.1\n');
  for (const name of ['spool', 'logs']) mkdirSync(join(folder, name));
  // It runs as the user whom its package has made.
  execFileSync('chown', ['-R', 'ejabberd', folder]);
  const node = `warren-test-${clientPort}@localhost`;
  const control = async (...words: readonly string[]): Promise<void> => {
    const places = ['--config-dir', folder, '--ctl-config', join(folder, 'ctl.cfg')];
    const data = ['--spool', join(folder, 'spool'), '--logs', join(folder, 'logs')];
    await promisify(execFile)('ejabberdctl', [...places, ...data, '--node', node, ...words]);
  };
  let registered = false;
  const server: XmppServer = {
    name: 'ejabberd',
    domain,
    clientPort,
    componentPort,
    async start() {
      await control('start');
      await control('started');
      await listening(clientPort, () => '');
      if (!registered) await control('register', USER.username, domain, USER.password);
      registered = true;
    },
    async stop() {
      await control('stop').catch(() => {});
      await control('stopped').catch(() => {});
    },
    async remove() {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return server;
}
