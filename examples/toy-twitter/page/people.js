/** Who is here and who follows whom, kept up to date by what is heard; and the list of people with its buttons. */
import { avatar, byId, make, nameOf } from './dom.js';

/** People that are listed; whoever is not among them is found by his name. */
const LISTED_MAX = 100;

export class Graph {
  #following = new Map();
  #listeners = new Set();

  /** Begins anew with what the server says. */
  load({ people, follows }) {
    this.#following = new Map(people.map((name) => [name, new Set()]));
    for (const [who, whom] of follows) this.#following.get(who)?.add(whom);
    this.#changed();
  }

  /** Something that somebody has done, as session.js reads it. */
  apply({ author, deed, whom }) {
    if (author === undefined) return;
    if (deed === 'leave') {
      this.#following.delete(author);
      for (const others of this.#following.values()) others.delete(author);
    } else if (deed === 'join' || deed === 'follow' || deed === 'unfollow') {
      const following = this.#following.get(author) ?? new Set();
      this.#following.set(author, following);
      if (deed === 'follow') following.add(whom);
      if (deed === 'unfollow') following.delete(whom);
    } else return;
    this.#changed();
  }

  listen(listener) {
    this.#listeners.add(listener);
  }

  #changed() {
    for (const listener of this.#listeners) listener();
  }

  get people() {
    return [...this.#following.keys()].sort();
  }

  has(name) {
    return this.#following.has(name);
  }

  follows(who, whom) {
    return this.#following.get(who)?.has(whom) ?? false;
  }

  following(who) {
    return [...(this.#following.get(who) ?? [])].filter((whom) => whom !== who && this.has(whom));
  }

  followers(whom) {
    return this.people.filter((who) => who !== whom && this.follows(who, whom));
  }

  get edges() {
    return this.people.flatMap((who) => this.following(who).map((whom) => [who, whom]));
  }
}

export class People {
  #graph;
  #me;
  #list = byId('people');
  #find = byId('find-text');
  #onToggle;
  #queued = false;

  constructor(graph, me, onToggle) {
    this.#graph = graph;
    this.#me = me;
    this.#onToggle = onToggle;
    graph.listen(() => this.#queue());
    this.#find.addEventListener('input', () => this.#queue());
    this.#list.replaceChildren();
  }

  /** Many changes at once are drawn once. */
  #queue() {
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => {
      this.#queued = false;
      this.#render();
    });
  }

  #render() {
    const wanted = this.#find.value.trim().replace(/^@/, '').toLowerCase();
    const names = this.#graph.people.filter((name) => name !== this.#me && name.includes(wanted));
    const focused = document.activeElement?.closest?.('.person')?.dataset.name;
    this.#list.replaceChildren(...names.slice(0, LISTED_MAX).map((name) => this.#row(name)));
    if (names.length > LISTED_MAX)
      this.#list.append(make('li', { class: 'fine' }, `and ${names.length - LISTED_MAX} more`));
    if (names.length === 0) {
      const text = wanted === '' ? 'Nobody else is here yet. Open a second window.' : 'Nobody of that name is here.';
      this.#list.append(make('li', { class: 'empty' }, text));
    }
    if (focused) this.#list.querySelector(`[data-name="${CSS.escape(focused)}"] button`)?.focus();
  }

  #row(name) {
    const follows = this.#graph.follows(this.#me, name);
    const count = this.#graph.followers(name).length;
    const facts = [`${count} ${count === 1 ? 'follower' : 'followers'}`];
    if (this.#graph.follows(name, this.#me)) facts.unshift('follows you');
    const button = make(
      'button',
      {
        type: 'button',
        'aria-pressed': String(follows),
        'aria-label': `${follows ? 'Unfollow' : 'Follow'} ${name}`,
        click: () => this.#onToggle(name, !follows),
      },
      follows ? 'Following' : 'Follow',
    );
    return make(
      'li',
      { class: 'person', 'data-name': name },
      avatar(name),
      make('span', {}, nameOf(name), make('small', {}, facts.join(' · '))),
      button,
    );
  }
}
