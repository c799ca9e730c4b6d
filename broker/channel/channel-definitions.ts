/**
 * What a channel asks about exchanges, queues and bindings: whether it may, and when the answer may go out. Rights are asked
 * here, before anything is looked up, as RabbitMQ does; a change of something durable is answered when it is on disk. Deleting
 * a queue ends consumers of the channel, and is in channel.ts.
 */
import { checkVhostQueues } from '../access/limits.ts';
import type { Permissions } from '../access/permissions.ts';
import type { Connection } from '../connection.ts';
import { EMPTY_TABLE } from '../fields.ts';
import type * as port from '../port.ts';
import type { Queue } from '../queue/queue.ts';
import { REPLY_TO } from '../routing/reply-consumers.ts';
import type { Store } from '../store.ts';
import { requireUnreserved, type VirtualHost } from '../vhost.ts';

/** Verbs of `port.Channel` on definitions; each rejects with BrokerError as that says. */
export class ChannelDefinitions {
  readonly #connection: Connection;
  readonly #vhost: VirtualHost;
  readonly #store: Store;
  readonly #permissions: Permissions;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#vhost = connection.host;
    this.#store = connection.host.store;
    this.#permissions = connection.engine.permissions;
  }

  async declareExchange(declaration: port.ExchangeDeclaration): Promise<void> {
    const { exchange, passive, arguments: args } = declaration;
    if (passive && exchange !== '') {
      this.#authorizeLook('exchange', exchange);
      this.#vhost.requireExchange(exchange);
      return;
    }
    this.authorize('configure', 'exchange', exchange);
    const alternate = args?.['alternate-exchange'];
    if (typeof alternate === 'string') {
      this.authorize('read', 'exchange', exchange);
      this.authorize('write', 'exchange', alternate);
    }
    this.#vhost.declareExchange(declaration);
    if (this.#outlives(declaration.durable)) await this.#store.definitionsSynced();
  }

  /** Whether a verb about something is to be answered only when it is on disk. */
  #outlives(durable: boolean | undefined): boolean {
    return durable === true && this.#store.durable;
  }

  async deleteExchange(exchange: string, ifUnused: boolean): Promise<void> {
    this.authorize('configure', 'exchange', exchange);
    const durable = this.#vhost.exchangeNamed(exchange)?.durable;
    this.#vhost.deleteExchange(exchange, ifUnused);
    if (this.#outlives(durable)) await this.#store.definitionsSynced();
  }

  async declareQueue(declaration: port.QueueDeclaration): Promise<port.QueueDeclared> {
    const { passive, arguments: args = EMPTY_TABLE } = declaration;
    if (declaration.queue.startsWith(REPLY_TO)) return this.#declareReplyAddress(declaration.queue);
    const name = declaration.queue === '' && !passive ? this.#vhost.freeQueueName(args) : declaration.queue;
    if (passive) {
      this.#authorizeLook('queue', name);
      const queue = this.#vhost.requireQueue(name, this.#connection);
      queue.touch();
      return declared(queue);
    }
    if (declaration.queue !== '') requireUnreserved('queue', name);
    this.authorize('configure', 'queue', name);
    const deadLetter = args['x-dead-letter-exchange'];
    if (typeof deadLetter === 'string') {
      this.authorize('read', 'queue', name);
      this.authorize('write', 'exchange', deadLetter);
    }
    const { spec, queues } = this.#vhost;
    if (!queues.has(name)) checkVhostQueues(spec.limits ?? {}, queues.size, spec.name, name);
    const queue = this.#vhost.declareQueue({ ...declaration, queue: name }, this.#connection);
    const answer = declared(queue);
    if (this.#outlives(queue.durable)) await this.#store.definitionsSynced();
    return answer;
  }

  /** The pseudo queue exists for everybody, an address while its requester does. [RabbitMQ: direct reply-to] */
  #declareReplyAddress(queue: string): port.QueueDeclared {
    if (queue !== REPLY_TO && !this.#vhost.replies.has(queue)) this.#vhost.requireQueue(queue, this.#connection);
    return { queue, messageCount: 0, consumerCount: 1 };
  }

  async purgeQueue(name: string): Promise<number> {
    this.authorize('read', 'queue', name);
    const queue = this.#vhost.requireQueue(name, this.#connection);
    const count = queue.purge();
    if (this.#outlives(queue.durable)) await this.#store.synced();
    return count;
  }

  async bind(binding: port.BindingSpec): Promise<void> {
    this.#authorizeBinding(binding);
    this.#vhost.bind(binding, this.#connection);
    if (this.#outlives(this.#isDurable(binding))) await this.#store.definitionsSynced();
  }

  async unbind(binding: port.BindingSpec): Promise<void> {
    this.#authorizeBinding(binding);
    const durable = this.#isDurable(binding);
    this.#vhost.unbind(binding, this.#connection);
    if (this.#outlives(durable)) await this.#store.definitionsSynced();
  }

  #isDurable({ source, destination, destinationKind }: port.BindingSpec): boolean {
    const ends = destinationKind === 'queue' ? this.#vhost.queues : this.#vhost.exchanges;
    return this.#vhost.exchangeNamed(source)?.durable === true && ends.get(destination)?.durable === true;
  }

  #authorizeBinding({ source, destination, destinationKind, bindingKey }: port.BindingSpec): void {
    this.authorize('write', destinationKind, destination);
    this.authorize('read', 'exchange', source);
    if (this.#vhost.exchangeNamed(source)?.isTopic) {
      this.#permissions.authorizeTopic(this.#connection.principal, this.#vhost.name, 'read', source, bindingKey);
    }
  }

  /** Throws access-refused for a right that the connection's user does not have. */
  authorize(right: 'configure' | 'write' | 'read', kind: 'queue' | 'exchange', name: string): void {
    this.#permissions.authorize(this.#connection.principal, this.#vhost.name, right, kind, name);
  }

  /** To see that something exists, any right on it will do. [RabbitMQ 4.3.1] */
  #authorizeLook(kind: 'queue' | 'exchange', name: string): void {
    const { principal } = this.#connection;
    const rights = ['write', 'read'] as const;
    if (rights.some((right) => this.#permissions.may(principal, this.#vhost.name, right, name))) return;
    this.authorize('configure', kind, name);
  }
}

function declared(queue: Queue): port.QueueDeclared {
  return { queue: queue.name, messageCount: queue.readyCount, consumerCount: queue.consumers.size };
}
