/** amqp-connection-manager: publishes survive a broker that goes away, and errors that cannot heal reach the caller. */
import { connect } from 'amqp-connection-manager';
import type { Channel, ConsumeMessage } from 'amqplib';
import { afterEach, describe, expect, it } from 'vitest';
import { itAdministered, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { amqpUrl, forceClosed, Inbox } from './clients.ts';

type Manager = ReturnType<typeof connect>;

const broker = useBroker();
const opened: Manager[] = [];

function manager(): Manager {
  const connection = connect([amqpUrl(broker)], { reconnectTimeInSeconds: 0.02 });
  opened.push(connection);
  return connection;
}

afterEach(async () => {
  await Promise.allSettled(opened.splice(0).map((connection) => connection.close()));
});

describe('the example of its README', () => {
  it('sends JSON through a channel wrapper and consumes what a later setup listens to', async () => {
    const queue = broker.fresh('rx');
    const connection = manager();
    const wrapper = connection.createChannel({
      json: true,
      setup: (channel: Channel) => channel.assertQueue(queue, { durable: true }),
    });
    await wrapper.sendToQueue(queue, { hello: 'world' });
    const received = new Inbox<unknown>();
    await wrapper.addSetup((channel: Channel) =>
      channel.consume(queue, (message) => {
        if (message === null) return;
        received.add(JSON.parse(message.content.toString()));
        channel.ack(message);
      }),
    );
    await eventually(() => expect(received.items).toEqual([{ hello: 'world' }]));
    await wrapper.deleteQueue(queue);
  });
});

describe('when the broker closes the connection with 320', () => {
  itAdministered('it connects again, runs its setup again and delivers what was published meanwhile', async () => {
    const queue = broker.fresh('survivor');
    const connection = manager();
    const disconnects = new Inbox<{ err: Error & { code?: number } }>();
    connection.on('disconnect', disconnects.add);
    const received = new Inbox<string>();
    const wrapper = connection.createChannel({
      setup: async (channel: Channel) => {
        await channel.assertQueue(queue, { durable: true });
        await channel.prefetch(1);
        await channel.consume(queue, (message) => {
          if (message === null) return;
          received.add(message.content.toString());
          channel.ack(message);
        });
      },
    });
    await wrapper.waitForConnect();
    await wrapper.sendToQueue(queue, Buffer.from('before'));
    await forceClosed(broker);
    await eventually(() => expect(disconnects.items).toHaveLength(1));
    expect(disconnects.items[0]?.err.message).toContain('320 (CONNECTION-FORCED)');
    await wrapper.sendToQueue(queue, Buffer.from('during'));
    await wrapper.sendToQueue(queue, Buffer.from('after'));
    await eventually(() => expect(received.distinct).toEqual(['before', 'during', 'after']));
    await wrapper.deleteQueue(queue);
  });
});

describe('errors that trying again cannot mend', () => {
  it('a publish to an exchange that is not there rejects, and the next one goes through', async () => {
    const queue = broker.fresh('healed');
    const wrapper = manager().createChannel({
      setup: (channel: Channel) => channel.assertQueue(queue, { durable: false, autoDelete: true }),
    });
    wrapper.on('error', () => {});
    await wrapper.waitForConnect();
    await expect(wrapper.publish('no-such-exchange', 'key', Buffer.from('x'))).rejects.toThrow('channel closed');
    await wrapper.sendToQueue(queue, Buffer.from('y'));
    await expect(wrapper.checkQueue(queue)).resolves.toMatchObject({ messageCount: 1 });
    await wrapper.deleteQueue(queue);
  });
});

describe('a consumer whose queue is deleted', () => {
  it('consumes again from the queue that the setup declares anew', async () => {
    const queue = broker.fresh('reborn');
    const connection = manager();
    const wrapper = connection.createChannel({
      setup: (channel: Channel) => channel.assertQueue(queue, { durable: false }),
    });
    wrapper.on('error', () => {});
    const received = new Inbox<string>();
    await wrapper.consume(queue, (message: ConsumeMessage) => {
      received.add(message.content.toString());
      wrapper.ack(message);
    });
    const other = connection.createChannel({ confirm: false });
    await other.waitForConnect();
    await other.deleteQueue(queue);
    await eventually(async () => {
      expect(await wrapper.checkQueue(queue)).toMatchObject({ consumerCount: 1 });
    });
    await wrapper.sendToQueue(queue, Buffer.from('hello again'));
    await eventually(() => expect(received.items).toEqual(['hello again']));
    await other.deleteQueue(queue);
  });
});
