/**
 * The durable store: gathers what it is told into batches, each of which becomes one record of the log.
 *
 * Nothing is encoded, looked up or allocated per message when the store is told of it: a custody and its message join two
 * arrays. The batch is encoded when the commit before it is through: at the end of the turn when somebody waits, within
 * `LAZY_MS` when nobody does. Only what is to leave memory is encoded at once, so that it does.
 */
import { assert, callOut } from '../assert.ts';
import type { CancelTimer, Clock } from '../clock.ts';
import type { Message } from '../message.ts';
import type {
  Custody,
  Definition,
  DefinitionKind,
  DefinitionValue,
  GrowingPage,
  Holder,
  Page,
  Restored,
  RestoredHolder,
  Store,
  StoreEvent,
  SyncWaiter,
} from '../store.ts';
import { Batch, type Moved } from './log/batch.ts';
import type { Cleaner } from './log/cleaner.ts';
import type { BatchSource, Commits } from './log/commits.ts';
import { definitionMade } from './log/definition-table.ts';
import type { LogRecord } from './log/log-record.ts';
import type { LogState } from './log/log-state.ts';
import { StoredHolder } from './log/stored-holder.ts';
import { Stowed } from './log/stowed.ts';
import { FillingPage, type FillingPageHost } from './pages/filling-page.ts';
import type { PageLoader } from './pages/page-loader.ts';
import { PageSlots, StoredPage } from './pages/stored-page.ts';
import { LARGE_BYTES_MIN } from './record/record-buffer.ts';
import { countOf, type Recovery } from './recovery/recovery.ts';
import { StoreError } from './store-error.ts';

/** How long something may wait to be written when nobody waits for it; milliseconds. */
export const LAZY_MS = 5;

/**
 * A batch of about so many octets is written without delay, and what the next turns tell goes into another one, if
 * `StoreOptions` do not say otherwise.
 */
export const BATCH_BYTES = 4 * 1024 * 1024;

/**
 * A turn that tells more than this is not stored as a whole, if `StoreOptions` do not say otherwise; octets. A record has to
 * fit into 4 GiB.
 */
export const TURN_BYTES_MAX = 1024 * 1024 * 1024;

/** While what waits to be written takes so many octets of memory, publishers are to be held back; until it is half of it. */
export const BEHIND_BYTES = 32 * 1024 * 1024;

/** Rooms for stowed messages that are kept for the next batches; one when there is nothing to write. */
const SPARE_MAX = 2;

/** How long `close` tries to store what is left; milliseconds. */
export const CLOSE_MS = 10_000;

export interface LogStoreOptions {
  readonly state: LogState;
  readonly commits: Commits;
  readonly loader: PageLoader;
  readonly recovery: Recovery;
  readonly clock: Clock;
  readonly residentBytesMax: number;
  /** See `BATCH_BYTES`. */
  readonly batchBytes: number;
  /** See `TURN_BYTES_MAX`. */
  readonly turnBytesMax: number;
  /** The data folder, for errors. */
  readonly path: string;
  /** Lets go of everything else; `isComplete`: all that the store was told is on disk. Never rejects. */
  readonly onClose: (isComplete: boolean) => Promise<void>;
  readonly onEvent: (event: StoreEvent) => void;
}

export class LogStore implements Store {
  readonly durable = true;
  residentBytes = 0;
  pagingCount = 0;
  readonly residentBytesMax: number;
  readonly #options: LogStoreOptions;
  readonly #state: LogState;
  readonly #commits: Commits;
  readonly #clock: Clock;
  readonly #batchBytes: number;
  #open = new Batch(1);
  /** Batches that are full and wait for their commit. */
  readonly #sealed: Batch[] = [];
  /** About what full batches, and what is being written, take in memory; octets. */
  #pendingBytes = 0;
  readonly #spare: Stowed[] = [];
  #isBehind = false;
  /** A commit begins at the end of the turn. */
  #isDue = false;
  /** The open batch is to be sealed at the end of the turn. */
  #isSealing = false;
  #cancelLazy: CancelTimer | undefined;
  /** Numbers of the batch that the last definition is in, and of the last one that is on disk. */
  #lastDefinition = 0;
  #lastSynced = 0;
  #recovery: Recovery | undefined;
  #cleaner: Cleaner | undefined;
  #closing: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: LogStoreOptions) {
    this.#options = options;
    this.#state = options.state;
    this.#commits = options.commits;
    this.#clock = options.clock;
    this.#batchBytes = options.batchBytes;
    this.#recovery = options.recovery;
    this.residentBytesMax = options.residentBytesMax;
  }

  /** Space is reclaimed by `cleaner` from now on. */
  cleanWith(cleaner: Cleaner): void {
    this.#cleaner = cleaner;
  }

  get batch(): number {
    return this.#open.number;
  }

  definitions(kind: DefinitionKind): readonly Definition[] {
    return this.#state.definitions.ofKind(kind);
  }

  define(kind: DefinitionKind, key: readonly string[], value: DefinitionValue): void {
    this.#open.definitions.push(definitionMade(kind, key, value));
    this.#lastDefinition = this.#open.number;
    this.#lazily();
  }

  undefine(kind: DefinitionKind, key: readonly string[]): void {
    this.#open.definitions.push({ kind, key, octets: undefined });
    this.#lastDefinition = this.#open.number;
    this.#lazily();
  }

  holder(): Holder {
    return new StoredHolder(++this.#state.lastHolder);
  }

  restore(id: number): RestoredHolder {
    const recovered = this.#recovery?.take(id);
    if (recovered !== undefined) return recovered;
    this.#state.lastHolder = Math.max(this.#state.lastHolder, id);
    return { holder: new StoredHolder(id), pages: [], held: [], lastPosition: 0 };
  }

  restored(): void {
    const recovery = this.#recovery;
    if (recovery === undefined) return;
    this.#recovery = undefined;
    const dropped = recovery.rest();
    const count = dropped.reduce((sum, held) => sum + countOf(held), 0);
    if (count > 0) {
      const names = recovery.namesOf(dropped);
      const text = `${count} messages of ${dropped.length} queues that are not defined any more have been dropped (${names})`;
      this.#options.onEvent({ type: recovery.isDamaged ? 'damage' : 'notice', text });
    }
    for (const { pages, held } of dropped) for (const page of [...pages, ...held]) this.settlePage(page);
    if (recovery.isChanged) {
      this.#open.hasCheckpoint = true;
      this.#lazily();
    }
  }

  admit(custody: Custody, message: Message, survives: boolean): void {
    this.#open.admit(custody, message, survives);
    this.#onBegun(custody);
  }

  #onBegun({ holder }: Custody): void {
    (holder as StoredHolder).live++;
    if (this.#open.bytes > this.#batchBytes) this.#overflow();
    else this.#lazily();
  }

  settle(custody: Custody): void {
    const record = custody.record as LogRecord;
    const open = this.#open;
    custody.record = undefined;
    (custody.holder as StoredHolder).end(1, open.number);
    if (open.end(record, custody.slot)) return;
    open.settle(record, custody.slot);
    this.#lazily();
  }

  amend(custody: Custody): void {
    const record = custody.record as LogRecord;
    if (record.segment === undefined && record.unwritten !== undefined) {
      // Until it is encoded it is read as it is then.
      record.unwritten.amend(custody.slot, custody);
      return;
    }
    this.#open.amendEarlier(custody, record);
    this.#lazily();
  }

  delivered(holder: Holder): void {
    holder.dirty = true;
    this.#open.delivered.push(holder as StoredHolder);
    this.#lazily();
  }

  newPage(holder: Holder, priority: number): GrowingPage {
    return new FillingPage(this.#pageHost, holder as StoredHolder, priority);
  }

  readonly #pageHost: FillingPageHost = {
    stow: (custody, message, survives) => {
      // Large bodies are written from where they lie, and a few of them are no great number of objects.
      if (message.bodyBytes >= LARGE_BYTES_MIN) this.#open.admit(custody, message, survives);
      else this.#open.stow(custody, message, survives, this.#emptyStowed);
      this.#onBegun(custody);
    },
    onClosed: (page) => this.#open.newPages.push(page),
  };

  readonly #emptyStowed = (): Stowed => this.#spare.pop() ?? new Stowed();

  page(holder: Holder, custodies: readonly Custody[], bodyBytes: number): Page {
    const slots = new PageSlots();
    let expiresAtMs = Number.POSITIVE_INFINITY;
    for (const { record, slot, expiresAtMs: expires, returnCount, heldUntilMs } of custodies) {
      slots.add(record as LogRecord, slot);
      if (returnCount > 0 || heldUntilMs > 0) slots.amend({ returnCount, heldUntilMs });
      if (expires < expiresAtMs) expiresAtMs = expires;
    }
    const first = custodies[0];
    const last = custodies[custodies.length - 1];
    assert(first !== undefined && last !== undefined, 'a page has messages');
    const page = new StoredPage(
      {
        holder: holder as StoredHolder,
        priority: first.priority,
        bodyBytes,
        firstPosition: first.position,
        lastPosition: last.position,
        expiresAtMs,
      },
      slots,
    );
    this.#open.newPages.push(page);
    return page;
  }

  load(page: Page): Promise<readonly Restored[]> {
    const stored = page as StoredPage;
    // What has ended since it was handed out for the first time must be known to the state.
    if (stored.handedOut) return this.synced().then(() => this.#options.loader.load(stored));
    return this.#options.loader.load(stored);
  }

  settlePage(page: Page): void {
    const stored = page as StoredPage;
    if (stored.handedOut || stored.settled) return;
    stored.settled = true;
    stored.holder.end(stored.count, this.#open.number);
    if (!stored.isCompact) stored.eachSlot((record, slot) => this.#open.end(record, slot));
    this.#open.settledPages.push(stored);
    this.#lazily();
  }

  /** What the cleaner has read goes into the next commit. */
  move(moved: readonly Moved[], waiter: SyncWaiter): void {
    const open = this.#open;
    open.moved = open.moved.length === 0 ? moved : [...open.moved, ...moved];
    for (const { message } of moved) {
      const bytes = message.bodyEnd - message.propertiesStart;
      open.bytes += bytes;
      open.memoryBytes += bytes;
    }
    open.waiters.push(waiter);
    this.#lazily();
  }

  definitionsSynced(): Promise<void> {
    return this.#lastDefinition > this.#lastSynced ? this.synced() : Promise.resolve();
  }

  whenSynced(waiter: SyncWaiter): void {
    this.#open.waiters.push(waiter);
    this.#soon();
  }

  synced(): Promise<void> {
    if (!this.#commits.isBusy && this.#sealed.length === 0 && this.#open.isEmpty && this.#open.waiters.length === 0) {
      return Promise.resolve();
    }
    return new Promise((resolve) => this.whenSynced({ onSynced: resolve }));
  }

  /** A commit begins within `LAZY_MS`. */
  #lazily(): void {
    if (this.#isDue || this.#cancelLazy !== undefined || this.#commits.isBusy) return;
    this.#cancelLazy = this.#clock.schedule(LAZY_MS, this.#onLazy);
  }

  readonly #onLazy = (): void => {
    this.#cancelLazy = undefined;
    this.#soon();
  };

  /** A commit begins at the end of the turn, or when the one under way is through. */
  #soon(): void {
    if (this.#isDue || this.#commits.isBusy) return;
    this.#isDue = true;
    this.#cancelLazy?.();
    this.#cancelLazy = undefined;
    this.#clock.defer(this.#onDue);
  }

  readonly #onDue = (): void => {
    this.#isDue = false;
    if (!this.#commits.isBusy && !this.#isClosed) this.#commit();
  };

  /** The open batch is large. */
  #overflow(): void {
    if (this.#open.bytes > this.#options.turnBytesMax) {
      this.#seal();
      this.#soon();
    } else if (!this.#commits.isBusy) this.#soon();
    else if (!this.#isSealing) {
      this.#isSealing = true;
      this.#clock.defer(this.#onTurnEnd);
    }
  }

  readonly #onTurnEnd = (): void => {
    this.#isSealing = false;
    if (this.#open.bytes > this.#batchBytes) this.#seal();
  };

  #seal(): void {
    const open = this.#open;
    this.#sealed.push(open);
    this.#open = new Batch(open.number + 1);
    this.#pendingBytes += open.memoryBytes;
    if (this.#pendingBytes < BEHIND_BYTES || this.#isBehind) return;
    this.#isBehind = true;
    this.#options.onEvent({ type: 'behind' });
  }

  #commit(): void {
    if (this.#sealed.length === 0) this.#seal();
    const batch = this.#sealed.shift();
    assert(batch !== undefined, 'there is a batch');
    if (batch.isEmpty) this.#finish(batch);
    else this.#commits.begin(batch, this.#source);
  }

  readonly #source: BatchSource = {
    onDone: (batch) => this.#finish(batch),
    next: ({ bytes }) => {
      if (this.#sealed.length === 0) {
        if (this.#open.isEmpty) return undefined;
        this.#seal();
      }
      const next = this.#sealed[0];
      if (next === undefined || next.hasCheckpoint || bytes + next.bytes > this.#options.turnBytesMax) return undefined;
      return this.#sealed.shift();
    },
  };

  #finish(batch: Batch): void {
    this.#lastSynced = batch.number;
    this.#pendingBytes -= batch.memoryBytes;
    if (this.#isBehind && this.#pendingBytes < BEHIND_BYTES / 2) {
      this.#isBehind = false;
      this.#options.onEvent({ type: 'caught-up' });
    }
    for (const page of batch.newPages) page.compact();
    for (const stowed of batch.stowed) this.#recycle(stowed);
    for (const waiter of batch.waiters) callOut(() => waiter.onSynced());
    const { waiters, bytes, isEmpty } = this.#open;
    if (this.#sealed.length > 0 || waiters.length > 0 || bytes > this.#batchBytes) this.#soon();
    else if (!isEmpty) this.#lazily();
    else this.#spare.splice(1);
    this.#cleaner?.onCommitted();
  }

  #recycle(stowed: Stowed): void {
    if (this.#spare.length === SPARE_MAX) return;
    stowed.clear();
    this.#spare.push(stowed);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#cleaner?.stop();
    const isComplete = await this.#lastCommit();
    this.#isClosed = true;
    const closing = this.#options.onClose(isComplete);
    if (!isComplete) {
      // A disk that hangs may keep it for ever.
      void closing;
      throw new StoreError(
        this.#options.path,
        `${this.#options.path}: what was not confirmed yet could not be stored within ${CLOSE_MS / 1000} s`,
      );
    }
    await closing;
  }

  /** Whether everything could be stored in time. */
  #lastCommit(): Promise<boolean> {
    return new Promise((resolve) => {
      const cancel = this.#clock.schedule(CLOSE_MS, () => resolve(false));
      void this.synced().then(() => {
        cancel();
        resolve(true);
      });
    });
  }
}
