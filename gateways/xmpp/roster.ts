/**
 * The contacts of one user of the client port, with their states of subscription [RFC 6121 §2, appendix A]. Kept among
 * the broker's settings (global parameters), so that they are exported, imported and stored like those.
 */
import type { Administration } from '../../broker/administration/administration.ts';
import type { Log } from '../log.ts';
import { type Element, element } from './element.ts';
import { ROSTER } from './namespaces.ts';

export interface RosterItem {
  /** A bare address; of an exchange, with a binding key as its resource. */
  readonly jid: string;
  readonly name?: string;
  readonly groups: readonly string[];
  /** The user gets the contact's presence. */
  readonly to: boolean;
  /** The contact gets the user's presence. */
  readonly from: boolean;
  /** The user has asked for the contact's presence and has no answer yet. */
  readonly asking: boolean;
  /** The contact has asked for the user's presence and has no answer yet. Such an item alone is not shown. */
  readonly asked: boolean;
  /** The user has put it there, or has asked; not only been asked. */
  readonly listed: boolean;
}

/** Of one user; a larger one takes no more. */
export const ROSTER_ITEMS_MAX = 5000;

const PARAMETER_PREFIX = 'xmpp-roster:';

export class Roster {
  readonly #items: Map<string, RosterItem>;
  readonly #save: (roster: Roster) => void;
  #version: number;

  constructor(version: number, items: Iterable<RosterItem>, save: (roster: Roster) => void) {
    this.#version = version;
    this.#items = new Map([...items].map((item) => [item.jid, item]));
    this.#save = save;
  }

  /** Goes up with every change. */
  get version(): number {
    return this.#version;
  }

  get items(): readonly RosterItem[] {
    return [...this.#items.values()];
  }

  get full(): boolean {
    return this.#items.size >= ROSTER_ITEMS_MAX;
  }

  get(jid: string): RosterItem {
    return (
      this.#items.get(jid) ?? { jid, groups: [], to: false, from: false, asking: false, asked: false, listed: false }
    );
  }

  has(jid: string): boolean {
    return this.#items.has(jid);
  }

  /** Alters an item, or makes it; one that says nothing any more goes. Answers the new one. */
  alter(jid: string, change: Partial<RosterItem>): RosterItem {
    const item = { ...this.get(jid), ...change };
    if (item.listed || item.to || item.from || item.asking || item.asked) this.#items.set(jid, item);
    else this.#items.delete(jid);
    this.#changed();
    return item;
  }

  remove(jid: string): void {
    if (this.#items.delete(jid)) this.#changed();
  }

  #changed(): void {
    this.#version += 1;
    this.#save(this);
  }
}

/** An item as it is shown; a removed one when `removed`. */
export function itemElement(item: RosterItem, removed = false): Element {
  const subscription = removed ? 'remove' : item.to ? (item.from ? 'both' : 'to') : item.from ? 'from' : 'none';
  const ask = item.asking && !removed ? 'subscribe' : undefined;
  const groups = removed ? [] : item.groups.map((group) => element('group', ROSTER, {}, group));
  return element(
    'item',
    ROSTER,
    { jid: item.jid, name: removed ? undefined : item.name || undefined, subscription, ask },
    ...groups,
  );
}

/** The rosters of all users, in the broker's settings. */
export class RosterStore {
  readonly #administration: Administration;
  readonly #stored = new Map<string, { readonly version: number; readonly items: readonly RosterItem[] }>();
  readonly #changed = new Map<string, Roster>();
  /** The one that was opened last for each user: what becomes of others is not kept. */
  readonly #live = new Map<string, Roster>();
  readonly #log: Log;
  #saving: Promise<void> = Promise.resolve();

  constructor(administration: Administration, log: Log) {
    this.#administration = administration;
    this.#log = log;
  }

  /** Reads all of them. */
  async load(): Promise<void> {
    const { global_parameters: parameters } = await this.#administration.exportDefinitions();
    for (const { name, value } of Array.isArray(parameters) ? parameters : []) {
      if (typeof name !== 'string' || !name.startsWith(PARAMETER_PREFIX)) continue;
      this.#stored.set(name.slice(PARAMETER_PREFIX.length), readStored(value));
    }
  }

  /** The roster of a user; the same one every time is up to the caller. */
  open(username: string): Roster {
    // A version that a client has kept of an earlier user of that name is none of this one.
    const { version, items } = this.#stored.get(username) ?? { version: Date.now(), items: [] };
    const opened = new Roster(version, items, (roster) => this.#save(username, roster));
    this.#live.set(username, opened);
    return opened;
  }

  /** The user is deleted: so is his roster. Answers what was in it. */
  forget(username: string): readonly RosterItem[] {
    const { items } = this.#stored.get(username) ?? { items: [] };
    this.#live.delete(username);
    this.#changed.delete(username);
    if (this.#stored.delete(username)) this.#saving = this.#saving.then(() => this.#clear(username));
    return items;
  }

  async #clear(username: string): Promise<void> {
    try {
      await this.#administration.clearGlobalParameter(`${PARAMETER_PREFIX}${username}`);
    } catch (error) {
      this.#log.error({ err: error, user: username }, 'XMPP: the contact list of a deleted user is still there');
    }
  }

  #save(username: string, roster: Roster): void {
    if (this.#live.get(username) !== roster) return;
    this.#stored.set(username, { version: roster.version, items: roster.items });
    const isFirst = this.#changed.size === 0;
    this.#changed.set(username, roster);
    // What changes before the write begins goes along with it.
    if (isFirst) this.#saving = this.#saving.then(() => this.#write());
  }

  async #write(): Promise<void> {
    const changed = [...this.#changed];
    this.#changed.clear();
    try {
      await this.#administration.importDefinitions({
        global_parameters: changed.map(([username, { version, items }]) => ({
          name: `${PARAMETER_PREFIX}${username}`,
          value: { version, items },
        })),
      });
    } catch (error) {
      // It goes on as it is in memory; the next change of the same roster writes all of it.
      this.#log.error({ err: error, users: changed.map(([username]) => username) }, 'XMPP: contact lists not kept');
    }
  }

  /** Resolves when what has changed is in the settings, or could not be put there. */
  flush(): Promise<void> {
    return this.#saving;
  }
}

/** Somebody may have edited the definitions by hand: what makes no sense is left out. */
function readStored(value: unknown): { version: number; items: RosterItem[] } {
  const { version, items } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const entries = (Array.isArray(items) ? items : []) as Partial<Record<keyof RosterItem, unknown>>[];
  return {
    version: typeof version === 'number' && Number.isSafeInteger(version) ? version : 0,
    items: entries.flatMap((entry): RosterItem[] => {
      if (typeof entry?.jid !== 'string') return [];
      const { jid, name, groups, to, from, asking, asked, listed } = entry;
      const texts = (Array.isArray(groups) ? groups : []).filter((group) => typeof group === 'string');
      const flags = { to: to === true, from: from === true, asking: asking === true, asked: asked === true };
      return [{ jid, ...(typeof name === 'string' && { name }), groups: texts, ...flags, listed: listed !== false }];
    }),
  };
}
