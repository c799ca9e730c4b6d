/**
 * What subscribers of a node are told [XEP-0060 §7.1.2, §8.4.1, §8.8]:
 *
 * ```
 * <message from='broker.localhost' to='anna@localhost/desk' id='m1'>
 *   <event xmlns='http://jabber.org/protocol/pubsub#event'>
 *     <items node='logs/app.#'> <item id='m1'> PAYLOAD </item> </items>
 *   </event>
 *   <body>as in a chat</body>
 *   <amqp xmlns='urn:warren:amqp:0' …/>                 beside a payload that is not this itself
 * </message>
 * ```
 *
 * The payload is the body of the message where it is one element of XML and says so by its content type, and else an
 * `<amqp>` element with everything.
 */
import type { Message } from '../../broker/message.ts';
import { amqpElement, bodyElement, type DeliveryAddress, octetsElement, textOf } from './content.ts';
import { type Element, element, isXmlText } from './element.ts';
import { AMQP, CLIENT, PUBSUB_EVENT } from './namespaces.ts';
import { StreamError } from './stream-error.ts';
import { parseElement } from './stream-parser.ts';

const XML_TYPE = /^(?:(?:application|text)\/xml|[^;]*\+xml)\s*(?:;|$)/i;

/** `message` as an item of `node`, without delay; `hasBody`: with a body for those who know no events. */
export function eventOf(message: Message, address: DeliveryAddress, node: string, hasBody: boolean): Element {
  const { from, to, redelivered } = address;
  const { messageId } = message.properties;
  const id = messageId !== undefined && messageId !== '' && isXmlText(messageId) ? messageId : undefined;
  const text = textOf(message);
  const payload = text === undefined ? undefined : xmlOf(message, text);
  const body = text === undefined ? octetsElement(message) : element('body', AMQP, {}, text);
  const item = element('item', PUBSUB_EVENT, { id }, payload ?? amqpElement(message, redelivered, body));
  return element(
    'message',
    CLIENT,
    { from, to, id },
    element('event', PUBSUB_EVENT, {}, element('items', PUBSUB_EVENT, { node }, item)),
    hasBody ? bodyElement(message, text) : undefined,
    payload && amqpElement(message, redelivered, undefined),
  );
}

/** The one element that the body is. */
function xmlOf({ properties }: Message, text: string): Element | undefined {
  if (!XML_TYPE.test(properties.contentType ?? '')) return undefined;
  const bare = text.replace(/^\ufeff?\s*(?:<\?xml[^>]*\?>)?/, '');
  try {
    return parseElement(bare, { stanzaBytesMax: bare.length });
  } catch (error) {
    if (error instanceof StreamError) return undefined;
    throw error;
  }
}

/** The subscription of `to` is over, because the node is gone or, when `isThere`, although it is not. */
export function goneElement(from: string, to: string, node: string, isThere: boolean): Element {
  const what = isThere
    ? element('subscription', PUBSUB_EVENT, { node, jid: to, subscription: 'none' })
    : element('delete', PUBSUB_EVENT, { node });
  return element('message', CLIENT, { from, to }, element('event', PUBSUB_EVENT, {}, what));
}
