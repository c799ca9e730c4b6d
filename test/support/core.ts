/** A broker in this process under a manual clock, and consumers that remember: what the tests of the core talk to. */
import { type BrokerOptions, createBroker } from '../../broker/broker.ts';
import { createMessage, type Message, type MessageProperties } from '../../broker/message.ts';
import type {
  Broker,
  CancelReason,
  Channel,
  ChannelEvents,
  Connection,
  ConsumerEvents,
  ConsumeSpec,
} from '../../broker/port.ts';
import type { ExchangeView, QueueView } from '../../broker/topology.ts';
import { ManualClock } from './manual-clock.ts';

export interface Delivered {
  readonly body: string;
  readonly tag: number;
  readonly redelivered: boolean;
  readonly message: Message;
}

/** A consumer that keeps what it gets. `onNext`, if set, is called from inside each delivery. */
export class Inbox implements ConsumerEvents {
  readonly delivered: Delivered[] = [];
  readonly cancelled: { readonly reason: CancelReason; readonly explanation: string }[] = [];
  tag = '';
  onNext: ((delivered: Delivered) => void) | undefined;

  constructor(onNext?: (delivered: Delivered) => void) {
    this.onNext = onNext;
  }

  onDeliver(message: Message, tag: number, redelivered: boolean): void {
    const delivered = { body: text(message), tag, redelivered, message };
    this.delivered.push(delivered);
    this.onNext?.(delivered);
  }

  onCancel(reason: CancelReason, explanation: string): void {
    this.cancelled.push({ reason, explanation });
  }

  get bodies(): string[] {
    return this.delivered.map(({ body }) => body);
  }

  /** The bodies that came since the last call. */
  takeBodies(): string[] {
    return this.delivered.splice(0).map(({ body }) => body);
  }
}

/** The body of a message as text. */
export function text(message: Message): string {
  return new TextDecoder().decode(message.body);
}

/** The header of a message; undefined when it has none of that name. */
export function header(message: Message | undefined, name: string): unknown {
  return message?.properties.headers?.[name];
}

/** One broker, and the program's own connection to it. */
export class Core {
  readonly clock: ManualClock;
  readonly broker: Broker;
  readonly connection: Connection;

  constructor(clock: ManualClock, broker: Broker, connection: Connection) {
    this.clock = clock;
    this.broker = broker;
    this.connection = connection;
  }

  channel(events?: Partial<ChannelEvents>): Channel {
    return this.connection.openChannel(events);
  }

  /** Consumes, and ends the turn, so that deliveries have begun. */
  async consume(
    channel: Channel,
    queue: string,
    spec: Partial<ConsumeSpec> = {},
    onNext?: Inbox['onNext'],
  ): Promise<Inbox> {
    const inbox = new Inbox(onNext);
    inbox.tag = await channel.consume({ queue, ...spec }, inbox);
    this.clock.turn();
    return inbox;
  }

  async queue(name: string): Promise<QueueView | undefined> {
    return (await this.broker.snapshot('/')).queues.find((queue) => queue.name === name);
  }

  async exchange(name: string): Promise<ExchangeView | undefined> {
    return (await this.broker.snapshot('/')).exchanges.find((exchange) => exchange.name === name);
  }

  /** Takes everything that is ready, in order. */
  async drain(queue: string): Promise<Message[]> {
    const channel = this.channel();
    const messages: Message[] = [];
    for (;;) {
      const got = await channel.get(queue, { noAck: true });
      if (got === undefined) break;
      messages.push(got.message);
    }
    channel.close();
    return messages;
  }

  /** Takes everything that is ready; the bodies in order. */
  async drainBodies(queue: string): Promise<string[]> {
    return (await this.drain(queue)).map(text);
  }
}

/** A broker with nothing in it yet. */
export async function startCore(options: Omit<BrokerOptions, 'clock'> = {}): Promise<Core> {
  const clock = new ManualClock();
  const broker = await createBroker({ ...options, clock });
  return new Core(clock, broker, await broker.connect());
}

/** Publishes `body` to the queue named, by way of the default exchange. */
export function send(channel: Channel, queue: string, body: string, properties: MessageProperties = {}): void {
  channel.publish(createMessage({ routingKey: queue, body, properties }));
}

/** Publishes `body` to an exchange. */
export function publish(
  channel: Channel,
  exchange: string,
  routingKey: string,
  body = '',
  properties: MessageProperties = {},
): void {
  channel.publish(createMessage({ exchange, routingKey, body, properties }));
}
