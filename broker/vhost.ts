/**
 * A virtual host: names to exchanges and queues, and the bindings between them. Declaring again is compared with what
 * exists; deleting takes the bindings along; whatever lives only as long as it is used (auto-delete, exclusive,
 * x-expires) is deleted here. Rights are the channel's business.
 */
import type { VhostSpec } from './administration/administration.ts';
import type { Policies } from './administration/policies.ts';
import type { Clock } from './clock.ts';
import type { Connection } from './connection.ts';
import { checkExchange, checkQueue } from './declarations.ts';
import type { DefinitionLog, ExchangeDefinition, QueueDefinition } from './definition-log.ts';
import { requireSame, requireSameArguments } from './equivalence.ts';
import { EMPTY_TABLE, type FieldTable, fieldsEqual } from './fields.ts';
import type { Message } from './message.ts';
import type { DeathReason, Observers } from './observer.ts';
import { type BindingSpec, BrokerError, type ExchangeDeclaration, type QueueDeclaration } from './port.ts';
import { PREDECLARED_EXCHANGES } from './predeclared-exchanges.ts';
import { Queue, type QueueHost } from './queue/queue.ts';
import { QUEUE_ARGUMENTS, queueSettings, queueTypeOf } from './queue/queue-settings.ts';
import type { QueuedMessage } from './queue/queued-message.ts';
import { type Binding, bindingId, DELAYED_TYPE, Exchange } from './routing/exchange.ts';
import { REPLY_TO, ReplyConsumers } from './routing/reply-consumers.ts';
import { Router } from './routing/router.ts';
import type { Holder, Store } from './store.ts';

/** What every virtual host of one broker shares. */
export interface VhostContext {
  readonly clock: Clock;
  readonly store: Store;
  readonly log: DefinitionLog;
  readonly observers: Observers;
  readonly policies: Policies;
  /** For queues without an own one; 0 = none. */
  readonly consumerTimeoutMs: number;
}

const RESERVED_PREFIX = 'amq.';

/** Longest `x-name-prefix`. */
const NAME_PREFIX_MAX = 64;

export class VirtualHost implements QueueHost {
  readonly name: string;
  readonly clock: Clock;
  readonly store: Store;
  readonly observers: Observers;
  readonly exchanges = new Map<string, Exchange>();
  readonly queues = new Map<string, Queue>();
  readonly connections = new Set<Connection>();
  readonly replies: ReplyConsumers;
  readonly router: Router;
  /** Description, tags, default queue type and limits. */
  spec: VhostSpec;
  /** The broker is shutting down: what is durable does not go because its last user does. */
  stopping = false;
  /** See `ExchangeHost`. */
  routesRevision = 0;
  readonly #context: VhostContext;
  /** Each takes back the messages of a queue or exchange that outlived the last process. */
  #returning: (() => Promise<void>)[] = [];

  constructor(spec: VhostSpec, context: VhostContext) {
    this.name = spec.name;
    this.spec = spec;
    this.clock = context.clock;
    this.store = context.store;
    this.observers = context.observers;
    this.#context = context;
    this.replies = new ReplyConsumers(context.clock);
    this.router = new Router(this, context.clock, context.observers, this.replies, context.store);
    for (const { name, type, internal } of PREDECLARED_EXCHANGES) {
      this.#addExchange({ name, type, durable: true, autoDelete: false, internal, arguments: EMPTY_TABLE });
      // The default exchange is no secret to anybody.
      if (name !== '' && this.observers.watched) {
        this.observers.notify({ type: 'exchange-declared', vhost: this.name, exchange: name, exchangeType: type });
      }
    }
  }

  exchangeNamed(name: string): Exchange | undefined {
    return this.exchanges.get(name);
  }

  queueNamed(name: string): Queue | undefined {
    return this.queues.get(name);
  }

  /** Throws not-found. */
  requireExchange(name: string): Exchange {
    const exchange = this.exchanges.get(name);
    if (exchange === undefined) throw new BrokerError('not-found', `no ${this.#exchange(name)}`);
    return exchange;
  }

  /** Throws not-found, and resource-locked for another connection's exclusive queue. */
  requireQueue(name: string, user: Connection | undefined): Queue {
    const queue = this.queues.get(name);
    if (queue === undefined) throw new BrokerError('not-found', `no ${this.#queue(name)}`);
    if (queue.owner !== undefined && queue.owner !== user) throw this.#locked(name);
    return queue;
  }

  declareExchange(declaration: ExchangeDeclaration): Exchange {
    const { exchange: name, type, durable = false, autoDelete = false, internal = false } = declaration;
    const args = declaration.arguments ?? EMPTY_TABLE;
    if (name === '') throw new BrokerError('access-refused', 'operation not permitted on the default exchange');
    checkExchange(declaration, this.name);
    const existing = this.exchanges.get(name);
    if (existing !== undefined) {
      const resource = this.#exchange(name);
      requireSame(resource, 'type', type, existing.type);
      requireSame(resource, 'durable', durable, existing.durable);
      requireSame(resource, 'auto_delete', autoDelete, existing.autoDelete);
      requireSame(resource, 'internal', internal, existing.internal);
      requireSameArguments(resource, ['alternate-exchange', 'x-delayed-type'], args, existing.arguments);
      return existing;
    }
    requireUnreserved('exchange', name);
    const exchange = this.#addExchange({ name, type, durable, autoDelete, internal, arguments: args });
    if (durable) this.#context.log.define('exchange', this.#exchangeDefinition(exchange));
    if (this.observers.watched) {
      this.observers.notify({ type: 'exchange-declared', vhost: this.name, exchange: name, exchangeType: type });
    }
    return exchange;
  }

  #addExchange(spec: ConstructorParameters<typeof Exchange>[1], holder?: Holder): Exchange {
    const policy = this.#context.policies.effective(this.name, 'exchange', spec.name, spec.type);
    const exchange = new Exchange(this, spec, policy, holder);
    this.exchanges.set(exchange.name, exchange);
    this.routesRevision++;
    return exchange;
  }

  #exchangeDefinition({ name, type, autoDelete, internal, arguments: args, holder }: Exchange): ExchangeDefinition {
    const declaration = {
      vhost: this.name,
      exchange: name,
      type,
      durable: true,
      autoDelete,
      internal,
      arguments: args,
    };
    return type === DELAYED_TYPE ? { ...declaration, holder: holder.id } : declaration;
  }

  /** A durable exchange of the last process is there again. Throws precondition-failed if there can be none like it. */
  restoreExchange(definition: ExchangeDefinition): void {
    const { exchange: name, type, autoDelete = false, internal = false, arguments: args = EMPTY_TABLE } = definition;
    checkExchange(definition, this.name);
    const held = definition.holder === undefined ? undefined : this.store.restore(definition.holder);
    const exchange = this.#addExchange(
      { name, type, durable: true, autoDelete, internal, arguments: args },
      held?.holder,
    );
    if (held !== undefined) this.#returning.push(() => this.router.delayed.restore(exchange, held));
  }

  /** Deleting what is not there is no error. */
  deleteExchange(name: string, ifUnused: boolean): void {
    if (name === '') throw new BrokerError('access-refused', 'operation not permitted on the default exchange');
    if (name.startsWith(RESERVED_PREFIX)) {
      throw new BrokerError('access-refused', `deletion of system ${this.#exchange(name)} not allowed`);
    }
    const exchange = this.exchanges.get(name);
    if (exchange === undefined) return;
    if (ifUnused && exchange.bindings.size > 0) {
      throw new BrokerError('precondition-failed', `${this.#exchange(name)} in use`);
    }
    this.#dropExchange(exchange);
  }

  /** Exchanges that thereby lose their last use follow, in a loop and not by recursion: such chains may be long. */
  #dropExchange(exchange: Exchange): void {
    const doomed = new Set([exchange]);
    for (const one of doomed) {
      one.deleted = true;
      this.exchanges.delete(one.name);
      if (one.durable) this.#context.log.undefine('exchange', { vhost: this.name, exchange: one.name });
      this.router.delayed.drop(one);
      for (const binding of [...one.bindings.values()]) this.#removeBinding(binding);
      for (const binding of [...one.incoming]) {
        this.#removeBinding(binding);
        if (this.#hasOutlived(binding.source)) doomed.add(binding.source);
      }
      this.routesRevision++;
      if (this.observers.watched) {
        this.observers.notify({ type: 'exchange-deleted', vhost: this.name, exchange: one.name });
      }
    }
  }

  /** `owner` is the connection that declares; it becomes the owner of an exclusive queue. The name is not ''. */
  declareQueue(declaration: QueueDeclaration, owner: Connection | undefined): Queue {
    const { queue: name, exclusive = false, autoDelete = false } = declaration;
    // An exclusive queue does not outlive its connection, so it is never durable, whatever was asked for. [RabbitMQ]
    const durable = declaration.durable === true && !exclusive;
    const args = this.#withDefaultType(declaration);
    checkQueue({ ...declaration, arguments: args }, this.name);
    const existing = this.queues.get(name);
    if (existing !== undefined) {
      const resource = this.#queue(existing.name);
      if (existing.owner !== (exclusive ? owner : undefined)) throw this.#locked(existing.name);
      requireSame(resource, 'durable', durable, existing.durable);
      requireSame(resource, 'auto_delete', autoDelete, existing.autoDelete);
      requireSame(resource, 'x-queue-type', queueTypeOf(args), existing.type);
      const names = QUEUE_ARGUMENTS.filter((name) => name !== 'x-queue-type');
      requireSameArguments(resource, names, args, existing.arguments);
      existing.touch();
      return existing;
    }
    const queue = this.#addQueue({ name, durable, autoDelete, owner: exclusive ? owner : undefined, arguments: args });
    if (durable) this.#context.log.define('queue', this.#queueDefinition(queue));
    if (exclusive) owner?.ownedQueues.add(queue);
    if (this.observers.watched) this.observers.notify({ type: 'queue-declared', vhost: this.name, queue: name });
    return queue;
  }

  #addQueue(spec: ConstructorParameters<typeof Queue>[1], holder?: Holder): Queue {
    const policy = this.#context.policies.effective(this.name, 'queue', spec.name, queueTypeOf(spec.arguments));
    const settings = queueSettings(spec.arguments, policy.definition, this.#context.consumerTimeoutMs);
    const queue = new Queue(this, spec, policy, settings, holder);
    this.queues.set(queue.name, queue);
    return queue;
  }

  #queueDefinition({ name, autoDelete, arguments: args, holder }: Queue): QueueDefinition {
    return { vhost: this.name, queue: name, durable: true, autoDelete, arguments: args, holder: holder.id };
  }

  /** A durable queue of the last process is there again. Throws precondition-failed if there can be none like it. */
  restoreQueue(definition: QueueDefinition): void {
    const { queue: name, autoDelete = false, arguments: args = EMPTY_TABLE } = definition;
    checkQueue(definition, this.name);
    const held = this.store.restore(definition.holder);
    const queue = this.#addQueue({ name, durable: true, autoDelete, owner: undefined, arguments: args }, held.holder);
    this.#returning.push(() => queue.restore(held));
  }

  /**
   * What was restored takes back its messages; to be called once, when all definitions are there, for a message that
   * falls due may go anywhere. Each promise resolves when one of them has done so.
   */
  restoreMessages(): readonly Promise<void>[] {
    return this.#returning.splice(0).map((takeBack) => takeBack());
  }

  /** A queue declared without a type has the virtual host's, if that fits what it is. */
  #withDefaultType({ durable, exclusive, autoDelete, arguments: args = EMPTY_TABLE }: QueueDeclaration): FieldTable {
    const type = this.spec.defaultQueueType;
    const fits = type !== 'quorum' || (durable === true && exclusive !== true && autoDelete !== true);
    if (type === undefined || type === 'classic' || 'x-queue-type' in args || !fits) return args;
    return { ...args, 'x-queue-type': type };
  }

  /** A name for a queue that is declared without one; `x-name-prefix` says how it begins. [RabbitMQ 4] */
  freeQueueName(args: FieldTable): string {
    const prefix = args['x-name-prefix'] ?? 'amq.gen-';
    if (typeof prefix !== 'string' || prefix.length > NAME_PREFIX_MAX) {
      const rule = `it must be a string of at most ${NAME_PREFIX_MAX} characters`;
      throw new BrokerError('precondition-failed', `invalid arg 'x-name-prefix' for ${this.#queue('')}: ${rule}`);
    }
    if (args['x-name-prefix'] !== undefined) requireUnreserved('queue', prefix);
    return prefix.replaceAll(/[\r\n]/g, '') + this.clock.randomName();
  }

  /** How many ready messages went with the queue. */
  deleteQueue(queue: Queue, options: { readonly ifUnused?: boolean; readonly ifEmpty?: boolean } = {}): number {
    if (options.ifUnused && queue.consumers.size > 0) {
      throw new BrokerError('precondition-failed', `${this.#queue(queue.name)} in use`);
    }
    if (options.ifEmpty && queue.readyCount > 0) {
      throw new BrokerError('precondition-failed', `${this.#queue(queue.name)} not empty`);
    }
    if (queue.deleted) return 0;
    this.queues.delete(queue.name);
    if (queue.durable) this.#context.log.undefine('queue', { vhost: this.name, queue: queue.name });
    queue.owner?.ownedQueues.delete(queue);
    for (const binding of [...queue.bindings]) this.#dropBinding(binding);
    const count = queue.close('queue-deleted');
    if (this.observers.watched) this.observers.notify({ type: 'queue-deleted', vhost: this.name, queue: queue.name });
    return count;
  }

  retire(queue: Queue): void {
    if (!queue.deleted && !(this.stopping && queue.durable)) this.deleteQueue(queue);
  }

  deadLetter(queue: Queue, message: Message, reason: DeathReason, custody: QueuedMessage | undefined): void {
    this.router.deadLetter(queue, message, reason, custody);
  }

  /** Binding again what is bound is no error. `user` is the connection that asks. */
  bind(spec: BindingSpec, user: Connection | undefined): void {
    requireBindable(spec);
    const { source, destination, id, args } = this.#ends(spec, user);
    if (source.bindings.has(id)) return;
    const { destinationKind, bindingKey } = spec;
    const binding: Binding = { source, destination, destinationKind, bindingKey, arguments: args };
    source.addBinding(id, binding);
    if (destination instanceof Exchange) destination.incoming.add(binding);
    else destination.bindings.add(binding);
    if (isDurable(binding)) this.#context.log.define('binding', { vhost: this.name, ...bindingSpec(binding) });
    this.routesRevision++;
    if (this.observers.watched)
      this.observers.notify({ type: 'bound', vhost: this.name, binding: bindingSpec(binding) });
  }

  /** Unbinding what is not bound, or is not there, is no error. */
  unbind(spec: BindingSpec, user: Connection | undefined): void {
    requireBindable(spec);
    const ends = spec.destinationKind === 'queue' ? this.queues : this.exchanges;
    if (!this.exchanges.has(spec.source) || !ends.has(spec.destination)) return;
    const { source, id } = this.#ends(spec, user);
    const binding = source.bindings.get(id);
    if (binding !== undefined) this.#dropBinding(binding);
  }

  #ends(spec: BindingSpec, user: Connection | undefined) {
    const { destinationKind: kind } = spec;
    const destination =
      kind === 'queue' ? this.requireQueue(spec.destination, user) : this.requireExchange(spec.destination);
    const source = this.requireExchange(spec.source);
    const args = spec.arguments ?? EMPTY_TABLE;
    return { source, destination, args, id: bindingId(kind, spec.destination, spec.bindingKey, args) };
  }

  #dropBinding(binding: Binding): void {
    this.#removeBinding(binding);
    if (this.#hasOutlived(binding.source)) this.#dropExchange(binding.source);
  }

  /** Whether an exchange is there only for bindings that it no longer has. */
  #hasOutlived(exchange: Exchange): boolean {
    const isKept = this.stopping && exchange.durable;
    return exchange.autoDelete && exchange.bindings.size === 0 && !exchange.deleted && !isKept;
  }

  #removeBinding(binding: Binding): void {
    const { source, destination, destinationKind, bindingKey } = binding;
    source.removeBinding(bindingId(destinationKind, destination.name, bindingKey, binding.arguments), binding);
    if (destination instanceof Exchange) destination.incoming.delete(binding);
    else destination.bindings.delete(binding);
    if (isDurable(binding)) this.#context.log.undefine('binding', { vhost: this.name, ...bindingSpec(binding) });
    this.routesRevision++;
    if (this.observers.watched) {
      this.observers.notify({ type: 'unbound', vhost: this.name, binding: bindingSpec(binding) });
    }
  }

  /** Policies have changed: every queue and exchange takes over what now holds for it. */
  applyPolicies(): void {
    const { policies, consumerTimeoutMs } = this.#context;
    for (const exchange of this.exchanges.values()) {
      exchange.policy = policies.effective(this.name, 'exchange', exchange.name, exchange.type);
    }
    for (const queue of [...this.queues.values()]) {
      const policy = policies.effective(this.name, 'queue', queue.name, queue.type);
      if (fieldsEqual(policy.definition, queue.policy.definition)) queue.policy = policy;
      else {
        queue.policy = policy;
        queue.configure(queueSettings(queue.arguments, policy.definition, consumerTimeoutMs));
      }
    }
    this.routesRevision++;
  }

  /** Everything in it is deleted with it; its connections have been closed. */
  delete(): void {
    for (const queue of [...this.queues.values()]) this.deleteQueue(queue);
    for (const exchange of [...this.exchanges.values()]) if (!exchange.deleted) this.#dropExchange(exchange);
  }

  /** Ends what runs in it; nothing is deleted, and what is stored stays so. */
  stop(): void {
    for (const queue of this.queues.values()) queue.close('shutdown');
    this.queues.clear();
    this.router.stop();
    this.exchanges.clear();
    this.routesRevision++;
  }

  #queue(name: string): string {
    return `queue '${name}' in vhost '${this.name}'`;
  }

  #exchange(name: string): string {
    return `exchange '${name}' in vhost '${this.name}'`;
  }

  #locked(name: string): BrokerError {
    return new BrokerError(
      'resource-locked',
      `cannot obtain exclusive access to locked ${this.#queue(name)}. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.`,
    );
  }
}

/** A binding outlives the process when both its ends do. */
function isDurable({ source, destination }: Binding): boolean {
  return source.durable && destination.durable;
}

/** A binding as plain data. */
export function bindingSpec({
  source,
  destination,
  destinationKind,
  bindingKey,
  arguments: args,
}: Binding): BindingSpec {
  return { source: source.name, destination: destination.name, destinationKind, bindingKey, arguments: args };
}

/** Throws access-refused for what nobody may bind: the default exchange, and reply addresses. */
function requireBindable({ source, destination, destinationKind }: BindingSpec): void {
  if (source === '' || (destinationKind === 'exchange' && destination === '')) {
    throw new BrokerError('access-refused', 'operation not permitted on the default exchange');
  }
  if (destinationKind === 'queue' && destination.startsWith(REPLY_TO)) {
    throw new BrokerError('access-refused', `queue '${destination}' is a reply address and cannot be bound`);
  }
}

/** Throws access-refused for a name that only the broker gives. */
export function requireUnreserved(kind: 'queue' | 'exchange', name: string): void {
  if (!name.startsWith(RESERVED_PREFIX)) return;
  throw new BrokerError('access-refused', `${kind} name '${name}' contains reserved prefix 'amq.*'`);
}
