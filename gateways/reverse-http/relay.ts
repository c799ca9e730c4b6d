/**
 * The relay [reversehttp.net, Relay HTTP]: `POST /relay/HOST[:PORT]` with a request as `message/http` performs it and
 * answers the response as `message/http`. It is an open proxy for whoever may use it, so it is off unless hosts are
 * listed; a host whose name leads to this machine or to a private network must be listed by that address.
 *
 *   400 no such host, or no request   403 not on the list   415 application/http   502, 504 from over there
 */
import { lookup } from 'node:dns/promises';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { AddressRanges, normaliseAddress } from '../addresses.ts';
import { collect, isChunked, readBody } from './body.ts';
import { type ErrandRequest, framingOf } from './errand.ts';
import { HttpError } from './http-error.ts';
import {
  encodeResponse,
  endToEndHeaders,
  hasBody,
  type RawHeaders,
  type ResponseHead,
  trailerFields,
} from './http-message.ts';
import { parseRequest } from './http-parse.ts';
import type { ResolvedOptions } from './options.ts';
import { MESSAGE_HTTP } from './requestor.ts';
import type { Visit } from './resource.ts';
import { attempt } from './reversed-http1.ts';

/** Of no use to strangers: this machine, private networks, links, and everything else that is not a public host. */
const INNER_RANGES = new AddressRanges([
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/3',
  '::/96', // Not ::/8: all of IPv4 is in it, as ::ffff:0:0/96.
  '::ffff:0:0:0/96',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '100::/64',
  '2001::/32',
  '2002::/16',
  'fc00::/7',
  'fe80::/10',
  'fec0::/10',
  'ff00::/8',
]);

/** Is this no address of a public host? Addresses that carry another one in them (NAT64, 6to4, Teredo) are none either. */
export function isInner(address: string): boolean {
  return INNER_RANGES.includes(normaliseAddress(address));
}

interface Answer {
  readonly head: ResponseHead;
  readonly body: Buffer;
  readonly trailers: RawHeaders;
}

interface Destination {
  readonly host: string;
  readonly port: number;
}

export class Relay {
  readonly #options: ResolvedOptions;

  constructor(options: ResolvedOptions) {
    this.#options = options;
  }

  /** Throws HttpError. */
  async onRequest(request: IncomingMessage, response: ServerResponse, { url }: Visit): Promise<void> {
    if (this.#options.relayAllow.length === 0)
      throw new HttpError(403, 'the relay is off; see --reverse-http-relay-allow');
    if (request.method !== 'POST') throw new HttpError(405, 'POST a request', { Allow: 'POST, OPTIONS' });
    const destination = destinationOf(url);
    if (/^application\/http\b/i.test(request.headers['content-type'] ?? '')) {
      throw new HttpError(415, 'one request at a time: message/http');
    }
    const address = await this.#admit(destination);
    const embedded = await parseRequest(await readBody(request, response, this.#options));
    const { head, body, trailers } = await this.#perform(embedded, destination, address);
    const octets = encodeResponse(head, body, hasBody(embedded.head.method, head.status), trailers);
    response.writeHead(200, { 'Content-Type': MESSAGE_HTTP, 'Content-Length': octets.length });
    response.end(octets);
  }

  /** The address to connect to: looked up once, so that a name cannot lead elsewhere afterwards. Throws HttpError 403. */
  async #admit({ host, port }: Destination): Promise<string> {
    const { relayAllow } = this.#options;
    if (!relayAllow.some((entry) => matches(entry, host, port)))
      throw new HttpError(403, 'this host is not on the list');
    const found = isIP(host) === 0 ? await lookup(host).catch(() => undefined) : { address: host };
    if (found === undefined) throw new HttpError(502, 'this host is not known');
    const address = normaliseAddress(found.address);
    const isListed = relayAllow.some((entry) => !entry.startsWith('*') && matches(entry, address, port));
    if (isInner(address) && !isListed) {
      throw new HttpError(403, `this host is on an inner network; list its address, ${address}, if you mean it`);
    }
    return address;
  }

  #perform(request: ErrandRequest, { host, port }: Destination, address: string): Promise<Answer> {
    const { head, body, trailers = () => [] } = request;
    const shown = isIP(host) === 6 ? `[${host}]` : host;
    const headers = endToEndHeaders(head.headers, new Set(['host']));
    headers.push('Host', port === 80 ? shown : `${shown}:${port}`, ...framingOf(request), 'Connection', 'close');
    return new Promise((resolve, reject) => {
      const fail = (status: number, explanation: string): void => reject(new HttpError(status, explanation));
      const options = { host: address, port, method: head.method, path: head.target, setHost: false, agent: false };
      const outgoing = attempt(() =>
        httpRequest({ ...options, headers: headers as unknown as Record<string, string> }),
      );
      if (outgoing === undefined) {
        fail(400, 'this request cannot be handed on');
        return;
      }
      const { replyTimeoutMs } = this.#options;
      const timer = setTimeout(() => {
        fail(504, 'the host did not answer in time');
        outgoing.destroy();
      }, replyTimeoutMs);
      outgoing.on('error', (error) => fail(502, `the host did not answer: ${error.message}`));
      outgoing.on('upgrade', () => {
        fail(502, 'the host wants to speak another protocol');
        outgoing.destroy();
      });
      outgoing.on('close', () => clearTimeout(timer));
      outgoing.on('response', (answer) => {
        const { statusCode: status = 0, statusMessage: reason = '', rawHeaders } = answer;
        const coding = answer.headers['transfer-encoding'];
        if (coding !== undefined && !isChunked(coding)) {
          fail(502, 'the answer is in a transfer coding that is not known here');
          outgoing.destroy();
          return;
        }
        collect(answer, this.#options)
          .then((all) => {
            const { rawTrailers } = answer;
            resolve({ head: { status, reason, headers: rawHeaders }, body: all, trailers: rawTrailers });
          })
          .catch(() => fail(502, 'the answer broke off, or is too large'))
          .finally(() => outgoing.destroy());
      });
      attempt(() => outgoing.addTrailers(trailerFields(trailers())));
      outgoing.end(body);
    });
  }
}

/** Throws HttpError 400. */
function destinationOf({ pathname }: URL): Destination {
  const [, name = '', literal = '', digits = '80'] =
    /^\/relay\/(?:([\w.-]{1,253})|\[([\da-f:.]+)\])(?::(\d{1,5}))?\/?$/i.exec(decode(pathname)) ?? [];
  const host = (name || literal).toLowerCase().replace(/\.$/, '');
  const port = Number(digits);
  const isNumber = /^[\d.]+$/.test(host) || /^0x/i.test(host);
  if (
    host === '' ||
    port < 1 ||
    port > 65_535 ||
    (literal !== '' && isIP(literal) !== 6) ||
    (isNumber && isIP(host) === 0)
  ) {
    throw new HttpError(400, 'a host and a port, as in /relay/example.org:8080');
  }
  return { host, port };
}

function decode(pathname: string): string {
  try {
    return decodeURIComponent(pathname);
  } catch {
    return '';
  }
}

/** `example.org` is port 80 there, `*.example.org` every host below it, `[::1]:8080` one of this machine. */
function matches(entry: string, host: string, port: number): boolean {
  const [, bracketed, plain = '', digits = '80'] = /^(?:\[([^\]]+)\]|([^:]+|[\da-f:]+))(?::(\d+))?$/i.exec(entry) ?? [];
  const listed = (bracketed ?? plain).toLowerCase();
  if (Number(digits) !== port) return false;
  return listed.startsWith('*.') ? host.endsWith(listed.slice(1)) : listed === host;
}
