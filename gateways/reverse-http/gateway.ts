/**
 * The reverse-HTTP door: what is behind which URL. Everything is on the listener that the WebSocket doors are on too.
 *
 *   /http/NAME/…, NAME.DOMAIN   the public URL of a claim
 *   /reversehttp                claiming; what there is
 *   /reversehttp/NAME           reversed connections, and the COMET fallback
 *   /reversehttp-token          a bearer token for whoever has proved who he is
 *   /exchange/NAME/KEY          publishing, and following an exchange
 *   /queue/NAME                 consuming
 *   /relay/HOST                 performing a request elsewhere, if that is allowed
 *   /cap                        handing out a URL that carries a right
 *   /cap/TOKEN                  capabilities: private and request URLs, acknowledgements, what was handed out
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Broker, Principal } from '../../broker/port.ts';
import type { PeerAddress, Transport } from '../gateway.ts';
import type { HttpDoor } from '../http-door.ts';
import { Asking } from './asking.ts';
import { Authentication } from './authentication.ts';
import { Capabilities } from './capabilities.ts';
import { claimName } from './claim.ts';
import { Claiming } from './claiming.ts';
import { Claims } from './claims.ts';
import { Comet } from './comet.ts';
import { admitPage, checkPage, peerAsNamed } from './cross-origin.ts';
import { Grants } from './grants.ts';
import { asHttpError, HttpError, responseOn, sendError } from './http-error.ts';
import { CAPABILITY_PATH, GATEWAY_PATH, PUBLIC_PATH } from './links.ts';
import { MESSAGING_PATH, Messaging } from './messaging.ts';
import { type ResolvedOptions, type ReverseHttpOptions, resolveOptions } from './options.ts';
import { Relay } from './relay.ts';
import type { Resource, Visit } from './resource.ts';
import { REVERSED_ALPN, Reversal } from './reversal.ts';
import { Slots } from './slots.ts';
import { parseUpstream, Tier } from './tier.ts';
import { protocolAskedFor, type Tunnel, Tunnels } from './tunnel.ts';

/** Below it, the claims that a server joins by name. */
const CLAIM_PATH = `${GATEWAY_PATH}/`;

type RouteName = 'gateway' | 'claim' | 'token' | 'grant' | 'messaging' | 'relay';

/** What takes a login. The forms of RabbitHub and WebSub (`/endpoint/…`, `/subscribe/…`) will be rows of this table. */
const ROUTES: readonly { readonly path: RegExp; readonly name: RouteName }[] = [
  { path: /^\/reversehttp$/, name: 'gateway' },
  { path: /^\/reversehttp\//, name: 'claim' },
  { path: /^\/reversehttp-token$/, name: 'token' },
  { path: /^\/cap$/, name: 'grant' },
  { path: MESSAGING_PATH, name: 'messaging' },
  { path: /^\/relay\//, name: 'relay' },
];

/** The door; one may serve several listeners, which then share its claims. Throws RangeError for a wrong upstream. */
export function reverseHttpDoor(broker: Broker, options: ReverseHttpOptions = {}): HttpDoor {
  return new ReverseHttpDoor(broker, resolveOptions(options));
}

class ReverseHttpDoor implements HttpDoor {
  readonly invitation =
    `For HTTP: POST ${GATEWAY_PATH} claims a name, ${PUBLIC_PATH}NAME/ is served by whoever claimed it.`;
  readonly alpnProtocols = REVERSED_ALPN;
  readonly #options: ResolvedOptions;
  readonly #capabilities = new Capabilities<Resource>();
  readonly #claims: Claims;
  readonly #asking: Asking;
  readonly #authentication: Authentication;
  readonly #claiming: Claiming;
  readonly #reversal: Reversal;
  readonly #comet: Comet;
  readonly #messaging: Messaging;
  readonly #grants: Grants;
  readonly #slots: Slots;
  readonly #relay: Relay;
  readonly #tiers: readonly Tier[];
  readonly #tunnels: Tunnels;

  constructor(broker: Broker, options: ResolvedOptions) {
    this.#options = options;
    this.#claims = new Claims(broker, options, this.#capabilities);
    this.#asking = new Asking(broker, this.#claims, options);
    this.#authentication = new Authentication(broker, options, new Capabilities());
    this.#claiming = new Claiming({ options, capabilities: this.#capabilities, claims: this.#claims });
    const { privateUrl } = this.#claiming;
    this.#reversal = new Reversal({ options, claims: this.#claims, authentication: this.#authentication, privateUrl });
    this.#comet = new Comet(options);
    this.#slots = new Slots(this.#claims);
    this.#tunnels = new Tunnels(options);
    this.#relay = new Relay(options);
    const freeSlots = async (name: string): Promise<number> => (await this.#slots.count(name))?.free ?? 0;
    this.#tiers = options.upstreams.map((text) => new Tier({ broker, options, freeSlots }, parseUpstream(text)));
    for (const tier of this.#tiers) tier.start();
    this.#messaging = new Messaging(broker, options, this.#capabilities);
    this.#grants = new Grants({
      broker,
      options,
      capabilities: this.#capabilities,
      serve: (...request) => this.#messaging.onRequest(...request),
      isTarget: (path) => MESSAGING_PATH.test(path),
    });
  }

  takes(request: IncomingMessage): boolean {
    return this.#publicName(request) !== undefined || isOwnPath(pathOf(request));
  }

  onRequest(request: IncomingMessage, response: ServerResponse, peer: PeerAddress): void {
    // A client that breaks off while it is read, or answered, is no event.
    request.on('error', () => {});
    response.on('error', () => {});
    this.#route(request, response, peerAsNamed(request, peer, this.#options)).catch((error: unknown) => {
      const known = asHttpError(error);
      if (known === undefined) this.#options.log.error({ err: error }, 'a request failed because of a defect');
      sendError(response, known ?? new HttpError(500, 'internal error'));
    });
  }

  onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer, peer: PeerAddress): boolean {
    const path = pathOf(request);
    const joined = path.startsWith(CLAIM_PATH) ? claimName(path.slice(CLAIM_PATH.length)) : undefined;
    const name = this.#publicName(request) ?? joined;
    const named = peerAsNamed(request, peer, this.#options);
    if (name && this.#reversal.onUpgrade(name, request, socket, head, named)) return true;
    const asked = this.#publicName(request);
    const protocol = asked === undefined ? undefined : protocolAskedFor(request);
    if (asked === undefined || protocol === undefined) return false;
    const tunnel = this.#tunnels.enter(protocol, socket, head);
    const response = responseOn(request, socket, this.#options.closeTimeoutMs);
    this.#change(asked, request, response, tunnel, named).catch((error: unknown) => {
      const known = asHttpError(error);
      if (known === undefined) this.#options.log.error({ err: error }, 'a request failed because of a defect');
      sendError(response, known ?? new HttpError(500, 'internal error'));
    });
    return true;
  }

  /** A visitor of a public URL wants to speak another protocol. Rejects with HttpError. */
  async #change(
    name: string,
    request: IncomingMessage,
    response: ServerResponse,
    tunnel: Tunnel | undefined,
    peer: PeerAddress,
  ): Promise<void> {
    const { visitors, origins } = this.#options;
    const { headers, httpVersion } = request;
    if (tunnel === undefined) {
      throw new HttpError(503, 'there are too many such connections; see --reverse-http-tunnels-max', {
        'Retry-After': '5',
      });
    }
    if (Number(headers['content-length'] ?? 0) > 0 || headers['transfer-encoding'] !== undefined) {
      throw new HttpError(400, 'a request for another protocol has no body');
    }
    if (httpVersion !== '1.1') throw new HttpError(400, 'the protocol changes from HTTP/1.1 only');
    if (visitors === 'everyone') {
      await this.#asking.askToChange(name, undefined, request, response, tunnel, peer);
      return;
    }
    // A browser hands over the login that it keeps for this door, whichever page asks for it.
    checkPage(request, origins);
    const principal = await this.#authentication.authenticate(request, peer);
    await this.#asking.askToChange(name, principal, request, response, tunnel, peer);
  }

  accept(transport: Transport, protocol: string): void {
    this.#reversal.onTls(transport, protocol);
  }

  close(): void {
    this.#reversal.close();
    this.#tunnels.close();
    for (const tier of this.#tiers) void tier.close();
    void this.#claims.close();
    void this.#asking.close();
    void this.#messaging.close();
  }

  async #route(request: IncomingMessage, response: ServerResponse, peer: PeerAddress): Promise<void> {
    const name = this.#publicName(request);
    if (name !== undefined) {
      const principal =
        this.#options.visitors === 'users' ? await this.#authentication.authenticate(request, peer) : undefined;
      if (request.method === 'GET' && this.#asksForSlots(request, name)) await this.#slots.onRequest(response, name);
      else await this.#asking.ask(name, principal, request, response, peer);
      return;
    }
    if (admitPage(request, response, this.#options.origins)) return;
    const visit: Visit = { peer, url: urlOf(request) };
    const { pathname } = visit.url;
    if (pathname.startsWith(CAPABILITY_PATH)) {
      const resource = this.#capabilities.find(pathname.slice(CAPABILITY_PATH.length));
      if (resource === undefined) throw new HttpError(404, 'there is nothing here');
      await resource.onRequest(request, response, visit);
      return;
    }
    const principal = await this.#authentication.authenticate(request, peer);
    const route = ROUTES.find(({ path }) => path.test(pathname));
    if (route === undefined) throw new HttpError(404, 'there is nothing here');
    await this.#serve(route.name, request, response, visit, principal);
  }

  #serve(
    route: RouteName,
    request: IncomingMessage,
    response: ServerResponse,
    visit: Visit,
    principal: Principal,
  ): void | Promise<void> {
    switch (route) {
      case 'gateway':
        if (request.method === 'POST') return this.#claiming.onClaim(request, response, visit, principal);
        if (request.method === 'GET') return this.#claiming.onOverview(request, response, visit, principal);
        throw new HttpError(405, 'POST claims a name, GET tells what is claimed', { Allow: 'GET, POST, OPTIONS' });
      case 'claim':
        return this.#serveComet(request, response, visit, principal);
      case 'token':
        return this.#issueToken(request, response, principal);
      case 'grant':
        if (request.method === 'POST') return this.#grants.onRequest(request, response, visit, principal);
        throw new HttpError(405, 'POST hands out a URL', { Allow: 'POST, OPTIONS' });
      case 'messaging':
        return this.#messaging.onRequest(request, response, visit, principal);
      case 'relay':
        return this.#relay.onRequest(request, response, visit);
    }
  }

  #issueToken(request: IncomingMessage, response: ServerResponse, principal: Principal): void {
    if (request.method !== 'POST') throw new HttpError(405, 'POST gets a token', { Allow: 'POST, OPTIONS' });
    const { token, seconds } = this.#authentication.issue(principal);
    const json = JSON.stringify({ access_token: token, token_type: 'Bearer', expires_in: seconds });
    response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
    response.end(json);
  }

  async #serveComet(
    request: IncomingMessage,
    response: ServerResponse,
    { url }: Visit,
    principal: Principal,
  ): Promise<void> {
    const name = claimName(url.pathname.slice(CLAIM_PATH.length));
    if (name === undefined) throw new HttpError(404, 'there is nothing here');
    if (request.method !== 'POST') throw new HttpError(405, 'POST serves this claim', { Allow: 'POST, OPTIONS' });
    const secret = url.searchParams.get('token') ?? undefined;
    const crew = await this.#claims.join(name, principal, secret, this.#claiming.privateUrl);
    await this.#comet.onRequest(request, response, crew, url);
  }

  /** `PUBLIC-URL/.slots`, in either form of the public URL. */
  #asksForSlots(request: IncomingMessage, name: string): boolean {
    const { slotsPath } = this.#options;
    if (slotsPath === 'off') return false;
    const path = pathOf(request).toLowerCase();
    const isPathForm = path.startsWith(`${PUBLIC_PATH}${name}/`);
    return path.slice(isPathForm ? `${PUBLIC_PATH}${name}/`.length : 1) === slotsPath.toLowerCase();
  }

  /** The claim that a request is for, by host or by path; undefined when it is for the door itself. */
  #publicName(request: IncomingMessage): string | undefined {
    const { domain } = this.#options;
    if (domain !== undefined) {
      const [, authority = request.headers.host ?? ''] = ABSOLUTE_FORM.exec(request.url ?? '') ?? [];
      const host = authority.replace(/:\d+$/, '').toLowerCase();
      if (host.endsWith(`.${domain}`)) return claimName(host.slice(0, -domain.length - 1)) ?? '';
    }
    const [, label = ''] = /^\/http\/([^/?#]+)/.exec(targetOf(request)) ?? [];
    return label === '' ? undefined : (claimName(label) ?? '');
  }
}

/** A target with scheme and host, as if this door were a proxy; every server has to take it. [RFC 9112 §3.2.2] */
const ABSOLUTE_FORM = /^https?:\/\/([^/?#]*)/i;

/** The target from its path on. */
function targetOf({ url = '' }: IncomingMessage): string {
  const target = url.replace(ABSOLUTE_FORM, '');
  return target.startsWith('/') || target === url ? target : `/${target}`;
}

function pathOf(request: IncomingMessage): string {
  return targetOf(request).replace(/[?#].*$/s, '');
}

function isOwnPath(path: string): boolean {
  return path.startsWith(CAPABILITY_PATH) || ROUTES.some((route) => route.path.test(path));
}

function urlOf(request: IncomingMessage): URL {
  const target = targetOf(request);
  if (!target.startsWith('/') || !URL.canParse(target, 'http://door')) throw new HttpError(400, 'this is no target');
  return new URL(`http://door${target}`);
}
