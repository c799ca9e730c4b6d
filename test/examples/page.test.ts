/** What the page needs of its server: signing in, and rights that end at one's own exchange and inbox. */
import { Client } from '@stomp/stompjs';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { Accounts, CONNECTIONS_EACH } from '../../examples/toy-twitter/accounts.ts';
import { REQUEST_BYTES_MAX, SIGN_INS_AT_ONCE } from '../../examples/toy-twitter/page-door.ts';
import { startServer } from '../../examples/toy-twitter/server.ts';
import { eventually } from '../support/eventually.ts';
import { FREE_PORTS, usePlace } from './toy-twitter-place.ts';

const place = usePlace();
const clients: Client[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.deactivate({ force: true })));
});

function at(path: string, init?: RequestInit, base = `http://127.0.0.1:${place.server.ports.http}`): Promise<Response> {
  return fetch(`${base}${path}`, init);
}

describe('signing in', () => {
  it('gives a free name to whoever comes first, and again to whoever has the passcode', async () => {
    const first = await place.signIn('Anna');
    expect(first).toMatchObject({ status: 200, body: { name: 'anna', joined: 'new', address: 'anna@localhost' } });
    expect(first.body.passcode).toMatch(/^[0-9a-z]{4}(-[0-9a-z]{4}){3}$/);
    expect(first.body).toMatchObject({ bot: 'rabbiter@broker.localhost', xmppPort: place.server.ports.xmpp });
    const again = await place.signIn('@anna', first.body.passcode);
    expect(again).toMatchObject({ status: 200, body: { passcode: first.body.passcode, joined: 'already' } });
    expect(await place.signIn('anna')).toMatchObject({
      status: 409,
      body: { reason: 'taken', message: expect.stringMatching(/^Somebody is anna already/) },
    });
    expect(await place.signIn('anna', 'guessed')).toMatchObject({ status: 409 });
  });

  it('gives a name to one of many who want it at the same time', async () => {
    const answers = await Promise.all(Array.from({ length: 5 }, () => place.signIn('wanted')));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409, 409]);
  });

  it('knows the users of the broker, and gives nobody their names', async () => {
    for (const name of ['guest', 'toy-twitter']) expect(await place.signIn(name)).toMatchObject({ status: 409 });
  });

  it('lets a passcode be brought along that is long enough, for when the broker has forgotten', async () => {
    const passcode = 'abcd-efgh-jkmn-pqrs';
    expect(await place.signIn('old-timer', passcode)).toMatchObject({ status: 200, body: { passcode } });
    const short = await place.signIn('short-timer', 'abc');
    expect(short.body.passcode).not.toBe('abc');
  });

  it.each([
    ['', 400],
    ['A B', 400],
    ['<script>alert(1)</script>', 400],
    ['romeo@montague.net', 400],
    ['x'.repeat(31), 400],
    ['x'.repeat(REQUEST_BYTES_MAX), 413],
    [undefined, 400],
    [42, 400],
    [{ toString: 'x' }, 400],
    [['anna'], 400],
  ])('with %j is refused with a sentence', async (name, status) => {
    const answer = await place.signIn(name);
    expect(answer.status).toBe(status);
    expect(answer.body.message).toMatch(/^[A-Z“].*[.?]$/);
  });

  it('wants JSON, by POST, from this page', async () => {
    const path = '/toy-twitter/session';
    expect((await at(path)).status).toBe(405);
    for (const body of ['', 'x', '"anna"', 'null', '[]']) {
      expect((await at(path, { method: 'POST', body })).status).toBe(400);
    }
    for (const origin of ['https://elsewhere.example', 'null', 'nonsense']) {
      expect(await place.signIn('eva', undefined, { origin })).toMatchObject({ status: 403 });
    }
    const origin = `http://127.0.0.1:${place.server.ports.http}`;
    expect(await place.signIn('eva', undefined, { origin })).toMatchObject({ status: 200 });
  });

  it('ends where the place is full', async () => {
    const { broker, twitter, names } = place.server;
    const count = (await broker.administration.users()).length;
    const accounts = new Accounts({ broker, vhost: '/', twitter, names, accountsMax: count + 1 });
    await accounts.signIn('the-last', undefined, true);
    await expect(accounts.signIn('one-more', undefined, true)).rejects.toMatchObject({ reason: 'too-many' });
    const passcode = 'is-not-needed-for-this';
    await expect(accounts.signIn('the-last', passcode, true)).rejects.toMatchObject({ reason: 'taken' });
  });

  it('too often from one place has to wait', async () => {
    const other = await startServer({ ports: FREE_PORTS });
    const url = `http://127.0.0.1:${other.ports.http}`;
    const statuses: number[] = [];
    for (let index = 0; index < SIGN_INS_AT_ONCE + 5; index += 1) {
      const { status } = await at('/toy-twitter/session', { method: 'POST', body: '{}' }, url);
      statuses.push(status);
    }
    expect(statuses[0]).toBe(400);
    expect(statuses.at(-1)).toBe(429);
    await other.close();
  });
});

describe('the page', () => {
  it('is there with all that it is made of, and may load nothing from elsewhere', async () => {
    const response = await at('/');
    expect(response.status).toBe(200);
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'; script-src 'self'");
    const page = await response.text();
    const links = [...page.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path = '']) => path);
    expect(links.length).toBeGreaterThan(3);
    const script = await (await at('/toy-twitter/app.js')).text();
    const imports = [...script.matchAll(/from '\.\/([^']+)'/g)].map(([, file]) => `/toy-twitter/${file}`);
    for (const path of [...links, ...imports]) {
      const { status, headers } = await at(path);
      expect([path, status, headers.get('x-content-type-options')]).toEqual([path, 200, 'nosniff']);
    }
  });

  it('has nothing else to give', async () => {
    for (const path of [
      '/toy-twitter/',
      '/toy-twitter/../server.ts',
      '/toy-twitter/%2e%2e/server.ts',
      '/toy-twitter/x.js',
    ]) {
      expect((await at(path)).status, path).not.toBe(200);
    }
    expect((await at('/', { method: 'DELETE' })).status).toBe(405);
    expect(await (await at('/', { method: 'HEAD' })).text()).toBe('');
  });

  it('is told who follows whom', async () => {
    const { twitter } = place.server;
    await twitter.join('gina');
    await twitter.join('hans');
    await twitter.follow('gina', 'hans');
    const graph = (await (await at('/toy-twitter/graph')).json()) as { people: string[]; follows: string[][] };
    expect(graph.people).toEqual(expect.arrayContaining(['gina', 'hans']));
    expect(graph.follows).toContainEqual(['gina', 'hans']);
    expect(Object.keys(graph).sort()).toEqual(['follows', 'people']);
  });
});

describe('a session over STOMP', () => {
  /** As the page connects. */
  function connect(login: string, passcode: string): Promise<Client> {
    return new Promise((resolve, reject) => {
      const client = new Client({
        webSocketFactory: () => new WebSocket(`ws://127.0.0.1:${place.server.ports.http}/ws`, ['v12.stomp']),
        connectHeaders: { login, passcode, host: '/', 'accept-extensions': 'warren.admin,warren.soft-error' },
        reconnectDelay: 0,
        onConnect: () => resolve(client),
        onStompError: ({ headers }) => reject(new Error(headers.message)),
      });
      clients.push(client);
      client.activate();
    });
  }

  async function signedIn(name: string): Promise<Client> {
    const { passcode } = await place.server.accounts.signIn(name, undefined, true);
    return connect(name, passcode);
  }

  let receipts = 0;
  /** What the broker says to it: `ok`, or the number of an error. */
  function outcome(client: Client, act: (receipt: string) => void): Promise<string> {
    receipts += 1;
    const receipt = `r${receipts}`;
    return new Promise((resolve) => {
      client.watchForReceipt(receipt, ({ headers }) => resolve(headers.status === 'error' ? `${headers.code}` : 'ok'));
      act(receipt);
    });
  }

  function send(client: Client, destination: string, headers: Record<string, string> = {}): Promise<string> {
    return outcome(client, (receipt) => client.publish({ destination, headers: { ...headers, receipt }, body: 'x' }));
  }

  function subscribe(client: Client, destination: string, headers: Record<string, string> = {}): Promise<string> {
    return outcome(client, (receipt) => client.subscribe(destination, () => {}, { ...headers, receipt }));
  }

  it('may do what its person may, and nothing as anybody else', async () => {
    const [iris] = [await signedIn('iris'), await signedIn('jan')];
    const binding = { kind: 'binding', 'routing-key': 'say' };
    const mine = { ...binding, target: 'twitter.inbox.iris' };
    expect(await send(iris, '/exchange/twitter.user.iris/say')).toBe('ok');
    expect(await send(iris, '/warren/declare', { ...mine, source: 'twitter.user.jan' })).toBe('ok');
    expect(await send(iris, '/warren/delete', { ...mine, source: 'twitter.user.jan' })).toBe('ok');
    expect(await subscribe(iris, '/amq/queue/twitter.inbox.iris', { ack: 'client-individual' })).toBe('ok');
    expect(await subscribe(iris, '/exchange/twitter.everyone/say', { 'x-bind': 'join,follow.#' })).toBe('ok');

    const nobody = { ...mine, source: 'twitter.user.nobody' };
    expect(await send(iris, '/warren/declare', nobody)).toBe('404');
    const theirs = { ...binding, target: 'twitter.inbox.jan' };
    expect(await send(iris, '/warren/declare', { ...theirs, source: 'twitter.user.iris' })).toBe('403');
    expect(await send(iris, '/exchange/twitter.user.jan/say')).toBe('403');
    expect(await send(iris, '/exchange/twitter.everyone/follow.jan')).toBe('403');
    expect(await send(iris, '/queue/twitter.inbox.jan', { 'x-declare': 'none' })).toMatch(/^40[36]$/);
    expect(await send(iris, '/amq/queue/twitter.inbox.jan')).toBe('403');
    expect(await send(iris, '/warren/delete', { kind: 'exchange', name: 'twitter.user.iris' })).toBe('403');
    expect(await send(iris, '/warren/delete', { kind: 'queue', name: 'twitter.inbox.jan' })).toBe('403');
    expect(await send(iris, '/warren/purge', { name: 'twitter.inbox.jan' })).toBe('403');
    expect(await send(iris, '/warren/declare', { kind: 'exchange', name: 'twitter.user.kim', type: 'topic' })).toBe(
      '403',
    );
    expect(await send(iris, '/warren/policy', { name: 'p', pattern: '.*', definition: '{}' })).toBe('403');
    expect(await subscribe(iris, '/amq/queue/twitter.inbox.jan', { id: 'spy' })).toBe('403');
    expect(await subscribe(iris, '/amq/queue/twitter.graph', { id: 'spy' })).toBe('403');
    expect(await subscribe(iris, '/amq/queue/twitter.archive', { id: 'spy' })).toBe('403');
  });

  it('is for pages from here, under whatever address they were opened, and from nowhere else', async () => {
    const open = await startServer({ ports: FREE_PORTS, host: '0.0.0.0' });
    const from = (origin: string): Promise<string> =>
      new Promise((resolve) => {
        const socket = new WebSocket(`ws://127.0.0.1:${open.ports.http}/ws`, ['v12.stomp'], { origin });
        socket.once('open', () => resolve('open'));
        socket.once('error', (error) => resolve(error.message));
        socket.once('open', () => socket.close());
      });
    const here = ['http://localhost:3000', ...open.urlsOutside.map((url) => url.slice(0, -1))];
    for (const origin of here) expect([origin, await from(origin)]).toEqual([origin, 'open']);
    for (const origin of ['https://elsewhere.example', `http://192.0.2.1:${open.ports.http}`, 'null']) {
      expect(await from(origin)).toContain('403');
    }
    await open.close();
  });

  it('is not for whoever does not know the passcode', async () => {
    await place.server.accounts.signIn('kurt', undefined, true);
    await expect(connect('kurt', 'guessed')).rejects.toThrow('Bad CONNECT');
  });

  it('is one of so many of one person', async () => {
    const { passcode } = await place.server.accounts.signIn('many', undefined, true);
    const opened: Client[] = [];
    for (let index = 0; index < CONNECTIONS_EACH; index += 1) opened.push(await connect('many', passcode));
    await expect(connect('many', passcode)).rejects.toThrow();
    await opened[0]?.deactivate();
    await connect('many', passcode);
  });

  it('is who it is, whatever it claims', async () => {
    const [lisa] = [await signedIn('lisa'), await signedIn('mona')];
    await place.server.twitter.follow('mona', 'lisa');
    const heard: string[] = [];
    const timeline = await place.server.twitter.timeline('mona', {
      onItem(item, settle) {
        if (item?.kind === 'post') heard.push(`${item.author}: ${item.text}`);
        settle.taken();
      },
    });
    const claims = { 'user-id': 'lisa', author: 'mona', from: 'mona', 'x-original-exchange': 'twitter.user.mona' };
    expect(await send(lisa, '/exchange/twitter.user.lisa/say', claims)).toBe('ok');
    await eventually(() => expect(heard).toEqual(['lisa: x']));
    await timeline.close();
  });
});

it('has complained of nothing but of guessed passcodes', () => {
  expect(place.complaints.filter((line) => !line.startsWith('login refused'))).toEqual([]);
});
