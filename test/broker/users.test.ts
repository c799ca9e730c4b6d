import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { md5 } from '../../broker/access/md5.ts';
import { hashPassword, verifyPassword } from '../../broker/access/password.ts';
import { USER_TAGS_MAX, Users } from '../../broker/access/users.ts';
import { createBroker } from '../../broker/broker.ts';
import { BrokerError, type Credentials } from '../../broker/port.ts';
import { runs } from '../support/runs.ts';

const LOCAL = { loopback: true };
const REMOTE = { loopback: false };

async function usersWith(...users: Parameters<Users['put']>[0][]): Promise<Users> {
  const directory = new Users();
  for (const user of users) await directory.put(user);
  return directory;
}

async function refusal(users: Users, credentials: Credentials): Promise<string> {
  const error = await users.authenticate(credentials).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(BrokerError);
  expect(error).toMatchObject({ kind: 'access-refused' });
  return (error as BrokerError).message;
}

describe('password hashes are those of RabbitMQ', () => {
  it('verifies a hash that RabbitMQ 3.10 made', async () => {
    const passwordHash = 'f76FLsmTk4xJ5rqT6pNkieNbxQIFTPiaX1apkCXyBflKvRIr';
    const stored = { passwordHash, hashingAlgorithm: 'rabbit_password_hashing_sha256' } as const;
    expect(await verifyPassword('secret', stored)).toBe(true);
    expect(await verifyPassword('Secret', stored)).toBe(false);
  });

  it.each([
    ['rabbit_password_hashing_sha256', 'sha256'],
    ['rabbit_password_hashing_sha512', 'sha512'],
    ['rabbit_password_hashing_md5', 'md5'],
  ] as const)('%s: base64 of a 4-octet salt and the hash of salt and password', async (algorithm, hash) => {
    const { passwordHash, hashingAlgorithm } = await hashPassword('pässword', algorithm);
    const octets = Buffer.from(passwordHash, 'base64');
    const salt = octets.subarray(0, 4);
    const expected = createHash(hash).update(salt).update('pässword').digest();
    expect(octets.subarray(4)).toEqual(expected);
    expect(await verifyPassword('pässword', { passwordHash, hashingAlgorithm })).toBe(true);
    expect(await verifyPassword('passwort', { passwordHash, hashingAlgorithm })).toBe(false);
  });

  it('salts each hash anew', async () => {
    expect(await hashPassword('same')).not.toEqual(await hashPassword('same'));
  });

  it('MD5 of any octets is that of Node', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (data) => {
        expect(Buffer.from(md5(data))).toEqual(createHash('md5').update(data).digest());
      }),
      runs(100),
    );
  });
});

describe('login', () => {
  it('answers who it is, with his tags', async () => {
    const users = await usersWith({ name: 'alice', password: 'wonder', tags: ['monitoring'] });
    const principal = await users.authenticate({ username: 'alice', password: 'wonder', ...REMOTE });
    expect(principal).toEqual({ username: 'alice', tags: ['monitoring'] });
  });

  it('does not tell what was wrong', async () => {
    const users = await usersWith({ name: 'alice', password: 'wonder' }, { name: 'certified' });
    const texts = [
      await refusal(users, { username: 'alice', password: 'wrong', ...LOCAL }),
      await refusal(users, { username: 'alice', password: '', ...LOCAL }),
      await refusal(users, { username: 'nobody', password: 'wonder', ...LOCAL }),
      await refusal(users, { username: 'nobody', provedBy: 'certificate', ...LOCAL }),
      await refusal(users, { username: 'certified', password: 'guess', ...LOCAL }),
      await refusal(users, { username: 'certified', password: '', ...LOCAL }),
    ];
    const expected = ['alice', 'alice', 'nobody', 'nobody', 'certified', 'certified'];
    expect(texts).toEqual(expected.map((name) => `user '${name}': invalid credentials`));
  });

  it('without a password is for those whose name a door has proved', async () => {
    const users = await usersWith({ name: 'certified' });
    expect(await users.authenticate({ username: 'certified', provedBy: 'certificate', ...REMOTE })).toMatchObject({
      username: 'certified',
    });
  });

  it('with an empty password is refused, even where it hashes right', async () => {
    const users = await usersWith({ name: 'blank', password: '' });
    expect(await refusal(users, { username: 'blank', password: '', ...LOCAL })).toContain('invalid credentials');
  });

  it('of guest from elsewhere is refused with the cure, but only to those who know the password', async () => {
    const users = await usersWith({ name: 'guest', password: 'guest' });
    expect(await users.authenticate({ username: 'guest', password: 'guest', ...LOCAL })).toBeDefined();
    expect(await refusal(users, { username: 'guest', password: 'guest', ...REMOTE })).toMatch(
      /^User 'guest' can only connect via localhost: .*RABBITMQ_DEFAULT_USER.*loopback users$/,
    );
    expect(await refusal(users, { username: 'guest', password: 'wrong', ...REMOTE })).toContain('invalid credentials');
  });

  it('of guest from elsewhere succeeds when he is taken off the loopback users', async () => {
    const users = new Users({ loopbackUsers: [] });
    await users.put({ name: 'guest', password: 'guest' });
    expect(await users.authenticate({ username: 'guest', password: 'guest', ...REMOTE })).toBeDefined();
  });
});

describe('administration of users', () => {
  it('replaces, limits, lists and deletes', async () => {
    const broker = await createBroker();
    const { administration } = broker;
    await administration.putUser({ name: 'alice', password: 'first', tags: ['management'] });
    await administration.putUser({ name: 'alice', password: 'second', tags: [] });
    await administration.setUserLimits('alice', { maxChannels: 3 });
    const listed = (await administration.users()).find(({ name }) => name === 'alice');
    expect(listed).toMatchObject({ tags: [], limits: { maxChannels: 3 } });
    await expect(broker.authenticate({ username: 'alice', password: 'first', ...LOCAL })).rejects.toThrow();
    await administration.deleteUser('alice');
    await expect(broker.authenticate({ username: 'alice', password: 'second', ...LOCAL })).rejects.toThrow();
    await broker.close();
  });

  it('closes the connections of a deleted user, and drops his permissions', async () => {
    const broker = await createBroker();
    const { administration } = broker;
    await administration.putUser({ name: 'alice', password: 'wonder' });
    await administration.setPermission({ vhost: '/', user: 'alice', configure: '', write: '', read: '' });
    const errors: BrokerError[] = [];
    const principal = await broker.authenticate({ username: 'alice', password: 'wonder', ...LOCAL });
    await broker.connect(principal, '/', { onClose: (error) => errors.push(error) });
    const program = await broker.connect();
    await administration.deleteUser('alice');
    expect(errors).toMatchObject([{ kind: 'connection-forced', message: "user 'alice' is deleted" }]);
    expect((await administration.connections()).map(({ name }) => name)).toEqual([program.peer.name]);
    expect(await administration.permissions()).toMatchObject([{ user: 'guest' }]);
    await broker.close();
  });

  it.each([
    [{ name: '' }, 'the name of a user must not be empty'],
    [{ name: 'a', passwordHash: 'not base64!' }, "user 'a': the password hash is no base64 of salt and hash"],
    [{ name: 'a', passwordHash: 'AAAA' }, "user 'a': the password hash is no base64 of salt and hash"],
    [{ name: 'a', tags: Array(USER_TAGS_MAX + 1).fill('t') }, "user 'a' has more than 32 tags"],
    [{ name: 'a', limits: { maxChannels: 1.5 } }, 'user limit maxChannels should be an integer, actually was 1.5'],
  ])('refuses what cannot be: %j', async (user, message) => {
    await expect(new Users().put(user)).rejects.toMatchObject({ kind: 'precondition-failed', message });
  });

  it('knows not what it was not told', async () => {
    const { administration } = await createBroker();
    const notFound = { kind: 'not-found', message: "no user 'nobody'" };
    await expect(administration.deleteUser('nobody')).rejects.toMatchObject(notFound);
    await expect(administration.setUserLimits('nobody', {})).rejects.toMatchObject(notFound);
    await expect(administration.clearPermission('/', 'nobody')).rejects.toMatchObject(notFound);
  });
});
