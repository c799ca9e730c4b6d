import { describe, expect, it } from 'vitest';
import { Permissions, THE_PROGRAM } from '../../broker/access/permissions.ts';
import { createBroker } from '../../broker/broker.ts';
import type { Principal } from '../../broker/port.ts';

const ALICE: Principal = { username: 'alice', tags: [] };
const BOB: Principal = { username: 'bob', tags: [] };

function permissionsOf(configure: string, write: string, read: string): Permissions {
  const permissions = new Permissions();
  permissions.set({ vhost: '/', user: 'alice', configure, write, read });
  return permissions;
}

describe('permissions', () => {
  it('[B18] match anywhere unless anchored, each right by its own pattern', () => {
    const permissions = permissionsOf('^alice-', 'orders', '.*');
    expect(permissions.may(ALICE, '/', 'configure', 'alice-1')).toBe(true);
    expect(permissions.may(ALICE, '/', 'configure', 'not-alice-1')).toBe(false);
    expect(permissions.may(ALICE, '/', 'write', 'my-orders-2')).toBe(true);
    expect(permissions.may(ALICE, '/', 'read', 'anything')).toBe(true);
  });

  it('with an empty pattern grant nothing', () => {
    const permissions = permissionsOf('', '', '');
    for (const right of ['configure', 'write', 'read'] as const) {
      expect(permissions.may(ALICE, '/', right, 'q')).toBe(false);
      expect(permissions.may(ALICE, '/', right, '')).toBe(false);
    }
    expect(permissions.hasAccess(ALICE, '/')).toBe(true);
  });

  it('are of one user in one virtual host', () => {
    const permissions = permissionsOf('.*', '.*', '.*');
    expect(permissions.may(BOB, '/', 'read', 'q')).toBe(false);
    expect(permissions.may(ALICE, 'other', 'read', 'q')).toBe(false);
    expect(permissions.hasAccess(BOB, '/')).toBe(false);
  });

  it('know the default exchange as amq.default', () => {
    const permissions = permissionsOf('', '^amq\\.default$', '');
    expect(permissions.may(ALICE, '/', 'write', '')).toBe(true);
    expect(permissions.may(ALICE, '/', 'write', 'amq.direct')).toBe(false);
  });

  it('[B18] refuse in the words of RabbitMQ', () => {
    const permissions = permissionsOf('', '', '');
    expect(() => permissions.authorize(ALICE, '/', 'configure', 'queue', 'q')).toThrow(
      expect.objectContaining({
        kind: 'access-refused',
        message: "configure access to queue 'q' in vhost '/' refused for user 'alice'",
      }),
    );
    expect(() => permissions.authorize(ALICE, '/', 'write', 'exchange', '')).toThrow(
      "write access to exchange 'amq.default' in vhost '/' refused for user 'alice'",
    );
    expect(() => permissions.authorizeVhost(ALICE, 'other')).toThrow(
      expect.objectContaining({ kind: 'not-allowed', message: "access to vhost 'other' refused for user 'alice'" }),
    );
  });

  it('do not bind the program itself, nor let a user pass for it', () => {
    const permissions = new Permissions();
    expect(permissions.may(THE_PROGRAM, '/', 'configure', 'q')).toBe(true);
    expect(permissions.hasAccess(THE_PROGRAM, '/')).toBe(true);
    expect(permissions.mayTopic(THE_PROGRAM, '/', 'write', 'x', 'k')).toBe(true);
    expect(permissions.may({ ...THE_PROGRAM }, '/', 'configure', 'q')).toBe(false);
  });

  it('change the revision with every change', () => {
    const permissions = new Permissions();
    const seen = new Set([permissions.revision]);
    const changes = [
      () => permissions.set({ vhost: '/', user: 'alice', configure: '', write: '', read: '' }),
      () => permissions.setTopic({ vhost: '/', user: 'alice', exchange: 'x', write: '', read: '' }),
      () => permissions.clearTopic('/', 'alice'),
      () => permissions.clear('/', 'alice'),
      () => permissions.forgetUser('alice'),
      () => permissions.forgetVhost('/'),
    ];
    for (const change of changes) {
      change();
      seen.add(permissions.revision);
    }
    expect(seen.size).toBe(changes.length + 1);
  });

  it('with a pattern that cannot be are refused, and leave the old ones', () => {
    const permissions = permissionsOf('.*', '.*', '.*');
    expect(() => permissions.set({ vhost: '/', user: 'alice', configure: '.*', write: '(', read: '.*' })).toThrow(
      expect.objectContaining({
        kind: 'precondition-failed',
        message: "regular expression '(' is invalid: missing ) (at 1)",
      }),
    );
    expect(permissions.may(ALICE, '/', 'write', 'q')).toBe(true);
  });
});

describe('topic permissions', () => {
  function topicPermissions(exchange: string, write: string, read: string): Permissions {
    const permissions = permissionsOf('.*', '.*', '.*');
    permissions.setTopic({ vhost: '/', user: 'alice', exchange, write, read });
    return permissions;
  }

  it('allow every routing key where there is none', () => {
    const permissions = topicPermissions('events', '^a', '^b');
    expect(permissions.mayTopic(ALICE, '/', 'write', 'other', 'z')).toBe(true);
    expect(permissions.mayTopic(BOB, '/', 'write', 'events', 'z')).toBe(true);
    expect(permissions.hasTopicPermission(ALICE, '/', 'events')).toBe(true);
    expect(permissions.hasTopicPermission(BOB, '/', 'events')).toBe(false);
  });

  it('match routing keys, by right', () => {
    const permissions = topicPermissions('events', '^a\\.', '^b\\.');
    expect(permissions.mayTopic(ALICE, '/', 'write', 'events', 'a.1')).toBe(true);
    expect(permissions.mayTopic(ALICE, '/', 'write', 'events', 'b.1')).toBe(false);
    expect(permissions.mayTopic(ALICE, '/', 'read', 'events', 'b.1')).toBe(true);
  });

  it('of every exchange give way to those of one', () => {
    const permissions = topicPermissions('', '^a', '^a');
    permissions.setTopic({ vhost: '/', user: 'alice', exchange: 'open', write: '.*', read: '.*' });
    expect(permissions.mayTopic(ALICE, '/', 'write', 'events', 'b')).toBe(false);
    expect(permissions.mayTopic(ALICE, '/', 'write', 'open', 'b')).toBe(true);
  });

  it('replace {username} and {vhost} by the names, not by the patterns that they could be', () => {
    const permissions = new Permissions();
    permissions.setTopic({ vhost: 'v.1', user: 'a.*', exchange: 'x', write: '^{username}\\.{vhost}$', read: '' });
    const user: Principal = { username: 'a.*', tags: [] };
    expect(permissions.mayTopic(user, 'v.1', 'write', 'x', 'a.*.v.1')).toBe(true);
    expect(permissions.mayTopic(user, 'v.1', 'write', 'x', 'abc.v.1')).toBe(false);
    expect(permissions.mayTopic(user, 'v.1', 'write', 'x', 'a.*.vx1')).toBe(false);
    expect(permissions.mayTopic(user, 'v.1', 'read', 'x', 'k')).toBe(false);
  });

  it('[B18] refuse in the words of RabbitMQ', () => {
    const permissions = topicPermissions('amq.topic', '^a', '^a');
    expect(() => permissions.authorizeTopic(ALICE, '/', 'write', 'amq.topic', 'bad.key')).toThrow(
      expect.objectContaining({
        kind: 'access-refused',
        message: "write access to topic 'bad.key' in exchange 'amq.topic' in vhost '/' refused for user 'alice'",
      }),
    );
  });

  it('are cleared one by one or all at once', () => {
    const permissions = topicPermissions('one', '^a', '^a');
    permissions.setTopic({ vhost: '/', user: 'alice', exchange: 'two', write: '^a', read: '^a' });
    permissions.clearTopic('/', 'alice', 'one');
    expect(permissions.listTopic().map(({ exchange }) => exchange)).toEqual(['two']);
    permissions.clearTopic('/', 'alice');
    expect(permissions.listTopic()).toEqual([]);
  });
});

describe('administration of permissions', () => {
  it('asks for a user and a virtual host that exist', async () => {
    const { administration } = await createBroker();
    const permission = { vhost: '/', user: 'guest', configure: '', write: '', read: '' };
    await expect(administration.setPermission({ ...permission, user: 'nobody' })).rejects.toMatchObject({
      kind: 'not-found',
      message: "no user 'nobody'",
    });
    await expect(administration.setPermission({ ...permission, vhost: 'nowhere' })).rejects.toMatchObject({
      kind: 'not-found',
      message: "no vhost 'nowhere'",
    });
    const topic = { vhost: 'nowhere', user: 'guest', exchange: '', write: '', read: '' };
    await expect(administration.setTopicPermission(topic)).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('takes effect for open connections', async () => {
    const broker = await createBroker();
    const { administration } = broker;
    const guest = await broker.authenticate({ username: 'guest', password: 'guest', loopback: true });
    const connection = await broker.connect(guest);
    await connection.openChannel().declareQueue({ queue: 'before' });
    await administration.setPermission({ vhost: '/', user: 'guest', configure: '^x', write: '', read: '' });
    await expect(connection.openChannel().declareQueue({ queue: 'after' })).rejects.toMatchObject({
      kind: 'access-refused',
      message: "configure access to queue 'after' in vhost '/' refused for user 'guest'",
    });
    await administration.clearPermission('/', 'guest');
    await expect(broker.connect(guest)).rejects.toMatchObject({
      kind: 'not-allowed',
      message: "access to vhost '/' refused for user 'guest'",
    });
    await broker.close();
  });
});
