/** The absolute URLs that the door hands out, and the `Link` fields that carry them [RFC 8288]. */
import type { IncomingMessage } from 'node:http';
import type { PeerAddress } from '../gateway.ts';
import { HttpError } from './http-error.ts';

/** Path below which capabilities are. */
export const CAPABILITY_PATH = '/cap/';
/** Path of the gateway itself. */
export const GATEWAY_PATH = '/reversehttp';
/** Path below which claims are, by name. */
export const PUBLIC_PATH = '/http/';

/**
 * `http://host:port` as the client knows this listener, or as `options` has it. Throws HttpError 400 for a Host that could not be: it comes back
 * in fields of the answer.
 */
export function baseUrl(
  request: IncomingMessage,
  peer: PeerAddress,
  options: { readonly baseUrl?: string | undefined },
): string {
  if (options.baseUrl !== undefined) return options.baseUrl;
  const host = request.headers.host ?? '';
  const scheme = peer.encrypted ? 'https' : 'http';
  if (host === '') return `${scheme}://${peer.localAddress}:${peer.localPort}`;
  if (!/^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i.test(host)) throw new HttpError(400, 'this is no Host');
  return `${scheme}://${host}`;
}

export function capabilityUrl(base: string, token: string): string {
  return `${base}${CAPABILITY_PATH}${token}`;
}

/** With a domain, `http://foo.DOMAIN:port/`, else `http://host:port/http/foo/`. */
export function publicUrl(base: string, name: string, domain: string | undefined): string {
  if (domain === undefined) return `${base}${PUBLIC_PATH}${name}/`;
  const [, scheme = '', port = ''] = /^(\w+):\/\/.*?(:\d+)?$/.exec(base) ?? [];
  return `${scheme}://${name}.${domain}${port}/`;
}

/** `<URL>; rel="next"` */
export function link(url: string, relation: string): string {
  return `<${url}>; rel="${relation}"`;
}
