/** A broker with the real durable store on a disk that a test has in its hand. */
import { createBrokerOn, StoreWatch } from '../../broker/broker.ts';
import type { Broker } from '../../broker/port.ts';
import { openStore } from '../../broker/storage/open-store.ts';
import type { FaultyFiles } from './faulty-files.ts';

/** Opens or makes the data folder `/data` in `files`, with room for nothing to fall back on. The caller closes the broker. */
export async function brokerOn(files: FaultyFiles): Promise<Broker> {
  const watch = new StoreWatch(undefined);
  const store = await openStore({
    dataDir: '/data',
    version: '0.0.0',
    files,
    reserveBytes: 0,
    onEvent: (event) => watch.onEvent(event),
  });
  return createBrokerOn(store, {}, watch);
}
