/**
 * The control methods of a channel [AMQP 1.5 to 1.9], one function each: arguments in, broker verb, answer out. A
 * function that answers a promise holds up everything that this connection sent afterwards until it is settled, so
 * methods take effect, and are answered, in the order in which they came. What it throws closes channel or connection.
 */

import { type AmqpChannel, withoutLineBreaks } from './channel.ts';
import { AmqpConsumer, writeGot } from './deliveries.ts';
import { ReplyError } from './errors.ts';
import type { MethodArguments, MethodName } from './methods.ts';

type Handler<M extends MethodName> = (channel: AmqpChannel, args: MethodArguments<M>) => Promise<void> | void;

/** Methods that a peer may send on an open channel, besides publish, ack, nack, reject, open and close. */
export type ControlMethod =
  | 'channel.flow'
  | 'channel.flow-ok'
  | 'access.request'
  | `exchange.${'declare' | 'delete' | 'bind' | 'unbind'}`
  | `queue.${'declare' | 'bind' | 'unbind' | 'purge' | 'delete'}`
  | `basic.${'qos' | 'consume' | 'cancel' | 'get' | 'recover' | 'recover-async'}`
  | 'confirm.select'
  | `tx.${'select' | 'commit' | 'rollback'}`;

/** The one ticket there is; tickets mean nothing since AMQP 0-9-1. */
const TICKET = 1;

export const CONTROL: { readonly [M in ControlMethod]: Handler<M> } = {
  'channel.flow': (channel, { active }) => {
    channel.flow = active;
    channel.send('channel.flow-ok', { active });
  },
  'channel.flow-ok': () => {},
  'access.request': (channel) => channel.send('access.request-ok', { ticket: TICKET }),

  'exchange.declare': async (channel, { exchange, noWait, ...rest }) => {
    await channel.broker.declareExchange({ ...rest, exchange: withoutLineBreaks(exchange) });
    if (!noWait) channel.send('exchange.declare-ok', {});
  },
  'exchange.delete': async (channel, { exchange, ifUnused, noWait }) => {
    await channel.broker.deleteExchange(withoutLineBreaks(exchange), { ifUnused });
    if (!noWait) channel.send('exchange.delete-ok', {});
  },
  'exchange.bind': async (channel, args) => {
    await channel.broker.bind(exchangeBinding(args));
    if (!args.noWait) channel.send('exchange.bind-ok', {});
  },
  'exchange.unbind': async (channel, args) => {
    await channel.broker.unbind(exchangeBinding(args));
    if (!args.noWait) channel.send('exchange.unbind-ok', {});
  },

  'queue.declare': async (channel, { queue, noWait, ...rest }) => {
    const declared = await channel.broker.declareQueue({ ...rest, queue: withoutLineBreaks(queue) });
    channel.lastQueue = declared.queue;
    if (!noWait) channel.send('queue.declare-ok', declared);
  },
  'queue.bind': async (channel, args) => {
    await channel.broker.bind(queueBinding(channel, args));
    if (!args.noWait) channel.send('queue.bind-ok', {});
  },
  'queue.unbind': async (channel, args) => {
    await channel.broker.unbind(queueBinding(channel, args));
    channel.send('queue.unbind-ok', {});
  },
  'queue.purge': async (channel, { queue, noWait }) => {
    const messageCount = await channel.broker.purgeQueue(channel.queueNamed(queue));
    if (!noWait) channel.send('queue.purge-ok', { messageCount });
  },
  'queue.delete': async (channel, { queue, ifUnused, ifEmpty, noWait }) => {
    const messageCount = await channel.broker.deleteQueue(channel.queueNamed(queue), { ifUnused, ifEmpty });
    if (!noWait) channel.send('queue.delete-ok', { messageCount });
  },

  'basic.qos': (channel, { prefetchSize, prefetchCount, global }) => {
    if (prefetchSize !== 0) throw new ReplyError(540, `prefetch_size!=0 (${prefetchSize})`);
    channel.broker.prefetch(prefetchCount, global);
    channel.send('basic.qos-ok', {});
  },
  // COMPAT: no-local is accepted and ignored, as RabbitMQ does.
  'basic.consume': async (channel, { queue, noWait, consumerTag, noAck, exclusive, arguments: args }) => {
    const consumer = new AmqpConsumer(channel);
    const spec = { queue: channel.queueNamed(queue), consumerTag, noAck, exclusive, arguments: args };
    const tag = await channel.broker.consume(spec, consumer);
    consumer.tag = tag;
    if (!noWait) channel.send('basic.consume-ok', { consumerTag: tag });
  },
  'basic.cancel': async (channel, { consumerTag, noWait }) => {
    await channel.broker.cancel(consumerTag);
    if (!noWait) channel.send('basic.cancel-ok', { consumerTag });
  },
  'basic.get': async (channel, { queue, noAck }) => {
    const got = await channel.broker.get(channel.queueNamed(queue), { noAck });
    if (got === undefined) channel.send('basic.get-empty', { clusterId: '' });
    else writeGot(channel, got);
  },
  'basic.recover': async (channel, { requeue }) => {
    await recover(channel, requeue);
    channel.send('basic.recover-ok', {});
  },
  'basic.recover-async': (channel, { requeue }) => recover(channel, requeue),

  'confirm.select': async (channel, { noWait }) => {
    await channel.broker.confirmSelect();
    if (!noWait) channel.send('confirm.select-ok', {});
  },
  'tx.select': async (channel) => {
    await channel.broker.txSelect();
    channel.send('tx.select-ok', {});
  },
  'tx.commit': async (channel) => {
    await channel.broker.txCommit();
    channel.send('tx.commit-ok', {});
  },
  'tx.rollback': async (channel) => {
    await channel.broker.txRollback();
    channel.send('tx.rollback-ok', {});
  },
};

/** Whether `name` is a method with a function above. */
export function isControlMethod(name: MethodName): name is ControlMethod {
  return Object.hasOwn(CONTROL, name);
}

function recover(channel: AmqpChannel, requeue: boolean): Promise<void> {
  if (!requeue) throw new ReplyError(540, 'requeue=false');
  return channel.broker.recover();
}

function exchangeBinding(args: MethodArguments<'exchange.bind'>) {
  return {
    source: withoutLineBreaks(args.source),
    destination: withoutLineBreaks(args.destination),
    destinationKind: 'exchange' as const,
    bindingKey: args.routingKey,
    arguments: args.arguments,
  };
}

/** With neither queue nor key, the key is the name of the queue that is meant. [AMQP 1.7.2.3] */
function queueBinding(channel: AmqpChannel, args: MethodArguments<'queue.unbind'>) {
  const destination = channel.queueNamed(args.queue);
  return {
    source: withoutLineBreaks(args.exchange),
    destination,
    destinationKind: 'queue' as const,
    bindingKey: args.queue === '' && args.routingKey === '' ? destination : args.routingKey,
    arguments: args.arguments,
  };
}
