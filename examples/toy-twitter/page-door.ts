/**
 * What the page needs of HTTP, on the same port as its WebSocket:
 *
 * ```
 * GET  /                      the page, and below /toy-twitter/ what it is made of
 * POST /toy-twitter/session   {"name", "passcode"?} signs in: 200 with an account, or 4xx with {"message"}
 * GET  /toy-twitter/graph     who follows whom, as it is now; what comes after it comes over STOMP
 * ```
 *
 * Everything else, what is posted and read and followed, is between the browser and the broker.
 */
import { readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { HttpDoor } from 'warren/websocket';
import type { Accounts } from './accounts.ts';
import { Flood } from './flood.ts';
import { TwitterError, type TwitterErrorReason } from './names.ts';
import type { Twitter } from './twitter.ts';

type PeerAddress = Parameters<HttpDoor['onRequest']>[2];

/** Octets of a request to sign in. */
export const REQUEST_BYTES_MAX = 2048;
/** Sign-ins from one address: so many in a row, then one in so many milliseconds. */
export const SIGN_INS_AT_ONCE = 30;
const SIGN_IN_EVERY_MS = 2000;

const BASE = '/toy-twitter/';
const PAGE = join(import.meta.dirname, 'page');
const STOMP = join(dirname(createRequire(import.meta.url).resolve('@stomp/stompjs')), 'stomp.umd.min.js');

/** By path: the file, and what it is. */
const FILES: ReadonlyMap<string, readonly [file: string, type: string]> = new Map([
  ['/', [join(PAGE, 'index.html'), 'text/html']],
  ...['app', 'session', 'timeline', 'people', 'graph', 'dom'].map((name): [string, [string, string]] => [
    `${BASE}${name}.js`,
    [join(PAGE, `${name}.js`), 'text/javascript'],
  ]),
  [`${BASE}style.css`, [join(PAGE, 'style.css'), 'text/css']],
  [`${BASE}icon.svg`, [join(PAGE, 'icon.svg'), 'image/svg+xml']],
  [`${BASE}stomp.js`, [STOMP, 'text/javascript']],
]);

const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cache-Control': 'no-cache',
};

const STATUS: { readonly [reason in TwitterErrorReason]?: number } = { taken: 409, 'too-many': 503, busy: 503 };

/** A request that cannot be answered; the message is for a person. */
class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface PageOptions {
  readonly accounts: Accounts;
  readonly twitter: Twitter;
  /** What an account needs to know to come in by XMPP. */
  readonly xmpp: { readonly bot: string; readonly xmppPort: number };
  /** What went wrong for reasons of our own. */
  onDefect(error: unknown): void;
}

export function pageDoor(options: PageOptions): HttpDoor {
  return new PageDoor(options);
}

class PageDoor implements HttpDoor {
  readonly invitation = 'For Toy Twitter open / in a browser.';
  readonly #options: PageOptions;
  readonly #signIns = new Flood(SIGN_INS_AT_ONCE, SIGN_IN_EVERY_MS);

  constructor(options: PageOptions) {
    this.#options = options;
  }

  takes(request: IncomingMessage): boolean {
    const path = pathOf(request);
    return path === '/' || path.startsWith(BASE);
  }

  onRequest(request: IncomingMessage, response: ServerResponse, peer: PeerAddress): void {
    // Somebody who breaks off is no event.
    request.on('error', () => {});
    response.on('error', () => {});
    this.#answer(request, response, peer).catch((error: unknown) => this.#refuse(response, error));
  }

  async #answer(request: IncomingMessage, response: ServerResponse, peer: PeerAddress): Promise<void> {
    const path = pathOf(request);
    if (path === `${BASE}session`) {
      requireMethod(request, response, 'POST');
      sendJson(response, 200, await this.#signIn(request, peer));
      return;
    }
    requireMethod(request, response, 'GET', 'HEAD');
    if (path === `${BASE}graph`) {
      const { people, follows } = (await this.#options.twitter.graph()).record;
      sendJson(response, 200, { people, follows });
      return;
    }
    const [file, type] = FILES.get(path) ?? [];
    if (file === undefined) throw new Refusal(404, 'There is nothing here.');
    const content = await readFile(file);
    response.writeHead(200, { ...HEADERS, 'Content-Type': `${type}; charset=utf-8`, 'Content-Length': content.length });
    response.end(request.method === 'HEAD' ? undefined : content);
  }

  async #signIn(request: IncomingMessage, { remoteAddress, loopback }: PeerAddress): Promise<object> {
    const { origin, host } = request.headers;
    // A page from elsewhere has no business to sign anybody in.
    if (origin !== undefined && (!URL.canParse(origin) || new URL(origin).host !== host?.toLowerCase())) {
      throw new Refusal(403, 'Please sign in on the page itself.');
    }
    if (!this.#signIns.allows(remoteAddress)) {
      throw new Refusal(429, 'Too many have signed in from where you are. Please wait a moment.');
    }
    const { name, passcode } = await readJson(request);
    if (typeof name !== 'string' || (passcode !== undefined && typeof passcode !== 'string')) {
      throw new Refusal(400, 'Who are you? There is no name in that.');
    }
    return { ...(await this.#options.accounts.signIn(name, passcode, loopback)), ...this.#options.xmpp };
  }

  #refuse(response: ServerResponse, error: unknown): void {
    if (response.headersSent) {
      response.destroy();
    } else if (error instanceof Refusal) sendJson(response, error.status, { message: error.message });
    else if (error instanceof TwitterError) {
      sendJson(response, STATUS[error.reason] ?? 400, { message: error.message, reason: error.reason });
    } else {
      this.#options.onDefect(error);
      sendJson(response, 500, { message: 'Something has gone wrong here. Please try again.' });
    }
  }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] ?? '';
}

function requireMethod(request: IncomingMessage, response: ServerResponse, ...methods: readonly string[]): void {
  if (methods.includes(request.method ?? '')) return;
  response.setHeader('Allow', methods.join(', '));
  throw new Refusal(405, `This takes ${methods.join(' and ')} only.`);
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  const content = Buffer.from(JSON.stringify(value));
  response.writeHead(status, {
    ...HEADERS,
    'Cache-Control': 'no-store',
    'Content-Type': 'application/json',
    'Content-Length': content.length,
  });
  response.end(content);
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  let text = '';
  request.setEncoding('utf8');
  for await (const chunk of request) {
    text += chunk;
    if (text.length > REQUEST_BYTES_MAX) throw new Refusal(413, 'That is too long to be a name.');
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return { ...value };
  } catch {
    // Said below, for what is no object too.
  }
  throw new Refusal(400, 'That is no JSON.');
}
