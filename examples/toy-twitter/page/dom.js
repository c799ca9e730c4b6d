/** Small things to build a page with. Whatever people have written becomes text, never markup. */

/** The element with that id, which is in index.html. */
export function byId(id) {
  return document.getElementById(id);
}

/** Makes an element: attributes (functions are listeners), then children, strings among them as text. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** The colour of a name, the same everywhere: 0 to 359. */
export function hueOf(name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) % 3600;
  return hash % 360;
}

export function initialOf(name) {
  return [...name][0] ?? '?';
}

export function avatar(name) {
  const element = make('span', { class: 'avatar', 'aria-hidden': 'true' }, initialOf(name));
  element.style.setProperty('--hue', hueOf(name));
  return element;
}

/** `romeo` and, fainter, `@montague.net`. */
export function nameOf(name) {
  const [local, domain] = name.split('@');
  return make('bdi', { class: 'name' }, local, domain && make('span', { class: 'domain' }, `@${domain}`));
}

const TOAST_MS = 6000;

/** Says something that goes away by itself, or when there is something else to say. */
export function toast(text) {
  const element = make('div', { class: 'toast' }, text);
  byId('toasts').replaceChildren(element);
  setTimeout(() => element.remove(), TOAST_MS);
}

/** What the browser keeps for this page, in the store of that name; one that keeps nothing is no reason to fail. */
export const memory = {
  read(store, key) {
    try {
      return JSON.parse(window[store].getItem(`toy-twitter.${key}`));
    } catch {
      return null;
    }
  },
  write(store, key, value) {
    try {
      if (value === null) window[store].removeItem(`toy-twitter.${key}`);
      else window[store].setItem(`toy-twitter.${key}`, JSON.stringify(value));
    } catch {
      // Full, or forbidden.
    }
  },
};
