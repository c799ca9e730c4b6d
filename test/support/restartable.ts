/** A broker over a data folder of its own, that can be ended and started again. */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type BrokerOptions, createBroker } from '../../broker/broker.ts';
import type { Broker, Channel } from '../../broker/port.ts';
import type { Topology } from '../../broker/topology.ts';

/** A folder that is gone when the test has finished. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'warren-test-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** What outlives the process of a virtual host, without what only counts. */
export interface Durable {
  readonly exchanges: readonly unknown[];
  readonly queues: readonly unknown[];
  readonly bindings: readonly unknown[];
}

export class Restartable {
  readonly dataDir: string;
  readonly #options: BrokerOptions;
  #broker: Broker;

  constructor(dataDir: string, options: BrokerOptions, broker: Broker) {
    this.dataDir = dataDir;
    this.#options = options;
    this.#broker = broker;
  }

  /** Ended, with its folder, when the test has finished. */
  static async start(options: BrokerOptions = {}): Promise<Restartable> {
    const folder = await temporaryFolder();
    const dataDir = join(folder, 'data');
    const restartable = new Restartable(dataDir, options, await createBroker({ ...options, dataDir }));
    onTestFinished(() => restartable.broker.close());
    return restartable;
  }

  get broker(): Broker {
    return this.#broker;
  }

  get administration(): Broker['administration'] {
    return this.#broker.administration;
  }

  /** The program's own channel to the broker as it now is. */
  async channel(vhost = '/'): Promise<Channel> {
    return (await this.#broker.connect(undefined, vhost)).openChannel();
  }

  /** Ends it as told, and starts another over the same folder. */
  async restart(options: BrokerOptions = {}): Promise<void> {
    await this.#broker.close();
    this.#broker = await createBroker({ ...this.#options, ...options, dataDir: this.dataDir });
  }

  /**
   * Another broker over what would be left of the folder if the process died at this moment. Ended when the test has
   * finished.
   */
  async afterCrash(): Promise<Broker> {
    const copy = join(await temporaryFolder(), 'data');
    // The lock is a socket, which cannot be copied, and would not be there after a crash of the machine.
    await cp(this.dataDir, copy, { recursive: true, filter: (name) => !name.endsWith('lock') });
    const broker = await createBroker({ ...this.#options, dataDir: copy });
    onTestFinished(() => broker.close());
    return broker;
  }
}

/** Of what is in a virtual host, what outlives the process: as it must be again after a restart. */
export function durable({ exchanges, queues, bindings }: Topology): Durable {
  const kept = {
    exchanges: exchanges.filter((exchange) => exchange.durable),
    queues: queues.filter((queue) => queue.durable),
  };
  const sources = new Set(kept.exchanges.map(({ name }) => name));
  const destinations = { exchange: sources, queue: new Set(kept.queues.map(({ name }) => name)) };
  return {
    exchanges: kept.exchanges.map(({ unroutableMessages: _, ...exchange }) => exchange),
    queues: kept.queues.map(({ consumers: _, ...queue }) => queue),
    bindings: bindings.filter(
      ({ source, destination, destinationKind }) =>
        sources.has(source) && destinations[destinationKind].has(destination),
    ),
  };
}
