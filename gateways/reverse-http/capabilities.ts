/**
 * Capabilities: URLs that nobody can guess and that carry their rights in themselves [128 random bits]. Whoever knows one
 * may use it; it is in no list and in no log, and it can be revoked.
 *
 * What is kept is the keyed hash of a token, so that neither the time of a look-up nor a dump of this map tells anything
 * about tokens: a guessed one is looked up exactly like a good one.
 */
import { createHmac, randomBytes } from 'node:crypto';

const TOKEN_BYTES = 18;

export class Capabilities<Grant> {
  readonly #key = randomBytes(32);
  readonly #grants = new Map<string, Grant>();

  /** How many there are. */
  get size(): number {
    return this.#grants.size;
  }

  /** A new token for `grant`: 24 characters of base64url, valid until it is revoked. */
  mint(grant: Grant): string {
    const token = randomBytes(TOKEN_BYTES).toString('base64url');
    this.#grants.set(this.#hash(token), grant);
    return token;
  }

  /** What the token grants; undefined when it grants nothing, never did, or has been revoked. */
  find(token: string): Grant | undefined {
    return this.#grants.get(this.#hash(token));
  }

  /** The token grants nothing from now on. Idempotent. */
  revoke(token: string): void {
    this.#grants.delete(this.#hash(token));
  }

  #hash(token: string): string {
    return createHmac('sha256', this.#key).update(token).digest('base64');
  }
}
