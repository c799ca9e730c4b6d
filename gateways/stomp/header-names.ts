/**
 * The header names that mean something to this door, each known by a number, so that a frame's headers are told apart
 * without a string being made. 0 stands for every other name: a header of the user's.
 */

const NAMES = [
  // Every frame and its transport.
  'destination',
  'content-length',
  'receipt',
  'transaction',
  'id',
  'subscription',
  'message-id',
  'ack',
  'redelivered',
  // Properties of a message.
  'content-type',
  'content-encoding',
  'persistent',
  'priority',
  'correlation-id',
  'reply-to',
  'expiration',
  'amqp-message-id',
  'timestamp',
  'type',
  'user-id',
  'app-id',
  'cluster-id',
  // What a SEND may ask for besides.
  'expires',
  'mandatory',
  'destination-type',
  'x-cc',
  'AMQ_SCHEDULED_DELAY',
  'requeue',
  'receipt-id',
  // Headers at which routing looks.
  'CC',
  'BCC',
  'x-delay',
  'x-deliver-at',
  // Arguments of queues and exchanges, which are no business of consumers.
  'durable',
  'auto-delete',
  'exclusive',
  'x-queue-name',
  'x-declare',
  'x-exchange-type',
  'x-bind',
  'x-dead-letter-exchange',
  'x-dead-letter-routing-key',
  'x-expires',
  'x-max-length',
  'x-max-length-bytes',
  'x-max-age',
  'x-max-priority',
  'x-message-ttl',
  'x-overflow',
  'x-queue-type',
  'x-single-active-consumer',
  'x-delivery-limit',
  'x-stream-max-segment-size-bytes',
  'x-stream-filter-size-bytes',
] as const;

export type HeaderName = (typeof NAMES)[number];

/** The number of a name, from 1. */
export type HeaderId = number;

/** How many numbers there are, 0 included. */
export const HEADER_IDS = NAMES.length + 1;

/** The number of a known name. */
export function headerId(name: HeaderName): HeaderId {
  return NAMES.indexOf(name) + 1;
}

/** The name of a number. */
export function headerName(id: HeaderId): HeaderName | undefined {
  return NAMES[id - 1];
}

const LONGEST = Math.max(...NAMES.map((name) => name.length));
const BUCKETS = 256;

interface Known {
  readonly id: HeaderId;
  readonly octets: Uint8Array;
}

/** The known names by length and outer letters, which leaves one or two of them to compare. */
const known: Known[][] = Array.from({ length: BUCKETS }, () => []);
for (const name of NAMES) {
  const octets = Buffer.from(name);
  known[bucketOf(octets, 0, octets.length)]?.push({ id: headerId(name), octets });
}

function bucketOf(octets: Uint8Array, start: number, end: number): number {
  return ((end - start) * 31 + (octets[start] as number) * 7 + (octets[end - 1] as number) * 3) & (BUCKETS - 1);
}

/** The number of the name `octets[start, end)`, which is not empty; 0 when it is none of those above. */
export function identify(octets: Uint8Array, start: number, end: number): HeaderId {
  const length = end - start;
  if (length > LONGEST) return 0;
  const bucket = known[bucketOf(octets, start, end)] as Known[];
  for (let index = 0; index < bucket.length; index += 1) {
    const candidate = bucket[index] as Known;
    const name = candidate.octets;
    if (name.length !== length) continue;
    let at = 0;
    while (at < length && name[at] === octets[start + at]) at += 1;
    if (at === length) return candidate.id;
  }
  return 0;
}
