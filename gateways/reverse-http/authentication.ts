/**
 * Who a request is from: HTTP Basic, Digest, a bearer token, or the client certificate of its connection, all of them the
 * broker's own users [RFC 7235, 7616, 7617, 6750]. Without any of these it is from the anonymous user, if there is one.
 */
import { type Broker, BrokerError, type Principal } from '../../broker/port.ts';
import { type PeerAddress, peerName } from '../gateway.ts';
import type { Capabilities } from './capabilities.ts';
import { DigestChallenges, parseDigest } from './digest.ts';
import { HttpError } from './http-error.ts';
import type { ResolvedOptions } from './options.ts';

/** What a bearer token stands for. */
interface Bearer {
  readonly username: string;
  readonly expiresAtMs: number;
}

/** What of a request says whose it is. */
interface Claimant {
  readonly headers: { readonly authorization?: string | undefined };
  readonly method?: string | undefined;
  readonly url?: string | undefined;
}

/** Bearer tokens at a time. */
const TOKENS_MAX = 100_000;

export interface IssuedToken {
  readonly token: string;
  readonly seconds: number;
}

export class Authentication {
  readonly #broker: Broker;
  readonly #options: ResolvedOptions;
  readonly #bearers: Capabilities<Bearer>;
  readonly #digests = new DigestChallenges();
  readonly #realm: Promise<string>;

  constructor(broker: Broker, options: ResolvedOptions, bearers: Capabilities<Bearer>) {
    this.#broker = broker;
    this.#options = options;
    this.#bearers = bearers;
    this.#realm = broker.digestKey('', 'SHA-256').then(({ realm }) => realm);
  }

  /** The user whose request this is. Rejects with HttpError 401; with a delay when a proof was wrong. */
  async authenticate(request: Claimant, peer: PeerAddress): Promise<Principal> {
    const { authorization } = request.headers;
    const { loopback, certificateName } = peer;
    if (authorization === undefined) {
      if (certificateName !== undefined) return this.#prove({ username: certificateName, loopback }, peer);
      const { anonymousUser } = this.#options;
      if (anonymousUser === undefined) throw await this.#challenge('authentication is needed', false);
      return this.#prove({ username: anonymousUser, loopback }, peer);
    }
    const [, scheme = '', rest = ''] = /^(\S+)\s*(.*)$/.exec(authorization) ?? [];
    switch (scheme.toLowerCase()) {
      case 'basic':
        return this.#basic(rest, peer);
      case 'digest':
        return this.#digest(rest, request, peer);
      case 'bearer':
        return this.#bearer(rest, peer);
      default:
        throw await this.#challenge('Basic, Digest and Bearer are known here', false);
    }
  }

  /** A token with which its bearer is this user for some time. Throws HttpError 503 when there are too many. */
  issue({ username }: Principal): IssuedToken {
    const { tokenSeconds: seconds } = this.#options;
    if (this.#bearers.size >= TOKENS_MAX) throw new HttpError(503, 'there are too many tokens; wait until some end');
    const token = this.#bearers.mint({ username, expiresAtMs: Date.now() + seconds * 1000 });
    setTimeout(() => this.#bearers.revoke(token), seconds * 1000).unref();
    return { token, seconds };
  }

  async #basic(encoded: string, peer: PeerAddress): Promise<Principal> {
    const decoded = Buffer.from(encoded, 'base64').toString('utf8');
    const colon = decoded.indexOf(':');
    if (colon < 0) throw await this.#challenge('malformed credentials', false);
    const username = decoded.slice(0, colon);
    const credentials = { username, password: decoded.slice(colon + 1), loopback: peer.loopback };
    try {
      return await this.#broker.authenticate(credentials);
    } catch (error) {
      throw await this.#refusal(error, peer);
    }
  }

  async #digest(parameters: string, request: Claimant, peer: PeerAddress): Promise<Principal> {
    const digest = parseDigest(parameters);
    if (digest === undefined) throw await this.#challenge('malformed or unknown Digest', false);
    const { username, algorithm } = digest;
    const { realm, key } = await this.#broker.digestKey(username, algorithm);
    const verdict = this.#digests.verify(digest, request.method ?? '', request.url ?? '', realm, key);
    if (verdict === 'stale') throw await this.#challenge('the nonce is stale', true);
    if (verdict === 'bad') throw await this.#refusal(new BrokerError('access-refused', 'invalid credentials'), peer);
    return this.#prove({ username, loopback: peer.loopback }, peer, 'digest');
  }

  async #bearer(token: string, peer: PeerAddress): Promise<Principal> {
    const bearer = this.#bearers.find(token);
    if (bearer === undefined || bearer.expiresAtMs < Date.now()) {
      throw await this.#refusal(new BrokerError('access-refused', 'this token is not, or no longer, good'), peer);
    }
    return this.#prove({ username: bearer.username, loopback: peer.loopback }, peer, 'renewal');
  }

  async #prove(
    who: { readonly username: string; readonly loopback: boolean },
    peer: PeerAddress,
    provedBy: 'certificate' | 'digest' | 'renewal' = 'certificate',
  ): Promise<Principal> {
    try {
      return await this.#broker.authenticate({ ...who, provedBy });
    } catch (error) {
      throw await this.#refusal(error, peer);
    }
  }

  /** After a while, so that passwords cannot be tried quickly. */
  async #refusal(error: unknown, peer: PeerAddress): Promise<unknown> {
    if (!(error instanceof BrokerError)) return error;
    this.#options.log.warn({ peer: peerName(peer) }, `login refused: ${error.message}`);
    const { loginRefusalDelayMs } = this.#options;
    if (!peer.loopback) await new Promise((resolve) => setTimeout(resolve, loginRefusalDelayMs).unref());
    return this.#challenge(error.message, false);
  }

  async #challenge(explanation: string, stale: boolean): Promise<HttpError> {
    const realm = await this.#realm;
    return new HttpError(401, explanation, {
      'WWW-Authenticate': [
        `Basic realm="${realm}", charset="UTF-8"`,
        ...this.#digests.challenges(realm, stale),
        `Bearer realm="${realm}"`,
      ],
    });
  }
}
