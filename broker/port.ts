/**
 * The port: the one interface that every door, every program and every engine is written against.
 *
 * A door turns its protocol into calls on `Connection` and `Channel` and their events into its protocol. Control verbs
 * return promises, so that a remote engine can stand behind the same interface; they take effect in the order in which
 * they are called. The data plane (publish, ack, reject, deliveries, confirms) is synchronous and allocates neither
 * promise nor closure per message. Every verb that fails throws (or rejects with) a `BrokerError`.
 */
import type { Administration, DigestAlgorithm, ScramHash, ScramKeys } from './administration/administration.ts';
import type { FieldTable } from './fields.ts';
import type { Message } from './message.ts';
import type { Observer, ObserverScope } from './observer.ts';
import type { Topology } from './topology.ts';

/** What went wrong, in the model's terms; each door has a table from these to its own codes. */
export type BrokerErrorKind =
  | 'access-refused'
  | 'not-found'
  | 'resource-locked'
  | 'precondition-failed'
  | 'not-allowed'
  | 'not-implemented'
  | 'resource-error'
  | 'connection-forced'
  | 'internal-error';

/** The only error that the broker throws for what a peer did. The message is RabbitMQ's explanation, without its code. */
export class BrokerError extends Error {
  readonly kind: BrokerErrorKind;

  constructor(kind: BrokerErrorKind, message: string) {
    super(message);
    this.name = 'BrokerError';
    this.kind = kind;
  }
}

/** Somebody who has proved who he is. Obtained from `Broker.authenticate` only. */
export interface Principal {
  readonly username: string;
  /** e.g. `administrator`, `management`, `impersonator` */
  readonly tags: readonly string[];
}

/**
 * How a peer proves who he is: with a password, or because the door has his proof already: a verified client
 * certificate, the login with which he came (`renewal`), a proof that fitted his `scramKeys` (`scram`) or his
 * `digestKey` (`digest`), or the word of another server that the configuration trusts (`server`).
 */
export type Credentials = {
  readonly username: string;
  /** False unless the peer is on this machine; some users (guest) may come from here only. */
  readonly loopback: boolean;
} & ({ readonly password: string } | { readonly provedBy: 'certificate' | 'renewal' | 'scram' | 'digest' | 'server' });

/** The peer as shown to people in lists and logs. */
export interface PeerInfo {
  /** `AMQP 0-9-1`, `STOMP 1.2`, `in-process`, … */
  readonly protocol: string;
  /** e.g. `127.0.0.1:40212 -> 127.0.0.1:5672`; unique while the connection lives. */
  readonly name: string;
  readonly properties?: FieldTable;
}

/** The reasons for which publishers are held back. */
export type Alarm = 'memory' | 'disk';

/** What the broker tells a connection. */
export interface ConnectionEvents {
  /**
   * The broker ends this connection (an administrator, a deleted user or virtual host, shutdown): its channels close as
   * this call returns. The door says goodbye in its protocol.
   */
  onClose(error: BrokerError): void;
  /** Alarms now in force; empty when all are clear. The door stops reading from a peer that publishes until then. */
  onAlarms(alarms: readonly Alarm[]): void;
  /**
   * The broker has as much to write to its disk as it wants to hold in memory (`held`), or has caught up. The door stops
   * reading from a peer that publishes until then, and tells him nothing: it is a matter of moments.
   */
  onFlow(held: boolean): void;
}

/** What the broker tells a channel. Called synchronously from inside other calls; must not throw. */
export interface ChannelEvents {
  /** A mandatory message that no queue wanted; comes before its confirm. */
  onReturn(message: Message): void;
  /**
   * Publish number `sequence` of this channel (from 1) is settled: the broker has taken responsibility (`accepted`) or
   * refused. With `multiple`, so are all before it that were not settled yet.
   */
  onConfirm(sequence: number, multiple: boolean, accepted: boolean): void;
}

/** Why a consumer was ended by the broker. */
export type CancelReason = 'queue-deleted' | 'timeout' | 'shutdown';

/** What the broker tells one consumer. Called synchronously from inside other calls; must not throw. */
export interface ConsumerEvents {
  /**
   * True: when `onDeliver` returns, everything wanted of the message has been copied. Its octets may then be written over
   * once it is settled, which must not happen inside the call.
   */
  readonly keepsNothing?: boolean;
  /**
   * A message for this consumer. `deliveryTag` counts from 1 on its channel and names it in `ack` and `reject`, unless
   * the consumer was made with `noAck`. Deliveries begin after the promise of `consume` has resolved.
   */
  onDeliver(message: Message, deliveryTag: number, redelivered: boolean): void;
  /**
   * The broker has ended this consumer; nothing more is delivered to it. What it holds unacked can still be settled,
   * except after a timeout, which has requeued it. `explanation` says the same for a person.
   */
  onCancel?(reason: CancelReason, explanation: string): void;
}

export interface ExchangeDeclaration {
  readonly exchange: string;
  /** direct, fanout, topic, headers or x-delayed-message. */
  readonly type: string;
  /** Only ask whether it exists; every other field is ignored. */
  readonly passive?: boolean;
  readonly durable?: boolean;
  /** Deleted when its last binding as a source goes. */
  readonly autoDelete?: boolean;
  /** Cannot be published to, only bound to. */
  readonly internal?: boolean;
  readonly arguments?: FieldTable;
}

export interface QueueDeclaration {
  /** '' lets the broker choose a name, which begins with `amq.gen-`. */
  readonly queue: string;
  readonly passive?: boolean;
  readonly durable?: boolean;
  /** Only this connection may use it, and it is deleted with the connection. */
  readonly exclusive?: boolean;
  /** Deleted when its last consumer goes (never before it had one). */
  readonly autoDelete?: boolean;
  readonly arguments?: FieldTable;
}

export interface QueueDeclared {
  readonly queue: string;
  /** Ready messages. */
  readonly messageCount: number;
  readonly consumerCount: number;
}

export interface BindingSpec {
  readonly source: string;
  readonly destination: string;
  readonly destinationKind: 'queue' | 'exchange';
  readonly bindingKey: string;
  readonly arguments?: FieldTable;
}

export interface ConsumeSpec {
  readonly queue: string;
  /** Absent or '' lets the broker choose one, which begins with `amq.ctag-`. */
  readonly consumerTag?: string;
  /** Deliveries count as acked when sent. */
  readonly noAck?: boolean;
  readonly exclusive?: boolean;
  /** `x-priority`, `x-consumer-timeout`. */
  readonly arguments?: FieldTable;
}

export interface Got {
  readonly message: Message;
  readonly deliveryTag: number;
  readonly redelivered: boolean;
  /** Ready messages that remain. */
  readonly messageCount: number;
}

export interface RejectOptions {
  /** All unacked deliveries up to and including the tag; tag 0 means all there are. */
  readonly multiple?: boolean;
  /** Back to its place in the queue rather than dead-lettered or dropped. */
  readonly requeue?: boolean;
  /** With requeue: given back untried, as opposed to failed; `x-delayed-retry-type` tells the two apart. */
  readonly returned?: boolean;
}

/**
 * One conversation with the broker: its own delivery tags, prefetch, confirms, transaction and consumers.
 * After `close`, also that of its connection, every verb throws `connection-forced`.
 */
export interface Channel {
  readonly number: number;

  declareExchange(declaration: ExchangeDeclaration): Promise<void>;
  deleteExchange(exchange: string, options?: { readonly ifUnused?: boolean }): Promise<void>;
  declareQueue(declaration: QueueDeclaration): Promise<QueueDeclared>;
  /** Resolves to the number of ready messages that went with it; 0 when there was no such queue. */
  deleteQueue(queue: string, options?: { readonly ifUnused?: boolean; readonly ifEmpty?: boolean }): Promise<number>;
  /** Resolves to the number of ready messages removed; unacked ones stay. */
  purgeQueue(queue: string): Promise<number>;
  bind(binding: BindingSpec): Promise<void>;
  unbind(binding: BindingSpec): Promise<void>;
  /** Resolves to the consumer tag. */
  consume(spec: ConsumeSpec, events: ConsumerEvents): Promise<string>;
  /** Ends a consumer; an unknown tag is no error. What it holds unacked stays so. */
  cancel(consumerTag: string): Promise<void>;
  /** Takes one message; undefined when none is ready. */
  get(queue: string, options?: { readonly noAck?: boolean }): Promise<Got | undefined>;
  /** Requeues every unacked delivery of this channel. */
  recover(): Promise<void>;
  confirmSelect(): Promise<void>;
  txSelect(): Promise<void>;
  /**
   * Publishes, and then settles, what the transaction holds. Rejects with precondition-failed when a queue has refused one
   * of its messages (`reject-publish`): everything else has happened then.
   */
  txCommit(): Promise<void>;
  txRollback(): Promise<void>;

  /**
   * Routes a message to the queues it is for and delivers it as far as there is credit. Throws not-found for an unknown
   * exchange, access-refused, precondition-failed. Publishes of one channel keep their order in every queue.
   */
  publish(message: Message, mandatory?: boolean): void;
  /** Settles a delivery; `multiple`: all up to and including it, tag 0 = all. Throws precondition-failed if unknown. */
  ack(deliveryTag: number, multiple?: boolean): void;
  reject(deliveryTag: number, options?: RejectOptions): void;
  /**
   * Limits unacked deliveries, 0 = none: of every consumer made from now on or, `global`, of the channel as a whole.
   */
  prefetch(count: number, global?: boolean): void;
  /** No deliveries until `resume`: the peer is not reading. */
  pause(): void;
  resume(): void;
  /** Ends the consumers, requeues what is unacked, drops an open transaction. Idempotent. */
  close(): void;
}

/** One peer. Owns its exclusive queues and its channels and closes them with itself. */
export interface Connection {
  readonly principal: Principal;
  readonly vhost: string;
  readonly peer: PeerInfo;
  /** `number` is the door's own name for it, absent: the next free. Throws not-allowed over the user's limit. */
  openChannel(events?: Partial<ChannelEvents>, number?: number): Channel;
  /** The same peer under renewed credentials; must be the same user. */
  renew(principal: Principal): void;
  /** Idempotent. */
  close(): Promise<void>;
}

export interface Broker {
  /** The name under which the broker shows itself, e.g. as `cluster_name`. */
  readonly name: string;
  /** Users, virtual hosts, permissions, policies, limits, definitions, alarms, lists of what is there. */
  readonly administration: Administration;
  /** Throws access-refused, with nothing in the text that tells which of the two was wrong. */
  authenticate(credentials: Credentials): Promise<Principal>;
  /**
   * For a door that checks a SCRAM proof itself and then authenticates with `provedBy: 'scram'`. Of a user who does not
   * exist, or whose password Warren has never seen, keys that no proof fits, with a salt that is the same every time.
   */
  scramKeys(username: string, hash: ScramHash): Promise<ScramKeys>;
  /**
   * The same for HTTP Digest and `provedBy: 'digest'`: the realm, and the hash of user, realm and password in
   * hexadecimal [RFC 7616 §3.4.2]. Of a user who has none, a hash that nothing fits.
   */
  digestKey(username: string, algorithm: DigestAlgorithm): Promise<{ readonly realm: string; readonly key: string }>;
  /**
   * Enters a virtual host (default: the broker's default one). Without a principal the program itself enters, which may
   * do everything. Throws not-allowed: unknown virtual host, no permission in it, over a connection limit.
   */
  connect(
    principal?: Principal,
    vhost?: string,
    events?: Partial<ConnectionEvents>,
    peer?: PeerInfo,
  ): Promise<Connection>;
  /** Calls the observer for what happens from now on, by default everything; the returned function ends that. */
  observe(observer: Observer, scope?: ObserverScope): () => void;
  /** What is there, as plain data. Throws not-found for an unknown virtual host. */
  snapshot(vhost: string): Promise<Topology>;
  /**
   * First half of a shutdown: cancels all consumers, refuses new ones, and resolves when nothing is unacked or after
   * `timeoutMs` (default 5000).
   */
  drain(timeoutMs?: number): Promise<void>;
  /**
   * Second half: closes every connection with connection-forced, and stops. What outlives the process is on disk and the
   * data folder free for the next one when it resolves; it rejects when that cannot be had. Idempotent.
   */
  close(): Promise<void>;
}
