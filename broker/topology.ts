/** A virtual host as plain data: what `Broker.snapshot` answers, for lists, pages and tests. */
import type { FieldTable } from './fields.ts';
import type { BindingSpec } from './port.ts';

export interface ExchangeView {
  readonly name: string;
  readonly type: string;
  readonly durable: boolean;
  readonly autoDelete: boolean;
  readonly internal: boolean;
  readonly arguments: FieldTable;
  /** Name of the user policy in force, and of the operator policy. */
  readonly policy?: string;
  readonly operatorPolicy?: string;
  /** Messages held back by an x-delayed-message exchange. */
  readonly delayedMessages: number;
  /** Messages published to it that no queue wanted, since it was declared. */
  readonly unroutableMessages: number;
}

export interface ConsumerView {
  readonly consumerTag: string;
  readonly channelNumber: number;
  /** `PeerInfo.name` of its connection. */
  readonly connection: string;
  readonly noAck: boolean;
  readonly exclusive: boolean;
  readonly priority: number;
  readonly prefetch: number;
  readonly unacked: number;
  /** False for one that waits behind a single active consumer. */
  readonly active: boolean;
  readonly activityStatus: 'up' | 'single_active' | 'waiting';
  readonly arguments: FieldTable;
}

export interface QueueView {
  readonly name: string;
  /** `classic` or `quorum`; on this one machine a quorum queue is a durable queue with a delivery count. */
  readonly type: string;
  readonly durable: boolean;
  readonly exclusive: boolean;
  readonly autoDelete: boolean;
  readonly arguments: FieldTable;
  readonly policy?: string;
  readonly operatorPolicy?: string;
  readonly effectivePolicyDefinition: FieldTable;
  /** Of an exclusive queue, `PeerInfo.name` of its owner. */
  readonly owner?: string;
  readonly messagesReady: number;
  readonly messagesUnacked: number;
  /** Waiting for `x-delayed-retry-min` to pass before they become ready again; part of neither count above. */
  readonly messagesDelayed: number;
  /** Octets of the bodies of ready messages. */
  readonly messageBytesReady: number;
  readonly consumers: readonly ConsumerView[];
}

export interface Topology {
  readonly vhost: string;
  readonly exchanges: readonly ExchangeView[];
  readonly queues: readonly QueueView[];
  /** Without the implicit bindings of every queue to the default exchange. */
  readonly bindings: readonly BindingSpec[];
}
