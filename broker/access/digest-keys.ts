/**
 * The keys with which a door checks a Digest login [RFC 7616 §3.4.2]: the hash of user, realm and password. They stand
 * beside RabbitMQ's hash of the same password, like the SCRAM keys, and like that hash they do not tell the password.
 */
import type { DigestAlgorithm, UserDigestKeys } from '../administration/administration.ts';
import { md5 } from './md5.ts';

/** Part of every key: whoever changes it makes every one useless. */
export const DIGEST_REALM = 'warren';

const TEXT = new TextEncoder();

/** The keys of `password`, in hexadecimal; undefined for ''. */
export async function makeDigestKeys(username: string, password: string): Promise<UserDigestKeys | undefined> {
  if (password === '') return undefined;
  const data = TEXT.encode(`${username}:${DIGEST_REALM}:${password}`);
  const sha256 = new Uint8Array(await crypto.subtle.digest('SHA-256', data));
  return Object.freeze({ MD5: hexadecimal(md5(data)), 'SHA-256': hexadecimal(sha256) });
}

/** What somebody without keys is compared with: nobody knows it. */
export function unmatchableDigestKey(algorithm: DigestAlgorithm): string {
  return hexadecimal(crypto.getRandomValues(new Uint8Array(algorithm === 'MD5' ? 16 : 32)));
}

function hexadecimal(octets: Uint8Array): string {
  return Array.from(octets, (octet) => octet.toString(16).padStart(2, '0')).join('');
}
