/**
 * HTTP Digest access authentication, the server's side [RFC 7616]: SHA-256 and MD5, `qop=auth`. A nonce is the time and a
 * random number under a key of this process, so that none has to be kept; what is kept is how far each one's counter has
 * come, so that no login can be played again.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { DigestAlgorithm } from '../../broker/administration/administration.ts';

/** How long a nonce is good; after that the client is told that it is stale, and logs in with another. */
const NONCE_LIFE_MS = 5 * 60_000;
/** Nonces whose counters are kept; the oldest goes when there are more, and is stale from then on. */
const NONCES_MAX = 10_000;
/** `nc` is eight hexadecimal digits. */
const COUNT_PATTERN = /^[0-9a-f]{8}$/i;

/** What a client has sent in its Authorization field. */
export interface DigestResponse {
  readonly username: string;
  readonly realm: string;
  readonly algorithm: DigestAlgorithm;
  readonly nonce: string;
  readonly uri: string;
  readonly nc: string;
  readonly cnonce: string;
  readonly response: string;
}

/** The parameters of `Digest a=b, c="d"`; undefined when something in it is not there or not supported. */
export function parseDigest(parameters: string): DigestResponse | undefined {
  const fields = new Map<string, string>();
  for (const [, name = '', quoted, plain] of parameters.matchAll(
    /([\w*-]{1,32})\s{0,8}=\s{0,8}(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))/g,
  )) {
    fields.set(name.toLowerCase(), quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '');
  }
  const text = (name: string): string => fields.get(name) ?? '';
  const algorithm = (fields.get('algorithm') ?? 'MD5').toUpperCase();
  if (algorithm !== 'MD5' && algorithm !== 'SHA-256') return undefined;
  if (text('qop') !== 'auth' || !COUNT_PATTERN.test(text('nc'))) return undefined;
  // A client that hashes its name, which it was not told it may, or writes it in another encoding, is not understood.
  if (!fields.has('username') || text('userhash') === 'true') return undefined;
  return {
    username: Buffer.from(text('username'), 'latin1').toString('utf8'),
    realm: text('realm'),
    algorithm,
    nonce: text('nonce'),
    uri: text('uri'),
    nc: text('nc'),
    cnonce: text('cnonce'),
    response: text('response'),
  };
}

export type Verdict = 'good' | 'bad' | 'stale';

export class DigestChallenges {
  readonly #key = randomBytes(32);
  /** The highest count of each nonce in use. */
  readonly #counts = new Map<string, number>();

  /** The fields to answer 401 with, the better algorithm first. */
  challenges(realm: string, stale: boolean): string[] {
    const nonce = this.#mint();
    return ['SHA-256', 'MD5'].map(
      (algorithm) =>
        `Digest realm="${realm}", qop="auth", algorithm=${algorithm}, nonce="${nonce}", charset=UTF-8` +
        (stale ? ', stale=true' : ''),
    );
  }

  /** `key`: the hash of user, realm and password; `target`: what this request asks for. */
  verify(digest: DigestResponse, method: string, target: string, realm: string, key: string): Verdict {
    const hash = (text: string): string =>
      createHash(digest.algorithm === 'MD5' ? 'md5' : 'sha256')
        .update(text, 'latin1')
        .digest('hex');
    const request = hash(`${method}:${digest.uri}`);
    const expected = hash(`${key}:${digest.nonce}:${digest.nc}:${digest.cnonce}:auth:${request}`);
    const given = Buffer.from(digest.response.toLowerCase());
    const isRight = given.length === expected.length && timingSafeEqual(given, Buffer.from(expected));
    // The proof is for one target; behind it another could be asked for. [RFC 7616 §3.4.6]
    if (!isRight || digest.realm !== realm || digest.uri !== target) return 'bad';
    return this.#use(digest.nonce, Number.parseInt(digest.nc, 16)) ? 'good' : 'stale';
  }

  #mint(): string {
    const payload = `${Date.now().toString(36)}.${randomBytes(9).toString('base64url')}`;
    return `${payload}.${this.#sign(payload)}`;
  }

  #sign(payload: string): string {
    return createHmac('sha256', this.#key).update(payload).digest('base64url').slice(0, 22);
  }

  /** False when the nonce is not ours, too old, or has been used up to this count. */
  #use(nonce: string, count: number): boolean {
    const [, payload = '', time = '', signature = ''] = /^((\w+)\.[\w-]+)\.([\w-]+)$/.exec(nonce) ?? [];
    if (signature !== this.#sign(payload)) return false;
    const bornMs = Number.parseInt(time, 36);
    if (Date.now() - bornMs > NONCE_LIFE_MS || bornMs < this.#oldestMs) return false;
    if (count <= (this.#counts.get(nonce) ?? 0)) return false;
    this.#counts.set(nonce, count);
    if (this.#counts.size > NONCES_MAX) this.#forgetOldest();
    return true;
  }

  /** Nonces born before this are taken for stale: their counters are not known any more. */
  #oldestMs = 0;

  #forgetOldest(): void {
    const [oldest = ''] = this.#counts.keys();
    this.#counts.delete(oldest);
    this.#oldestMs = Math.max(this.#oldestMs, Number.parseInt(oldest, 36) + 1);
  }
}
