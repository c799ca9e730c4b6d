/** What is said of stanzas that cannot be served [RFC 6120 §8.3]. */
import { BrokerError, type BrokerErrorKind } from '../../broker/port.ts';
import { type Element, element } from './element.ts';
import { JidError, tryParseJid } from './jid.ts';
import { CLIENT, STANZA_CONDITIONS } from './namespaces.ts';

type ErrorType = 'auth' | 'cancel' | 'modify' | 'wait';

/** The conditions that Warren uses, as registered, and what a client may do about them. */
const TYPES = {
  'bad-request': 'modify',
  conflict: 'cancel',
  'feature-not-implemented': 'cancel',
  forbidden: 'auth',
  gone: 'cancel',
  'internal-server-error': 'cancel',
  'item-not-found': 'cancel',
  'jid-malformed': 'modify',
  'not-acceptable': 'modify',
  'not-allowed': 'cancel',
  'not-authorized': 'auth',
  'policy-violation': 'modify',
  'recipient-unavailable': 'wait',
  'remote-server-not-found': 'cancel',
  'resource-constraint': 'wait',
  'service-unavailable': 'cancel',
  'subscription-required': 'auth',
  'unexpected-request': 'wait',
} as const satisfies Record<string, ErrorType>;

export type StanzaCondition = keyof typeof TYPES;

/** A stanza that is refused; the message, if any, is for the person who sent it. */
export class StanzaError extends Error {
  override readonly name = 'StanzaError';
  readonly condition: StanzaCondition;
  /** A condition of an extension, beside the registered one. */
  readonly detail: Element | undefined;

  constructor(condition: StanzaCondition, message = '', detail?: Element) {
    super(message);
    this.condition = condition;
    this.detail = detail;
  }
}

const CONDITIONS = {
  'access-refused': 'forbidden',
  'not-found': 'item-not-found',
  'resource-locked': 'conflict',
  'precondition-failed': 'not-acceptable',
  'not-allowed': 'not-allowed',
  'not-implemented': 'feature-not-implemented',
  'resource-error': 'resource-constraint',
  'connection-forced': 'service-unavailable',
  'internal-error': 'internal-server-error',
} as const satisfies Record<BrokerErrorKind, StanzaCondition>;

/** `error` as the peer is told it; undefined for a defect of Warren, which the peer learns nothing about. */
export function stanzaErrorOf(error: unknown): StanzaError | undefined {
  if (error instanceof StanzaError) return error;
  if (error instanceof BrokerError) return new StanzaError(CONDITIONS[error.kind], error.message);
  return error instanceof JidError ? new StanzaError('jid-malformed', error.message) : undefined;
}

/**
 * The answer that refuses `stanza`, from whom it was addressed to. Undefined for what must not be answered: an error, an
 * iq that is an answer itself [RFC 6120 §8.3.1], presence that asks for nothing.
 */
export function errorReply(stanza: Element, { condition, message, detail }: StanzaError): Element | undefined {
  const { from, to, id, type } = stanza.attributes;
  if (type === 'error' || (stanza.name === 'iq' && type === 'result')) return undefined;
  if (stanza.name === 'presence' && type !== 'subscribe') return undefined;
  const error = element(
    'error',
    CLIENT,
    { type: TYPES[condition] },
    element(condition, STANZA_CONDITIONS),
    message === ''
      ? undefined
      : element('text', STANZA_CONDITIONS, { '{http://www.w3.org/XML/1998/namespace}lang': 'en' }, message),
    detail,
  );
  return element(stanza.name, CLIENT, { type: 'error', from: to, to: from, id }, error);
}

/** The answer to an iq. */
export function resultReply(iq: Element, ...children: readonly (Element | undefined)[]): Element {
  const { from, to, id } = iq.attributes;
  return element('iq', CLIENT, { type: 'result', from: to, to: from, id }, ...children);
}

/** What every server must insist on [RFC 6120 §8]. Throws StanzaError. */
export function checkStanza({ name, attributes: { id, to, type }, elements }: Element): void {
  if (to !== undefined && tryParseJid(to) === undefined)
    throw new StanzaError('jid-malformed', `"${to}" is no address`);
  if (name !== 'iq') return;
  if (id === undefined) throw new StanzaError('bad-request', 'an iq without id');
  if (type !== 'get' && type !== 'set' && type !== 'result' && type !== 'error') {
    throw new StanzaError('bad-request', `an iq of type "${type}"`);
  }
  if ((type === 'get' || type === 'set') && elements.length !== 1) {
    throw new StanzaError('bad-request', 'an iq asks one thing');
  }
}
