/**
 * The keys with which a door checks a SCRAM login [RFC 5802 §3]. They stand beside RabbitMQ's hash of the same password,
 * so that one password serves every protocol; like that hash they do not tell the password, and no other door needs them.
 */
import type { ScramHash, ScramKeys, UserScramKeys } from '../administration/administration.ts';
import { saslprep } from './saslprep.ts';

/** Rounds of PBKDF2: the least that RFC 7677 allows, since the hash beside the keys is a single round. */
export const SCRAM_ITERATIONS = 4096;
const SALT_BYTES = 16;
const KEY_BITS: { readonly [hash in ScramHash]: number } = { 'SHA-1': 160, 'SHA-256': 256 };
const TEXT = new TextEncoder();

/** The keys of `password`, with fresh salts; undefined for '' and for what SASLprep forbids. Takes a few milliseconds. */
export async function makeScramKeys(password: string): Promise<UserScramKeys | undefined> {
  const prepared = saslprep(password);
  if (prepared === undefined || prepared === '') return undefined;
  const [sha1, sha256] = await Promise.all([keysOf(prepared, 'SHA-1'), keysOf(prepared, 'SHA-256')]);
  return Object.freeze({ 'SHA-1': sha1, 'SHA-256': sha256 });
}

async function keysOf(password: string, hash: ScramHash): Promise<ScramKeys> {
  const salt = crypto.getRandomValues(new Uint8Array(SALT_BYTES));
  const material = await crypto.subtle.importKey('raw', TEXT.encode(password), 'PBKDF2', false, ['deriveBits']);
  const settings = { name: 'PBKDF2', hash, salt, iterations: SCRAM_ITERATIONS };
  const salted = new Uint8Array(await crypto.subtle.deriveBits(settings, material, KEY_BITS[hash]));
  const clientKey = await hmac(hash, salted, 'Client Key');
  const storedKey = new Uint8Array(await crypto.subtle.digest(hash, clientKey));
  const serverKey = await hmac(hash, salted, 'Server Key');
  return Object.freeze({
    salt: base64(salt),
    iterations: SCRAM_ITERATIONS,
    storedKey: base64(storedKey),
    serverKey: base64(serverKey),
  });
}

/**
 * What somebody without keys is asked for: the same salt at every attempt, so that nothing tells him from others. No
 * proof fits these keys. `secret` is the broker's own.
 */
export async function unmatchableScramKeys(username: string, hash: ScramHash, secret: Uint8Array): Promise<ScramKeys> {
  const salt = (await hmac('SHA-256', secret, `${hash} ${username}`)).subarray(0, SALT_BYTES);
  const random = (): string => base64(crypto.getRandomValues(new Uint8Array(KEY_BITS[hash] / 8)));
  return { salt: base64(salt), iterations: SCRAM_ITERATIONS, storedKey: random(), serverKey: random() };
}

async function hmac(hash: ScramHash, key: Uint8Array, text: string): Promise<Uint8Array<ArrayBuffer>> {
  const imported = await crypto.subtle.importKey('raw', key.slice(), { name: 'HMAC', hash }, false, ['sign']);
  return new Uint8Array(await crypto.subtle.sign('HMAC', imported, TEXT.encode(text)));
}

function base64(octets: Uint8Array): string {
  return btoa(String.fromCharCode(...octets));
}
