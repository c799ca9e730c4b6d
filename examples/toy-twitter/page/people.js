/** Who is here and who follows whom, kept up to date by what is heard; and the list of people with its buttons. */
import { avatar, byId, make, nameOf } from './dom.js';

/** People that are listed; whoever is not among them is found by his name. */
const LISTED_MAX = 100;

export class Graph {
  /** Of each of the people: whom they follow, and who follows them; nobody himself. */
  #people = new Map();
  #listeners = new Set();
  #queued = false;

  /** Begins anew with what the server says. */
  load({ people, follows }) {
    this.#people.clear();
    for (const name of people) this.#join(name);
    for (const [who, whom] of follows) this.#follow(who, whom);
    this.#changed();
  }

  /** Something that somebody has done, as session.js reads it. */
  apply({ author, deed, whom }) {
    if (author === undefined) return;
    if (deed === 'join') this.#join(author);
    else if (deed === 'leave') this.#leave(author);
    else if (deed === 'follow') this.#follow(author, whom);
    else if (deed === 'unfollow') this.#unfollow(author, whom);
    else return;
    this.#changed();
  }

  #join(name) {
    if (!this.#people.has(name)) this.#people.set(name, { following: new Set(), followers: new Set() });
  }

  #leave(name) {
    for (const whom of this.following(name)) this.#unfollow(name, whom);
    for (const who of this.followers(name)) this.#unfollow(who, name);
    this.#people.delete(name);
  }

  #follow(who, whom) {
    if (who === whom || !this.has(who) || !this.has(whom)) return;
    this.#people.get(who).following.add(whom);
    this.#people.get(whom).followers.add(who);
  }

  #unfollow(who, whom) {
    this.#people.get(who)?.following.delete(whom);
    this.#people.get(whom)?.followers.delete(who);
  }

  listen(listener) {
    this.#listeners.add(listener);
  }

  /** Many changes at once are shown once. */
  #changed() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      for (const listener of this.#listeners) listener();
    });
  }

  get people() {
    return [...this.#people.keys()].sort();
  }

  has(name) {
    return this.#people.has(name);
  }

  follows(who, whom) {
    return this.#people.get(who)?.following.has(whom) ?? false;
  }

  following(who) {
    return [...(this.#people.get(who)?.following ?? [])];
  }

  followers(whom) {
    return [...(this.#people.get(whom)?.followers ?? [])];
  }

  /** How many follow somebody. */
  followersCount(whom) {
    return this.#people.get(whom)?.followers.size ?? 0;
  }

  /** How many follow somebody, and whom he follows. */
  degree(name) {
    return this.followersCount(name) + (this.#people.get(name)?.following.size ?? 0);
  }

  get followsCount() {
    return [...this.#people.values()].reduce((count, { following }) => count + following.size, 0);
  }
}

export class People {
  #graph;
  #me;
  #list = byId('people');
  #find = byId('find-text');
  #onToggle;
  /** By name. A row stays while its name is listed, so that nothing moves away under a finger or a focus. */
  #rows = new Map();

  constructor(graph, me, onToggle) {
    this.#graph = graph;
    this.#me = me;
    this.#onToggle = onToggle;
    this.#list.replaceChildren();
    graph.listen(() => this.#render());
    this.#find.oninput = () => this.#render();
  }

  #render() {
    const wanted = this.#find.value.trim().replace(/^@/, '').toLowerCase();
    const names = this.#graph.people.filter((name) => name !== this.#me && name.includes(wanted));
    const listed = names.slice(0, LISTED_MAX);
    this.#rows = new Map(listed.map((name) => [name, this.#rows.get(name) ?? this.#newRow(name)]));
    for (const [name, row] of this.#rows) this.#fill(row, name);
    const items = [...this.#rows.values()];
    if (names.length > LISTED_MAX) items.push(make('li', { class: 'fine' }, `and ${names.length - LISTED_MAX} more`));
    if (names.length === 0) {
      const text = wanted === '' ? 'Nobody else is here yet. Open a second window.' : 'Nobody of that name is here.';
      items.push(make('li', { class: 'empty' }, text));
    }
    const kept = new Set(items);
    for (const child of [...this.#list.children]) if (!kept.has(child)) child.remove();
    items.forEach((item, index) => {
      const there = this.#list.children[index];
      if (there !== item) this.#list.insertBefore(item, there ?? null);
    });
  }

  #newRow(name) {
    const toggle = () => this.#onToggle(name, !this.#graph.follows(this.#me, name));
    return make(
      'li',
      { class: 'person' },
      avatar(name),
      make('span', {}, nameOf(name), make('small')),
      make('button', { type: 'button', click: toggle }),
    );
  }

  #fill(row, name) {
    const count = this.#graph.followersCount(name);
    const facts = [`${count} ${count === 1 ? 'follower' : 'followers'}`];
    if (this.#graph.follows(name, this.#me)) facts.unshift('follows you');
    row.querySelector('small').textContent = facts.join(' · ');
    const follows = this.#graph.follows(this.#me, name);
    const button = row.querySelector('button');
    button.textContent = follows ? 'Following' : 'Follow';
    button.setAttribute('aria-pressed', String(follows));
    button.setAttribute('aria-label', `${button.textContent} ${name}`);
  }
}
