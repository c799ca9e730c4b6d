/**
 * What a SUBSCRIBE asks for: which queue, made how, bound to what, consumed how. RabbitMQ's headers, those of this door
 * (`x-declare`, `x-bind`, `x-exchange-type`), and what clients of ActiveMQ say instead.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { FieldTable, FieldValue } from '../../broker/fields.ts';
import { BrokerError, type Channel } from '../../broker/port.ts';
import { flag, type Headers, invalidHeader, isTrue, queueArguments, wholeNumber } from './declarations.ts';
import type { Destination } from './destinations.ts';
import { ReplyError } from './errors.ts';
import { type AckMode, SUBSCRIPTION_ID_BYTES_MAX } from './subscription.ts';
import { ensureQueue, NAME_BYTES_MAX, type QueueWish, requireDestination } from './targets.ts';

/** Begins the names of queues that are made for one subscription. */
export const SUBSCRIPTION_QUEUE_PREFIX = 'stomp-subscription-';
const PREFETCH_MAX = 65_535;

/** A SUBSCRIBE, understood. */
export interface SubscribeRequest {
  readonly destination: Destination;
  readonly mode: AckMode;
  /** 0 = no limit. */
  readonly prefetch: number;
  readonly exclusive: boolean;
  /** Arguments of the consumer. */
  readonly arguments: FieldTable;
  /** The queue is a durable one for the destination and the id. */
  readonly isDurable: boolean;
}

/** Reads the headers of a SUBSCRIBE. Throws ReplyError. */
export function readSubscribe(headers: Headers): SubscribeRequest {
  const destination = withType(requireDestination(headers.get('destination')), headers);
  if (headers.has('selector')) {
    throw new ReplyError(
      'Unsupported header',
      "'selector' is not supported: bind a queue to a headers exchange instead",
    );
  }
  if (isTrue(headers.get('browser'))) {
    throw new ReplyError('Unsupported header', "'browser' is not supported: a subscription takes what it is sent");
  }
  const prefetch = wholeNumberIn(headers, ['prefetch-count', 'activemq.prefetchSize'], PREFETCH_MAX);
  const isDurable = isDurableSubscription(headers) && (destination.kind === 'topic' || destination.kind === 'exchange');
  return {
    destination,
    mode: ackMode(headers.get('ack')),
    prefetch,
    exclusive: flag(headers, 'activemq.exclusive', false),
    arguments: consumerArguments(headers),
    isDurable,
  };
}

/**
 * The id of a subscription. COMPAT: clients of 1.0 may leave it out, and the destination stands for it.
 * Throws ReplyError.
 */
export function subscriptionId(headers: Headers): string {
  const id = headers.get('id') ?? headers.get('destination');
  if (id === undefined) throw new ReplyError('Missing Header', "the header 'id' must be there");
  if (Buffer.byteLength(id) > SUBSCRIPTION_ID_BYTES_MAX) {
    throw new ReplyError('Invalid header', `'id' is at most ${SUBSCRIPTION_ID_BYTES_MAX} octets long`);
  }
  return id;
}

/** COMPAT: Artemis says with a header of its own what a name without a prefix is. */
export function withType(destination: Destination, headers: Headers): Destination {
  const isBare = !(headers.get('destination') ?? '').startsWith('/');
  return isBare && headers.get('destination-type') === 'MULTICAST' ? { ...destination, kind: 'topic' } : destination;
}

/** `durable` or `persistent`, or what ActiveMQ calls a durable subscription by. */
export function isDurableSubscription(headers: Headers): boolean {
  return isTrue(headers.get('durable')) || isTrue(headers.get('persistent')) || durableName(headers) !== undefined;
}

function durableName(headers: Headers): string | undefined {
  return headers.get('durable-subscription-name') ?? headers.get('activemq.subscriptionName');
}

function ackMode(text = 'auto'): AckMode {
  if (text === 'auto' || text === 'client' || text === 'client-individual') return text;
  throw invalidHeader('ack', text, 'auto, client or client-individual');
}

function wholeNumberIn(headers: Headers, names: readonly string[], max: number): number {
  for (const name of names) {
    const text = headers.get(name);
    if (text === undefined) continue;
    const value = wholeNumber(name, text);
    if (value < 0 || value > max) throw invalidHeader(name, text, `a whole number, 0 to ${max}`);
    return value;
  }
  return 0;
}

function consumerArguments(headers: Headers): FieldTable {
  const args: Record<string, FieldValue> = Object.create(null);
  const priority = headers.get('x-priority') ?? headers.get('activemq.priority');
  if (priority !== undefined) args['x-priority'] = wholeNumber('x-priority', priority);
  const offset = headers.get('x-stream-offset');
  if (offset !== undefined) args['x-stream-offset'] = /^\d{1,15}$/.test(offset) ? Number(offset) : offset;
  const filter = headers.get('x-stream-filter');
  if (filter !== undefined) args['x-stream-filter'] = filter;
  if (headers.has('x-stream-match-unfiltered')) {
    args['x-stream-match-unfiltered'] = flag(headers, 'x-stream-match-unfiltered', false);
  }
  return args;
}

/** Sees to it that the queue of a subscription is there and bound; answers its name. Rejects with ReplyError, BrokerError. */
export async function prepareQueue(
  channel: Channel,
  request: SubscribeRequest,
  headers: Headers,
  context: { readonly topicExchange: string; readonly owner: string },
): Promise<string> {
  const { destination } = request;
  switch (destination.kind) {
    case 'queue':
      await prepareNamed(channel, destination.name, headers);
      return destination.name;
    case 'amq-queue':
      await channel.declareQueue({ queue: destination.name, passive: true });
      return destination.name;
    case 'reply-queue':
      return destination.name;
    case 'exchange':
      return prepareBound(channel, request, headers, destination.name, destination.key, context.owner);
    case 'topic':
      return prepareBound(channel, request, headers, context.topicExchange, destination.name, context.owner);
    default:
      throw new ReplyError('Invalid destination', `'${headers.get('destination')}' cannot be subscribed to`);
  }
}

async function prepareNamed(channel: Channel, queue: string, headers: Headers): Promise<void> {
  const how = headers.get('x-declare');
  if (how === 'none') return;
  if (how === 'passive') await channel.declareQueue({ queue, passive: true });
  else if (how !== undefined) throw invalidHeader('x-declare', how, 'passive or none');
  else await ensureQueue(channel, queue, queueWish(headers));
  await bindAll(channel, queue, headers.get('x-bind-exchange'), keysOf(headers));
}

/** How SEND or SUBSCRIBE wants the queue of `/queue/NAME`; durable unless it says otherwise. */
export function queueWish(headers: Headers): QueueWish {
  const args = queueArguments(headers);
  return {
    durable: flag(headers, 'durable', true),
    exclusive: flag(headers, 'exclusive', false),
    autoDelete: flag(headers, 'auto-delete', false),
    arguments: args,
    isExplicit: args !== undefined || ['durable', 'exclusive', 'auto-delete'].some((name) => headers.has(name)),
  };
}

/** A queue for this subscription, bound to an exchange. */
async function prepareBound(
  channel: Channel,
  { isDurable }: SubscribeRequest,
  headers: Headers,
  exchange: string,
  key: string | undefined,
  owner: string,
): Promise<string> {
  const type = headers.get('x-exchange-type');
  if (type !== undefined) await ensureExchange(channel, exchange, type);
  const queue = subscriptionQueue(headers, isDurable, owner);
  const args = queueArguments(headers);
  await channel.declareQueue({
    queue,
    durable: isDurable,
    exclusive: flag(headers, 'exclusive', !isDurable),
    autoDelete: flag(headers, 'auto-delete', !isDurable),
    ...(args && { arguments: args }),
  });
  try {
    const keys = [...(key === undefined ? [] : [key]), ...keysOf(headers)];
    await bindAll(channel, queue, exchange, keys.length === 0 ? [''] : keys);
  } catch (error) {
    // Nobody would ever consume from it.
    if (!isDurable && !headers.has('x-queue-name')) await channel.deleteQueue(queue);
    throw error;
  }
  return queue;
}

/** The name of a subscription's queue: given, or the same for destination and id each time, or like no other. */
export function subscriptionQueue(headers: Headers, isDurable: boolean, owner: string): string {
  const given = headers.get('x-queue-name');
  if (given !== undefined) {
    if (given === '' || Buffer.byteLength(given) > NAME_BYTES_MAX) {
      throw invalidHeader('x-queue-name', given, `a name of 1 to ${NAME_BYTES_MAX} octets`);
    }
    return given;
  }
  if (!isDurable) return SUBSCRIPTION_QUEUE_PREFIX + randomBytes(16).toString('base64url');
  const name = durableName(headers);
  const id = name === undefined ? headers.get('id') : `${owner}\n${name}`;
  if (id === undefined) {
    throw new ReplyError('Missing Header', "a durable subscription needs the header 'id'");
  }
  const hash = createHash('sha256')
    .update(`${headers.get('destination')}\n${id}`)
    .digest();
  return SUBSCRIPTION_QUEUE_PREFIX + hash.subarray(0, 16).toString('base64url');
}

/** Declares an exchange that is missing; one that is there is taken as it is. */
async function ensureExchange(channel: Channel, exchange: string, type: string): Promise<void> {
  try {
    await channel.declareExchange({ exchange, type, passive: true });
  } catch (error) {
    if (!(error instanceof BrokerError) || error.kind !== 'not-found') throw error;
    await channel.declareExchange({ exchange, type, durable: true });
  }
}

/** `x-bind`: further binding keys, with commas between. */
function keysOf(headers: Headers): readonly string[] {
  const keys = headers.get('x-bind');
  return keys === undefined ? [] : keys.split(',').map((key) => key.trim());
}

async function bindAll(
  channel: Channel,
  queue: string,
  source: string | undefined,
  keys: readonly string[],
): Promise<void> {
  if (source === undefined) {
    if (keys.length > 0) throw new ReplyError('Invalid header', "'x-bind' on a queue needs 'x-bind-exchange'");
    return;
  }
  for (const bindingKey of keys) {
    await channel.bind({ source, destination: queue, destinationKind: 'queue', bindingKey });
  }
}
