/**
 * Who is here and who follows whom, as far as the deeds that were applied say. Deeds are applied in the order in which they
 * were done; to apply a tail of them once more changes nothing, so that whoever listens may begin before he has read what
 * was before.
 */
import type { Deed } from './posts.ts';

/** Whom one person can follow. */
export const FOLLOWING_MAX = 1000;

/** A graph as plain data. */
export interface GraphRecord {
  readonly people: readonly string[];
  /** Follower and followee. */
  readonly follows: readonly (readonly [string, string])[];
  /** Those who were here once. */
  readonly left: readonly string[];
  /** Who has added which bot. */
  readonly contacts: readonly (readonly [string, string])[];
}

export class Graph {
  /** Each of the people and whom they follow. */
  readonly #following = new Map<string, Set<string>>();
  readonly #left = new Set<string>();
  readonly #contacts = new Map<string, string>();

  static from(record: GraphRecord): Graph {
    const graph = new Graph();
    for (const who of record.people) graph.#following.set(who, new Set());
    for (const [who, whom] of record.follows) graph.#following.get(who)?.add(whom);
    for (const who of record.left) graph.#left.add(who);
    for (const [who, bot] of record.contacts) graph.#contacts.set(who, bot);
    return graph;
  }

  apply({ deed, who, whom = '', bot = '' }: Deed): void {
    switch (deed) {
      case 'join':
        this.#join(who);
        break;
      case 'leave':
        if (this.#following.delete(who)) this.#left.add(who);
        for (const others of this.#following.values()) others.delete(who);
        this.#contacts.delete(who);
        break;
      case 'follow':
        this.#follow(this.#join(who), whom);
        break;
      case 'unfollow':
        this.#following.get(who)?.delete(whom);
        break;
      case 'contact':
        this.#contacts.set(who, bot);
    }
  }

  #join(who: string): Set<string> {
    this.#left.delete(who);
    const following = this.#following.get(who) ?? new Set();
    this.#following.set(who, following);
    return following;
  }

  #follow(following: Set<string>, whom: string): void {
    if (following.size < FOLLOWING_MAX) following.add(whom);
  }

  /** Does somebody follow as many as he can? */
  isFull(who: string): boolean {
    return (this.#following.get(who)?.size ?? 0) >= FOLLOWING_MAX;
  }

  get people(): readonly string[] {
    return [...this.#following.keys()].sort();
  }

  has(name: string): boolean {
    return this.#following.has(name);
  }

  /** Was here, and is not any more. */
  hasLeft(name: string): boolean {
    return this.#left.has(name);
  }

  follows(who: string, whom: string): boolean {
    return this.#following.get(who)?.has(whom) ?? false;
  }

  /** Whom somebody follows, himself left out, and whoever is not here. */
  following(who: string): readonly string[] {
    return [...(this.#following.get(who) ?? [])].filter((whom) => whom !== who && this.has(whom)).sort();
  }

  /** Who follows somebody, himself left out. */
  followers(whom: string): readonly string[] {
    const found = [...this.#following].filter(([who, following]) => who !== whom && following.has(whom));
    return found.map(([who]) => who).sort();
  }

  /** Those who have added that bot. */
  contactsOf(bot: string): readonly string[] {
    return [...this.#contacts].filter(([, one]) => one === bot).map(([who]) => who);
  }

  isContact(who: string): boolean {
    return this.#contacts.has(who);
  }

  /** The same graph gives the same record. */
  get record(): GraphRecord {
    return {
      people: this.people,
      follows: this.people.flatMap((who) =>
        [...(this.#following.get(who) ?? [])].sort().map((whom) => [who, whom] as const),
      ),
      left: [...this.#left].sort(),
      contacts: [...this.#contacts].sort(([one], [other]) => (one < other ? -1 : 1)),
    };
  }

  /** How many deeds would say the same. */
  get size(): number {
    let size = this.#left.size + this.#contacts.size;
    for (const following of this.#following.values()) size += 1 + following.size;
    return size;
  }
}
