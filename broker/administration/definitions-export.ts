/**
 * Writing definitions, in the shape in which RabbitMQ exports and imports them: of a whole broker, or of one virtual
 * host, whose entries then do not name it. Left out is what could not be declared again: what is predeclared, named by
 * the broker, exclusive or internal, and bindings of it. [B24; RabbitMQ: definitions]
 */

import { EMPTY_TABLE } from '../fields.ts';
import type { Topology } from '../topology.ts';
import type { Definitions, Policy, UserView, VhostSpec } from './administration.ts';
import { OPERATOR_POLICY_COMPONENT, VHOST_LIMITS_COMPONENT } from './definitions.ts';
import type { Administered } from './definitions-import.ts';
import { jsonFromTable } from './json-fields.ts';

/** The release of RabbitMQ whose documents these are like; importers decide by it how to read them. */
export const RABBITMQ_VERSION = '3.13.7';

const AMQ_PREFIX = 'amq.';

type Entry = { readonly [key: string]: unknown };

/** A document that `JSON.stringify` writes as RabbitMQ would. `vhost`, if given, must exist. */
export function writeDefinitions(administered: Administered, vhost?: string): Definitions {
  const { engine, users, permissions, policies, parameters } = administered;
  const vhosts = engine.vhosts().filter(({ name }) => vhost === undefined || name === vhost);
  const chosen = (entry: { readonly vhost: string }): boolean => vhost === undefined || entry.vhost === vhost;
  const topologies = vhosts.map(({ name }) => engine.topology(name));
  const inside = {
    parameters: [
      ...vhosts.filter(({ limits }) => hasLimits(limits)).map(writeVhostLimits),
      ...parameters.list().filter(chosen),
      ...policies.list('operator').filter(chosen).map(writeOperatorPolicy),
    ],
    policies: policies.list('user').filter(chosen).map(writePolicy),
    exchanges: topologies.flatMap(writeExchanges),
    queues: topologies.flatMap(writeQueues),
    bindings: topologies.flatMap(writeBindings),
  };
  const head = { rabbit_version: RABBITMQ_VERSION, rabbitmq_version: RABBITMQ_VERSION, product_name: 'Warren' };
  if (vhost !== undefined) {
    const sections = Object.entries(inside).map(([section, entries]) => [
      section,
      (entries as readonly Entry[]).map(withoutVhost),
    ]);
    return {
      ...head,
      rabbitmq_definition_format: 'single_virtual_host',
      original_vhost_name: vhost,
      ...Object.fromEntries(sections),
    };
  }
  return {
    ...head,
    rabbitmq_definition_format: 'cluster',
    users: users.list().map(writeUser),
    vhosts: vhosts.map(writeVhost),
    permissions: permissions.list(),
    topic_permissions: permissions.listTopic(),
    global_parameters: parameters.listGlobal(),
    ...inside,
  };
}

function withoutVhost({ vhost: _, ...entry }: Entry): Entry {
  return entry;
}

function writeUser(user: UserView): Entry {
  const { maxConnections, maxChannels } = user.limits;
  return {
    name: user.name,
    password_hash: user.passwordHash,
    hashing_algorithm: user.hashingAlgorithm,
    tags: user.tags,
    limits: withoutAbsent({ 'max-connections': maxConnections, 'max-channels': maxChannels }),
  };
}

function writeVhost(vhost: VhostSpec): Entry {
  const { name, description = '', tags = [], defaultQueueType } = vhost;
  const metadata = withoutAbsent({ description, tags, default_queue_type: defaultQueueType });
  return { name, ...metadata, metadata, limits: limitsOf(vhost) };
}

function hasLimits(limits: VhostSpec['limits']): boolean {
  return limits?.maxConnections !== undefined || limits?.maxQueues !== undefined;
}

function writeVhostLimits(vhost: VhostSpec): Entry & { readonly vhost: string } {
  return { vhost: vhost.name, component: VHOST_LIMITS_COMPONENT, name: 'limits', value: limitsOf(vhost) };
}

function limitsOf({ limits = {} }: VhostSpec): Entry {
  return withoutAbsent({ 'max-connections': limits.maxConnections, 'max-queues': limits.maxQueues });
}

function withoutAbsent(entry: Entry): Entry {
  return Object.fromEntries(Object.entries(entry).filter(([, value]) => value !== undefined));
}

function writePolicy({ vhost, name, ...policy }: Policy): Entry & { readonly vhost: string } {
  return { vhost, name, ...policyValue(policy) };
}

function writeOperatorPolicy({ vhost, name, ...policy }: Policy): Entry & { readonly vhost: string } {
  return { vhost, component: OPERATOR_POLICY_COMPONENT, name, value: policyValue(policy) };
}

function policyValue({ pattern, applyTo, priority, definition }: Omit<Policy, 'vhost' | 'name'>): Entry {
  return { pattern, 'apply-to': applyTo, priority, definition: jsonFromTable(definition) };
}

function writeExchanges({ vhost, exchanges }: Topology): Entry[] {
  return exchanges
    .filter(({ name, internal }) => !internal && name !== '' && !name.startsWith(AMQ_PREFIX))
    .map((exchange) => ({
      vhost,
      name: exchange.name,
      type: exchange.type,
      durable: exchange.durable,
      auto_delete: exchange.autoDelete,
      internal: false,
      arguments: jsonFromTable(exchange.arguments),
    }));
}

function writeQueues(topology: Topology): Entry[] {
  return exportedQueues(topology).map((queue) => ({
    vhost: topology.vhost,
    name: queue.name,
    type: queue.type,
    durable: queue.durable,
    auto_delete: queue.autoDelete,
    arguments: jsonFromTable(queue.arguments),
  }));
}

function exportedQueues({ queues }: Topology): Topology['queues'] {
  return queues.filter(({ name, exclusive }) => !exclusive && !name.startsWith(AMQ_PREFIX));
}

function writeBindings(topology: Topology): Entry[] {
  const queues = new Set(exportedQueues(topology).map(({ name }) => name));
  // Predeclared exchanges will be there, too.
  const exchanges = new Set(topology.exchanges.filter(({ internal }) => !internal).map(({ name }) => name));
  return topology.bindings
    .filter(({ source, destination, destinationKind }) => {
      const destinations = destinationKind === 'queue' ? queues : exchanges;
      return source !== '' && exchanges.has(source) && destinations.has(destination);
    })
    .map((binding) => ({
      vhost: topology.vhost,
      source: binding.source,
      destination: binding.destination,
      destination_type: binding.destinationKind,
      routing_key: binding.bindingKey,
      arguments: jsonFromTable(binding.arguments ?? EMPTY_TABLE),
    }));
}
