/** AMQP 0-9-1 in the crossing matrix: amqplib over TCP. */
import { type ConsumeMessage, connect } from 'amqplib';
import type { Broker } from '../../broker/port.ts';
import { startAmqpGateway } from '../../gateways/amqp/gateway.ts';
import { LISTENER } from '../interop/clients.ts';
import { EVERY_ASPECT, Mailbox, type Peer, type Properties, type Protocol, type Received } from './protocol.ts';

/** `properties` as amqplib has them, and back. */
const SAME_NAMES = [
  'contentType',
  'contentEncoding',
  'priority',
  'correlationId',
  'replyTo',
  'expiration',
  'messageId',
  'timestamp',
  'type',
  'appId',
] as const;

export const AMQP: Protocol = {
  name: 'AMQP',
  carries: EVERY_ASPECT,
  async start(broker: Broker) {
    const gateway = await startAmqpGateway(broker, LISTENER);
    const port = gateway.addresses[0]?.port ?? 0;
    return { connect: () => open(port), close: () => gateway.close() };
  },
};

async function open(port: number): Promise<Peer> {
  const model = await connect({ hostname: LISTENER.host, port });
  const channel = await model.createConfirmChannel();
  const mailbox = new Mailbox<ConsumeMessage>();

  function publish(exchange: string, key: string, body: Buffer, properties: Properties): Promise<void> {
    const { persistent = false, headers, ...rest } = properties;
    const options = { ...rest, persistent, ...(headers && { headers }) };
    return new Promise((resolve, reject) => {
      channel.publish(exchange, key, body, options, (error) => (error ? reject(error) : resolve()));
    });
  }

  function received(message: ConsumeMessage): Received {
    const { properties } = message;
    const found: Record<string, unknown> = {};
    for (const name of SAME_NAMES) if (properties[name] !== undefined) found[name] = properties[name];
    if (properties.deliveryMode === 2) found.persistent = true;
    if (properties.headers && Object.keys(properties.headers).length > 0) found.headers = { ...properties.headers };
    return {
      body: message.content,
      properties: found,
      reply: (body) => publish('', String(properties.replyTo), Buffer.from(body), {}),
    };
  }

  return {
    send(place, { body, properties }) {
      return 'queue' in place
        ? publish('', place.queue, body, properties)
        : publish(place.exchange, place.key, body, properties);
    },
    async subscribe(place) {
      const { queue } = 'queue' in place ? place : await channel.assertQueue('', { exclusive: true });
      if ('exchange' in place) await channel.bindQueue(queue, place.exchange, place.key);
      await channel.consume(queue, (message) => {
        if (message !== null) mailbox.add(message);
      });
    },
    async receive() {
      const message = await mailbox.take();
      channel.ack(message);
      return received(message);
    },
    async request(queue, body) {
      const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
      const replies = new Mailbox<string>();
      await channel.consume(replyTo, (message) => replies.add(message?.content.toString() ?? ''), { noAck: true });
      await publish('', queue, Buffer.from(body), { replyTo });
      return replies.take();
    },
    close: () => model.close(),
  };
}
