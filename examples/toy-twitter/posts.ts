/**
 * What people send: posts and deeds, as messages of the broker. A post is plain text, so that any program that is bound to
 * somebody's exchange can read it; who sent it is the exchange that it was published to, which the broker vouches for, and
 * not what the message says. A deed is said by its routing key alone.
 *
 * ```
 * post   key say             content-type text/plain, message-id, timestamp
 * deed   key join, leave     application/json: {"deed":"follow","who":"anna","whom":"ben"}
 *            follow.NAME, unfollow.NAME
 *            contact         has added Rabbiter: {"deed":"contact","who":"anna","bot":"rabbiter@broker.localhost"}
 * ```
 */
import { randomUUID } from 'node:crypto';
import type { ConsumeMessage, GetMessage, Options } from 'amqplib';
import { keyPart, ownerOf, POST_KEY, shorten, TwitterError } from './names.ts';

/** Characters of a post. */
export const POST_CHARS_MAX = 500;
/** Characters of a post by somebody who came in another way that are shown. */
export const SHOWN_CHARS_MAX = 2000;

export interface Post {
  readonly kind: 'post';
  /** The same for every reader; for posts by other programs it may be ''. */
  readonly id: string;
  /** Name of the author; undefined for what comes from an exchange that is nobody's. */
  readonly author: string | undefined;
  /** The exchange, for what comes from nobody. */
  readonly exchange: string;
  readonly text: string;
  readonly at: Date;
}

/** What somebody has done. */
export interface Deed {
  readonly kind: 'deed';
  readonly deed: 'join' | 'leave' | 'follow' | 'unfollow' | 'contact';
  readonly who: string;
  /** Of `follow` and `unfollow`. */
  readonly whom?: string;
  /** Of `contact`: the address of the bot. */
  readonly bot?: string;
}

export const DEED_TYPE = 'application/json';

/** A message as amqplib hands it over. */
export type Received = ConsumeMessage | GetMessage;

/** A message that is to be published. */
export interface Outgoing {
  readonly key: string;
  readonly body: Buffer;
  readonly options: Options.Publish;
}

/** Takes what somebody wrote for a post. Throws TwitterError: empty, too-long. */
export function writePost(text: string): Outgoing & { readonly post: Omit<Post, 'author' | 'exchange'> } {
  const said = text.replace(/\r\n?/g, '\n').trim();
  if (said === '') throw new TwitterError('empty', 'There is nothing in that to say.');
  const { length } = [...said];
  if (length > POST_CHARS_MAX) {
    const message = `That is ${length} characters long, and ${POST_CHARS_MAX} is the most. Nothing was posted.`;
    throw new TwitterError('too-long', message);
  }
  const [id, at] = [randomUUID(), new Date()];
  const options = { contentType: 'text/plain', messageId: id, timestamp: seconds(at), persistent: true };
  return { key: POST_KEY, body: Buffer.from(said), options, post: { kind: 'post', id, text: said, at } };
}

export function writeDeed(deed: Deed): Outgoing {
  const { kind: _, ...said } = deed;
  return {
    key: deed.whom === undefined ? deed.deed : `${deed.deed}.${keyPart(deed.whom)}`,
    body: Buffer.from(JSON.stringify(said)),
    options: { contentType: DEED_TYPE, messageId: randomUUID(), timestamp: seconds(new Date()), persistent: true },
  };
}

/** What a message says; undefined for one that says nothing that we know. Never throws: anybody may publish anything. */
export function readMessage({ fields, properties, content }: Received): Post | Deed | undefined {
  const author = ownerOf(fields.exchange);
  if (author !== undefined && fields.routingKey !== POST_KEY) return readDeed(author, fields.routingKey, content);
  const text = content.toString();
  const characters = [...text];
  const isLong = characters.length > SHOWN_CHARS_MAX;
  const { messageId, timestamp } = properties;
  return {
    kind: 'post',
    id: typeof messageId === 'string' ? messageId : '',
    author,
    exchange: fields.exchange,
    text: isLong ? `${characters.slice(0, SHOWN_CHARS_MAX).join('')}…` : text,
    // Whatever a program says about its time: nothing is from tomorrow.
    at: new Date(Math.min(timestamp > 0 ? timestamp * 1000 : Infinity, Date.now())),
  };
}

/** Is that worth telling whoever reads it? What he did to himself he knows. */
export function isNews(item: Post | Deed | undefined, reader: string): boolean {
  return item?.kind !== 'deed' || item.who !== reader;
}

function readDeed(who: string, key: string, content: Buffer): Deed | undefined {
  const dot = key.indexOf('.');
  const deed = dot < 0 ? key : key.slice(0, dot);
  switch (deed) {
    case 'join':
    case 'leave':
      return { kind: 'deed', deed, who };
    case 'follow':
    case 'unfollow': {
      const whom = dot < 0 ? '' : readKeyPart(key.slice(dot + 1));
      return whom === '' ? undefined : { kind: 'deed', deed, who, whom };
    }
    case 'contact': {
      const bot = field(content, 'bot');
      return bot === undefined ? undefined : { kind: 'deed', deed, who, bot };
    }
    default:
      return undefined;
  }
}

function readKeyPart(part: string): string {
  return part.replace(/%(25|2A|23)/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)));
}

function field(content: Buffer, name: string): string | undefined {
  try {
    const value: unknown = JSON.parse(content.toString())?.[name];
    return typeof value === 'string' ? shorten(value, 300) : undefined;
  } catch {
    return undefined;
  }
}

function seconds(at: Date): number {
  return Math.floor(at.getTime() / 1000);
}
