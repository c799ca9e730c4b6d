/**
 * Claiming URL space and managing what was claimed [reversehttp.net]: `POST /reversehttp` makes or refreshes a claim,
 * `GET /reversehttp` tells administrators what there is, and the private URL of a claim shows, changes and ends it.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Principal } from '../../broker/port.ts';
import { readBody } from './body.ts';
import type { Capabilities } from './capabilities.ts';
import { type Claim, claimName } from './claim.ts';
import type { Claims } from './claims.ts';
import { HttpError, sendEmpty } from './http-error.ts';
import { baseUrl, capabilityUrl, link, publicUrl } from './links.ts';
import { mintRequestUrl } from './long-poll.ts';
import type { ResolvedOptions } from './options.ts';
import type { Resource, Visit } from './resource.ts';

/** A form is small. */
const FORM_BYTES_MAX = 64 * 1024;
/** Longest token, in characters. */
const SECRET_LENGTH_MAX = 1024;

/** Who may see all claims. */
const OVERSEER_TAGS: readonly string[] = ['administrator', 'monitoring', 'management'];

export interface ClaimingHost {
  readonly options: ResolvedOptions;
  readonly capabilities: Capabilities<Resource>;
  readonly claims: Claims;
}

export class Claiming {
  readonly #host: ClaimingHost;

  constructor(host: ClaimingHost) {
    this.#host = host;
  }

  /** `POST /reversehttp`. Throws HttpError and BrokerError. */
  async onClaim(request: IncomingMessage, response: ServerResponse, visit: Visit, principal: Principal): Promise<void> {
    const base = baseUrl(request, visit.peer, this.#host.options);
    const form = await this.#readForm(request, response);
    const name = claimName(form.get('name') ?? '');
    if (name === undefined) throw new HttpError(400, 'name must be a DNS label: letters, digits and hyphens');
    const secret = secretOf(form);
    const leaseMs = this.#leaseMs(form) ?? this.#host.options.leaseSecondsDefault * 1000;
    const wanted = { name, principal, leaseMs, ...(secret !== undefined && { secret }) };
    const { claim, isNew } = await this.#host.claims.claim(wanted, this.privateUrl);
    const crew = await this.#host.claims.crewOf(claim, principal);
    const first = mintRequestUrl(this.#host, claim, crew);
    sendEmpty(response, isNew ? 201 : 204, {
      // Two fields: the first clients looked for one relation in each.
      Link: [
        link(capabilityUrl(base, first), 'first'),
        link(publicUrl(base, name, this.#host.options.domain), 'related'),
      ],
      Location: capabilityUrl(base, claim.privateToken),
    });
  }

  /** `GET /reversehttp`. Throws HttpError 403 for who is no overseer. */
  onOverview(request: IncomingMessage, response: ServerResponse, visit: Visit, principal: Principal): void {
    if (!principal.tags.some((tag) => OVERSEER_TAGS.includes(tag))) {
      throw new HttpError(403, `this takes one of the tags ${OVERSEER_TAGS.join(', ')}`);
    }
    const base = baseUrl(request, visit.peer, this.#host.options);
    const claims = this.#host.claims.list().map((claim) => ({
      name: claim.name,
      url: publicUrl(base, claim.name, this.#host.options.domain),
      user: claim.owner,
      lease: claim.leaseMs / 1000,
      servers: claim.serverCount,
      slots: claim.slots,
      free: claim.freeSlots,
      busy: claim.busy,
    }));
    const waiting = this.#host.claims.asks.size;
    if (wants(request, 'text/html')) {
      const rows = claims.map(
        (claim) =>
          `<tr><td><a href="${claim.url}">${claim.name}</a><td>${escapeHtml(claim.user)}<td>${claim.lease} s` +
          `<td>${claim.servers}<td>${claim.free} of ${claim.slots}<td>${claim.busy}`,
      );
      const head = '<tr><th>claim<th>user<th>lease<th>servers<th>free slots<th>busy';
      sendPage(response, 'Claims', `<table>${head}${rows.join('\n')}</table><p>${waiting} requests wait.`);
    } else sendText(response, 'application/json', `${JSON.stringify({ claims, waiting })}\n`);
  }

  /** What the private URL of a claim is. */
  readonly privateUrl = (claim: Claim): Resource => ({
    onRequest: async (request, response) => {
      switch (request.method) {
        case 'GET':
          this.#show(claim, request, response);
          break;
        case 'PUT':
          await this.#update(claim, request, response);
          break;
        case 'DELETE':
          await this.#host.claims.end(claim);
          sendEmpty(response, 204);
          break;
        default:
          throw new HttpError(405, 'GET shows the claim, PUT changes it, DELETE ends it', {
            Allow: 'GET, PUT, DELETE, OPTIONS',
          });
      }
    },
  });

  #show(claim: Claim, request: IncomingMessage, response: ServerResponse): void {
    const { name } = claim;
    const lease = String(claim.leaseMs / 1000);
    if (wants(request, 'text/html')) {
      const text = `<p>${name}: lease ${lease} s, ${claim.serverCount} servers, ${claim.freeSlots} free slots.`;
      sendPage(response, name, text);
    } else sendText(response, 'application/x-www-form-urlencoded', new URLSearchParams({ name, lease }).toString());
  }

  async #update(claim: Claim, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const form = await this.#readForm(request, response);
    const leaseMs = this.#leaseMs(form);
    const secret = secretOf(form);
    if (leaseMs !== undefined) claim.leaseMs = leaseMs;
    if (secret !== undefined) claim.secret = secret;
    this.#host.claims.refresh(claim);
    sendEmpty(response, 204);
  }

  async #readForm(request: IncomingMessage, response: ServerResponse): Promise<URLSearchParams> {
    const limits = { ...this.#host.options, bodyBytesMax: FORM_BYTES_MAX };
    return new URLSearchParams((await readBody(request, response, limits)).toString());
  }

  /** Brought within the door's bounds; undefined without one. Throws HttpError 400 for what is no number of seconds. */
  #leaseMs(form: URLSearchParams): number | undefined {
    const lease = form.get('lease');
    if (lease === null) return undefined;
    if (!/^\d+$/.test(lease)) throw new HttpError(400, 'lease must be a number of seconds');
    const { leaseSecondsMin, leaseSecondsMax } = this.#host.options;
    return Math.min(Math.max(Number(lease), leaseSecondsMin), leaseSecondsMax) * 1000;
  }
}

function secretOf(form: URLSearchParams): string | undefined {
  const token = form.get('token') ?? undefined;
  if (token !== undefined && token.length > SECRET_LENGTH_MAX) throw new HttpError(400, 'the token is too long');
  return token;
}

function wants(request: IncomingMessage, type: string): boolean {
  return request.headers.accept?.includes(type) ?? false;
}

function sendText(response: ServerResponse, type: string, text: string): void {
  response.writeHead(200, {
    'Content-Type': `${type}; charset=utf-8`,
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
  });
  response.end(text);
}

function sendPage(response: ServerResponse, title: string, content: string): void {
  response.setHeader('Content-Security-Policy', "default-src 'none'");
  sendText(
    response,
    'text/html',
    `<!doctype html><title>${escapeHtml(title)}</title><h1>${escapeHtml(title)}</h1>${content}\n`,
  );
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
