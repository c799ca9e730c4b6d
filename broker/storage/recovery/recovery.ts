/** What recovery has found of each holder, handed out once, and what is left when everybody has asked. */
import type { Restored, RestoredHolder } from '../../store.ts';
import type { LogState } from '../log/log-state.ts';
import type { Segment } from '../log/segment.ts';
import { StoredHolder } from '../log/stored-holder.ts';
import { PageBuilder } from '../pages/page-builder.ts';
import type { StoredPage } from '../pages/stored-page.ts';
import type { MessageCursor } from '../record/message-operations.ts';
import type { HolderNames } from './holder-names.ts';

/** What a holder of an earlier process held. */
export interface RecoveredHolder extends RestoredHolder {
  readonly holder: StoredHolder;
  readonly pages: readonly StoredPage[];
  readonly held: readonly StoredPage[];
}

/** The messages of one holder as they are found, ready and held back, by priority. */
class FoundMessages {
  readonly ready = new Map<number, PageBuilder>();
  readonly held = new Map<number, PageBuilder>();
  count = 0;
  lastPosition = 0;
}

export class Recovery {
  /** Something is different from what the log says: a checkpoint is to be written. */
  readonly isChanged: boolean;
  /** Part of the log was damaged. */
  readonly isDamaged: boolean;
  readonly #holders: ReadonlyMap<number, StoredHolder>;
  readonly #segments: ReadonlyMap<number, Segment>;
  readonly #found: Map<number, FoundMessages>;
  readonly #names: HolderNames;

  constructor(
    found: FoundCustodies,
    { holders, segments }: LogState,
    names: HolderNames,
    { isChanged, isDamaged }: { readonly isChanged: boolean; readonly isDamaged: boolean },
  ) {
    this.#found = found.byHolder;
    this.#holders = holders;
    this.#segments = segments;
    this.#names = names;
    this.isChanged = isChanged;
    this.isDamaged = isDamaged;
    for (const holder of holders.values()) holder.live = found.byHolder.get(holder.id)?.count ?? 0;
  }

  /** What holder `id` held; undefined when nothing is known of it. */
  take(id: number): RecoveredHolder | undefined {
    const found = this.#found.get(id);
    let holder = this.#holders.get(id);
    if (holder === undefined) {
      if (found === undefined) return undefined;
      holder = new StoredHolder(id);
      holder.live = found.count;
    }
    this.#found.delete(id);
    return {
      holder,
      pages: found === undefined ? [] : this.#pages(found.ready, holder),
      held: found === undefined ? [] : this.#pages(found.held, holder),
      lastPosition: Math.max(holder.deliveredThrough, found?.lastPosition ?? 0),
    };
  }

  #pages(builders: ReadonlyMap<number, PageBuilder>, holder: StoredHolder): StoredPage[] {
    return [...builders].flatMap(([priority, builder]) => builder.pages(holder, priority, this.#segments));
  }

  /** The names of holders and how many messages each held, e.g. `2 of queue "a" in virtual host "/"`. */
  namesOf(holders: readonly RecoveredHolder[]): string {
    const counts = new Map(holders.map((held) => [held.holder.id, countOf(held)]));
    return this.#names.tally(
      counts,
      holders.reduce((sum, held) => sum + countOf(held), 0),
    );
  }

  /** All that nobody has taken. */
  rest(): RecoveredHolder[] {
    return [...this.#found.keys()].flatMap((id) => this.take(id) ?? []);
  }
}

/** Messages that a holder held. */
export function countOf({ pages, held }: RecoveredHolder): number {
  return [...pages, ...held].reduce((sum, { count }) => sum + count, 0);
}

/** Gathers the custodies that the log holds. */
export class FoundCustodies {
  readonly byHolder = new Map<number, FoundMessages>();
  lastHolder = 0;
  #id = -1;
  #last = new FoundMessages();

  /** The custody that the cursor is at is live, with what has been amended. */
  add(
    segment: Segment,
    cursor: MessageCursor,
    amended: Pick<Restored, 'returnCount' | 'heldUntilMs'> | undefined,
  ): void {
    const { holder, slot, position, priority, expiresAtMs } = cursor;
    const heldUntilMs = (amended ?? cursor).heldUntilMs;
    if (holder !== this.#id) this.#last = this.#of(holder);
    const found = this.#last;
    found.count++;
    if (position > found.lastPosition) found.lastPosition = position;
    const builders = heldUntilMs > 0 ? found.held : found.ready;
    let builder = builders.get(priority);
    if (builder === undefined) {
      builder = new PageBuilder();
      builders.set(priority, builder);
    }
    builder.add(segment, slot, position, cursor.bodyBytes, expiresAtMs);
  }

  #of(id: number): FoundMessages {
    this.#id = id;
    if (id > this.lastHolder) this.lastHolder = id;
    let found = this.byHolder.get(id);
    if (found === undefined) {
      found = new FoundMessages();
      this.byHolder.set(id, found);
    }
    return found;
  }
}
