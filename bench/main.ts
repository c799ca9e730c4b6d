/** `npm run bench`: parses the command line, runs, prints the table. See README.md beside this file. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine, machineFacts } from './machine.ts';
import type { Peer } from './peers/peer.ts';
import { RABBITMQ } from './peers/rabbitmq.ts';
import { warren } from './peers/warren.ts';
import { describeSelfTimes, topSelfTimes } from './profile.ts';
import { markdownTable, noiseNote, shortNumber, summarise } from './report.ts';
import { type Run, runBench } from './run.ts';
import { selectScenarios } from './scenarios/all.ts';

const HELP = `npm run bench -- [options]
  --scenarios LIST   letters or ids, separated by commas    (a,c,d,f,h)
  --peers LIST       warren, rabbitmq; the first is compared with the rest; absent ones are skipped
                                                            (warren,rabbitmq)
  --rounds N         runs of each pair, alternating         (3)
  --seconds S        measured window                        (5)
  --warmup S         load before the window                 (2)
  --connections N    of scenario f                          (2000)
  --queues N         of scenario g                          (5000)
  --backlog N        messages of scenario e                 (1000000)
  --latency-rate N   messages per second of scenario h      (5000)
  --json FILE        all runs and the summary, as JSON
  --cpu-prof DIR     run Warren under V8's profiler, profiles into DIR, and list where its time went`;

const { values: options } = parseArgs({
  options: {
    scenarios: { type: 'string', default: 'a,c,d,f,h' },
    peers: { type: 'string', default: 'warren,rabbitmq' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    warmup: { type: 'string', default: '2' },
    connections: { type: 'string', default: '2000' },
    queues: { type: 'string', default: '5000' },
    backlog: { type: 'string', default: '1000000' },
    'latency-rate': { type: 'string', default: '5000' },
    json: { type: 'string' },
    'cpu-prof': { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort());

if (options.help) console.log(HELP);
else await bench().catch(endInterrupted);

/** An interrupted bench has stopped its brokers and has nothing to say. */
function endInterrupted(error: unknown): void {
  if (!interrupt.signal.aborted) throw error;
  process.exitCode = 130;
}

async function bench(): Promise<void> {
  const profileFolder = options['cpu-prof'] === undefined ? undefined : resolve(options['cpu-prof']);
  if (profileFolder !== undefined) mkdirSync(profileFolder, { recursive: true });
  const before = new Set(profileFolder === undefined ? [] : readdirSync(profileFolder));
  const scenarios = selectScenarios(options.scenarios.split(','));
  const peers = presentPeers(profileFolder);
  const facts = machineFacts();
  const sizes = {
    seconds: positive('seconds'),
    warmupSeconds: positive('warmup'),
    connections: positive('connections'),
    queues: positive('queues'),
    backlog: positive('backlog'),
    latencyRate: positive('latency-rate'),
  };
  const rounds = positive('rounds');
  const runs = await runBench({ scenarios, peers, rounds, sizes, progress, signal: interrupt.signal });

  const summaries = summarise(runs);
  const { seconds, warmupSeconds } = sizes;
  const how = `Medians of ${rounds} rounds (lowest–highest), ${seconds} s each after ${warmupSeconds} s of warm-up.`;
  const machine = describeMachine(
    facts,
    peers.map((peer) => peer.version()),
  );
  console.log(`\n${machine}\n${how}\n\n${markdownTable(summaries, scenarios)}\n\n${noiseNote(summaries)}`);
  if (options.json !== undefined) {
    writeFileSync(options.json, `${JSON.stringify({ facts, sizes, summaries, runs }, undefined, 2)}\n`);
  }
  if (profileFolder !== undefined) showProfiles(profileFolder, before);
}

function presentPeers(profileFolder: string | undefined): Peer[] {
  const profiling = profileFolder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileFolder}`];
  const known = [warren({ nodeArguments: profiling }), RABBITMQ];
  const wanted = options.peers.split(',').map((name) => {
    const peer = known.find((candidate) => candidate.name === name);
    if (peer === undefined) throw new Error(`no peer '${name}'; there are ${known.map((k) => k.name).join(', ')}`);
    return peer;
  });
  return wanted.filter((peer) => {
    const missing = peer.missing();
    if (missing !== undefined) console.error(`without ${peer.name}: ${missing}`);
    return missing === undefined;
  });
}

function positive(
  name: 'rounds' | 'seconds' | 'warmup' | 'connections' | 'queues' | 'backlog' | 'latency-rate',
): number {
  const value = Number(options[name]);
  if (!(value > 0)) throw new Error(`--${name} must be a number above 0, not '${options[name]}'`);
  return value;
}

function progress({ scenario, peer, round, figures }: Run): void {
  const shown = figures.map(({ name, unit, value }) => `${name} ${shortNumber(value)} ${unit}`).join(', ');
  console.error(`${scenario} ${peer} ${round}: ${shown}`);
}

function showProfiles(folder: string, before: ReadonlySet<string>): void {
  for (const file of readdirSync(folder)) {
    if (before.has(file) || !file.endsWith('.cpuprofile')) continue;
    console.log(`\n${join(folder, file)}\n${describeSelfTimes(topSelfTimes(join(folder, file)))}`);
  }
}
