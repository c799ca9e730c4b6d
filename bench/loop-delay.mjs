/**
 * Preloaded into a broker that runs on Node: how late its event loop is, told on a Unix socket. Each connection gets one
 * line of JSON about the time since the one before it, `LoopDelay` of scenarios/durability.ts. JavaScript, so that the
 * broker need not carry a compiler.
 */
import { createServer } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import process from 'node:process';

const RESOLUTION_MS = 1;

const path = process.env.LOOP_DELAY_PATH;
if (path !== undefined) {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  const milliseconds = (nanoseconds) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
  const server = createServer((socket) => {
    const delay = { p99Ms: milliseconds(histogram.percentile(99)), maxMs: milliseconds(histogram.max) };
    histogram.reset();
    socket.end(`${JSON.stringify(delay)}\n`);
  });
  server.listen(path);
  server.unref();
}
