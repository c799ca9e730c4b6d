/** Warren as built in `dist`, on a port of its own choosing, with its defaults: everything in memory. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startChild } from './child.ts';
import type { Peer } from './peer.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'dist', 'gateways', 'main.js');
const READY = /Server startup complete/;
/** The line of the AMQP door: label, address, a command to try. */
const AMQP_ADDRESS = /^amqp +127\.0\.0\.1:(\d+) /m;

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
      const args = [...(options.nodeArguments ?? []), MAIN, '--amqp-port', '0', '--stomp-port', '0', '--http-port', '0'];
      const child = await startChild(process.execPath, args, { cwd: ROOT }, READY);
      const port = AMQP_ADDRESS.exec(child.output)?.[1];
      if (port === undefined) {
        await child.stop();
        throw new Error(`no AMQP port in what Warren printed:\n${child.output}`);
      }
      return {
        endpoint: { host: '127.0.0.1', port: Number(port), username: 'guest', password: 'guest', vhost: '/' },
        pid: child.pid,
        stop: child.stop,
      };
    },
  };
}

function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const has = typeof manifest === 'object' && manifest !== null && 'version' in manifest;
  return has ? String(manifest.version) : '?';
}
