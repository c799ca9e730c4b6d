/** What the load of the crash test works on. Everything in it is durable and declared once. */
import type { ConfirmChannel, Options } from 'amqplib';

/** How long messages live in the queue `ttl`, milliseconds. */
export const TTL_MS = 400;

interface QueueSpec {
  readonly name: string;
  readonly options?: Options.AssertQueue;
}

/** The queues with what they are there for. */
export const QUEUES: readonly QueueSpec[] = [
  { name: 'direct' },
  { name: 'fan-a' },
  { name: 'fan-b' },
  // Consumed without acks.
  { name: 'heard' },
  { name: 'priority', options: { maxPriority: 9 } },
  // Nobody consumes from it while there is load: what is new in it comes without the flag redelivered.
  { name: 'park' },
  // What is rejected goes to `dead`.
  { name: 'work', options: { deadLetterExchange: 'dead-letters' } },
  { name: 'dead' },
  // Only a quorum queue says how often a message came.
  { name: 'counted', options: { arguments: { 'x-queue-type': 'quorum' } } },
  {
    name: 'ttl',
    options: { messageTtl: TTL_MS, deadLetterExchange: '', deadLetterRoutingKey: 'expired' },
  },
  { name: 'expired' },
  { name: 'later' },
  { name: 'tx-in' },
  { name: 'tx-out' },
];

/** Takes what is sent only to get a confirm. */
export const BARRIERS = 'barriers';

/** Under these names the ledger keeps what was declared, beside the queues with messages. */
export const QUEUE_KIND = '(queue)';
export const EXCHANGE_KIND = '(exchange)';
/** Ids are `exchange>queue`. */
export const BINDING_KIND = '(binding)';

/** Messages of the delayed exchange come in the order in which they are due; names have none. */
export const UNORDERED: readonly string[] = ['later', QUEUE_KIND, EXCHANGE_KIND, BINDING_KIND];
export const UNTOUCHED: readonly string[] = ['park'];
export const UNACKED: readonly string[] = ['heard'];

/** Declares it all; resolves when the broker has answered. */
export async function declareTopology(channel: ConfirmChannel): Promise<void> {
  for (const { name, options = {} } of QUEUES) await channel.assertQueue(name, { durable: true, ...options });
  await channel.assertQueue(BARRIERS, { durable: true, maxLength: 1 });
  await channel.assertExchange('fan', 'fanout', { durable: true });
  await channel.bindQueue('fan-a', 'fan', '');
  await channel.bindQueue('fan-b', 'fan', '');
  await channel.assertExchange('dead-letters', 'fanout', { durable: true });
  await channel.bindQueue('dead', 'dead-letters', '');
  await channel.assertExchange('delays', 'x-delayed-message', {
    durable: true,
    arguments: { 'x-delayed-type': 'fanout' },
  });
  await channel.bindQueue('later', 'delays', '');
}
