/**
 * The store: what keeps messages and definitions beyond the life of the process, and the bodies of a backlog out of its
 * memory. The model tells it what happens, in the order in which it happens, and goes on; the store gathers what it is
 * told into group commits. What is told within one turn of the event loop is stored as a whole or not at all.
 *
 * A commit is one write and one sync for everything that was told while the one before was under way. Whoever must not
 * speak before something is on disk (a confirm, a declare-ok) asks for it with `whenSynced`; nobody else waits.
 *
 * Ownership: `record` and `slot` of a `Custody` and `dirty` of a `Holder` belong to the store; everything else belongs to
 * the model and is read by the store at its next commit.
 */
import type { Message } from './message.ts';

/**
 * What exists by declaration and outlives the process. In the order in which they must be restored: policies first, for
 * they hold for the exchanges that a virtual host is made with.
 */
export const DEFINITION_KINDS = [
  'policy',
  'operator-policy',
  'vhost',
  'user',
  'permission',
  'topic-permission',
  'parameter',
  'global-parameter',
  'exchange',
  'queue',
  'binding',
] as const;

export type DefinitionKind = (typeof DEFINITION_KINDS)[number];

/** A value as definitions have them: JSON's, and those of field tables (bigint, Date, Uint8Array, Decimal). */
export type DefinitionValue = unknown;

export interface Definition {
  readonly kind: DefinitionKind;
  /** What names it among its kind, e.g. virtual host and name. */
  readonly key: readonly string[];
  readonly value: DefinitionValue;
}

/** Something that holds messages: a queue, or an exchange that delays. Made by `Store.holder`. */
export interface Holder {
  /** Never given twice in the life of a data folder. A durable holder writes it into its definition. */
  readonly id: number;
  /** Highest position that has been delivered to anybody; told by `Store.delivered`. */
  deliveredThrough: number;
  dirty: boolean;
}

/** Where a commit has put what it holds. Only the store looks inside; the model compares with `undefined`. */
export interface StoredRecord {
  /** True when it has been written. */
  readonly written: boolean;
}

/** One message with one holder, from `Store.admit` to `Store.settle`. */
export interface Custody {
  readonly holder: Holder;
  /** Its place among those of its holder; grows with every message the holder takes in. */
  readonly position: number;
  /** 0 to 255. */
  readonly priority: number;
  /** When it expires, or is due (an exchange that delays); milliseconds since 1970, Infinity = never. */
  readonly expiresAtMs: number;
  /** How often it came back from a consumer. */
  readonly returnCount: number;
  /** Until when it is held back for a delayed retry; milliseconds since 1970, 0 = it is not. */
  readonly heldUntilMs: number;
  /** Undefined: the store has nothing to do with it. */
  record: StoredRecord | undefined;
  /** Number within the file that `record` lies in. */
  slot: number;
}

/**
 * A run of ready messages of one holder and one priority that is on disk only. Immutable but for what is said at
 * `Store.settlePage`; the order of positions holds within it and, of one holder and priority, between pages.
 */
export interface Page {
  readonly holder: Holder;
  readonly priority: number;
  readonly count: number;
  /** Octets of all bodies. */
  readonly bodyBytes: number;
  readonly firstPosition: number;
  readonly lastPosition: number;
  /** The earliest time at which one of them expires; Infinity = none does. */
  readonly expiresAtMs: number;
}

/**
 * A page that is being filled with messages that nobody keeps in memory: they are on their way to disk from the moment on
 * at which they are added. Made by `Store.newPage`.
 */
export interface GrowingPage {
  readonly count: number;
  /** The earliest time at which one of them expires; Infinity = none does. */
  readonly expiresAtMs: number;
  /**
   * Custody of `message` begins as with `Store.admit`, in the order of positions. Sets `custody.record`; the custody need not
   * be kept.
   */
  add(custody: Custody, message: Message, survives: boolean): void;
  /** The page, which can be read at once; nothing is added to it any more. There must be something in it. */
  close(): Page;
}

/** A message as it comes back from a page or after a restart. */
export interface Restored {
  readonly message: Message;
  readonly position: number;
  readonly priority: number;
  readonly expiresAtMs: number;
  readonly returnCount: number;
  readonly heldUntilMs: number;
  readonly record: StoredRecord;
  readonly slot: number;
}

/** What a holder of an earlier process held. */
export interface RestoredHolder {
  readonly holder: Holder;
  /** Ready messages, in order, by priority. Of several with the same priority, the lower positions come first. */
  readonly pages: readonly Page[];
  /** Held back for a delayed retry, in no promised order. */
  readonly held: readonly Page[];
  /** Highest position ever given, as far as it matters. */
  readonly lastPosition: number;
}

/** What is to be called once when everything told before has been stored. */
export interface SyncWaiter {
  onSynced(): void;
}

/** How a list of ready messages is divided between memory and disk. */
export interface PagingLimits {
  /** Most messages of one page, and octets that they take in memory after which it is full. */
  readonly pageMessages: number;
  readonly pageBytes: number;
  /** The next page is read when fewer messages than this are left in front of it, and half a page of octets. */
  readonly readAheadMessages: number;
  /** Octets that go next from memory before anything is paged out, however full the memory is. */
  readonly frontBytesMin: number;
}

/** What `Store.paging` is where it says nothing else. */
export const PAGING: PagingLimits = {
  pageMessages: 2048,
  pageBytes: 1024 * 1024,
  readAheadMessages: 1024,
  frontBytesMin: 16 * 1024,
};

export interface Store {
  /** False: nothing is kept, every other verb does nothing, and nobody has to wait. */
  readonly durable: boolean;
  /** Number of the commit that is being gathered. What is told now is synced with it, or before. */
  readonly batch: number;
  /** Octets that ready messages take in memory, and how many lists have some on disk; kept by the lists. */
  residentBytes: number;
  pagingCount: number;
  /** Above this, ready messages that are not the next to go are to be paged out. */
  readonly residentBytesMax: number;
  /** Default `PAGING`. */
  readonly paging?: PagingLimits;

  /** Definitions of the kind that outlived the last process, in the order of their making; once, before all else. */
  definitions(kind: DefinitionKind): readonly Definition[];
  /** Makes or replaces a definition. The value is taken over: do not change it afterwards. */
  define(kind: DefinitionKind, key: readonly string[], value: DefinitionValue): void;
  /** Ends a definition; unknown ones are no error. */
  undefine(kind: DefinitionKind, key: readonly string[]): void;

  /** A new holder. */
  holder(): Holder;
  /**
   * The holder `id` of an earlier process with all it held; to be asked once for each that its definition names. What
   * nobody has asked for when `restored` is called is dropped.
   */
  restore(id: number): RestoredHolder;
  /** Everything that is to be restored has been. */
  restored(): void;

  /**
   * Custody of `message` begins. One message admitted for several holders in a row is stored once. `survives`: it is to
   * be there after a restart; otherwise it is only kept out of memory. Sets `custody.record`.
   */
  admit(custody: Custody, message: Message, survives: boolean): void;
  /** Custody ends. To be called only when `custody.record` is not undefined; it is undefined afterwards. */
  settle(custody: Custody): void;
  /** Its `returnCount` or `heldUntilMs` has changed; `custody.record` is not undefined. */
  amend(custody: Custody): void;
  /** `holder.deliveredThrough` has grown. After a crash what was delivered and not settled counts as redelivered. */
  delivered(holder: Holder): void;

  /** A page for what joins the end of the ready messages of one holder and one priority. */
  newPage(holder: Holder, priority: number): GrowingPage;
  /** The page of these custodies, in the order of positions and of one priority. */
  page(holder: Holder, custodies: readonly Custody[], bodyBytes: number): Page;
  /**
   * Reads a page: those of its messages that are still in custody, in the order of positions. The bodies share few large
   * buffers. Never rejects: what cannot be read because of damage is reported as such, settled nowhere, and left out;
   * what cannot be read for a time (an I/O error) is tried again.
   */
  load(page: Page): Promise<readonly Restored[]>;
  /** Custody of everything in the page ends, except what `load` handed out already. */
  settlePage(page: Page): void;

  /** Calls `waiter` when everything told until now is on disk, waiters in the order of asking; never synchronously. */
  whenSynced(waiter: SyncWaiter): void;
  /** The same as a promise. Resolves at once when nothing waits to be stored. */
  synced(): Promise<void>;
  /** Resolves when every definition made or ended until now is on disk; at once when all of them are. */
  definitionsSynced(): Promise<void>;
  /**
   * Stores what is left and lets go of the data folder. Rejects when that is not possible in time; what was confirmed is
   * safe also then. Idempotent.
   */
  close(): Promise<void>;
}

/** What the store wants the broker to know. */
export type StoreEvent =
  | StoreNotice
  /** As much is waiting to be written as the store wants to hold in memory: publishers should wait. */
  | { readonly type: 'behind' }
  /** It has been written. */
  | { readonly type: 'caught-up' };

/** What the store wants people to know. */
export type StoreNotice =
  /** Writing has failed, and is tried again until it succeeds: publishers must be held back. */
  | { readonly type: 'trouble'; readonly text: string }
  /** Writing works again. */
  | { readonly type: 'recovered'; readonly text: string }
  /** Something stored cannot be read any more. */
  | { readonly type: 'damage'; readonly text: string }
  /** Something worth a line in the log. */
  | { readonly type: 'notice'; readonly text: string };
