/**
 * Web pages of other origins. What a page may do here is decided as for WebSockets: by default only pages that were
 * served from this machine, because a page may send a request to any address, and guest/guest is known to all. [Fetch: CORS]
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { hostname } from 'node:os';
import { isLoopback } from '../addresses.ts';
import type { PeerAddress } from '../gateway.ts';
import { isOriginAllowed } from '../websocket.ts';
import { HttpError } from './http-error.ts';
import { MESSAGE_FIELDS } from './message-headers.ts';

const EXPOSED = [
  ...['Link', 'Location', 'Requesting-Client', 'WWW-Authenticate', 'Retry-After', 'Content-Encoding'],
  ...MESSAGE_FIELDS,
].join(', ');
const METHODS = 'GET, HEAD, POST, PUT, DELETE, OPTIONS';
/** How long a browser may keep the answer to its question. */
const PREFLIGHT_SECONDS = 600;

/**
 * Writes the fields that let the page read the answer. True: it was the browser's question beforehand, which is answered
 * with that. Throws HttpError 403 for a page that may not.
 */
export function admitPage(request: IncomingMessage, response: ServerResponse, origins: readonly string[]): boolean {
  const { origin } = request.headers;
  if (origin === undefined) {
    checkSameOrigin(request, origins);
    return false;
  }
  response.setHeader('Vary', 'Origin');
  if (!isOriginAllowed(origin, origins)) {
    throw new HttpError(403, `pages from ${origin} may not do this; see --websocket-origins`);
  }
  response.setHeader('Access-Control-Allow-Origin', origin);
  response.setHeader('Access-Control-Expose-Headers', EXPOSED);
  if (request.method !== 'OPTIONS' || request.headers['access-control-request-method'] === undefined) return false;
  response.setHeader('Access-Control-Allow-Methods', METHODS);
  const asked = request.headers['access-control-request-headers'];
  if (asked !== undefined) response.setHeader('Access-Control-Allow-Headers', asked);
  response.setHeader('Access-Control-Max-Age', PREFLIGHT_SECONDS);
  if (request.headers['access-control-request-private-network'] === 'true') {
    response.setHeader('Access-Control-Allow-Private-Network', 'true');
  }
  response.writeHead(204).end();
  return true;
}

/** Throws HttpError 403 for a page of another origin than this door's that may not; programs send no origin. */
export function checkPage({ headers }: IncomingMessage, origins: readonly string[]): void {
  const { origin, host } = headers;
  const isOwn = origin === `http://${host}` || origin === `https://${host}`;
  if (isOwn || isOriginAllowed(origin, origins)) return;
  throw new HttpError(403, `pages from ${origin} may not do this; see --websocket-origins`);
}

/**
 * The peer as far as `request` may count as one from this machine. A page may have made its own name lead here (DNS
 * rebinding): its requests come from this machine's browser, they are those of the same origin, so that no Origin says
 * whose they are, and over plain HTTP no Sec-Fetch-Site either. What gives them away is the name in their Host. Users who
 * may come from this machine only (guest), and whose passwords everybody knows, are not to be had under such a name.
 */
export function peerAsNamed(
  { headers }: IncomingMessage,
  peer: PeerAddress,
  options: { readonly origins: readonly string[]; readonly domain?: string | undefined },
): PeerAddress {
  const { host } = headers;
  // A browser says 'none' when somebody has typed the address; no page can.
  if (!peer.loopback || host === undefined || headers['sec-fetch-site'] === 'none') return peer;
  const name = host.replace(/:\d*$/, '').toLowerCase();
  const isOfDomain = options.domain !== undefined && `.${name}`.endsWith(`.${options.domain}`);
  if (isOfDomain || isThisMachine(name) || isHostAllowed(host, options.origins)) return peer;
  return { ...peer, loopback: false };
}

function isThisMachine(name: string): boolean {
  if (name === 'localhost' || name.endsWith('.localhost') || isLoopback(name.replace(/^\[|\]$/g, ''))) return true;
  return name === hostname().toLowerCase();
}

function isHostAllowed(host: string, origins: readonly string[]): boolean {
  return isOriginAllowed(`http://${host}`, origins) || isOriginAllowed(`https://${host}`, origins);
}

/** The same where browsers do say that a request is a page's: over HTTPS, and to this machine by its own names. */
function checkSameOrigin({ headers }: IncomingMessage, origins: readonly string[]): void {
  const site = headers['sec-fetch-site'];
  if (site === undefined || site === 'none' || headers.host === undefined) return;
  if (isHostAllowed(headers.host, origins)) return;
  throw new HttpError(403, `pages from ${headers.host} may not do this; see --websocket-origins`);
}
