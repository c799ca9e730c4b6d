/** What holds messages in a data folder: durable queues, and durable exchanges that delay. */
import type { ExchangeDefinition, QueueDefinition } from '../definition-log.ts';
import type { Definition } from '../store.ts';
import type { Keeper } from './message-entry.ts';
import type { StoreView } from './store-view.ts';

/** A keeper with the definition that names its holder. */
export interface DefinedKeeper extends Keeper {
  readonly definition: Definition;
  /** Id of its holder. */
  readonly holder: number;
  /** Of a priority queue; 0 = it is none. */
  readonly maxPriority: number;
}

/** All of them, as they would be with the changes that the view has seen, by `keeperName`. */
export function keepersOf(view: StoreView): ReadonlyMap<string, DefinedKeeper> {
  const keepers = new Map<string, DefinedKeeper>();
  const add = (keeper: DefinedKeeper): void => void keepers.set(keeperName(keeper), keeper);
  for (const definition of view.current('queue')) {
    // Written by the log of definitions, and guarded by checksums since.
    const { vhost, queue: name, holder, arguments: args = {} } = definition.value as QueueDefinition;
    add({ vhost, kind: 'queue', name, definition, holder, maxPriority: Number(args['x-max-priority'] ?? 0) });
  }
  for (const definition of view.current('exchange')) {
    const { vhost, exchange: name, holder } = definition.value as ExchangeDefinition;
    if (holder !== undefined) add({ vhost, kind: 'exchange', name, definition, holder, maxPriority: 0 });
  }
  return keepers;
}

/** Tells one keeper from all others. */
export function keeperName({ vhost, kind, name }: Keeper): string {
  return JSON.stringify([vhost, kind, name]);
}
