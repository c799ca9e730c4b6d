/**
 * What has come for one person, the latest first. What was shown is remembered by the browser, so that it is there after a
 * reload; it is taken from the queue only when it is remembered. Windows of the same person tell one another.
 */
import { avatar, byId, make, memory, nameOf } from './dom.js';
import { newId } from './session.js';

/** Posts that are shown and remembered. */
export const SHOWN_MAX = 200;
/** Items that are known when they come once more. */
const KNOWN_MAX = 10_000;
/** Characters of one post that are shown; ours are shorter. */
const TEXT_MAX = 2000;
const GATHER_MS = 30;

function historyOf(name) {
  return `history.${name}`;
}

/** What one person was shown is forgotten by this browser. */
export function forgetHistory(name) {
  memory.write('localStorage', historyOf(name), null);
}

export class Timeline {
  #key;
  #me;
  #list = byId('posts');
  #items = [];
  /** Of those that are shown, by id. */
  #elements = new Map();
  #known = new Set();
  #gathered = [];
  #timer;
  #others;
  #onFollow;
  #unseen = 0;

  constructor(me, onFollow) {
    this.#me = me;
    this.#key = historyOf(me);
    this.#onFollow = onFollow;
    this.#list.replaceChildren();
    this.#add(memory.read('localStorage', this.#key) ?? [], false);
    this.#others = new BroadcastChannel(`toy-twitter.${me}`);
    this.#others.onmessage = ({ data }) => this.#add(data, true);
    document.addEventListener('visibilitychange', this.#onSeen);
    this.#onSeen();
  }

  close() {
    this.#others.close();
    clearTimeout(this.#timer);
    document.removeEventListener('visibilitychange', this.#onSeen);
  }

  #onSeen = () => {
    if (document.hidden) return;
    this.#unseen = 0;
    document.title = `Toy Twitter: ${this.#me}`;
  };

  /** Something that was said to us, as session.js reads it; `taken` is called when it is remembered. */
  take({ author, deed, whom, at, id, text }, taken = () => {}) {
    const isPost = author === undefined || deed === 'say';
    const isNotice = (deed === 'follow' || deed === 'unfollow') && whom === this.#me && author !== this.#me;
    const kind = isPost ? 'post' : isNotice ? deed : undefined;
    const characters = [...text];
    const shown = characters.length > TEXT_MAX ? `${characters.slice(0, TEXT_MAX).join('')}…` : text;
    const item = kind && { kind, author: author ?? '', at, id: id || newId(), text: isPost ? shown : '' };
    this.#gathered.push({ item, taken });
    // A flood is shown, remembered and taken in armfuls.
    this.#timer ??= setTimeout(() => this.#flush(), GATHER_MS);
  }

  #flush() {
    this.#timer = undefined;
    const gathered = this.#gathered;
    this.#gathered = [];
    const items = gathered.flatMap(({ item }) => item ?? []);
    const added = this.#add(items, true);
    memory.write('localStorage', this.#key, this.#items);
    for (const { taken } of gathered) taken();
    if (added.length > 0) this.#others.postMessage(added.slice(-SHOWN_MAX));
  }

  /** Items, oldest first; answers those that were not there yet. */
  #add(items, isNew) {
    const added = items.filter(({ id }) => !this.#known.has(id) && this.#known.add(id));
    for (const id of this.#known) {
      if (this.#known.size <= KNOWN_MAX) break;
      this.#known.delete(id);
    }
    this.#items = withoutOldNotices([...this.#items, ...added]).slice(-SHOWN_MAX);
    const ids = new Set(this.#items.map(({ id }) => id));
    for (const [id, element] of this.#elements) {
      if (ids.has(id)) continue;
      element.remove();
      this.#elements.delete(id);
    }
    for (const item of this.#items) {
      if (this.#elements.has(item.id)) continue;
      const element = this.#element(item, isNew);
      this.#elements.set(item.id, element);
      this.#list.prepend(element);
    }
    byId('empty').hidden = this.#items.length > 0;
    const fromOthers = added.filter(({ author }) => author !== this.#me).length;
    if (isNew && document.hidden && fromOthers > 0) {
      this.#unseen += fromOthers;
      document.title = `(${this.#unseen}) Toy Twitter: ${this.#me}`;
    }
    return added;
  }

  #element(item, isNew) {
    return item.kind === 'post' ? this.#post(item, isNew) : this.#notice(item);
  }

  #post({ author, at, text }, isNew) {
    const own = author === this.#me;
    const isActing = author !== '' && /^\/me\b/.test(text);
    const said = isActing ? `${author}${text.slice('/me'.length)}` : text;
    const time = make(
      'time',
      { datetime: new Date(at).toISOString(), title: new Date(at).toLocaleString() },
      clock(at),
    );
    const names = ['post', own && 'own', isActing && 'acting', isNew && 'new'].filter(Boolean).join(' ');
    return make(
      'li',
      { class: names },
      avatar(author || '?'),
      make('header', {}, author === '' ? make('span', { class: 'name' }, 'an exchange') : nameOf(author), time),
      make('p', { dir: 'auto' }, said),
    );
  }

  #notice({ kind, author }) {
    const words = kind === 'follow' ? ' decided to follow you.' : ' decided to stop following you.';
    const back =
      kind === 'follow' && make('button', { type: 'button', click: () => this.#onFollow(author) }, 'Follow back');
    return make('li', { class: 'notice' }, make('span', {}, nameOf(author), words), back || undefined);
  }
}

/** Of somebody who follows, and does not, and does, the last word is enough: notices push no posts away. */
function withoutOldNotices(items) {
  const last = new Map(items.flatMap((item) => (item.kind === 'post' ? [] : [[item.author, item]])));
  return items.filter((item) => item.kind === 'post' || last.get(item.author) === item);
}

function clock(at) {
  const date = new Date(at);
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  return isToday ? time : `${date.toLocaleDateString([], { month: 'short', day: 'numeric' })}, ${time}`;
}
