/** The page: who one is, what one says, and the parts of the place put together. */
import { avatar, byId, make, memory, nameOf, toast } from './dom.js';
import { GraphDrawing } from './graph.js';
import { Graph, People } from './people.js';
import { newId, Problem, Session, signIn } from './session.js';
import { forgetHistory, Timeline } from './timeline.js';

/** As the server has it; longer is said to be so before it is sent. */
const POST_CHARS_MAX = 500;
/** Posts in a row; then one more every second. */
const POSTS_AT_ONCE = 10;
const POST_EVERY_MS = 1000;
const ECHO_AFTER_MS = 1000;

// ---- light and dark

const darkByDefault = matchMedia('(prefers-color-scheme: dark)');
let theme = memory.read('localStorage', 'theme');

function showTheme() {
  document.documentElement.dataset.theme = theme ?? (darkByDefault.matches ? 'dark' : 'light');
}

darkByDefault.addEventListener('change', showTheme);
byId('theme').addEventListener('click', () => {
  theme = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  memory.write('localStorage', 'theme', theme);
  showTheme();
});
showTheme();

// ---- coming in

/**
 * Names that were used in this browser, with their passcodes; read each time, since other windows add to them. Which of them
 * this window is, the window itself knows.
 */
function readKnown() {
  return new Map(memory.read('localStorage', 'passcodes') ?? []);
}

function writeKnown(known) {
  memory.write('localStorage', 'passcodes', [...known]);
}

function showKnown() {
  const known = [...readKnown()].slice(-5);
  byId('known').hidden = known.length === 0;
  byId('known').replaceChildren(
    ...known.flatMap(([name, passcode]) => [
      make(
        'button',
        { type: 'button', click: () => void comeIn(name, passcode) },
        avatar(name),
        make('span', {}, 'Continue as ', nameOf(name)),
      ),
      make(
        'button',
        { type: 'button', class: 'plain', 'aria-label': `Forget ${name}`, click: () => forget(name) },
        '✕',
      ),
    ]),
  );
}

function forget(name) {
  if (!confirm(`Forget ${name} in this browser? Whoever has not written down the passcode cannot be ${name} again.`))
    return;
  const known = readKnown();
  known.delete(name);
  writeKnown(known);
  forgetHistory(name);
  showKnown();
  byId('name').focus();
}

async function comeIn(name, passcode) {
  byId('sign-in-problem').textContent = '';
  // Once at a time, however slow the network is.
  byId('sign-in').inert = true;
  try {
    const account = await signIn(name, passcode);
    writeKnown(readKnown().set(account.name, account.passcode));
    memory.write('sessionStorage', 'account', account);
    open(account);
  } catch (error) {
    byId('passcode-row').hidden = error.reason !== 'taken';
    const message = error instanceof Problem ? error.message : 'Nobody answers. Is the server running?';
    byId('sign-in-problem').textContent = message;
    byId('sign-in').inert = false;
    (error.reason === 'taken' ? byId('passcode') : byId('name')).focus();
  }
}

byId('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  const name = byId('name').value.trim();
  const typed = byId('passcode').value.trim();
  void comeIn(name, typed || readKnown().get(name.toLowerCase()));
});

function showWelcome(problem = '') {
  memory.write('sessionStorage', 'account', null);
  byId('place').hidden = true;
  byId('welcome').hidden = false;
  byId('sign-in').inert = false;
  byId('sign-in-problem').textContent = problem;
  document.title = 'Toy Twitter';
  showKnown();
  byId('name').focus();
}

// ---- the place

let place;

function open(account) {
  byId('welcome').hidden = true;
  byId('place').hidden = false;
  byId('me').replaceChildren(avatar(account.name), nameOf(account.name));
  place = new Place(account);
  byId('say').focus({ preventScroll: true });
}

class Place {
  #account;
  #graph = new Graph();
  #timeline;
  #drawing;
  #session;
  #allowance = { left: POSTS_AT_ONCE, at: performance.now() };
  /** What was not sent for sure: when it is sent again, it is the same post. */
  #draft;

  constructor(account) {
    this.#account = account;
    this.#timeline = new Timeline(account.name, (name) => this.follow(name));
    this.#drawing = new GraphDrawing(this.#graph, account.name);
    new People(this.#graph, account.name, (name, wanted) => (wanted ? this.follow(name) : this.unfollow(name)));
    this.#session = new Session(account, {
      onState: (state) => this.#showState(state),
      onInbox: (frame, taken) => this.#timeline.take(frame, taken),
      onDeed: (frame) => {
        this.#graph.apply(frame);
        if (frame.deed === 'say') this.#drawing.pulse(frame.author);
        this.#echo(frame);
      },
      onReady: (graph, joined) => {
        this.#graph.load(graph);
        if (joined === 'back')
          toast('You had given up this name, over another door. Here it is again; whom you followed is forgotten.');
      },
      onRefused: ({ message }) => this.close(message),
    });
    this.#session.start();
    this.showAccount();
  }

  close(problem) {
    void this.#session.stop();
    this.#timeline.close();
    this.#drawing.close();
    place = undefined;
    showWelcome(problem);
  }

  #showState(state) {
    byId('link').dataset.state = state;
    byId('link').textContent = state === 'live' ? 'live' : 'connecting…';
  }

  showAccount() {
    const { name, passcode, address, bot, xmppPort } = this.#account;
    byId('account-title').textContent = name;
    const facts = {
      passcode,
      'on XMPP': address,
      'at port': String(xmppPort),
      'to chat with': bot,
      exchange: `twitter.user.${name}`,
      inbox: `twitter.inbox.${name}`,
    };
    byId('account-facts').replaceChildren(
      ...Object.entries(facts).flatMap(([term, fact]) => [make('dt', {}, term), make('dd', {}, fact ?? '')]),
    );
  }

  async post(text) {
    const said = text.replace(/\r\n?/g, '\n').trim();
    const { length } = [...said];
    if (length === 0) throw new Problem('There is nothing in that to say.');
    if (length > POST_CHARS_MAX)
      throw new Problem(`That is ${length} characters long, and ${POST_CHARS_MAX} is the most.`);
    this.#requireAllowance();
    if (this.#draft?.text !== said) this.#draft = { text: said, id: newId() };
    const { id } = this.#draft;
    await this.#session.post(said, id);
    this.#draft = undefined;
    this.#timeline.take({ author: this.#account.name, deed: 'say', whom: '', at: Date.now(), id, text: said });
  }

  /**
   * The inbox is one queue, and what is in it goes to one reader; this one hears what another device has got, or said, where
   * everybody's posts pass. A little later, so that what comes from the inbox comes first, and in its order.
   */
  #echo(frame) {
    const { author, deed, whom, id } = frame;
    const { name } = this.#account;
    const isForUs = author === name || (deed === 'say' ? this.#graph.follows(name, author) : whom === name);
    if (id && isForUs) setTimeout(() => place === this && this.#timeline.take(frame), ECHO_AFTER_MS);
  }

  #requireAllowance() {
    const now = performance.now();
    const left = Math.min(POSTS_AT_ONCE, this.#allowance.left + (now - this.#allowance.at) / POST_EVERY_MS);
    this.#allowance = { left: left >= 1 ? left - 1 : left, at: now };
    if (left < 1) throw new Problem('Not so fast, please. Take a breath, and post again.');
  }

  follow(text) {
    return attempt(async () => {
      const name = this.#read(text);
      if (name === this.#account.name) throw new Problem('That is you. What you say is here already.');
      if (this.#graph.follows(this.#account.name, name)) throw new Problem(`You are following ${name} already.`);
      await this.#session.follow(name);
      toast(`You are now following ${name}.`);
    });
  }

  unfollow(name) {
    return attempt(async () => {
      await this.#session.unfollow(name);
      toast(`You are no longer following ${name}.`);
    });
  }

  /** `@Anna` and `anna@localhost` are anna, where localhost is where we are at home. */
  #read(text) {
    const plain = text
      .trim()
      .normalize('NFKC')
      .toLowerCase()
      .replace(/^xmpp:/, '')
      .replace(/^@/, '');
    const [, home] = this.#account.address.split('@');
    const name = plain.endsWith(`@${home}`) ? plain.slice(0, -home.length - 1) : plain;
    if (name === '') throw new Problem('Whom do you want to follow? Write a name.');
    if (/[\s\p{C}]/u.test(name) || name.length > 100)
      throw new Problem('That cannot be a name: it has spaces in it, or is too long.');
    return name;
  }
}

/** Does something, and says politely why it could not be done. True when it was. */
async function attempt(act, say = toast) {
  try {
    await act();
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) console.error(error);
    say(error instanceof Problem ? error.message : 'That did not work. Please try again.');
    return false;
  }
}

// ---- the composer

const say = byId('say');

function showLength() {
  const left = POST_CHARS_MAX - [...say.value.trim()].length;
  byId('left').textContent = left < POST_CHARS_MAX / 5 || left < 0 ? `${left} left` : '';
  byId('left').dataset.over = String(left < 0);
  say.style.height = 'auto';
  say.style.height = `${say.scrollHeight + 2}px`;
}

say.addEventListener('input', () => {
  byId('problem').textContent = '';
  showLength();
});
say.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) byId('composer').requestSubmit();
});
byId('composer').addEventListener('submit', async (event) => {
  event.preventDefault();
  if (byId('post').disabled) return;
  byId('post').disabled = true;
  byId('problem').textContent = '';
  const text = say.value;
  // There is room for the next one at once; what could not be sent comes back.
  say.value = '';
  const done = await attempt(
    () => place?.post(text),
    (problem) => {
      byId('problem').textContent = problem;
    },
  );
  byId('post').disabled = false;
  if (!done) say.value = text + say.value;
  showLength();
  say.focus();
});

// ---- people, account, tabs

byId('find').addEventListener('submit', async (event) => {
  event.preventDefault();
  const field = byId('find-text');
  if (await place?.follow(field.value)) {
    field.value = '';
    field.dispatchEvent(new Event('input'));
  }
});

byId('me').addEventListener('click', () => byId('account').showModal());
byId('sign-out').addEventListener('click', () => {
  byId('account').close();
  place?.close();
});

function showTab(tab) {
  byId('place').dataset.tab = tab;
  for (const button of document.querySelectorAll('[data-tab]')) {
    if (button.dataset.tab === tab) button.setAttribute('aria-current', 'page');
    else button.removeAttribute('aria-current');
  }
}

for (const button of document.querySelectorAll('.tabs button')) {
  button.addEventListener('click', () => showTab(button.dataset.tab));
}
showTab('timeline');

const account = memory.read('sessionStorage', 'account');
if (account === null) showWelcome();
else open(account);
