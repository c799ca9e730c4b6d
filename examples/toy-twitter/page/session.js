/**
 * One person's connection to the broker: STOMP over a WebSocket, with the rights of that person and no others. To follow is
 * to bind the own inbox to somebody's exchange (Warren's extension of STOMP), to post is to send to the own exchange.
 */
/* global StompJs */

const INBOX = 'inbox';
const EVERYONE = 'everyone';
const AHEAD = '100';

/** A polite sentence, for the person. */
export class Problem extends Error {
  constructor(message, reason) {
    super(message);
    this.reason = reason;
  }
}

/** Asks for a name. Resolves with the account; rejects with Problem, and with TypeError when nobody answers. */
export async function signIn(name, passcode) {
  const response = await fetch('/toy-twitter/session', { method: 'POST', body: JSON.stringify({ name, passcode }) });
  const answer = await response.json();
  if (!response.ok) throw new Problem(answer.message, answer.reason);
  return answer;
}

/**
 * Of several readers of one inbox, the browser that came last gets what comes, and any browser comes before a chat client,
 * whose priority is at most 127. In milliseconds: two of the same priority would take turns.
 */
function readerPriority() {
  return String(Date.now());
}

/** A name or key as it stands in a destination: nothing in it means anything there. */
function part(text) {
  return [...new TextEncoder().encode(text)]
    .map((octet) =>
      /[\w.@+~-]/.test(String.fromCharCode(octet)) && octet < 128
        ? String.fromCharCode(octet)
        : `%${octet.toString(16).toUpperCase().padStart(2, '0')}`,
    )
    .join('');
}

/** A name as it stands in a routing key, where `*` and `#` would mean something. */
function keyPart(name) {
  return name.replace(/[%*#]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

function unkey(text) {
  return text.replace(/%(25|2A|23)/g, (_, code) => String.fromCharCode(Number.parseInt(code, 16)));
}

/** Unguessable is not needed, and `crypto.randomUUID` is for https only. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((octet) => octet.toString(16).padStart(2, '0')).join('');
}

/** Who sent a message, by the exchange that it came through, which is the broker's word; and what it is. */
export function readFrame({ headers, body }) {
  const [, exchange, key = ''] = /^\/exchange\/([^/]*)(?:\/(.*))?$/.exec(headers.destination) ?? [];
  const name = exchange === undefined ? undefined : decode(exchange);
  const author = name?.startsWith('twitter.user.') ? name.slice('twitter.user.'.length) : undefined;
  // Whatever a program says about its time: nothing is from tomorrow.
  const at = Math.min(Number(headers.timestamp) > 0 ? Number(headers.timestamp) * 1000 : Infinity, Date.now());
  const [deed, ...whom] = decode(key).split('.');
  return { author, deed, whom: unkey(whom.join('.')), at, id: headers['amqp-message-id'], text: body };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export class Session {
  #client;
  #account;
  #events;
  #receipts = new Map();
  #inbox;
  /** Is it for this window to read the inbox? And does it? */
  #isTurn = false;
  #isReading = false;
  #ending = new AbortController();

  /**
   * `events`: onState('live' | 'connecting'), onInbox(frame, ack), onDeed(read frame), onReady(graph, joined),
   * onRefused(problem).
   */
  constructor(account, events) {
    this.#account = account;
    this.#events = events;
    this.#inbox = `twitter.inbox.${account.name}`;
    const url = new URL('/ws', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    this.#client = new StompJs.Client({
      brokerURL: url.href,
      connectHeaders: {
        login: account.name,
        passcode: account.passcode,
        host: '/',
        'accept-extensions': 'warren.admin,warren.soft-error',
      },
      heartbeatIncoming: 10_000,
      heartbeatOutgoing: 10_000,
      reconnectDelay: 1000,
      maxReconnectDelay: 15_000,
      reconnectTimeMode: StompJs.ReconnectionTimeMode?.EXPONENTIAL ?? 1,
      beforeConnect: () => this.#renew(),
      onConnect: () => void this.#begin().catch((error) => this.#failed(error)),
      onWebSocketClose: () => this.#lost(),
    });
  }

  get live() {
    return this.#client.connected;
  }

  start() {
    this.#events.onState('connecting');
    this.#client.activate();
    this.#takeTurn();
  }

  async stop() {
    this.#ending.abort();
    await this.#client.deactivate();
  }

  /**
   * Of all windows of a browser one reads, in the order of the queue, and tells the others (timeline.js); when it is closed,
   * the next. The lock is for https and for localhost only: elsewhere the window that was opened last gets what comes.
   */
  #takeTurn() {
    const { signal } = this.#ending;
    const turn = () => {
      this.#isTurn = true;
      this.#read().catch((error) => this.#failed(error));
      return new Promise((resolve) => signal.addEventListener('abort', resolve));
    };
    if (navigator.locks === undefined) void turn();
    // A browser that keeps nothing may give no locks either.
    else navigator.locks.request(this.#inbox, { signal }, turn).catch(() => signal.aborted || turn());
  }

  /** The name may have been given up over another door, or the broker be a new one. */
  async #renew() {
    try {
      const { joined } = await signIn(this.#account.name, this.#account.passcode);
      this.joined = joined;
    } catch (error) {
      if (!(error instanceof Problem) || error.reason !== 'taken') return;
      this.#events.onRefused(error);
      await this.stop();
    }
  }

  async #begin() {
    // What happens from now on is heard; then what was before is asked for, and nothing falls in between.
    await Promise.all([
      this.#subscribe(
        EVERYONE,
        '/exchange/twitter.everyone/say',
        { 'x-bind': 'join,leave,follow.#,unfollow.#' },
        (frame) => this.#events.onDeed(readFrame(frame)),
      ),
      this.#read(),
    ]);
    const graph = await (await fetch('/toy-twitter/graph')).json();
    this.#events.onReady(graph, this.joined);
    this.#events.onState('live');
  }

  async #read() {
    if (!this.#isTurn || !this.live || this.#isReading) return;
    this.#isReading = true;
    await this.#subscribe(
      INBOX,
      `/amq/queue/${part(this.#inbox)}`,
      { ack: 'client-individual', 'prefetch-count': AHEAD, 'x-priority': readerPriority() },
      (frame) => this.#events.onInbox(readFrame(frame), () => this.live && frame.ack()),
    );
  }

  #subscribe(id, destination, headers, onFrame) {
    return this.#answered((receipt) => this.#client.subscribe(destination, onFrame, { id, receipt, ...headers }));
  }

  #failed(error) {
    console.warn('Toy Twitter:', error);
    this.#client.forceDisconnect?.();
  }

  #lost() {
    this.#isReading = false;
    this.#events.onState('connecting');
    const waiting = [...this.#receipts.values()];
    this.#receipts.clear();
    for (const { reject } of waiting)
      reject(new Problem('The connection was lost in the middle of that. It comes back by itself; then try again.'));
  }

  /** Sends something with a receipt, and waits for what the broker says to it. */
  #answered(act) {
    if (!this.live) return Promise.reject(new Problem('Not connected at the moment. What you wrote stays here.'));
    const receipt = newId();
    return new Promise((resolve, reject) => {
      this.#receipts.set(receipt, { resolve, reject });
      this.#client.watchForReceipt(receipt, ({ headers }) => {
        this.#receipts.delete(receipt);
        if (headers.status === 'error') reject(new Problem(headers.message, headers.code));
        else resolve(headers);
      });
      act(receipt);
    });
  }

  #send(destination, headers, body = '') {
    return this.#answered((receipt) => this.#client.publish({ destination, headers: { receipt, ...headers }, body }));
  }

  /** Publishes to the own exchange; resolves when the broker has it. */
  post(text, id) {
    return this.#say('say', text, { 'content-type': 'text/plain', 'amqp-message-id': id });
  }

  #say(key, body, headers) {
    const destination = `/exchange/${part(`twitter.user.${this.#account.name}`)}/${part(key)}`;
    const timestamp = String(Math.floor(Date.now() / 1000));
    return this.#send(destination, { persistent: 'true', timestamp, ...headers }, body);
  }

  /** One binding, and a word about it. Rejects with Problem. */
  async follow(name) {
    try {
      await this.#bind('declare', name);
    } catch (error) {
      if (error.reason === '404') throw new Problem(`There is nobody named ${name} here.`);
      throw error;
    }
    await this.#tell('follow', name);
  }

  async unfollow(name) {
    await this.#bind('delete', name);
    await this.#tell('unfollow', name);
  }

  #bind(verb, name) {
    return this.#send(`/warren/${verb}`, {
      kind: 'binding',
      source: `twitter.user.${name}`,
      target: this.#inbox,
      'routing-key': 'say',
    });
  }

  #tell(deed, whom) {
    const said = JSON.stringify({ deed, who: this.#account.name, whom });
    return this.#say(`${deed}.${keyPart(whom)}`, said, { 'content-type': 'application/json' });
  }
}
