import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createBroker } from '../../broker/broker.ts';
import type { Broker, Principal } from '../../broker/port.ts';

describe('limits', () => {
  let broker: Broker;
  let alice: Principal;
  beforeEach(async () => {
    broker = await createBroker();
    await broker.administration.putUser({ name: 'alice', password: 'wonder' });
    await broker.administration.putVhost({ name: 'v' });
    for (const vhost of ['/', 'v']) {
      await broker.administration.setPermission({ vhost, user: 'alice', configure: '.*', write: '.*', read: '.*' });
    }
    alice = await broker.authenticate({ username: 'alice', password: 'wonder', loopback: true });
  });
  afterEach(() => broker.close());

  it('[B3] on the connections of a virtual host', async () => {
    await broker.administration.setVhostLimits('v', { maxConnections: 1 });
    const first = await broker.connect(alice, 'v');
    await expect(broker.connect(alice, 'v')).rejects.toMatchObject({
      kind: 'not-allowed',
      message: "access to vhost 'v' refused for user 'alice': connection limit (1) is reached",
    });
    await broker.connect(alice, '/');
    await first.close();
    await broker.connect(alice, 'v');
  });

  it('[B3] on the connections of a user, in all virtual hosts', async () => {
    await broker.administration.setUserLimits('alice', { maxConnections: 1 });
    await broker.connect(alice, '/');
    await expect(broker.connect(alice, 'v')).rejects.toMatchObject({
      kind: 'not-allowed',
      message: "connection refused for user 'alice': user connection limit (1) is reached",
    });
  });

  it('[B3] on the channels of a user, in all his connections', async () => {
    await broker.administration.setUserLimits('alice', { maxChannels: 1 });
    (await broker.connect(alice, '/')).openChannel();
    const other = await broker.connect(alice, 'v');
    expect(() => other.openChannel()).toThrow(
      expect.objectContaining({
        kind: 'not-allowed',
        message: "number of channels opened for user 'alice' has reached the maximum allowed user limit of (1)",
      }),
    );
  });

  it('on the queues of a virtual host; declaring again is no new queue', async () => {
    await broker.administration.setVhostLimits('v', { maxQueues: 1 });
    const channel = (await broker.connect(alice, 'v')).openChannel();
    await channel.declareQueue({ queue: 'q' });
    await channel.declareQueue({ queue: 'q' });
    await expect(channel.declareQueue({ queue: 'q2' })).rejects.toMatchObject({
      kind: 'precondition-failed',
      message: "cannot declare queue 'q2': queue limit in vhost 'v' (1) is reached",
    });
  });

  it('of 0 allow none, and negative ones are none', async () => {
    await broker.administration.setVhostLimits('v', { maxConnections: 0 });
    await expect(broker.connect(alice, 'v')).rejects.toThrow('connection limit (0) is reached');
    await broker.administration.setVhostLimits('v', { maxConnections: -1 });
    await broker.connect(alice, 'v');
  });

  it('are integers', async () => {
    await expect(broker.administration.setVhostLimits('v', { maxQueues: Number.NaN })).rejects.toMatchObject({
      kind: 'precondition-failed',
      message: 'vhost limit maxQueues should be an integer, actually was NaN',
    });
  });

  it('are kept when a virtual host is listed', async () => {
    await broker.administration.setVhostLimits('v', { maxQueues: 7 });
    expect(await broker.administration.vhosts()).toContainEqual({ name: 'v', limits: { maxQueues: 7 } });
  });
});
