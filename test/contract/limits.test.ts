/** Limits of virtual hosts and users (B3, B4), and connections that are closed from outside (B19). */
import { describe, expect } from 'vitest';
import { itAdministered as it, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import type { RawConnection } from '../support/raw-amqp.ts';
import { closesChannel, closesConnection, type Refusal } from '../support/raw-channel.ts';

const broker = useBroker();

/** Logs in and answers how connection.open was refused. */
async function refusedOpen(vhost: string, username = 'guest', password = 'guest'): Promise<Refusal> {
  const connection = await broker.dial();
  await connection.login({ username, password });
  connection.tuneOk(await connection.control.expect('connection.tune'));
  return connection.control.refused('connection.open', { virtualHost: vhost });
}

/** Runs `test` with a virtual host of its own, which guest may use. */
async function withVhost(test: (vhost: string) => Promise<void>): Promise<void> {
  const { administration } = broker;
  const vhost = `limited-${process.pid}`;
  await administration.putVhost({ name: vhost });
  try {
    await administration.setPermission({ vhost, user: 'guest', configure: '.*', write: '.*', read: '.*' });
    await test(vhost);
  } finally {
    await administration.deleteVhost(vhost);
  }
}

/** Runs `test` with a user of its own, who may do everything here. */
async function withUser(test: (name: string) => Promise<void>): Promise<void> {
  const { administration, vhost } = broker;
  const name = `limited-${process.pid}`;
  await administration.putUser({ name, password: 'secret' });
  try {
    await administration.setPermission({ vhost, user: name, configure: '.*', write: '.*', read: '.*' });
    await test(name);
  } finally {
    await administration.deleteUser(name);
  }
}

describe('limits of a virtual host', () => {
  it('B3: connections: 530, until one has gone', async () => {
    await withVhost(async (vhost) => {
      await broker.administration.setVhostLimits(vhost, { maxConnections: 2 });
      const first = await broker.connect({ vhost });
      await broker.connect({ vhost });
      await eventually(async () =>
        expect(await refusedOpen(vhost)).toEqual(
          closesConnection(
            530,
            `NOT_ALLOWED - access to vhost '${vhost}' refused for user 'guest': connection limit (2) is reached`,
            'connection.open',
          ),
        ),
      );
      await first.close();
      await eventually(() => broker.connect({ vhost }));
    });
  });

  it('B3: a limit of 0 lets nobody in', async () => {
    await withVhost(async (vhost) => {
      await broker.administration.setVhostLimits(vhost, { maxConnections: 0 });
      expect((await refusedOpen(vhost)).text).toContain('connection limit (0) is reached');
    });
  });

  it('B6: queues: 406, but what exists may be declared again', async () => {
    await withVhost(async (vhost) => {
      await broker.administration.setVhostLimits(vhost, { maxQueues: 2 });
      const channel = await broker.channel({ vhost });
      await channel.queue('first');
      await channel.queue('second');
      await channel.queue('first');
      expect(await channel.refused('queue.declare', { queue: 'third' })).toEqual(
        closesChannel(
          406,
          `PRECONDITION_FAILED - cannot declare queue 'third': queue limit in vhost '${vhost}' (2) is reached`,
          'queue.declare',
        ),
      );
      const again = await broker.channel({ vhost });
      await again.call('queue.delete', { queue: 'first' });
      await eventually(() => again.queue('third'));
    });
  });
});

describe('limits of a user', () => {
  it('B3: connections: 530', async () => {
    await withUser(async (name) => {
      await broker.administration.setUserLimits(name, { maxConnections: 1 });
      await broker.connect({ username: name, password: 'secret' });
      await eventually(async () =>
        expect(await refusedOpen(broker.vhost, name, 'secret')).toEqual(
          closesConnection(
            530,
            `NOT_ALLOWED - connection refused for user '${name}': user connection limit (1) is reached`,
            'connection.open',
          ),
        ),
      );
    });
  });

  it('B4: channels: 530', async () => {
    await withUser(async (name) => {
      await broker.administration.setUserLimits(name, { maxChannels: 2 });
      const connection = await broker.connect({ username: name, password: 'secret' });
      await connection.openChannel(1);
      await connection.openChannel(2);
      expect(await connection.channel(3).refused('channel.open')).toEqual(
        closesConnection(
          530,
          `NOT_ALLOWED - number of channels opened for user '${name}' has reached the maximum allowed user limit of (2)`,
          'none',
        ),
      );
    });
  });
});

describe('B19: closed from outside', () => {
  const nameOf = (connection: RawConnection): string =>
    `127.0.0.1:${connection.localPort} -> ${broker.host}:${broker.port}`;

  it('B19: an administrator closes a connection: 320 with his reason, and its messages go back', async () => {
    const connection = await broker.connect();
    const channel = await connection.openChannel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'held');
    await channel.mustGet(queue);
    await eventually(() => broker.administration.closeConnection(nameOf(connection), 'maintenance tonight'));
    expect(await connection.control.closed()).toEqual(
      closesConnection(320, 'CONNECTION_FORCED - maintenance tonight', 'none'),
    );
    const probe = await broker.channel();
    await eventually(async () => expect(await probe.ready(queue)).toBe(1));
  });
});
