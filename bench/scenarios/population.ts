/** Scenarios f and g: what many idle connections and many durable queues cost the broker. */
import { setTimeout as wait } from 'node:timers/promises';
import { Link } from '../generator/link.ts';
import { MeasuredWindow } from '../generator/window.ts';
import type { Endpoint } from '../peers/peer.ts';
import { ProcessTree } from '../process-usage.ts';
import type { Figure, Scenario } from './scenario.ts';

/** Connections being made at the same time. */
const CONNECTING_AT_ONCE = 50;
/** Opened and closed before the measurement, so that code and first buffers are not counted as a connection's. */
const WARM_UP_CONNECTIONS = 200;
const WARM_UP_QUEUES = 200;
/** Time for the broker's memory to come to rest, in milliseconds. */
const SETTLE_MS = 1_500;
const KIBIBYTE = 1024;

/** Opens `count` connections; `opened` hears of each. */
async function openMany(endpoint: Endpoint, count: number, opened: () => void): Promise<Link[]> {
  const links: Link[] = [];
  let started = 0;
  const worker = async () => {
    while (started < count) {
      started++;
      links.push(await Link.open(endpoint));
      opened();
    }
  };
  await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, worker));
  return links;
}

async function closeAll(links: readonly Link[]): Promise<void> {
  await Promise.all(links.map((link) => link.close()));
}

/** The window's figures, with the time that it took, and memory per unit in place of its total. */
function populationFigures(window: readonly Figure[], unit: string, grownBytes: number, count: number): Figure[] {
  const rate = window.find(({ name }) => name === 'rate')?.value ?? Number.NaN;
  return [
    { name: `time for ${count}`, unit: 's', better: 'lower', value: count / rate },
    ...window.filter(({ name }) => name !== 'broker RSS'),
    { name: `RSS per ${unit}`, unit: 'KiB', better: 'lower', value: grownBytes / KIBIBYTE / count },
  ];
}

const connections: Scenario = {
  id: 'f',
  title: 'f. idle connections with a channel each',
  freshBroker: true,
  run: async ({ endpoint, brokerPid, sizes }) => {
    const broker = new ProcessTree(brokerPid);
    await closeAll(await openMany(endpoint, WARM_UP_CONNECTIONS, () => {}));
    await wait(SETTLE_MS);
    const before = broker.rssBytes();
    let opened = 0;
    const window = new MeasuredWindow(broker, () => opened);
    const links = await openMany(endpoint, sizes.connections, () => opened++);
    const figures = window.close('connection');
    await wait(SETTLE_MS);
    const grown = broker.rssBytes() - before;
    await closeAll(links);
    return populationFigures(figures, 'connection', grown, sizes.connections);
  },
};

const queues: Scenario = {
  id: 'g',
  title: 'g. durable queues declared and bound, one after the other',
  freshBroker: true,
  run: async ({ endpoint, brokerPid, sizes }) => {
    const broker = new ProcessTree(brokerPid);
    const link = await Link.open(endpoint);
    const declareAndBind = async (name: string) => {
      await link.declareQueue(name, { durable: true });
      await link.bindQueue(name, 'amq.direct', name);
    };
    for (let index = 0; index < WARM_UP_QUEUES; index++) await declareAndBind(`bench.g.warm-up.${index}`);
    await wait(SETTLE_MS);
    const before = broker.rssBytes();
    let declared = 0;
    const window = new MeasuredWindow(broker, () => declared);
    while (declared < sizes.queues) await declareAndBind(`bench.g.${declared++}`);
    const figures = window.close('queue');
    await wait(SETTLE_MS);
    const grown = broker.rssBytes() - before;
    await link.close();
    return populationFigures(figures, 'queue', grown, sizes.queues);
  },
};

export const POPULATION_SCENARIOS: readonly Scenario[] = [connections, queues];
