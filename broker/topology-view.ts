/** The live model as plain data; see topology.ts for what the fields mean. */
import type { Consumer } from './channel/consumer.ts';
import type { Queue } from './queue/queue.ts';
import type { Exchange } from './routing/exchange.ts';
import type { ConsumerView, ExchangeView, QueueView, Topology } from './topology.ts';
import { bindingSpec, type VirtualHost } from './vhost.ts';

/** Everything in a virtual host, as it is at this moment. */
export function topologyOf(vhost: VirtualHost): Topology {
  const exchanges = [...vhost.exchanges.values()];
  return {
    vhost: vhost.name,
    exchanges: exchanges.map((exchange) => exchangeView(exchange, vhost)),
    queues: Array.from(vhost.queues.values(), queueView),
    bindings: exchanges.flatMap((exchange) => Array.from(exchange.bindings.values(), bindingSpec)),
  };
}

function exchangeView(exchange: Exchange, vhost: VirtualHost): ExchangeView {
  const { name, type, durable, autoDelete, internal, arguments: args, policy } = exchange;
  return {
    name,
    type,
    durable,
    autoDelete,
    internal,
    arguments: args,
    ...policyNames(policy),
    delayedMessages: vhost.router.delayed.countFor(exchange),
    unroutableMessages: exchange.unroutableCount,
  };
}

function queueView(queue: Queue): QueueView {
  const { name, type, durable, autoDelete, owner, arguments: args, policy } = queue;
  return {
    name,
    type,
    durable,
    exclusive: owner !== undefined,
    autoDelete,
    arguments: args,
    ...policyNames(policy),
    effectivePolicyDefinition: policy.definition,
    ...(owner === undefined ? {} : { owner: owner.peer.name }),
    messagesReady: queue.readyCount,
    messagesUnacked: queue.unackedCount,
    messagesDelayed: queue.heldCount,
    messageBytesReady: queue.readyBytes,
    consumers: Array.from(queue.consumers, consumerView),
  };
}

function consumerView(consumer: Consumer): ConsumerView {
  const single = consumer.queue.settings.singleActiveConsumer;
  return {
    consumerTag: consumer.tag,
    channelNumber: consumer.channel.number,
    connection: consumer.channel.connection.peer.name,
    noAck: consumer.noAck,
    exclusive: consumer.exclusive,
    priority: consumer.priority,
    prefetch: consumer.prefetch,
    unacked: consumer.unacked,
    active: consumer.active,
    activityStatus: !single ? 'up' : consumer.active ? 'single_active' : 'waiting',
    arguments: consumer.arguments,
  };
}

function policyNames({ policy, operatorPolicy }: Queue['policy']): { policy?: string; operatorPolicy?: string } {
  return {
    ...(policy === undefined ? {} : { policy }),
    ...(operatorPolicy === undefined ? {} : { operatorPolicy }),
  };
}
