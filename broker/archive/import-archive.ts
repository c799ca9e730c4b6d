/**
 * Importing into a data folder that no broker serves: all of an archive, or nothing of it.
 *
 * Messages are told to the store as they are read, for there may be more of them than memory, but under holders that no
 * definition names yet; the store drops such at the next start. The last commit writes all definitions at once, and in
 * them the names of those holders. So until that commit nothing has changed, whatever happens.
 */
import { type BrokerOptions, createBrokerOn } from '../broker.ts';
import { BrokerError } from '../port.ts';
import type { Custody, Holder, Restored, RestoredHolder, Store, StoredRecord } from '../store.ts';
import { ArchiveError } from './archive-error.ts';
import type { ReadArchive } from './archive-lines.ts';
import { type DefinedKeeper, keeperName, keepersOf } from './keepers.ts';
import type { ArchivedMessage, Keeper } from './message-entry.ts';
import { StoreView } from './store-view.ts';

export interface ImportOptions {
  /** Everything goes into this virtual host, which must exist. Needed for what was exported from a single one. */
  readonly vhost: string | undefined;
  /** First user and virtual host of a data folder that is new, and what to do with a damaged one. */
  readonly broker: Pick<BrokerOptions, 'defaultUser' | 'defaultPassword' | 'defaultVhost' | 'recover' | 'onStoreEvent'>;
  /** Called for what is passed over, in words. */
  readonly onSkipped: (what: string) => void;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/** What has been taken in. */
export interface Imported {
  readonly messageCount: number;
}

/** Octets of messages that are on their way to the disk at a time, and their number. */
const BATCH_BYTES = 8 * 1024 * 1024;
const BATCH_MESSAGES = 4096;

/** Whom a new broker has, with a password that everybody knows. */
const WELL_KNOWN_USER = 'guest';

/**
 * Imports and waits until everything is on disk. `store` must have been asked nothing yet, and stays open; close it, also
 * after an error. Throws ArchiveError when the archive is wrong or does not fit; then nothing has been changed.
 */
export async function importArchive(store: Store, archive: ReadArchive, options: ImportOptions): Promise<Imported> {
  const view = new StoreView(store);
  await importDefinitions(view, archive, options);
  const keepers = keepersOf(view);
  const filled = new Map<string, Filling>();
  const batch = new Batch(store);
  let messageCount = 0;
  for await (const archived of archive.messages) {
    const keeper = { ...archived.keeper, vhost: options.vhost ?? archived.keeper.vhost };
    const name = keeperName(keeper);
    let filling = filled.get(name);
    if (filling === undefined) {
      filling = new Filling(store.holder(), requireKeeper(keepers, keeper), options.nowMs);
      filled.set(name, filling);
      await filling.begin(store, view.heldBy(filling.keeper.holder), batch);
    }
    filling.add(archived, batch);
    messageCount += 1;
    await batch.settled();
  }
  await store.synced();
  // From here to the end of the turn: one commit.
  view.apply();
  for (const filling of filled.values()) filling.end(store);
  await store.synced();
  return { messageCount };
}

async function importDefinitions(view: StoreView, { definitions }: ReadArchive, options: ImportOptions): Promise<void> {
  const { vhost, onSkipped, broker } = options;
  const { rabbitmq_definition_format: format, original_vhost_name: original, users = [] } = definitions;
  if (vhost === undefined && format === 'single_virtual_host') {
    throw new ArchiveError(
      `it was exported from one virtual host ('${original}'): say with --vhost which one it is for`,
    );
  }
  const isNew = view.definitions('user').length === 0;
  const { administration } = await createBrokerOn(view, broker);
  try {
    await administration.importDefinitions(definitions, { onSkipped, ...(vhost === undefined ? {} : { vhost }) });
  } catch (error) {
    throw error instanceof BrokerError ? new ArchiveError(error.message) : error;
  }
  // Where users come along, nobody needs the one whom everybody knows.
  const names = vhost === undefined && Array.isArray(users) ? users.map(({ name }: { name?: unknown }) => name) : [];
  const isThere = (await administration.users()).some(({ name }) => name === WELL_KNOWN_USER);
  if (isNew && isThere && names.length > 0 && !names.includes(WELL_KNOWN_USER)) {
    await administration.deleteUser(WELL_KNOWN_USER);
  }
}

function requireKeeper(keepers: ReadonlyMap<string, DefinedKeeper>, keeper: Keeper): DefinedKeeper {
  const found = keepers.get(keeperName(keeper));
  if (found !== undefined) return found;
  const what = keeper.kind === 'queue' ? 'durable queue' : 'durable exchange that delays';
  throw new ArchiveError(
    `it has messages of '${keeper.name}' in virtual host '${keeper.vhost}', and there is no such ${what}, neither in ` +
      'the archive nor in the data folder',
  );
}

/** Messages told to the store and not yet known to be on disk. */
class Batch {
  readonly #store: Store;
  #bytes = 0;
  #count = 0;

  constructor(store: Store) {
    this.#store = store;
  }

  admit(custody: Custody, { message }: { readonly message: ArchivedMessage['message'] }): void {
    this.#store.admit(custody, message, true);
    this.#bytes += message.bodyBytes;
    this.#count += 1;
  }

  /** Waits for the disk when enough is on its way. */
  async settled(): Promise<void> {
    if (this.#bytes < BATCH_BYTES && this.#count < BATCH_MESSAGES) return;
    this.#bytes = 0;
    this.#count = 0;
    await this.#store.synced();
  }
}

/** A queue or exchange that gets messages, and the new holder that they are in. */
class Filling {
  readonly keeper: DefinedKeeper;
  readonly holder: Holder;
  readonly #nowMs: number;
  /** What was there before, with the holder before. */
  readonly #left: Custody[] = [];
  #lastPosition = 0;

  constructor(holder: Holder, keeper: DefinedKeeper, nowMs: number) {
    this.holder = holder;
    this.keeper = keeper;
    this.#nowMs = nowMs;
  }

  /** What was there before the import comes first. */
  async begin(store: Store, before: RestoredHolder | undefined, batch: Batch): Promise<void> {
    if (before === undefined) return;
    this.#lastPosition = before.lastPosition;
    for (const page of [...before.held, ...before.pages]) {
      for (const restored of await store.load(page)) {
        batch.admit(new ImportedCustody(this.holder, restored), restored);
        this.#left.push(new ImportedCustody(before.holder, restored, restored));
        await batch.settled();
      }
    }
  }

  add(archived: ArchivedMessage, batch: Batch): void {
    const { message, returnCount, expiresInMs, heldForMs } = archived;
    const { maxPriority } = this.keeper;
    this.#lastPosition += 1;
    const custody = new ImportedCustody(this.holder, {
      position: this.#lastPosition,
      priority: maxPriority === 0 ? 0 : Math.min(message.properties.priority ?? 0, maxPriority),
      expiresAtMs: this.#nowMs + expiresInMs,
      returnCount,
      heldUntilMs: heldForMs === 0 ? 0 : this.#nowMs + heldForMs,
    });
    batch.admit(custody, archived);
  }

  /** From now on the queue or exchange is what the new holder holds. */
  end(store: Store): void {
    const { kind, key, value } = this.keeper.definition;
    store.define(kind, key, { ...(value as object), holder: this.holder.id });
    for (const custody of this.#left) store.settle(custody);
  }
}

type Terms = Pick<Custody, 'position' | 'priority' | 'expiresAtMs' | 'returnCount' | 'heldUntilMs'>;

class ImportedCustody implements Custody {
  readonly holder: Holder;
  readonly position: number;
  readonly priority: number;
  readonly expiresAtMs: number;
  readonly returnCount: number;
  readonly heldUntilMs: number;
  record: StoredRecord | undefined;
  slot: number;

  /** `stored`: where it is in the store already. */
  constructor(holder: Holder, terms: Terms, stored?: Pick<Restored, 'record' | 'slot'>) {
    this.holder = holder;
    this.record = stored?.record;
    this.slot = stored?.slot ?? 0;
    this.position = terms.position;
    this.priority = terms.priority;
    this.expiresAtMs = terms.expiresAtMs;
    this.returnCount = terms.returnCount;
    this.heldUntilMs = terms.heldUntilMs;
  }
}
