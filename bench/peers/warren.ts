/** Warren as built in `dist`, on a port of its own choosing, with a data folder of its own and its other defaults. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startChild } from './child.ts';
import type { Peer } from './peer.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'dist', 'gateways', 'main.js');
/** Preloaded into the broker. */
const LOOP_DELAY = new URL('../loop-delay.mjs', import.meta.url).href;
const READY = /Server startup complete/;
/** The line of the AMQP door: label, address, a command to try. */
const AMQP_ADDRESS = /^amqp +127\.0\.0\.1:(\d+) /m;
const STOMP_ADDRESS = /^stomp +127\.0\.0\.1:(\d+) /m;

export interface WarrenOptions {
  /** Options for Node itself, e.g. `--cpu-prof`. */
  readonly nodeArguments?: readonly string[];
}

/** Warren from this checkout. */
export function warren(options: WarrenOptions = {}): Peer {
  return {
    name: 'warren',
    missing: () => (existsSync(MAIN) ? undefined : 'dist/gateways/main.js is not built (npm run build)'),
    version: () => `Warren ${packageVersion()} on Node ${process.versions.node}`,
    start: async () => {
      const folder = await mkdtemp(join(tmpdir(), 'warren-bench-'));
      const loopDelayPath = join(folder, 'loop-delay');
      const preload = ['--import', LOOP_DELAY];
      const ports = ['amqp', 'stomp', 'xmpp', 'http'].flatMap((door) => [`--${door}-port`, '0']);
      const doors = [...ports, '--data-dir', join(folder, 'data')];
      const args = [...(options.nodeArguments ?? []), ...preload, MAIN, ...doors];
      const env = { ...process.env, LOOP_DELAY_PATH: loopDelayPath };
      const child = await startChild(process.execPath, args, { cwd: ROOT, env }, READY);
      const stop = async (): Promise<void> => {
        await child.stop();
        await rm(folder, { recursive: true, force: true });
      };
      const port = AMQP_ADDRESS.exec(child.output)?.[1];
      const stompPort = Number(STOMP_ADDRESS.exec(child.output)?.[1]);
      if (port === undefined) {
        await stop();
        throw new Error(`no AMQP port in what Warren printed:\n${child.output}`);
      }
      return {
        endpoint: {
          host: '127.0.0.1',
          port: Number(port),
          stompPort,
          username: 'guest',
          password: 'guest',
          vhost: '/',
        },
        pid: child.pid,
        loopDelayPath,
        stop,
      };
    },
  };
}

function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const has = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return has ? String(manifest.version) : '?';
}
