/**
 * The crossing matrix: what every protocol sends, every protocol receives. A protocol joins by one object of this shape
 * in `protocols.ts`, which gives the matrix a row and a column; its clients should be somebody else's.
 */
import type { Broker } from '../../broker/port.ts';

/** What a message may have besides its body; a protocol that lacks one of them loses it, and says so in `carries`. */
export interface Properties {
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly persistent?: true;
  readonly priority?: number;
  readonly correlationId?: string;
  readonly replyTo?: string;
  /** Milliseconds, as text. */
  readonly expiration?: string;
  readonly messageId?: string;
  /** Seconds since 1970. */
  readonly timestamp?: number;
  readonly type?: string;
  readonly appId?: string;
  readonly headers?: { readonly [name: string]: string };
}

/** What can be told apart in a message: its properties, and bodies that are no text. */
export type Aspect = keyof Properties | 'octets';

export interface Sample {
  readonly body: Buffer;
  readonly properties: Properties;
}

/** A message as it was received. */
export interface Received extends Sample {
  /** Sends a reply to wherever the message asks for one. */
  reply(body: string): Promise<void>;
}

/** Where messages go and come from. */
export type Place = { readonly queue: string } | { readonly exchange: string; readonly key: string };

/** One client. */
export interface Peer {
  /** Resolves when the broker has the message, or it is certain to be handled before what this peer sends next. */
  send(place: Place, sample: Sample): Promise<void>;
  /** From now on messages come: of a queue, or those that a binding to an exchange brings. */
  subscribe(place: Place): Promise<void>;
  /** The next message of what was subscribed to, acked. */
  receive(): Promise<Received>;
  /** Sends with an address for replies and resolves to the body of the reply. */
  request(queue: string, body: string): Promise<string>;
  close(): Promise<void>;
}

export interface Protocol {
  readonly name: string;
  readonly carries: ReadonlySet<Aspect>;
  /** Opens the door for the tests. */
  start(broker: Broker): Promise<{ connect(): Promise<Peer>; close(): Promise<void> }>;
}

/** Everything. */
export const EVERY_ASPECT: ReadonlySet<Aspect> = new Set<Aspect>([
  'contentType',
  'contentEncoding',
  'persistent',
  'priority',
  'correlationId',
  'replyTo',
  'expiration',
  'messageId',
  'timestamp',
  'type',
  'appId',
  'headers',
  'octets',
]);

/** What is left of `properties` on a way that carries only some aspects. */
export function carried(properties: Properties, ...ways: readonly ReadonlySet<Aspect>[]): Properties {
  const left = Object.entries(properties).filter(([name]) => ways.every((way) => way.has(name as Aspect)));
  return Object.fromEntries(left);
}

/** Messages that wait for whoever asks, and askers that wait for messages. */
export class Mailbox<T> {
  readonly #items: T[] = [];
  readonly #askers: ((item: T) => void)[] = [];

  readonly add = (item: T): void => {
    const asker = this.#askers.shift();
    if (asker === undefined) this.#items.push(item);
    else asker(item);
  };

  take(): Promise<T> {
    const item = this.#items.shift();
    if (item !== undefined) return Promise.resolve(item);
    return new Promise((resolve) => this.#askers.push(resolve));
  }
}
