/**
 * Exporting from a data folder that no broker serves: its definitions, and the messages that are in custody there, each
 * queue's in the order in which they would be delivered. The store is only looked at.
 */
import { type BrokerOptions, createBrokerOn } from '../broker.ts';
import type { Page, Restored, Store } from '../store.ts';
import { ArchiveError } from './archive-error.ts';
import { writeArchive } from './archive-lines.ts';
import { type DefinedKeeper, keepersOf } from './keepers.ts';
import type { ArchivedMessage } from './message-entry.ts';
import { StoreView } from './store-view.ts';

export interface ExportOptions extends Pick<BrokerOptions, 'recover' | 'onStoreEvent'> {
  /** Only this virtual host. */
  readonly vhost: string | undefined;
  /** Whose messages: those of these queues, of all queues and all exchanges that delay, or none. */
  readonly messages: readonly string[] | 'all' | 'none';
  /** e.g. `warren 0.1.0`, for the first line. */
  readonly writtenBy: string;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/** Names of this kind belong to the broker, which makes such things itself; no export has them. */
const RESERVED_PREFIX = 'amq.';

/**
 * The lines of an export, without their ends: an archive, or where no messages are asked for the definitions alone as
 * RabbitMQ writes them. `store` must have been asked nothing yet, and stays open. Throws ArchiveError before the first
 * line. Returns the number of messages.
 */
export async function* exportLines(store: Store, options: ExportOptions): AsyncGenerator<string, number> {
  const { vhost, messages, writtenBy, nowMs } = options;
  const view = new StoreView(store);
  const { administration } = await createBrokerOn(view, options);
  if (vhost !== undefined && !(await administration.vhosts()).some(({ name }) => name === vhost)) {
    throw new ArchiveError(`there is no virtual host '${vhost}'`);
  }
  const definitions = await administration.exportDefinitions(vhost);
  if (messages === 'none') {
    yield JSON.stringify(definitions, undefined, 2);
    return 0;
  }
  const inVhost = [...keepersOf(view).values()].filter((keeper) => vhost === undefined || keeper.vhost === vhost);
  const keepers = inVhost.filter(({ name }) => !name.startsWith(RESERVED_PREFIX));
  const chosen = messages === 'all' ? keepers : messages.map((name) => queueNamed(name, keepers, vhost));
  return yield* writeArchive({ definitions, writtenBy, createdMs: nowMs }, readMessages(store, view, chosen, nowMs));
}

function queueNamed(name: string, keepers: readonly DefinedKeeper[], vhost: string | undefined): DefinedKeeper {
  const [first, ...others] = keepers.filter((keeper) => keeper.kind === 'queue' && keeper.name === name);
  if (first === undefined) {
    const where = vhost === undefined ? '' : ` in virtual host '${vhost}'`;
    const why = name.startsWith(RESERVED_PREFIX) ? '; names that begin with amq. are not exported' : '';
    throw new ArchiveError(`there is no durable queue '${name}'${where}${why}`);
  }
  if (others.length > 0) {
    const vhosts = [first, ...others].map((keeper) => `'${keeper.vhost}'`);
    throw new ArchiveError(
      `there is a queue '${name}' in the virtual hosts ${vhosts.join(', ')}: say which with --vhost`,
    );
  }
  return first;
}

async function* readMessages(
  store: Store,
  view: StoreView,
  keepers: readonly DefinedKeeper[],
  nowMs: number,
): AsyncGenerator<ArchivedMessage> {
  for (const keeper of keepers) {
    const { held = [], pages = [] } = view.heldBy(keeper.holder) ?? {};
    const inOrder = pages.toSorted((a, b) => b.priority - a.priority);
    // What is held back has been delivered before, so it was there before the rest.
    for (const page of [...held, ...inOrder]) yield* readPage(store, page, keeper, nowMs);
  }
}

async function* readPage(
  store: Store,
  page: Page,
  keeper: DefinedKeeper,
  nowMs: number,
): AsyncGenerator<ArchivedMessage> {
  for (const restored of await store.load(page)) yield archived(restored, keeper, nowMs);
}

function archived(restored: Restored, { vhost, kind, name }: DefinedKeeper, nowMs: number): ArchivedMessage {
  const { message, returnCount, expiresAtMs, heldUntilMs } = restored;
  return {
    keeper: { vhost, kind, name },
    message,
    returnCount,
    expiresInMs: Math.max(0, expiresAtMs - nowMs),
    heldForMs: Math.max(0, heldUntilMs - nowMs),
  };
}
