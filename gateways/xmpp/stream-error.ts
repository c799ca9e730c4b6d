/** What ends a stream [RFC 6120 §4.9]. */
import { type Element, element } from './element.ts';
import { STREAM_CONDITIONS, STREAMS } from './namespaces.ts';

/** The conditions that Warren uses, as registered. */
export type StreamCondition =
  | 'bad-format'
  | 'bad-namespace-prefix'
  | 'conflict'
  | 'connection-timeout'
  | 'host-unknown'
  | 'internal-server-error'
  | 'invalid-from'
  | 'invalid-namespace'
  | 'not-authorized'
  | 'not-well-formed'
  | 'policy-violation'
  | 'reset'
  | 'restricted-xml'
  | 'system-shutdown'
  | 'undefined-condition'
  | 'unsupported-encoding'
  | 'unsupported-stanza-type'
  | 'unsupported-version';

/** A fault of the peer, or a reason of ours, for which the stream is closed. The message is for a person. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
  readonly condition: StreamCondition;
  /** A condition of an extension, beside the registered one. */
  readonly detail: Element | undefined;

  constructor(condition: StreamCondition, message = '', detail?: Element) {
    super(message);
    this.condition = condition;
    this.detail = detail;
  }
}

/** `<stream:error>` as it is sent. */
export function streamErrorElement({ condition, message, detail }: StreamError): Element {
  return element(
    'error',
    STREAMS,
    {},
    element(condition, STREAM_CONDITIONS),
    message === '' ? undefined : element('text', STREAM_CONDITIONS, {}, message),
    detail,
  );
}

/** The condition in a received `<stream:error>`, and its text. */
export function streamErrorText(error: Element): string {
  const condition = error.elements.find(({ xmlns, name }) => xmlns === STREAM_CONDITIONS && name !== 'text');
  const text = error.child('text', STREAM_CONDITIONS)?.text;
  return [condition?.name ?? 'undefined-condition', text].filter(Boolean).join(': ');
}
