/**
 * The server's half of SCRAM [RFC 5802, RFC 7677]:
 *
 * ```
 * client   n,,n=anna,r=CLIENT-NONCE                    with channel binding: p=TYPE,,n=anna,…
 * server   r=CLIENT-NONCE+OURS,s=SALT,i=ROUNDS
 * client   c=biws,r=CLIENT-NONCE+OURS,p=PROOF          biws is the first `n,,`; with channel binding, and its octets
 * server   v=SIGNATURE
 * ```
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { ScramHash, ScramKeys } from '../../broker/administration/administration.ts';

/** The name of each hash function in `node:crypto`. */
const DIGESTS: { readonly [hash in ScramHash]: string } = { 'SHA-1': 'sha1', 'SHA-256': 'sha256' };

const NONCE_BYTES = 18;

/** A message that does not have the form of its place, or a proof that does not fit. */
export class ScramError extends Error {
  override readonly name = 'ScramError';
}

/** The client's first message. */
export interface ScramFirst {
  readonly username: string;
  /** As whom to act; '' = as himself. */
  readonly authorise: string;
  readonly gs2Header: string;
  /** `n`: the client does no channel binding; `y`: it does, and believes that we do not; else `p=` and the type. */
  readonly flag: string;
  readonly bare: string;
  readonly clientNonce: string;
}

/** Throws ScramError. */
export function readFirst(text: string): ScramFirst {
  const [, gs2Header, flag, authorise = '', bare, name, clientNonce] =
    /^((n|y|p=[^,]*),(?:a=([^,]*))?,)(n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?)$/s.exec(text) ?? [];
  if (gs2Header === undefined || flag === undefined || bare === undefined || name === undefined) {
    throw new ScramError('malformed first message');
  }
  const [username, actsAs] = [unescapeName(name), unescapeName(authorise)];
  return { username, authorise: actsAs, gs2Header, flag, bare, clientNonce: clientNonce ?? '' };
}

/**
 * The octets that the last message must have beside the header: none without channel binding. `isPlus`: by the name of
 * the mechanism there is one. Throws ScramError, also for a client that has been told that there is none where there is:
 * somebody has altered what we offered [RFC 5802 §6].
 */
export function boundOctets(
  { flag }: ScramFirst,
  isPlus: boolean,
  offered: ReadonlyMap<string, Uint8Array> | undefined,
): Uint8Array {
  if (isPlus !== flag.startsWith('p=')) throw new ScramError(`"${flag}" does not go with this mechanism`);
  if (flag === 'y' && offered !== undefined)
    throw new ScramError('channel binding was offered: somebody is in between');
  if (!isPlus) return new Uint8Array();
  const octets = offered?.get(flag.slice('p='.length));
  if (octets === undefined) throw new ScramError(`no channel binding "${flag}" here`);
  return octets;
}

function unescapeName(name: string): string {
  if (/=(?!2C|3D)/.test(name)) throw new ScramError('malformed name');
  return name.replaceAll('=2C', ',').replaceAll('=3D', '=');
}

/** One login, after the client's first message. */
export class ScramExchange {
  readonly #digest: string;
  readonly #keys: ScramKeys;
  readonly #first: ScramFirst;
  readonly #nonce: string;

  readonly #bound: Uint8Array;

  /** `bound` as `boundOctets` answers it. */
  constructor(hash: ScramHash, keys: ScramKeys, first: ScramFirst, bound: Uint8Array) {
    this.#bound = bound;
    this.#digest = DIGESTS[hash];
    this.#keys = keys;
    this.#first = first;
    this.#nonce = first.clientNonce + randomBytes(NONCE_BYTES).toString('base64');
  }

  /** Our first message. */
  get challenge(): string {
    return `r=${this.#nonce},s=${this.#keys.salt},i=${this.#keys.iterations}`;
  }

  /** Checks the client's last message and answers ours. Throws ScramError. */
  finish(text: string): string {
    const [, withoutProof, binding = '', nonce, proofText = ''] =
      /^(c=([A-Za-z0-9+/=]*),r=([^,]*)(?:,[^p=][^,]*)*),p=([A-Za-z0-9+/=]*)$/.exec(text) ?? [];
    if (withoutProof === undefined || nonce !== this.#nonce) throw new ScramError('malformed last message');
    const expected = Buffer.concat([Buffer.from(this.#first.gs2Header), this.#bound]);
    if (!Buffer.from(binding, 'base64').equals(expected)) throw new ScramError('altered header, or another connection');
    const authMessage = `${this.#first.bare},${this.challenge},${withoutProof}`;
    const storedKey = Buffer.from(this.#keys.storedKey, 'base64');
    const signature = createHmac(this.#digest, storedKey).update(authMessage).digest();
    const proof = Buffer.from(proofText, 'base64');
    if (proof.length !== signature.length) throw new ScramError('wrong proof');
    const clientKey = proof.map((octet, index) => octet ^ (signature[index] ?? 0));
    if (!timingSafeEqual(createHash(this.#digest).update(clientKey).digest(), storedKey)) {
      throw new ScramError('wrong proof');
    }
    const serverKey = Buffer.from(this.#keys.serverKey, 'base64');
    return `v=${createHmac(this.#digest, serverKey).update(authMessage).digest('base64')}`;
  }
}
