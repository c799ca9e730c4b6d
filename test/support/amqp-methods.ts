/** The methods and basic properties of AMQP 0-9-1 with RabbitMQ's additions, as a table [AMQP 1.2 to 1.9]. */

export type FieldType = 'bit' | 'octet' | 'short' | 'long' | 'longlong' | 'shortstr' | 'longstr' | 'table';

export interface MethodShape {
  /** e.g. `queue.declare-ok` */
  readonly name: string;
  readonly classId: number;
  readonly methodId: number;
  readonly hasContent: boolean;
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[];
}

/** One line a method: class/method ids, name, arguments as `name:type`; `+content` marks those followed by content. */
const TABLE = `
10/10 connection.start versionMajor:octet versionMinor:octet serverProperties:table mechanisms:longstr locales:longstr
10/11 connection.start-ok clientProperties:table mechanism:shortstr response:longstr locale:shortstr
10/20 connection.secure challenge:longstr
10/21 connection.secure-ok response:longstr
10/30 connection.tune channelMax:short frameMax:long heartbeat:short
10/31 connection.tune-ok channelMax:short frameMax:long heartbeat:short
10/40 connection.open virtualHost:shortstr reserved1:shortstr reserved2:bit
10/41 connection.open-ok reserved1:shortstr
10/50 connection.close replyCode:short replyText:shortstr classId:short methodId:short
10/51 connection.close-ok
10/60 connection.blocked reason:shortstr
10/61 connection.unblocked
10/70 connection.update-secret newSecret:longstr reason:shortstr
10/71 connection.update-secret-ok
20/10 channel.open reserved1:shortstr
20/11 channel.open-ok reserved1:longstr
20/20 channel.flow active:bit
20/21 channel.flow-ok active:bit
20/40 channel.close replyCode:short replyText:shortstr classId:short methodId:short
20/41 channel.close-ok
30/10 access.request realm:shortstr exclusive:bit passive:bit active:bit write:bit read:bit
30/11 access.request-ok ticket:short
40/10 exchange.declare ticket:short exchange:shortstr type:shortstr passive:bit durable:bit autoDelete:bit internal:bit noWait:bit arguments:table
40/11 exchange.declare-ok
40/20 exchange.delete ticket:short exchange:shortstr ifUnused:bit noWait:bit
40/21 exchange.delete-ok
40/30 exchange.bind ticket:short destination:shortstr source:shortstr routingKey:shortstr noWait:bit arguments:table
40/31 exchange.bind-ok
40/40 exchange.unbind ticket:short destination:shortstr source:shortstr routingKey:shortstr noWait:bit arguments:table
40/51 exchange.unbind-ok
50/10 queue.declare ticket:short queue:shortstr passive:bit durable:bit exclusive:bit autoDelete:bit noWait:bit arguments:table
50/11 queue.declare-ok queue:shortstr messageCount:long consumerCount:long
50/20 queue.bind ticket:short queue:shortstr exchange:shortstr routingKey:shortstr noWait:bit arguments:table
50/21 queue.bind-ok
50/30 queue.purge ticket:short queue:shortstr noWait:bit
50/31 queue.purge-ok messageCount:long
50/40 queue.delete ticket:short queue:shortstr ifUnused:bit ifEmpty:bit noWait:bit
50/41 queue.delete-ok messageCount:long
50/50 queue.unbind ticket:short queue:shortstr exchange:shortstr routingKey:shortstr arguments:table
50/51 queue.unbind-ok
60/10 basic.qos prefetchSize:long prefetchCount:short global:bit
60/11 basic.qos-ok
60/20 basic.consume ticket:short queue:shortstr consumerTag:shortstr noLocal:bit noAck:bit exclusive:bit noWait:bit arguments:table
60/21 basic.consume-ok consumerTag:shortstr
60/30 basic.cancel consumerTag:shortstr noWait:bit
60/31 basic.cancel-ok consumerTag:shortstr
60/40 basic.publish ticket:short exchange:shortstr routingKey:shortstr mandatory:bit immediate:bit +content
60/50 basic.return replyCode:short replyText:shortstr exchange:shortstr routingKey:shortstr +content
60/60 basic.deliver consumerTag:shortstr deliveryTag:longlong redelivered:bit exchange:shortstr routingKey:shortstr +content
60/70 basic.get ticket:short queue:shortstr noAck:bit
60/71 basic.get-ok deliveryTag:longlong redelivered:bit exchange:shortstr routingKey:shortstr messageCount:long +content
60/72 basic.get-empty clusterId:shortstr
60/80 basic.ack deliveryTag:longlong multiple:bit
60/90 basic.reject deliveryTag:longlong requeue:bit
60/100 basic.recover-async requeue:bit
60/110 basic.recover requeue:bit
60/111 basic.recover-ok
60/120 basic.nack deliveryTag:longlong multiple:bit requeue:bit
85/10 confirm.select noWait:bit
85/11 confirm.select-ok
90/10 tx.select
90/11 tx.select-ok
90/20 tx.commit
90/21 tx.commit-ok
90/30 tx.rollback
90/31 tx.rollback-ok`;

export const METHODS: readonly MethodShape[] = TABLE.trim()
  .split('\n')
  .map((line) => {
    const [ids = '', name = '', ...rest] = line.split(' ');
    const [classId, methodId] = ids.split('/').map(Number);
    const fields = rest
      .filter((word) => word !== '+content')
      .map((word) => {
        const [fieldName = '', type] = word.split(':');
        return { name: fieldName, type: type as FieldType };
      });
    return { name, classId: classId ?? 0, methodId: methodId ?? 0, hasContent: rest.includes('+content'), fields };
  });

/** The 14 basic properties in the order of their flag bits, highest first. */
export const PROPERTY_NAMES = [
  'contentType',
  'contentEncoding',
  'headers',
  'deliveryMode',
  'priority',
  'correlationId',
  'replyTo',
  'expiration',
  'messageId',
  'timestamp',
  'type',
  'userId',
  'appId',
  'clusterId',
] as const;

/** Their types, in the same order. */
export const PROPERTY_TYPES: readonly FieldType[] = [
  'shortstr',
  'shortstr',
  'table',
  'octet',
  'octet',
  'shortstr',
  'shortstr',
  'shortstr',
  'shortstr',
  'longlong',
  'shortstr',
  'shortstr',
  'shortstr',
  'shortstr',
];
