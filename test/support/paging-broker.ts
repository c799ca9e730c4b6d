/** A broker over a disk in memory that pages out whatever it can. The store is the real one. */
import { createBrokerOn } from '../../broker/broker.ts';
import type { Clock } from '../../broker/clock.ts';
import { createMessage } from '../../broker/message.ts';
import type { Broker, Channel } from '../../broker/port.ts';
import { openStore } from '../../broker/storage/open-store.ts';
import type { PagingLimits, Store } from '../../broker/store.ts';
import { FaultyFiles } from './faulty-files.ts';

/** The queue that `publish` publishes to; to be declared by the test. */
export const QUEUE = 'q';

const PAGING: PagingLimits = { pageMessages: 4, pageBytes: 1800, readAheadMessages: 2, frontBytesMin: 1600 };

export interface PagingBrokerOptions {
  /** That of the broker; the store has the time of the machine. */
  readonly clock?: Clock;
  /** Default: pages of a few messages, and hardly more in front of them. */
  readonly paging?: PagingLimits;
}

export class PagingBroker {
  broker!: Broker;
  channel!: Channel;
  store!: Store;
  readonly #files = new FaultyFiles();
  readonly #options: PagingBrokerOptions;

  constructor(options: PagingBrokerOptions = {}) {
    this.#options = options;
  }

  async open(): Promise<this> {
    const { clock, paging = PAGING } = this.#options;
    const store = await openStore({
      dataDir: '/data',
      version: '0.0.0',
      residentBytesMax: 0,
      files: this.#files,
      segmentBytes: 2048,
      reserveBytes: 0,
    });
    this.store = Object.assign(store, { paging });
    this.broker = await createBrokerOn(this.store, clock === undefined ? {} : { clock });
    this.channel = (await this.broker.connect()).openChannel();
    return this;
  }

  async restart(): Promise<void> {
    await this.broker.close();
    await this.open();
  }

  publish(body: string, priority: number, persistent = true): void {
    const properties = { priority, deliveryMode: persistent ? 2 : 1 };
    this.channel.publish(createMessage({ routingKey: QUEUE, body, properties }));
  }
}
