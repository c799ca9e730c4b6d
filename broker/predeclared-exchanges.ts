/**
 * The exchanges that every virtual host has from the start. [AMQP 3.1.3; RabbitMQ for amq.rabbitmq.trace] `amq.rhttp` is
 * Warren's own: HTTP requests for claimed names go through it.
 */

export interface PredeclaredExchange {
  readonly name: string;
  readonly type: string;
  readonly internal: boolean;
}

export const PREDECLARED_EXCHANGES: readonly PredeclaredExchange[] = [
  { name: '', type: 'direct', internal: false },
  { name: 'amq.direct', type: 'direct', internal: false },
  { name: 'amq.fanout', type: 'fanout', internal: false },
  { name: 'amq.topic', type: 'topic', internal: false },
  { name: 'amq.headers', type: 'headers', internal: false },
  { name: 'amq.match', type: 'headers', internal: false },
  { name: 'amq.rhttp', type: 'direct', internal: false },
  { name: 'amq.rabbitmq.trace', type: 'topic', internal: true },
];
