/**
 * Somebody's inbox: the one durable queue in a virtual host that is named with his bare address, the bindings that are his
 * subscriptions, and the consumer that takes messages out while one of his resources is there to receive them.
 *
 * Everything is done with his own rights, over one connection of the broker, one verb after the other. A delivery is acked
 * when its stanza has been settled; what is returned goes back to its place in the queue, in order, and nothing is
 * delivered before all of it is back.
 */
import { createMessage, type Message } from '../../broker/message.ts';
import {
  type BindingSpec,
  type Broker,
  BrokerError,
  type CancelReason,
  type Channel,
  type Connection,
  type ConsumerEvents,
  type Principal,
} from '../../broker/port.ts';
import type { Log } from '../log.ts';
import type { Directory } from './directory.ts';
import { element } from './element.ts';
import { tryParseJid } from './jid.ts';
import { PUBSUB_ERRORS } from './namespaces.ts';
import { Pace } from './pace.ts';
import { Publisher } from './publisher.ts';
import { Resources } from './resources.ts';
import { StanzaError } from './stanza-error.ts';
import type { Settlement } from './stanza-router.ts';
import { argumentsOf, isSame, SUBSCRIPTIONS_MAX, type Subscription } from './subscriptions.ts';

/** What may become of a delivery. */
export interface DeliverySettlement extends Settlement {
  /** It cannot be delivered to anybody here: dead-lettered or dropped, as the queue has it. */
  refused(): void;
}

/** What an inbox needs of those who have it. */
export interface InboxHost {
  readonly broker: Broker;
  readonly directory: Directory;
  readonly log: Log;
  /** The queue holds more than what its bindings bring: chats that wait for their receiver. */
  readonly keepsMessages: boolean;
  /** Rejects with BrokerError. */
  principal(): Promise<Principal>;
  /** A message for its owner, whose best resource is `to`, out of `queue`; `redelivered`: it has been tried before. */
  onMessage(message: Message, to: string, redelivered: boolean, settlement: DeliverySettlement, queue: string): void;
  /** A further queue that he took from has been deleted. */
  onTapGone(queue: string): void;
  /** The broker is behind with writing, and publishers are to be held back, or has caught up. */
  onFlow(held: boolean): void;
  /** The broker has ended the connection: an administrator, a deleted user, a shutdown. */
  onClosed(error: BrokerError): void;
  /** Nothing is left to do for this inbox at present. */
  onIdle(): void;
}

export class Inbox implements ConsumerEvents {
  /** Name of the queue: the bare address of its owner. */
  readonly queue: string;
  readonly #host: InboxHost;
  readonly #resources = new Resources();
  #connection: Connection | undefined;
  #channel: Channel | undefined;
  #publisher: Publisher | undefined;
  #consumerTag: string | undefined;
  /** Further queues that he takes from, with the tags of their consumers. */
  readonly #taps = new Map<string, string | undefined>();
  /** Bindings that are being made, and taken away, at its owner's wish. */
  readonly #wanted = new Set<Subscription>();
  readonly #unwanted = new Set<Omit<Subscription, 'address'>>();
  #pace: Pace | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;
  /** As this connection was told; it is kept meanwhile, or nobody would hear that it is over. */
  #held = false;
  #closed = false;

  constructor(queue: string, host: InboxHost) {
    this.queue = queue;
    this.#host = host;
  }

  /** The full address that receives now; undefined when none does. */
  get best(): string | undefined {
    return this.#resources.best;
  }

  /** A resource is there, as `knower` was told, with this priority (-128 to 127); or not any more: undefined. */
  setResource(resource: string, knower: string, priority: number | undefined): void {
    this.#resources.set(resource, knower, priority);
    void this.settleConsumer();
  }

  /** A resource turned out not to be there. */
  dropResource(resource: string): void {
    if (this.#resources.drop(resource)) void this.settleConsumer();
  }

  /** An address of ours is not told any more who is there. */
  forgetKnower(knower: string): void {
    this.#resources.forgetKnower(knower);
    void this.settleConsumer();
  }

  /** The same for all addresses of a domain: the link over which their owner was known to be there has gone. */
  forgetKnowersIn(domain: string): void {
    this.#resources.forgetKnowers((knower) => tryParseJid(knower)?.domain === domain);
    void this.settleConsumer();
  }

  /** Begins or ends to consume, as the resources have it and if there is a queue. */
  settleConsumer(): Promise<void> {
    return this.#inTurn(async () => {
      const wanted = this.best !== undefined;
      if (wanted && this.#consumerTag === undefined) await this.#consume();
      else if (!wanted && this.#consumerTag !== undefined) {
        const tag = this.#consumerTag;
        this.#consumerTag = undefined;
        await this.#channel?.cancel(tag);
        await this.#deleteIfUnused(false);
      }
      for (const [queue, tag] of [...this.#taps]) await this.#settleTap(queue, tag, wanted);
    }).catch((error: unknown) => this.#complain(error, 'cannot consume'));
  }

  async #settleTap(queue: string, tag: string | undefined, wanted: boolean): Promise<void> {
    if (wanted && tag === undefined) {
      const channel = await this.#open();
      const events = {
        onDeliver: (message: Message, deliveryTag: number, redelivered: boolean) =>
          this.#deliver(message, deliveryTag, redelivered, queue),
        onCancel: (reason: CancelReason) => {
          this.#taps.delete(queue);
          if (reason === 'queue-deleted') this.#host.onTapGone(queue);
        },
      };
      try {
        this.#taps.set(queue, await channel.consume({ queue }, events));
      } catch (error) {
        // It is not there, or not for him: that is no reason to keep the others from him.
        this.#taps.delete(queue);
        this.#complain(error, `cannot take from '${queue}'`);
      }
    } else if (!wanted && tag !== undefined) {
      this.#taps.set(queue, undefined);
      await this.#channel?.cancel(tag);
    }
  }

  /** From now on its owner takes from a further queue too, while he is there. */
  tap(queue: string): void {
    if (this.#taps.has(queue)) return;
    this.#taps.set(queue, undefined);
    void this.settleConsumer();
  }

  /** No more. False: he did not. */
  async untap(queue: string): Promise<boolean> {
    if (!this.#taps.has(queue)) return false;
    return this.#inTurn(async () => {
      const tag = this.#taps.get(queue);
      this.#taps.delete(queue);
      if (tag !== undefined) await this.#channel?.cancel(tag);
      return true;
    });
  }

  async #consume(): Promise<void> {
    const channel = await this.#open();
    try {
      this.#consumerTag = await channel.consume({ queue: this.queue }, this);
    } catch (error) {
      if (!(error instanceof BrokerError) || error.kind !== 'not-found') throw error;
    }
  }

  /** Binds the queue, which is declared if need be. Rejects with BrokerError. */
  async follow(wanted: Subscription): Promise<void> {
    this.#wanted.add(wanted);
    try {
      await this.#inTurn(() => this.#follow(wanted));
    } finally {
      this.#wanted.delete(wanted);
    }
  }

  /** Is such a binding being made? */
  isAboutToFollow(binding: BindingSpec): boolean {
    return [...this.#wanted].some((one) => isSame(binding, one));
  }

  async #follow(wanted: Subscription): Promise<void> {
    const bindings = this.#host.directory.bindingsTo(this.queue);
    if (bindings.length >= SUBSCRIPTIONS_MAX && !bindings.some((one) => isSame(one, wanted))) {
      const detail = element('too-many-subscriptions', PUBSUB_ERRORS);
      throw new StanzaError('policy-violation', `more than ${SUBSCRIPTIONS_MAX} subscriptions`, detail);
    }
    const channel = await this.#open();
    const isNew = await this.#declare(channel);
    try {
      await channel.bind({
        source: wanted.exchange,
        destination: this.queue,
        destinationKind: 'queue',
        bindingKey: wanted.bindingKey,
        arguments: argumentsOf(wanted),
      });
    } catch (error) {
      if (isNew) await channel.deleteQueue(this.queue, { ifEmpty: true, ifUnused: true });
      throw error;
    }
    if (this.best !== undefined && this.#consumerTag === undefined) await this.#consume();
  }

  /** Takes the bindings that are this away, and the queue with the last of all. False: there was none. */
  async unfollow(unwanted: Omit<Subscription, 'address'>): Promise<boolean> {
    this.#unwanted.add(unwanted);
    try {
      return await this.#inTurn(() => this.#unfollow(unwanted));
    } finally {
      // Whoever is told of the change asks in a later turn.
      setImmediate(() => this.#unwanted.delete(unwanted));
    }
  }

  /** Is such a binding being taken away at its owner's wish, or has it just been? */
  isGivingUp(binding: BindingSpec): boolean {
    return [...this.#unwanted].some((one) => isSame(binding, one));
  }

  async #unfollow(unwanted: Omit<Subscription, 'address'>): Promise<boolean> {
    const bindings = this.#host.directory.bindingsTo(this.queue).filter((one) => isSame(one, unwanted));
    if (bindings.length === 0) return false;
    const channel = await this.#open();
    for (const binding of bindings) await channel.unbind(binding);
    // Whoever unsubscribes does not want what waits; chats that wait are another matter.
    await this.#deleteIfUnused(!this.#host.keepsMessages);
    return true;
  }

  /** After a binding was taken away by somebody else: an empty queue goes with the last. Rejects with BrokerError. */
  tidy(): Promise<void> {
    return this.#inTurn(() => this.#deleteIfUnused(false));
  }

  /** Nothing is bound to it any more, and nobody but us consumes. */
  async #deleteIfUnused(dropsMessages: boolean): Promise<void> {
    if (this.#host.directory.bindingsTo(this.queue).length > 0) return;
    const channel = await this.#open();
    try {
      if (this.#consumerTag !== undefined) {
        const tag = this.#consumerTag;
        this.#consumerTag = undefined;
        await channel.cancel(tag);
      }
      await channel.deleteQueue(this.queue, { ifUnused: true, ifEmpty: !dropsMessages });
    } catch (error) {
      if (!(error instanceof BrokerError) || error.kind !== 'precondition-failed') throw error;
      if (this.best !== undefined) await this.#consume();
    }
  }

  /** True when the queue was not there before. */
  async #declare(channel: Channel): Promise<boolean> {
    try {
      await channel.declareQueue({ queue: this.queue, passive: true });
      return false;
    } catch (error) {
      if (!(error instanceof BrokerError) || error.kind !== 'not-found') throw error;
    }
    await channel.declareQueue({ queue: this.queue, durable: true, arguments: { 'x-stamp-arrivals': true } });
    return true;
  }

  /**
   * Publishes what `make` makes for the broker's user that its owner is; resolves when the broker has taken
   * responsibility. Rejects with BrokerError and with what `make` throws.
   */
  async publish(make: (username: string) => Message): Promise<void> {
    // In an object, so that whoever is next in turn does not wait for the confirm.
    const { accepted } = await this.#inTurn(async () => {
      await this.#open();
      const connection = this.#require();
      this.#publisher ??= await Publisher.open(connection);
      return { accepted: this.#publisher.publish(make(connection.principal.username)) };
    });
    if (!(await accepted)) throw new BrokerError('resource-error', 'a queue has no room for it');
    this.#rest();
  }

  /** Puts something into this inbox itself, with the rights of the door: no binding brought it. */
  async put(body: string, message: Omit<Parameters<typeof createMessage>[0], 'exchange' | 'routingKey' | 'body'>) {
    const made = createMessage({ ...message, body, routingKey: this.queue });
    await this.#inTurn(async () => {
      await this.#declare(await this.#open());
      if (this.best !== undefined && this.#consumerTag === undefined) await this.#consume();
    });
    const connection = await this.#host.broker.connect(undefined, this.#host.directory.vhost);
    const channel = connection.openChannel();
    try {
      channel.publish(made);
    } finally {
      await connection.close();
    }
  }

  /** A channel for control verbs with its owner's rights; they wait for one another. Rejects with BrokerError. */
  act<Result>(verb: (channel: Channel) => Promise<Result>): Promise<Result> {
    return this.#inTurn(async () => verb(await this.#open()));
  }

  #require(): Connection {
    if (this.#connection === undefined) throw new BrokerError('connection-forced', 'the connection has been closed');
    return this.#connection;
  }

  async #open(): Promise<Channel> {
    if (this.#channel !== undefined) return this.#channel;
    const { broker, directory } = this.#host;
    const connection = await broker.connect(
      await this.#host.principal(),
      directory.vhost,
      { onClose: (error) => this.#onClosed(error), onFlow: (held) => this.#onFlow(held) },
      { protocol: 'XMPP', name: `xmpp ${this.queue} in ${directory.vhost}` },
    );
    this.#connection = connection;
    this.#channel = connection.openChannel();
    this.#pace = new Pace(this.#channel);
    return this.#channel;
  }

  #onFlow(held: boolean): void {
    this.#held = held;
    this.#host.onFlow(held);
    if (!held) this.#rest();
  }

  #onClosed(error: BrokerError): void {
    this.#forget();
    this.#host.onClosed(error);
  }

  #forget(): void {
    if (this.#held) this.#host.onFlow(false);
    this.#held = false;
    this.#connection = undefined;
    this.#channel = undefined;
    this.#publisher?.abandon();
    this.#publisher = undefined;
    this.#consumerTag = undefined;
    for (const queue of this.#taps.keys()) this.#taps.set(queue, undefined);
    this.#pace?.end();
    this.#pace = undefined;
  }

  // ---- deliveries

  onDeliver(message: Message, deliveryTag: number, redelivered: boolean): void {
    this.#deliver(message, deliveryTag, redelivered, this.queue);
  }

  #deliver(message: Message, deliveryTag: number, redelivered: boolean, queue: string): void {
    const channel = this.#channel;
    const to = this.best;
    if (channel === undefined) return;
    const pace = this.#pace;
    const bytes = message.bodyBytes + message.propertiesEnd - message.propertiesStart;
    pace?.began(bytes);
    const settle = (act: () => void): void => {
      // Another channel knows nothing of this tag: the broker has taken it back.
      if (channel !== this.#channel) return;
      act();
      pace?.ended(bytes);
      this.#rest();
    };
    const settlement: DeliverySettlement = {
      refused: () => settle(() => channel.reject(deliveryTag)),
      delivered: () => settle(() => channel.ack(deliveryTag)),
      returned: () =>
        settle(() => {
          pace?.holdForReturns();
          channel.reject(deliveryTag, { requeue: true, returned: true });
        }),
    };
    if (to === undefined) settlement.returned();
    else this.#host.onMessage(message, to, redelivered, settlement, queue);
  }

  onCancel(): void {
    this.#consumerTag = undefined;
  }

  // ---- its life

  /** Verbs wait for one another, so that they take effect in the order in which they were asked for. */
  #inTurn<Result>(verb: () => Promise<Result>): Promise<Result> {
    this.#pending += 1;
    const done = this.#tail.then(async () => {
      if (this.#closed) throw new BrokerError('connection-forced', 'the door is closing');
      return verb();
    });
    this.#tail = done.then(
      () => this.#ended(),
      () => this.#ended(),
    );
    return done;
  }

  #ended(): void {
    this.#pending -= 1;
    this.#rest();
  }

  get idle(): boolean {
    if (this.#held || (this.#publisher?.outstanding ?? false)) return false;
    return this.#pending === 0 && (this.#pace?.unsettled ?? 0) === 0 && this.#resources.empty;
  }

  #rest(): void {
    if (this.idle) this.#host.onIdle();
  }

  #complain(error: unknown, what: string): void {
    if (!(error instanceof BrokerError)) throw error;
    this.#host.log.warn({ queue: this.queue, vhost: this.#host.directory.vhost }, `XMPP: ${what}: ${error.message}`);
  }

  /** Gives the connection back; what is unsettled returns to the queue. */
  async close(): Promise<void> {
    this.#closed = true;
    const connection = this.#connection;
    this.#forget();
    await connection?.close();
  }

  /** Gives the connection back until it is needed again. */
  async rest(): Promise<void> {
    if (!this.idle || this.#connection === undefined) return;
    const connection = this.#connection;
    this.#forget();
    await connection.close();
  }
}
