/**
 * Web pages of other origins. What a page may do here is decided as for WebSockets: by default only pages that were
 * served from this machine, because a page may send a request to any address, and guest/guest is known to all. [Fetch: CORS]
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isOriginAllowed } from '../websocket.ts';
import { HttpError } from './http-error.ts';

const EXPOSED =
  'Link, Location, Requesting-Client, WWW-Authenticate, Retry-After, AMQP-Properties, AMQP-Exchange, AMQP-Routing-Key, AMQP-Redelivered';
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

/**
 * A page may have made its own name lead to this machine (DNS rebinding); then its requests are those of the same origin
 * and name none. Browsers still say that it is a page's.
 */
function checkSameOrigin({ headers }: IncomingMessage, origins: readonly string[]): void {
  const site = headers['sec-fetch-site'];
  if (site === undefined || site === 'none' || headers.host === undefined) return;
  if (isOriginAllowed(`http://${headers.host}`, origins) || isOriginAllowed(`https://${headers.host}`, origins)) return;
  throw new HttpError(403, `pages from ${headers.host} may not do this; see --websocket-origins`);
}
