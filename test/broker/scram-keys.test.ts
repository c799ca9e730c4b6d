import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { hashPassword } from '../../broker/access/password.ts';
import { saslprep } from '../../broker/access/saslprep.ts';
import { Users } from '../../broker/access/users.ts';
import { createBroker } from '../../broker/broker.ts';

const HASHES = ['SHA-1', 'SHA-256'] as const;

describe('SCRAM keys', () => {
  it.each(HASHES)('%s: those of RFC 5802, as Node computes them', async (hash) => {
    const users = new Users();
    await users.put({ name: 'anna', password: 'pencil' });
    const { salt, iterations, storedKey, serverKey } = await users.scramKeys('anna', hash);
    const digest = hash.replace('-', '').toLowerCase();
    const bytes = hash === 'SHA-1' ? 20 : 32;
    const salted = pbkdf2Sync('pencil', Buffer.from(salt, 'base64'), iterations, bytes, digest);
    const hmac = (text: string): Buffer => createHmac(digest, salted).update(text).digest();
    expect(iterations).toBe(4096);
    expect(storedKey).toBe(createHash(digest).update(hmac('Client Key')).digest('base64'));
    expect(serverKey).toBe(hmac('Server Key').toString('base64'));
  });

  it('are salted for each user and each hash', async () => {
    const users = new Users();
    await users.put({ name: 'anna', password: 'same' });
    await users.put({ name: 'berta', password: 'same' });
    const all = await Promise.all(
      ['anna', 'berta'].flatMap((name) => HASHES.map((hash) => users.scramKeys(name, hash))),
    );
    expect(new Set(all.map(({ salt }) => salt)).size).toBe(4);
  });

  it('of a user with a hash alone are made when he logs in with the password', async () => {
    const users = new Users();
    await users.put({ name: 'anna', ...(await hashPassword('secret')) });
    expect(users.get('anna').scram).toBeUndefined();
    await users.authenticate({ username: 'anna', password: 'wrong', loopback: true }).catch(() => {});
    expect(users.get('anna').scram).toBeUndefined();
    await users.authenticate({ username: 'anna', password: 'secret', loopback: true });
    expect(await users.scramKeys('anna', 'SHA-256')).toEqual(users.get('anna').scram?.['SHA-256']);
  });

  it('of nobody look like those of somebody, with one salt for ever, and fit nothing', async () => {
    const users = new Users();
    const [first, second, other] = await Promise.all(
      ['nobody', 'nobody', 'else'].map((name) => users.scramKeys(name, 'SHA-1')),
    );
    expect(first?.salt).toBe(second?.salt);
    expect(first?.salt).not.toBe(other?.salt);
    expect(first?.storedKey).not.toBe(second?.storedKey);
    expect(Buffer.from(first?.salt ?? '', 'base64')).toHaveLength(16);
    expect(Buffer.from(first?.storedKey ?? '', 'base64')).toHaveLength(20);
  });

  it('there are none for an empty password, with which nobody gets in', async () => {
    const users = new Users();
    await users.put({ name: 'anna', password: '' });
    expect(users.get('anna').scram).toBeUndefined();
  });

  it('are in no exported definitions', async () => {
    const broker = await createBroker();
    expect((await broker.administration.users())[0]?.scram).toBeDefined();
    expect(JSON.stringify(await broker.administration.exportDefinitions())).not.toMatch(/scram|storedKey/);
  });
});

describe('SASLprep', () => {
  it.each([
    ['plain ASCII !~', 'plain ASCII !~'],
    ['I\u00adX', 'IX'],
    ['\u00aa', 'a'],
    ['\u2168', 'IX'],
    ['a\u00a0b', 'a b'],
    ['n\u0303', '\u00f1'],
    ['\u0007', undefined],
    ['a\u202eb', undefined],
  ])('of %j is %j', (text, prepared) => {
    expect(saslprep(text)).toBe(prepared);
  });
});
