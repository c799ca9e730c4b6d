/**
 * `npm run bench:http`: one application behind Warren's reverse-HTTP door, in every way that it can be served, beside the
 * same application asked directly and behind nginx as an ordinary reverse proxy. The load is autocannon. See ../README.md.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import { describeMachine, machineFacts } from '../machine.ts';
import { type ReadyChild, startChild } from '../peers/child.ts';
import { freePort } from '../peers/free-port.ts';
import { ProcessTree } from '../process-usage.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAIN = join(ROOT, 'dist', 'gateways', 'main.js');
const APPLICATION = fileURLToPath(new URL('application.ts', import.meta.url));

const { values: options } = parseArgs({
  options: {
    ways: { type: 'string', default: 'direct,nginx,ptth,ptth-h2,poll,amqp' },
    connections: { type: 'string', default: '1,50' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
  },
});

/** A way from the load to the application. */
interface Way {
  readonly url: string;
  /** The process in between; undefined without one. */
  readonly middle: number | undefined;
  stop(): Promise<void>;
}

interface Result {
  readonly rate: number;
  readonly p50: number;
  readonly p99: number;
  /** Of the process in between, in µs for each request. */
  readonly cpu: number;
}

async function startApplication(
  kind: string,
  ...args: readonly string[]
): Promise<{ child: ReadyChild; port: number }> {
  const command = ['--import', 'tsx', APPLICATION, kind, ...args];
  const child = await startChild(process.execPath, command, { cwd: ROOT, env: process.env }, /^ready \d+$/m);
  return { child, port: Number(/^ready (\d+)$/m.exec(child.output)?.[1]) };
}

async function direct(): Promise<Way> {
  const { child, port } = await startApplication('direct');
  return { url: `http://127.0.0.1:${port}/`, middle: undefined, stop: () => child.stop() };
}

/** One worker process, connections to the application kept open. */
async function nginx(): Promise<Way> {
  const { child, port } = await startApplication('direct');
  const folder = await mkdtemp(join(tmpdir(), 'warren-bench-nginx-'));
  const ownPort = await freePort();
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${folder};`);
  const configuration = `
    daemon off; worker_processes 1; pid ${folder}/pid; error_log stderr notice;
    events { worker_connections 1024; }
    http {
      access_log off; ${paths.join(' ')}
      upstream application { server 127.0.0.1:${port}; keepalive 64; keepalive_requests 1000000; }
      server {
        listen 127.0.0.1:${ownPort}; keepalive_requests 1000000;
        location / { proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection ""; }
      }
    }`;
  await writeFile(join(folder, 'nginx.conf'), configuration);
  const proxy = await startChild(
    'nginx',
    ['-c', join(folder, 'nginx.conf')],
    { cwd: folder, env: process.env },
    /start worker process \d/,
  );
  const stop = async (): Promise<void> => {
    await Promise.all([proxy.stop(), child.stop()]);
    await rm(folder, { recursive: true, force: true });
  };
  return { url: `http://127.0.0.1:${ownPort}/`, middle: proxy.pid, stop };
}

async function warren(kind: string): Promise<Way> {
  const help = spawnSync(process.execPath, [MAIN, '--help'], { encoding: 'utf8' }).stdout;
  const ports = [...help.matchAll(/--([\w-]+)-port\b/g)].flatMap(([flag, door]) => [
    flag,
    door === 'amqp' || door === 'http' ? '0' : 'off',
  ]);
  const ready = /startup complete/;
  const broker = await startChild(
    process.execPath,
    [MAIN, '--data-dir', 'none', ...ports],
    { cwd: ROOT, env: process.env },
    ready,
  );
  const portOf = (label: string): string =>
    new RegExp(`^${label} +127\\.0\\.0\\.1:(\\d+) `, 'm').exec(broker.output)?.[1] ?? '0';
  const { child } = await startApplication(kind, portOf('ws'), portOf('amqp'));
  const stop = async (): Promise<void> => {
    await Promise.all([child.stop(), broker.stop()]);
  };
  return { url: `http://127.0.0.1:${portOf('ws')}/http/bench/`, middle: broker.pid, stop };
}

async function load({ url, middle }: Way, connections: number, seconds: number): Promise<Result> {
  await autocannon({ url, connections, duration: 2 });
  const usage = middle === undefined ? undefined : new ProcessTree(middle);
  const before = usage?.cpuSeconds() ?? 0;
  const result = await autocannon({ url, connections, duration: seconds });
  const { errors, non2xx, requests, latency } = result;
  if (errors + non2xx > 0) throw new Error(`${url}: ${errors} errors, ${non2xx} answers that are not 2xx`);
  const cpu = (((usage?.cpuSeconds() ?? 0) - before) * 1e6) / requests.total;
  return { rate: requests.average, p50: latency.p50, p99: latency.p99, cpu };
}

function open(name: string): Promise<Way> {
  if (name === 'direct') return direct();
  return name === 'nginx' ? nginx() : warren(name);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

const rounds = Number(options.rounds);
const found = new Map<string, Result[]>();
const isThere = spawnSync('nginx', ['-v']).status === 0;
const ways = options.ways.split(',').filter((name) => name !== 'nginx' || isThere);
for (let round = 0; round < rounds; round += 1) {
  for (const name of ways) {
    const way = await open(name);
    try {
      for (const connections of options.connections.split(',').map(Number)) {
        const key = `${name} | ${connections}`;
        found.set(key, [...(found.get(key) ?? []), await load(way, connections, Number(options.seconds))]);
      }
    } finally {
      await way.stop();
    }
  }
}
console.log(
  `${describeMachine(machineFacts(), [])}\nMedians of ${rounds} rounds of ${options.seconds} s; 1 KB answers.\n`,
);
console.log(
  '| way | connections | requests/s | p50 ms | p99 ms | CPU in between, µs/request |\n|---|---|---|---|---|---|',
);
for (const [key, results] of found) {
  const of = (pick: (result: Result) => number, digits: number): string => median(results.map(pick)).toFixed(digits);
  const figures = [
    of(({ rate }) => rate, 0),
    of(({ p50 }) => p50, 0),
    of(({ p99 }) => p99, 0),
    of(({ cpu }) => cpu, 1),
  ];
  console.log(`| ${key} | ${figures.join(' | ')} |`);
}
