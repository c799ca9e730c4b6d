/**
 * Destinations, in RabbitMQ's forms, and what they are in the model:
 *
 * ```
 * /exchange/NAME[/KEY]   an exchange          /amq/queue/NAME   a queue that is there already
 * /topic/KEY             the topic exchange   /temp-queue/NAME  in reply-to: a queue of this session
 * /queue/NAME, NAME      a queue              /reply-queue/NAME the queue of a reply-to, as it is written
 * ```
 *
 * Names are escaped with `%` and two hexadecimal digits for an octet, all of them, both ways (RabbitMQ unescapes `%2F`
 * only). A `%` that begins no such triple stands for itself. `/reply-queue/` is followed by a name that is not escaped.
 */
import { decodeStrictly } from './octets.ts';
import { REPLY_QUEUE_PREFIX } from './properties.ts';

export type DestinationKind = 'exchange' | 'queue' | 'amq-queue' | 'topic' | 'temp-queue' | 'reply-queue' | 'warren';

export interface Destination {
  readonly kind: DestinationKind;
  /** The exchange of `exchange`, the queue of the queues, the key of `topic`, the verb of `warren`. */
  readonly name: string;
  /** The routing or binding key of `exchange`; undefined when none was given. */
  readonly key?: string;
}

const PREFIXES: readonly (readonly [string, DestinationKind])[] = [
  ['/exchange/', 'exchange'],
  ['/queue/', 'queue'],
  ['/amq/queue/', 'amq-queue'],
  ['/topic/', 'topic'],
  ['/temp-queue/', 'temp-queue'],
  [REPLY_QUEUE_PREFIX, 'reply-queue'],
  ['/warren/', 'warren'],
];

/** The forms that a destination may have, for error texts. */
export const DESTINATION_FORMS = '/exchange/NAME[/KEY], /queue/NAME, /amq/queue/NAME, /topic/KEY, /temp-queue/NAME';

/** The kind of destination that `text` begins as, right or not, as RabbitMQ calls it; undefined for none. */
export function kindOf(text: string): string | undefined {
  return PREFIXES.find(([prefix]) => text.startsWith(prefix) || `${text}/` === prefix)?.[0].slice(1, -1);
}

/** The destination that `text` writes; undefined when it has none of the forms. Never throws. */
export function parseDestination(text: string): Destination | undefined {
  if (!text.startsWith('/')) return named('queue', text);
  for (const [prefix, kind] of PREFIXES) {
    if (!text.startsWith(prefix)) continue;
    const rest = text.slice(prefix.length);
    if (kind === 'reply-queue') return rest === '' ? undefined : { kind, name: rest };
    return kind === 'exchange' ? parseExchange(rest) : named(kind, rest);
  }
  return undefined;
}

function parseExchange(rest: string): Destination | undefined {
  const [first = '', second, ...more] = rest.split('/');
  const name = unescapeName(first);
  const key = second === undefined ? undefined : unescapeName(second);
  if (name === undefined || name === '' || more.length > 0) return undefined;
  if (second === undefined) return { kind: 'exchange', name };
  return key === undefined ? undefined : { kind: 'exchange', name, key };
}

function named(kind: DestinationKind, escaped: string): Destination | undefined {
  if (escaped.includes('/')) return undefined;
  const name = unescapeName(escaped);
  return name === undefined || name === '' ? undefined : { kind, name };
}

/** Undefined when the octets are no UTF-8. */
function unescapeName(escaped: string): string | undefined {
  if (!escaped.includes('%')) return escaped;
  const octets: number[] = [];
  for (const part of escaped.match(/%[0-9A-Fa-f]{2}|[^%]+|%/g) ?? []) {
    if (part.length === 3 && part.startsWith('%')) octets.push(Number.parseInt(part.slice(1), 16));
    else octets.push(...Buffer.from(part));
  }
  return decodeStrictly(Uint8Array.from(octets));
}

/** A name as it stands in a destination: `/`, `%` and what is not printable ASCII as `%XX`. */
export function escapeName(name: string): string {
  if (!/[^ -$&-.0-\x7f]/.test(name)) return name;
  let escaped = '';
  for (const octet of Buffer.from(name)) {
    const character = String.fromCharCode(octet);
    const isPlain = octet >= 0x20 && octet <= 0x7f && character !== '/' && character !== '%';
    escaped += isPlain ? character : `%${octet.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return escaped;
}

/** The destination that a MESSAGE from that exchange with that routing key is given. */
export function destinationOf(exchange: string, routingKey: string, topicExchange: string): string {
  if (exchange === '') return `/queue/${escapeName(routingKey)}`;
  if (exchange === topicExchange) return `/topic/${escapeName(routingKey)}`;
  return `/exchange/${escapeName(exchange)}/${escapeName(routingKey)}`;
}
