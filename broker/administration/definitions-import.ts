/**
 * Importing definitions: first all of it is checked against what is there and what the document brings along, then all
 * of it is applied. What exists is left as it is (queues, exchanges, bindings) or takes over what the document says
 * (users, virtual hosts, permissions, policies, parameters), so that importing twice is importing once. [B24]
 */

import { checkLimits } from '../access/limits.ts';
import { checkPermissionPattern, type Permissions } from '../access/permissions.ts';
import { prepareUser, type Users } from '../access/users.ts';
import { checkBinding, checkExchange, checkQueue } from '../declarations.ts';
import { type BindingSpec, BrokerError, type ExchangeDeclaration, type QueueDeclaration } from '../port.ts';
import { PREDECLARED_EXCHANGES } from '../predeclared-exchanges.ts';
import type { AdministeredEngine } from './administered-engine.ts';
import type { UserView, VhostSpec } from './administration.ts';
import type { In, ReadDefinitions } from './definitions.ts';
import type { Parameters } from './parameters.ts';
import { checkPolicy, type Policies } from './policies.ts';

/** What one broker is made of, as far as definitions speak of it. */
export interface Administered {
  readonly engine: AdministeredEngine;
  readonly users: Users;
  readonly permissions: Permissions;
  readonly policies: Policies;
  readonly parameters: Parameters;
}

/** Names of this kind belong to the broker; what a document brings along under them is passed over. */
const RESERVED_PREFIX = 'amq.';

/** What is there or will be, in one virtual host. */
interface Names {
  /** Exchange name to type. */
  readonly exchanges: Map<string, string>;
  readonly queues: Set<string>;
}

/** What is left to do when everything has been checked. */
interface Plan {
  readonly users: readonly UserView[];
  readonly vhosts: readonly VhostSpec[];
  readonly exchanges: readonly In<ExchangeDeclaration>[];
  readonly queues: readonly In<QueueDeclaration>[];
  readonly bindings: readonly In<BindingSpec>[];
  /** What of the document is passed over, in words. */
  readonly skipped: readonly string[];
}

/** Throws precondition-failed, or what declaring throws, before anything has been changed. */
export async function importDefinitions(
  definitions: ReadDefinitions,
  administered: Administered,
  onSkipped: (what: string) => void = () => {},
): Promise<void> {
  // Hashing takes its time; everything that compares with what is there comes after it.
  const users = await prepareUsers(definitions, administered.users);
  const plan = { users, ...check(definitions, administered) };
  for (const what of plan.skipped) onSkipped(what);
  apply(plan, definitions, administered);
}

function prepareUsers(definitions: ReadDefinitions, users: Users): Promise<readonly UserView[]> {
  return Promise.all(
    definitions.users.map((user) => prepareUser({ ...user, limits: user.limits ?? users.limits(user.name) })),
  );
}

function check(definitions: ReadDefinitions, administered: Administered): Omit<Plan, 'users'> {
  const { engine, users } = administered;
  const existing = new Map(engine.vhosts().map((vhost) => [vhost.name, vhost]));
  const vhosts = mergeVhosts(definitions, existing);
  for (const vhost of vhosts) checkVhost(vhost);
  const knownVhosts = new Set([...existing.keys(), ...vhosts.map(({ name }) => name)]);
  const knownUsers = new Set([...users.list(), ...definitions.users].map(({ name }) => name));
  for (const entry of [...definitions.permissions, ...definitions.topicPermissions]) {
    requireName(knownUsers, entry.user, 'user');
    for (const pattern of [entry.write, entry.read]) checkPermissionPattern(pattern);
    if ('configure' in entry) checkPermissionPattern(entry.configure);
  }
  for (const policy of definitions.policies) checkPolicy('user', policy);
  for (const policy of definitions.operatorPolicies) checkPolicy('operator', policy);
  for (const section of Object.values(definitions)) {
    for (const entry of section) if ('vhost' in entry) requireName(knownVhosts, entry.vhost, 'vhost');
  }
  return { vhosts, ...checkContents(definitions, vhosts, engine) };
}

/** Throws precondition-failed for a virtual host that cannot be. */
export function checkVhost(vhost: VhostSpec): void {
  const { name, defaultQueueType, limits = {} } = vhost;
  if (name === '') throw new BrokerError('precondition-failed', 'the name of a vhost must not be empty');
  checkLimits(limits, 'vhost');
  if (defaultQueueType === undefined) return;
  try {
    checkQueue({ queue: '', durable: true, arguments: { 'x-queue-type': defaultQueueType } }, name);
  } catch (error) {
    if (!(error instanceof BrokerError)) throw error;
    throw new BrokerError('precondition-failed', `vhost '${name}': '${defaultQueueType}' is not a valid queue type`);
  }
}

/** The virtual hosts that the document creates or changes. */
function mergeVhosts(definitions: ReadDefinitions, existing: ReadonlyMap<string, VhostSpec>): readonly VhostSpec[] {
  const merged = new Map<string, VhostSpec>();
  for (const vhost of definitions.vhosts) {
    merged.set(vhost.name, { ...existing.get(vhost.name), ...merged.get(vhost.name), ...vhost });
  }
  for (const { vhost: name, limits } of definitions.vhostLimits) {
    const vhost = merged.get(name) ?? existing.get(name);
    requireName(new Set(vhost === undefined ? [] : [name]), name, 'vhost');
    merged.set(name, { ...vhost, name, limits });
  }
  return [...merged.values()];
}

function requireName(known: ReadonlySet<string>, name: string, kind: 'user' | 'vhost'): void {
  if (known.has(name)) return;
  throw new BrokerError('precondition-failed', `definitions: no ${kind} '${name}', neither here nor in the document`);
}

/** Checks the exchanges, queues and bindings that the document brings along, and answers those that are new. */
function checkContents(
  definitions: ReadDefinitions,
  vhosts: readonly VhostSpec[],
  engine: AdministeredEngine,
): Pick<Plan, 'exchanges' | 'queues' | 'bindings' | 'skipped'> {
  const namesByVhost = new Map(engine.vhosts().map(({ name }) => [name, namesIn(name, engine)]));
  const namesOf = (vhost: string): Names => {
    const predeclared = PREDECLARED_EXCHANGES.map(({ name, type }) => [name, type] as const);
    const names = namesByVhost.get(vhost) ?? { exchanges: new Map(predeclared), queues: new Set() };
    namesByVhost.set(vhost, names);
    return names;
  };
  const skipped: string[] = [];
  const isNew = (kind: string, name: string, vhost: string, known: { has(name: string): boolean }): boolean => {
    if (known.has(name)) return false;
    if (isReserved(name)) skipped.push(`${kind} '${name}' in vhost '${vhost}': its name is the broker's`);
    return !isReserved(name);
  };
  const exchanges = definitions.exchanges.filter((declaration) => {
    const { vhost, exchange, type } = declaration;
    const names = namesOf(vhost).exchanges;
    if (!isNew('exchange', exchange, vhost, names)) return false;
    checkImported(declaration);
    names.set(exchange, type);
    return true;
  });
  const queues = definitions.queues.filter((declaration) => {
    const { vhost, queue } = declaration;
    const names = namesOf(vhost).queues;
    if (!isNew('queue', queue, vhost, names)) return false;
    checkQueue(declaration, vhost);
    names.add(queue);
    return true;
  });
  const bindings = definitions.bindings.filter((binding) => {
    const names = namesOf(binding.vhost);
    // Every queue is bound to the default exchange without being told.
    if (binding.source === '') return false;
    const sourceType = names.exchanges.get(binding.source);
    if (sourceType !== undefined) checkBinding(binding, sourceType);
    const missing = missingOf(binding, names);
    if (missing !== undefined) skipped.push(`${bindingText(binding)}: there is no ${missing}`);
    return missing === undefined;
  });
  checkQueueLimits(queues, [...engine.vhosts(), ...vhosts], namesOf);
  return { exchanges, queues, bindings, skipped };
}

/** Throws what declaring throws, with the name of the exchange: a document may have hundreds. */
function checkImported(declaration: In<ExchangeDeclaration>): void {
  const { vhost, exchange } = declaration;
  try {
    checkExchange(declaration, vhost);
  } catch (error) {
    if (!(error instanceof BrokerError) || error.message.includes(`'${exchange}'`)) throw error;
    throw new BrokerError(error.kind, `exchange '${exchange}' in vhost '${vhost}': ${error.message}`);
  }
}

/**
 * What a binding is of, and is not there. Every document exported from a RabbitMQ at work has such bindings: of
 * exclusive queues and internal exchanges, which are themselves left out.
 */
function missingOf({ source, destination, destinationKind }: BindingSpec, names: Names): string | undefined {
  if (!names.exchanges.has(source)) return `exchange '${source}'`;
  const destinations = destinationKind === 'queue' ? names.queues : names.exchanges;
  return destinations.has(destination) ? undefined : `${destinationKind} '${destination}'`;
}

function bindingText({ source, destination, destinationKind, bindingKey, vhost }: In<BindingSpec>): string {
  return `binding of ${destinationKind} '${destination}' to exchange '${source}' with '${bindingKey}' in vhost '${vhost}'`;
}

function namesIn(vhost: string, engine: AdministeredEngine): Names {
  const topology = engine.topology(vhost);
  return {
    exchanges: new Map(topology.exchanges.map(({ name, type }) => [name, type])),
    queues: new Set(topology.queues.map(({ name }) => name)),
  };
}

/** The default exchange, and what is predeclared or was named by a broker. */
function isReserved(name: string): boolean {
  return name === '' || name.startsWith(RESERVED_PREFIX);
}

function checkQueueLimits(
  queues: readonly In<QueueDeclaration>[],
  vhosts: readonly VhostSpec[],
  namesOf: (vhost: string) => Names,
): void {
  // Of a virtual host that is there and in the document, the latter counts: it comes later.
  const limits = new Map(vhosts.map(({ name, limits: { maxQueues = -1 } = {} }) => [name, maxQueues]));
  for (const vhost of new Set(queues.map((queue) => queue.vhost))) {
    const limit = limits.get(vhost) ?? -1;
    const total = namesOf(vhost).queues.size;
    if (limit < 0 || total <= limit) continue;
    const added = queues.filter((queue) => queue.vhost === vhost).length;
    throw new BrokerError(
      'precondition-failed',
      `Adding ${added} queue(s) to virtual host "${vhost}" would exceed the limit of ${limit} queue(s). ` +
        `This virtual host currently has ${total - added} queue(s) defined. Import aborted!`,
    );
  }
}

/** In one turn of the event loop, so that a crash leaves all of it or nothing. */
function apply(plan: Plan, definitions: ReadDefinitions, administered: Administered): void {
  const { engine, users, permissions, policies, parameters } = administered;
  for (const user of plan.users) users.store(user);
  for (const vhost of plan.vhosts) engine.putVhost(vhost);
  for (const permission of definitions.permissions) permissions.set(permission);
  for (const permission of definitions.topicPermissions) permissions.setTopic(permission);
  for (const parameter of definitions.globalParameters) parameters.setGlobal(parameter);
  for (const parameter of definitions.parameters) parameters.set(parameter);
  for (const policy of definitions.policies) policies.set('user', policy);
  for (const policy of definitions.operatorPolicies) policies.set('operator', policy);
  const touched = [...definitions.policies, ...definitions.operatorPolicies].map(({ vhost }) => vhost);
  for (const vhost of new Set(touched)) engine.applyPolicies(vhost);
  for (const { vhost, ...declaration } of plan.exchanges) engine.declareExchange(vhost, declaration);
  for (const { vhost, ...declaration } of plan.queues) engine.declareQueue(vhost, declaration);
  for (const { vhost, ...binding } of plan.bindings) engine.bind(vhost, binding);
}
