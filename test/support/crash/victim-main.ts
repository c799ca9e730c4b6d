/**
 * A program for the crash test: the core with the AMQP door, from the sources, with a store whose sizes are small enough
 * that what takes gigabytes elsewhere happens every second, and with the administration open to whoever forked it.
 */
import type { Administration } from '../../../broker/administration/administration.ts';
import { createBrokerOn, StoreWatch } from '../../../broker/broker.ts';
import { openStore } from '../../../broker/storage/open-store.ts';
import { startAmqpGateway } from '../../../gateways/amqp/gateway.ts';
import { openLog } from '../../../gateways/pino-log.ts';
import { endOnFault, endOnSignal } from '../../../gateways/process-end.ts';
import { DiskWithPowerCuts } from './disk-with-power-cuts.ts';
import type { ForkedOptions, ForkedOrder, ForkedSaying, VerbOrder } from './victim.ts';

const options: ForkedOptions = JSON.parse(process.argv[2] ?? '');
const disk = options.powerCuts === true ? await DiskWithPowerCuts.load(options.dataDir) : undefined;
// From here on, so that the power can fail also while the store is being opened.
process.on('message', (order: ForkedOrder) => void ('cutPower' in order ? disk?.cut() : obey(order)));
// Whoever forked it is gone.
process.on('disconnect', () => process.exit(1));
const log = openLog({ level: 'warn', format: 'json' });
endOnFault(log);
const watch = new StoreWatch(({ type, text }) => {
  if (type !== 'notice') log.warn({ type }, text);
});
const store = await openStore({
  dataDir: disk === undefined ? options.dataDir : DiskWithPowerCuts.dataDir,
  ...(disk !== undefined && { files: disk.files }),
  version: '0.0.0',
  onEvent: (event) => watch.onEvent(event),
  ...options.store,
});
if (options.paging !== undefined) Object.assign(store, { paging: options.paging });
const broker = await createBrokerOn(store, {}, watch);
const gateway = await startAmqpGateway(broker, {
  host: '127.0.0.1',
  port: 0,
  connectionsMax: 1000,
  handshakeTimeoutMs: 10_000,
  log,
});
endOnSignal({ broker, gateways: [gateway], graceMs: 1000, log });
say({ port: gateway.addresses[0]?.port ?? 0 });

function say(saying: ForkedSaying): void {
  process.send?.(saying);
}

async function obey({ id, verb, args }: VerbOrder): Promise<void> {
  const { administration } = broker;
  try {
    const call = administration[verb as keyof Administration] as (...args: readonly unknown[]) => Promise<unknown>;
    say({ id, answer: await call.apply(administration, [...args]) });
  } catch (error) {
    say({ id, answer: undefined, failure: String(error) });
  }
}
