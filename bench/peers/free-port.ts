/** Ports for programs that cannot choose one themselves, for the bench and for the tests that start such programs. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Where they are looked for: below those that Linux gives to outgoing connections, of which there are so many in a test
 * that one would be taken between the look at it and its use now and then.
 */
const PORTS = { min: 20_000, max: 32_000 };
const ATTEMPTS_MAX = 100;

/** A TCP port of 127.0.0.1 that was free a moment ago; never the same twice in a row but by chance. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const port = randomInt(PORTS.min, PORTS.max);
    const server = createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch {
      continue;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
  throw new Error(`no free port among ${PORTS.min} to ${PORTS.max}`);
}
