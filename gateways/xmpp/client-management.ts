/** Stream management on one stream of a client [XEP-0198]: enabling, resuming, asking for and giving acknowledgements. */
import { type Element, element } from './element.ts';
import { STANZA_CONDITIONS, STREAM_MANAGEMENT } from './namespaces.ts';
import type { Session, SessionStream } from './session.ts';
import { StreamError } from './stream-error.ts';
import { OverAcknowledged, readCount } from './stream-management.ts';

export class ClientManagement {
  readonly #send: (element: Element) => void;
  readonly #resumeMs: number;
  /** An `<r/>` is to be sent at the end of this turn; one has been sent and not answered. */
  #ackWanted = false;
  #ackRequested = false;

  constructor(send: (element: Element) => void, resumeMs: number) {
    this.#send = send;
    this.#resumeMs = resumeMs;
  }

  /** `<enable/>`, `<r/>`, `<a/>`. Throws StreamError. */
  take(session: Session, request: Element): void {
    switch (request.name) {
      case 'enable':
        this.#enable(session, request);
        return;
      case 'r':
        if (session.managed) this.#send(element('a', STREAM_MANAGEMENT, { h: session.handled.h }));
        return;
      case 'a': {
        const h = readCount(request);
        if (h === undefined) throw new StreamError('policy-violation', 'an <a/> without h');
        this.#ackRequested = false;
        settleCount(() => session.acknowledge(h));
        this.requestAck(session);
        return;
      }
      default:
        throw new StreamError('unsupported-stanza-type', `<${request.name}/> has no place here`);
    }
  }

  #enable(session: Session, request: Element): void {
    if (session.managed) {
      this.#send(element('failed', STREAM_MANAGEMENT, {}, element('unexpected-request', STANZA_CONDITIONS)));
      return;
    }
    const resume = ['true', '1'].includes(request.attributes.resume ?? '');
    session.enable(resume);
    const max = String(Math.round(this.#resumeMs / 1000));
    this.#send(element('enabled', STREAM_MANAGEMENT, resume ? { id: session.id, resume: 'true', max } : {}));
  }

  /** `<resume/>`: `session` goes on over `stream`, after `onResumed`. False: it cannot. Throws StreamError. */
  resume(session: Session | undefined, request: Element, stream: SessionStream, onResumed: () => void): void {
    const h = readCount(request);
    if (session === undefined || h === undefined) {
      const condition = h === undefined ? 'bad-request' : 'item-not-found';
      this.#send(element('failed', STREAM_MANAGEMENT, {}, element(condition, STANZA_CONDITIONS)));
      return;
    }
    onResumed();
    settleCount(() =>
      session.resume(stream, h, () => {
        this.#send(element('resumed', STREAM_MANAGEMENT, { previd: session.id, h: session.handled.h }));
      }),
    );
  }

  /** After what else this turn has to say, asks how much has been taken, unless that has been asked already. */
  requestAck(session: Session): void {
    if (this.#ackWanted || this.#ackRequested || !session.awaitsAck) return;
    this.#ackWanted = true;
    setImmediate(() => {
      this.#ackWanted = false;
      if (this.#ackRequested || !session.awaitsAck) return;
      this.#ackRequested = true;
      this.askNow();
    });
  }

  /** Asks at once. */
  askNow(): void {
    this.#send(element('r', STREAM_MANAGEMENT));
  }
}

/** Throws StreamError when the peer has acknowledged what was never sent. */
function settleCount(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof OverAcknowledged)) throw error;
    const counts = { h: String(error.h), 'send-count': String(error.sent) };
    const detail = element('handled-count-too-high', STREAM_MANAGEMENT, counts);
    throw new StreamError('undefined-condition', error.message, detail);
  }
}
