import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { hashPassword } from '../../broker/access/password.ts';
import type { DigestAlgorithm } from '../../broker/administration/administration.ts';
import { createBroker } from '../../broker/broker.ts';

const expected = (algorithm: DigestAlgorithm, user: string, password: string): string =>
  createHash(algorithm.replace('-', '')).update(`${user}:warren:${password}`).digest('hex');

it.each(['MD5', 'SHA-256'] as const)('keeps the %s key of a password that it has seen', async (algorithm) => {
  const broker = await createBroker();
  await broker.administration.putUser({ name: 'anna', password: 'pässword' });
  expect(await broker.digestKey('anna', algorithm)).toEqual({
    realm: 'warren',
    key: expected(algorithm, 'anna', 'pässword'),
  });
});

it('makes the keys of an imported user at his first login', async () => {
  const broker = await createBroker();
  await broker.administration.putUser({ name: 'berta', ...(await hashPassword('secret')) });
  const key = expected('MD5', 'berta', 'secret');
  expect((await broker.digestKey('berta', 'MD5')).key).not.toBe(key);
  await expect(broker.authenticate({ username: 'berta', password: 'wrong', loopback: true })).rejects.toThrow(
    'invalid',
  );
  expect((await broker.digestKey('berta', 'MD5')).key).not.toBe(key);
  await broker.authenticate({ username: 'berta', password: 'secret', loopback: true });
  expect((await broker.digestKey('berta', 'MD5')).key).toBe(key);
});

it('tells of nobody a key of the right length that is never the same', async () => {
  const broker = await createBroker();
  await broker.administration.putUser({ name: 'carla' });
  const keys = await Promise.all(['nobody', 'nobody', 'carla'].map((name) => broker.digestKey(name, 'SHA-256')));
  expect(new Set(keys.map(({ key }) => key)).size).toBe(3);
  expect(keys.every(({ key }) => /^[0-9a-f]{64}$/.test(key))).toBe(true);
});
