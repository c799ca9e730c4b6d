/**
 * Messages of AMQP as messages of XMPP, and back.
 *
 * ```
 * <message from='logs@broker.localhost/app.login' to='anna@localhost/desk' type='chat' id='message-id'>
 *   <subject>xmpp-subject</subject> <thread>correlation-id</thread>
 *   <body>text, or a word about what is not text</body>
 *   <delay xmlns='urn:xmpp:delay' stamp='…'/>                     if it waited
 *   <amqp xmlns='urn:warren:amqp:0' exchange='logs' routing-key='app.login' content-type='…' …>
 *     <header name='n' type='int'>1</header>…
 *     <body encoding='base64'>…</body>                            if it is not text; without the attribute: text
 *   </amqp>
 * </message>
 * ```
 *
 * A body that is UTF-8 and has no character that XML forbids is text, whatever its content type says. `<amqp>` in a
 * message to an exchange says all properties and headers, and with `<body>` the octets; exchange and routing key are
 * those of the address. Without it, a message is text/plain and persistent and has a timestamp, the stanza's id, and
 * its sender in a header.
 */
import { createMessage, type Message, type MessageProperties } from '../../broker/message.ts';
import { type Element, element, isXmlText } from './element.ts';
import { headerElements, readBase64, readHeaders, SHORT_STRING_BYTES_MAX } from './fields.ts';
import { AMQP, CLIENT } from './namespaces.ts';
import { StanzaError } from './stanza-error.ts';

/** Header with the full address of whoever sent a message by XMPP. */
export const FROM_HEADER = 'xmpp-from';
/** Header with the subject of a message sent by XMPP. */
export const SUBJECT_HEADER = 'xmpp-subject';

/** Header with the milliseconds since 1970 at which a message came into an inbox; the broker sets it. */
const ARRIVAL_HEADER = 'x-arrived-at';

/** When a message was sent, or came into the inbox: milliseconds since 1970; undefined when nobody knows. */
export function sentAtMs({ properties }: Message): number | undefined {
  const arrived = properties.headers?.[ARRIVAL_HEADER];
  if (typeof arrived === 'bigint' || typeof arrived === 'number') return Number(arrived);
  return properties.timestamp === undefined ? undefined : properties.timestamp * 1000;
}

type TextProperty = {
  [Name in keyof MessageProperties]-?: Required<MessageProperties>[Name] extends string ? Name : never;
}[keyof MessageProperties];

/** Properties that are attributes of `<amqp>` as they are. */
const TEXT_ATTRIBUTES = {
  'content-type': 'contentType',
  'content-encoding': 'contentEncoding',
  'correlation-id': 'correlationId',
  'reply-to': 'replyTo',
  expiration: 'expiration',
  'message-id': 'messageId',
  type: 'type',
  'user-id': 'userId',
  'app-id': 'appId',
  'cluster-id': 'clusterId',
} as const satisfies Record<string, TextProperty>;

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The body of a message as text; undefined when it is none that XML can carry. */
export function textOf({ body, properties }: Message): string | undefined {
  const { contentEncoding = 'utf-8' } = properties;
  if (!/^(utf-?8|7bit|8bit|identity|)$/i.test(contentEncoding)) return undefined;
  try {
    const text = UTF8.decode(body);
    return isXmlText(text) ? text : undefined;
  } catch {
    return undefined;
  }
}

/** What a delivered stanza is made of beside the message itself. */
export interface DeliveryAddress {
  readonly from: string;
  readonly to: string;
  readonly redelivered: boolean;
}

/** `message` as a stanza, without delay. */
export function stanzaOf(message: Message, { from, to, redelivered }: DeliveryAddress): Element {
  const { properties } = message;
  const text = textOf(message);
  const subject = properties.headers?.[SUBJECT_HEADER];
  const thread = properties.correlationId;
  const id = properties.messageId;
  return element(
    'message',
    CLIENT,
    { from, to, type: 'chat', id: id !== undefined && isXmlText(id) && id !== '' ? id : undefined },
    typeof subject === 'string' ? element('subject', CLIENT, {}, subject) : undefined,
    bodyElement(message, text),
    thread !== undefined && isXmlText(thread) ? element('thread', CLIENT, {}, thread) : undefined,
    amqpElement(message, redelivered, text === undefined ? octetsElement(message) : undefined),
  );
}

/** What a person reads: the text, or a word about what is no text. */
export function bodyElement({ properties, bodyBytes }: Message, text: string | undefined): Element {
  return element('body', CLIENT, {}, text ?? `[${properties.contentType ?? 'binary'}, ${bodyBytes} octets]`);
}

/** What stands in for a message that is larger than a stanza may be: everything but its body. */
export function noticeOf(message: Message, { from, to, redelivered }: DeliveryAddress): Element {
  const { messageId } = message.properties;
  const name = messageId === undefined ? '' : ` "${messageId}"`;
  const body = `[message${name} of ${message.bodyBytes} octets is too large for XMPP and has been dropped here]`;
  const { exchange, routingKey: key, bodyBytes } = message;
  return element(
    'message',
    CLIENT,
    { from, to, type: 'chat' },
    element('body', CLIENT, {}, body),
    element('amqp', AMQP, {
      exchange,
      'routing-key': key,
      redelivered: flag(redelivered),
      'body-bytes': String(bodyBytes),
    }),
  );
}

/** All that AMQP knows of a message, and `body`, if that is to be said here. */
export function amqpElement(message: Message, redelivered: boolean, body: Element | undefined): Element {
  const { exchange, routingKey, properties } = message;
  const attributes: Record<string, string | undefined> = {
    exchange,
    'routing-key': routingKey,
    redelivered: flag(redelivered),
  };
  for (const [name, property] of Object.entries(TEXT_ATTRIBUTES)) attributes[name] = properties[property];
  const { deliveryMode, priority, timestamp, headers = {} } = properties;
  attributes['delivery-mode'] = deliveryMode?.toString();
  attributes.priority = priority?.toString();
  attributes.timestamp = timestamp?.toString();
  const { [ARRIVAL_HEADER]: _, ...published } = headers;
  return element('amqp', AMQP, attributes, ...headerElements(published), body);
}

/** The body of a message inside `<amqp>`, as octets. */
export function octetsElement({ body }: Message): Element {
  return element('body', AMQP, { encoding: 'base64' }, Buffer.from(body).toString('base64'));
}

function flag(value: boolean): string | undefined {
  return value ? 'true' : undefined;
}

/** Where a message from XMPP goes, and who sends it. */
export interface PublishAddress {
  readonly exchange: string;
  readonly routingKey: string;
  /** Name of the broker's user. */
  readonly userId: string;
  /** Milliseconds since 1970. */
  readonly nowMs: number;
}

/**
 * The message that `stanza` asks to publish; undefined when it has no content (a chat state, a receipt). Throws
 * StanzaError for properties that cannot be.
 */
export function messageOf(
  stanza: Element,
  { exchange, routingKey, userId, nowMs }: PublishAddress,
): Message | undefined {
  const text = stanza.child('body')?.text;
  const amqp = stanza.child('amqp', AMQP);
  const encoded = amqp?.child('body', AMQP);
  if (text === undefined && encoded === undefined) return undefined;
  const { id, from } = stanza.attributes;
  const subject = stanza.child('subject')?.text;
  const thread = stanza.child('thread')?.text;
  const chat = {
    contentType: 'text/plain',
    deliveryMode: 2,
    timestamp: Math.floor(nowMs / 1000),
    ...(id !== undefined && { messageId: id }),
    ...(thread !== undefined && { correlationId: thread }),
  };
  const headers = {
    ...(amqp ? readHeaders(amqp) : from !== undefined && { [FROM_HEADER]: from }),
    ...(subject !== undefined && { [SUBJECT_HEADER]: subject }),
  };
  const properties: Record<string, unknown> = {
    // Who says properties himself says all of them.
    ...(amqp ? readProperties(amqp) : chat),
    // The broker vouches for this one.
    userId,
    ...(Object.keys(headers).length > 0 && { headers }),
  };
  const body = encoded === undefined ? (text ?? '') : readBody(encoded);
  for (const name of Object.values(TEXT_ATTRIBUTES)) checkShort(name, properties[name]);
  checkShort('the routing key', routingKey);
  return createMessage({ exchange, routingKey, body, properties: properties as MessageProperties });
}

/** Octets as base64, if it says so, or text. */
function readBody({ attributes: { encoding }, text }: Element): Uint8Array | string {
  if (encoding === undefined) return text;
  if (encoding !== 'base64') throw new StanzaError('bad-request', `no encoding "${encoding}" of a body here`);
  return new Uint8Array(readBase64(text));
}

function readProperties(amqp: Element): Record<string, unknown> {
  const { attributes } = amqp;
  const properties: Record<string, unknown> = {};
  for (const [name, property] of Object.entries(TEXT_ATTRIBUTES)) {
    if (attributes[name] !== undefined) properties[property] = attributes[name];
  }
  const number = (name: string, max: number): number | undefined => {
    const value = attributes[name];
    if (value === undefined) return undefined;
    if (/^\d{1,15}$/.test(value) && Number(value) <= max) return Number(value);
    throw new StanzaError('bad-request', `${name} must be a whole number up to ${max}`);
  };
  const [deliveryMode, priority] = [number('delivery-mode', 2), number('priority', 255)];
  const timestamp = number('timestamp', Number.MAX_SAFE_INTEGER);
  if (deliveryMode !== undefined) properties.deliveryMode = deliveryMode;
  if (priority !== undefined) properties.priority = priority;
  if (timestamp !== undefined) properties.timestamp = timestamp;
  return properties;
}

function checkShort(name: string, value: unknown): void {
  if (typeof value === 'string' && Buffer.byteLength(value) > SHORT_STRING_BYTES_MAX) {
    throw new StanzaError('not-acceptable', `${name} is longer than ${SHORT_STRING_BYTES_MAX} octets`);
  }
}
