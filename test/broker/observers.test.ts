import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import type { BrokerEvent } from '../../broker/observer.ts';
import type { Channel } from '../../broker/port.ts';
import { type Core, publish, send, startCore, text } from '../support/core.ts';

/** An event in a line. */
function line(event: BrokerEvent): string {
  const { type } = event;
  switch (type) {
    case 'connection-opened':
    case 'connection-closed':
    case 'channel-opened':
    case 'channel-closed':
      return `${type} ${event.peer.name}`;
    case 'exchange-declared':
      return `${type} ${event.exchange} ${event.exchangeType}`;
    case 'exchange-deleted':
      return `${type} ${event.exchange}`;
    case 'queue-declared':
    case 'queue-deleted':
      return `${type} ${event.queue}`;
    case 'bound':
    case 'unbound':
      return `${type} ${event.binding.source} ${event.binding.bindingKey} ${event.binding.destination}`;
    case 'consumer-added':
    case 'consumer-removed':
      return `${type} ${event.queue} ${event.consumerTag}`;
    case 'published':
      return `${type} ${text(event.message)} to ${event.queueCount}`;
    case 'returned':
      return `${type} ${text(event.message)}`;
    case 'delivered':
      return `${type} ${event.queue} ${text(event.message)}${event.redelivered ? ' again' : ''}`;
    case 'acked':
    case 'requeued':
      return `${type} ${event.queue} ${text(event.message)}`;
    case 'dead-lettered':
      return `${type} ${event.queue} ${text(event.message)} ${event.reason}`;
    case 'user-deleted':
      return `${type} ${event.username}`;
    case 'alarms':
      return `${type} ${event.alarms.join()}`;
  }
}

let core: Core;
let channel: Channel;
let events: string[];
let stop: () => void;
beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
  await channel.declareQueue({ queue: 'q' });
  await channel.declareQueue({ queue: 'dead' });
  events = [];
  stop = core.broker.observe((event) => {
    expect('vhost' in event ? event.vhost : '/').toBe('/');
    events.push(line(event));
  });
});
afterEach(() => core.broker.close());

/** What has happened since the last time, without noise. */
const happened = (): string[] => events.splice(0);

describe('observers', () => {
  it('of a connection and its channels', async () => {
    const connection = await core.broker.connect();
    const { name } = connection.peer;
    const own = connection.openChannel();
    connection.openChannel();
    own.close();
    own.close();
    await connection.close();
    expect(happened()).toEqual([
      `connection-opened ${name}`,
      `channel-opened ${name}`,
      `channel-opened ${name}`,
      `channel-closed ${name}`,
      `channel-closed ${name}`,
      `connection-closed ${name}`,
    ]);
  });

  it('of exchanges, queues and bindings, once each, and what goes along with them', async () => {
    await channel.declareExchange({ exchange: 'x', type: 'direct', autoDelete: true });
    await channel.declareExchange({ exchange: 'x', type: 'direct', autoDelete: true });
    await channel.declareQueue({ queue: 'new' });
    await channel.declareQueue({ queue: 'new' });
    const binding = { source: 'x', destination: 'new', destinationKind: 'queue', bindingKey: 'k' } as const;
    await channel.bind(binding);
    await channel.bind(binding);
    expect(happened()).toEqual(['exchange-declared x direct', 'queue-declared new', 'bound x k new']);
    await channel.deleteQueue('new');
    expect(happened()).toEqual(['unbound x k new', 'exchange-deleted x', 'queue-deleted new']);
    await channel.unbind({ ...binding, source: 'amq.direct', destination: 'q' });
    await channel.deleteQueue('new');
    await channel.deleteExchange('x');
    expect(happened()).toEqual([]);
  });

  it('of a user who is deleted, once, and of no other', async () => {
    const { administration } = core.broker;
    await administration.putUser({ name: 'anna', password: 'secret' });
    await administration.deleteUser('anna');
    await expect(administration.deleteUser('anna')).rejects.toThrow();
    expect(happened()).toEqual(['user-deleted anna']);
  });

  it('of a message on its way: published, delivered, acked', async () => {
    await core.consume(channel, 'q', { consumerTag: 't' });
    send(channel, 'q', '1');
    channel.ack(1);
    for (const destination of ['q', 'dead']) {
      await channel.bind({ source: 'amq.fanout', destination, destinationKind: 'queue', bindingKey: '' });
    }
    happened();
    publish(channel, 'amq.fanout', '', '2');
    channel.ack(0, true);
    await channel.get('dead', { noAck: true });
    await channel.cancel('t');
    expect(happened()).toEqual([
      'published 2 to 2',
      'delivered q 2',
      'acked q 2',
      'delivered dead 2',
      'consumer-removed q t',
    ]);
  });

  it('of one that comes back: requeued, then delivered again', async () => {
    channel.prefetch(2);
    const own = core.channel();
    await core.consume(own, 'q', { consumerTag: 't' });
    happened();
    for (const body of ['1', '2']) send(channel, 'q', body);
    own.reject(0, { multiple: true, requeue: true });
    own.close();
    expect(happened().filter((one) => !one.startsWith('channel'))).toEqual([
      'published 1 to 1',
      'delivered q 1',
      'published 2 to 1',
      'delivered q 2',
      'requeued q 1',
      'requeued q 2',
      'delivered q 1 again',
      'delivered q 2 again',
      'requeued q 1',
      'requeued q 2',
      'consumer-removed q t',
    ]);
  });

  it('of a message that nobody wants', () => {
    channel.publish(createMessage({ routingKey: 'nobody', body: '1' }), true);
    send(channel, 'nobody', '2');
    expect(happened()).toEqual(['published 1 to 0', 'returned 1', 'published 2 to 0']);
  });

  it('of every way to die, with and without a dead-letter exchange', async () => {
    const dead = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' };
    await channel.declareQueue({ queue: 'd', arguments: { ...dead, 'x-max-length': 1, 'x-delivery-limit': 0 } });
    await core.consume(core.channel(), 'dead', { noAck: true, consumerTag: 't' });
    happened();
    const fetch = async (): Promise<number> => (await channel.get('d'))?.deliveryTag ?? 0;
    for (const body of ['long', 'rejected']) send(channel, 'd', body);
    channel.reject(await fetch());
    send(channel, 'd', 'limited');
    channel.reject(await fetch(), { requeue: true });
    send(channel, 'd', 'late', { expiration: '5' });
    core.clock.advance(5);
    send(channel, 'q', 'quiet', { expiration: '5' });
    core.clock.advance(5);
    expect(happened()).toEqual([
      'published long to 1',
      'published rejected to 1',
      'dead-lettered d long maxlen',
      'delivered dead long',
      'delivered d rejected',
      'dead-lettered d rejected rejected',
      'delivered dead rejected',
      'published limited to 1',
      'delivered d limited',
      'dead-lettered d limited delivery_limit',
      'delivered dead limited',
      'published late to 1',
      'dead-lettered d late expired',
      'delivered dead late',
      'published quiet to 1',
      'dead-lettered q quiet expired',
    ]);
  });

  it('of consumers: a consumer goes before its queue', async () => {
    await channel.declareQueue({ queue: 'auto', autoDelete: true });
    await core.consume(channel, 'auto', { consumerTag: 'a' });
    await core.consume(channel, 'q', { consumerTag: 'b' });
    happened();
    await channel.cancel('a');
    await channel.deleteQueue('q');
    expect(happened()).toEqual([
      'consumer-removed auto a',
      'queue-deleted auto',
      'consumer-removed q b',
      'queue-deleted q',
    ]);
  });

  it('of alarms', async () => {
    await core.broker.administration.setAlarm('memory', true);
    await core.broker.administration.setAlarm('memory', false);
    expect(happened()).toEqual(['alarms memory', 'alarms ']);
  });

  it('acks one by one and all at once are told alike', async () => {
    for (const body of ['1', '2', '3']) {
      send(channel, 'q', body);
      await channel.get('q');
    }
    happened();
    channel.ack(2);
    channel.ack(3, true);
    expect(happened()).toEqual(['acked q 2', 'acked q 1', 'acked q 3']);
  });

  it('several are told the same, each until it stops', () => {
    const other: string[] = [];
    const stopOther = core.broker.observe((event) => other.push(line(event)));
    send(channel, 'q', '1');
    stop();
    stop();
    send(channel, 'q', '2');
    stopOther();
    send(channel, 'q', '3');
    expect(events).toEqual(['published 1 to 1']);
    expect(other).toEqual(['published 1 to 1', 'published 2 to 1']);
  });

  it('of topology alone hear of no message', async () => {
    const heard: string[] = [];
    const end = core.broker.observe((event) => heard.push(event.type), 'topology');
    stop();
    await channel.declareQueue({ queue: 'r' });
    await channel.consume({ queue: 'r' }, { onDeliver: (_message, tag) => channel.ack(tag) });
    send(channel, 'r', 'unseen');
    await channel.deleteQueue('r');
    expect(heard).toEqual(['queue-declared', 'consumer-added', 'consumer-removed', 'queue-deleted']);
    expect(events).toEqual([]);
    end();
  });
});
