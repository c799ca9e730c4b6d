/**
 * Password hashes as RabbitMQ keeps them, so that users move between the two with their passwords: base64 of a random
 * 4-octet salt followed by the hash of the salt and the password in UTF-8. [RabbitMQ: passwords]
 */
import type { HashingAlgorithm } from '../administration/administration.ts';
import { md5 } from './md5.ts';

/** A password hash as stored: '' when the user has no password. */
export interface PasswordHash {
  readonly passwordHash: string;
  readonly hashingAlgorithm: HashingAlgorithm;
}

export const DEFAULT_HASHING_ALGORITHM: HashingAlgorithm = 'rabbit_password_hashing_sha256';

const SALT_BYTES = 4;
/** What is compared for a user who does not exist or has no password: nothing hashes to it. */
const UNMATCHABLE = new Uint8Array(SALT_BYTES + 32);
const TEXT = new TextEncoder();

const DIGESTS: { readonly [algorithm in HashingAlgorithm]: (data: Uint8Array<ArrayBuffer>) => Promise<Uint8Array> } = {
  rabbit_password_hashing_sha256: async (data) => new Uint8Array(await crypto.subtle.digest('SHA-256', data)),
  rabbit_password_hashing_sha512: async (data) => new Uint8Array(await crypto.subtle.digest('SHA-512', data)),
  rabbit_password_hashing_md5: async (data) => md5(data),
};

/** Hashes with a fresh salt. */
export async function hashPassword(
  password: string,
  algorithm: HashingAlgorithm = DEFAULT_HASHING_ALGORITHM,
): Promise<PasswordHash> {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const hash = await saltedHash(salt, password, algorithm);
  return { passwordHash: btoa(String.fromCharCode(...salt, ...hash)), hashingAlgorithm: algorithm };
}

/**
 * Is this the password? Takes as long for no `stored` hash (no such user) and for an empty one as for a wrong
 * password, and never tells by its time how much of a hash was right.
 */
export async function verifyPassword(password: string, stored: PasswordHash | undefined): Promise<boolean> {
  const octets = stored === undefined ? undefined : decodeHash(stored.passwordHash);
  const expected = octets === undefined || octets.length <= SALT_BYTES ? UNMATCHABLE : octets;
  const algorithm = stored?.hashingAlgorithm ?? DEFAULT_HASHING_ALGORITHM;
  const actual = await saltedHash(expected.slice(0, SALT_BYTES), password, algorithm);
  return equalInConstantTime(actual, expected.subarray(SALT_BYTES)) && expected !== UNMATCHABLE;
}

/** Is this something that `verifyPassword` can compare with? '' is: the hash of a user without password. */
export function isPasswordHash(passwordHash: string): boolean {
  const octets = decodeHash(passwordHash);
  return octets !== undefined && (octets.length === 0 || octets.length > SALT_BYTES);
}

export function isHashingAlgorithm(name: string): name is HashingAlgorithm {
  return Object.hasOwn(DIGESTS, name);
}

function saltedHash(salt: Uint8Array, password: string, algorithm: HashingAlgorithm): Promise<Uint8Array> {
  const encoded = TEXT.encode(password);
  const data = new Uint8Array(salt.length + encoded.length);
  data.set(salt);
  data.set(encoded, salt.length);
  return DIGESTS[algorithm](data);
}

function decodeHash(passwordHash: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(passwordHash), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}

/** Only the lengths, which are no secret, decide how long this takes. */
function equalInConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let index = 0; index < a.length; index += 1) difference |= (a[index] ?? 0) ^ (b[index] ?? 0);
  return difference === 0;
}
