/**
 * Handing out a part of one's rights: `POST /cap` with `target=/exchange/NAME/KEY` or `/queue/NAME` makes an unguessable
 * URL through which anybody may do there what its maker may, for as long as he may and until it is deleted or its time is
 * over. For web pages above all: an `EventSource` cannot log in.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Broker, Principal } from '../../broker/port.ts';
import { readBody } from './body.ts';
import type { Capabilities } from './capabilities.ts';
import { HttpError, sendEmpty } from './http-error.ts';
import { baseUrl, capabilityUrl } from './links.ts';
import type { ResolvedOptions } from './options.ts';
import type { Resource, Visit } from './resource.ts';

/** Grants at a time. */
const GRANTS_MAX = 100_000;
/** A form is small. */
const FORM_BYTES_MAX = 4096;

export interface GrantHost {
  readonly broker: Broker;
  readonly options: ResolvedOptions;
  readonly capabilities: Capabilities<Resource>;
  /** Serves a request for a target as this user. */
  readonly serve: (
    request: IncomingMessage,
    response: ServerResponse,
    visit: Visit,
    principal: Principal,
  ) => void | Promise<void>;
  /** Can a grant be made for this path? */
  readonly isTarget: (path: string) => boolean;
}

export class Grants {
  readonly #host: GrantHost;
  #count = 0;

  constructor(host: GrantHost) {
    this.#host = host;
  }

  /** `POST /cap`. Throws HttpError. */
  async onRequest(
    request: IncomingMessage,
    response: ServerResponse,
    { peer }: Visit,
    principal: Principal,
  ): Promise<void> {
    const { options, capabilities, isTarget } = this.#host;
    const limits = { ...options, bodyBytesMax: FORM_BYTES_MAX };
    const form = new URLSearchParams((await readBody(request, response, limits)).toString());
    const target = form.get('target') ?? '';
    const lease = form.get('lease') ?? String(options.tokenSeconds);
    if (!target.startsWith('/') || !URL.canParse(target, 'http://door') || !isTarget(target.replace(/\?.*$/s, ''))) {
      throw new HttpError(400, 'target is a path like /queue/NAME or /exchange/NAME/KEY');
    }
    if (!/^\d{1,9}$/.test(lease)) throw new HttpError(400, 'lease must be a number of seconds');
    if (this.#count >= GRANTS_MAX) throw new HttpError(503, 'there are too many of these; wait until some end');
    this.#count += 1;
    const users = new Set<ServerResponse>();
    const revoke = (): void => {
      clearTimeout(timer);
      if (capabilities.find(token) !== undefined) this.#count -= 1;
      capabilities.revoke(token);
      // Whoever is following, or waiting, does so no longer.
      for (const user of users) user.destroy();
    };
    const token = capabilities.mint(this.#grant(target, principal, users, revoke));
    const timer = setTimeout(revoke, Math.min(Number(lease), options.leaseSecondsMax) * 1000).unref();
    sendEmpty(response, 201, { Location: capabilityUrl(baseUrl(request, peer, options), token) });
  }

  /** `users` holds the answers that are under way. */
  #grant(target: string, { username }: Principal, users: Set<ServerResponse>, revoke: () => void): Resource {
    const { broker, serve } = this.#host;
    return {
      onRequest: async (request, response, visit) => {
        if (request.method === 'DELETE') {
          revoke();
          sendEmpty(response, 204);
          return;
        }
        users.add(response);
        response.once('close', () => users.delete(response));
        // Whoever made it may have lost his rights, or be gone; from where he came does not count for those who use it.
        const principal = await broker.authenticate({ username, loopback: true, provedBy: 'renewal' });
        await serve(request, response, { ...visit, url: new URL(target, 'http://door') }, principal);
      },
    };
  }
}
