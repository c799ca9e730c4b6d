/**
 * One resource of a user: a full address that stanzas can be sent to, from resource binding until it says goodbye or does
 * not come back. It outlives its stream when the client may resume it [XEP-0198]: meanwhile stanzas wait here, those of
 * queues under the queue's own bound for unacked deliveries.
 *
 * Whatever is handed to `deliver` is settled: delivered when the client has acknowledged it or, without stream
 * management, when the network has taken it; else returned, in order.
 */
import { randomBytes } from 'node:crypto';
import { delayElement } from './delay.ts';
import { type Element, element } from './element.ts';
import { bareText, formatJid, type Jid } from './jid.ts';
import { CLIENT, DELAY } from './namespaces.ts';
import type { PublishGate } from './publish-gate.ts';
import type { Settlement } from './stanza-router.ts';
import { StreamError } from './stream-error.ts';
import { Handled, Unacknowledged } from './stream-management.ts';

/** What a session needs of the stream that carries it. */
export interface SessionStream {
  send(stanza: Element, onWritten?: () => void): void;
  /** Something waits for its acknowledgement. */
  requestAck(): void;
  /** The session goes on elsewhere, or is over: says why and closes. */
  end(error: StreamError | undefined): void;
}

/** What a session needs of the account that it belongs to. */
export interface SessionHost {
  /** Its resource is free again, and who saw it is to be told that it has gone. */
  onEnded(session: Session): void;
  onReceived(session: Session, stanza: Element): void;
}

/** Stanzas for a client that does not acknowledge; one more ends the session. */
export const UNACKNOWLEDGED_MAX = 10_000;
/** The same in characters of these stanzas. */
export const UNACKNOWLEDGED_WEIGHT_MAX = 16 * 1024 * 1024;

export class Session {
  readonly jid: Jid;
  readonly address: string;
  readonly bare: string;
  /** What to name to resume it. */
  readonly id = randomBytes(16).toString('base64url');
  /** Of the client's stanzas; counted from the moment that stream management is enabled. */
  handled = new Handled();
  /** Its last available presence; undefined while it is not available. */
  presence: Element | undefined;
  priority = 0;
  /** Of its last presence, among those of the account; the latest of equals receives. */
  order = 0;
  /** It has asked for the roster and is told of its changes. */
  interested = false;
  /** It gets copies of what the user's other resources send and receive [XEP-0280]. */
  carbons = false;
  /** Those beyond the roster who have been told that it is available. */
  readonly directed = new Set<string>();
  readonly #host: SessionHost;
  #stream: SessionStream | undefined;
  #unacknowledged: Unacknowledged | undefined;
  /** Without stream management: given to the stream, and not yet to the network. */
  #unwritten: Settlement[] = [];
  #resumable = false;
  /** Stanzas of the client that wait until publishing may go on. */
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(jid: Jid, host: SessionHost, stream: SessionStream) {
    this.jid = jid;
    this.address = formatJid(jid);
    this.bare = bareText(jid);
    this.#host = host;
    this.#stream = stream;
  }

  get managed(): boolean {
    return this.#unacknowledged !== undefined;
  }

  get resumable(): boolean {
    return this.#resumable && !this.#ended;
  }

  /** Sends a stanza to the client; see the head of this file for what becomes of `settlement`. */
  deliver(stanza: Element, settlement?: Settlement): void {
    if (this.#ended) {
      settlement?.returned();
      return;
    }
    const addressed = stanza.attributes.to === undefined ? stanza.with({ to: this.address }) : stanza;
    if (this.#unacknowledged !== undefined) {
      this.#unacknowledged.add({ stanza: addressed, settlement, atMs: Date.now() });
      this.#stream?.send(addressed);
      this.#stream?.requestAck();
      const { waiting, weight } = this.#unacknowledged;
      if (waiting.length > UNACKNOWLEDGED_MAX || weight > UNACKNOWLEDGED_WEIGHT_MAX) {
        this.end(new StreamError('policy-violation', 'too many stanzas wait for their acknowledgement'));
      }
    } else if (settlement === undefined) {
      this.#stream?.send(addressed);
    } else {
      this.#unwritten.push(settlement);
      this.#stream?.send(addressed, () => {
        const index = this.#unwritten.indexOf(settlement);
        if (index >= 0) this.#unwritten.splice(index, 1)[0]?.delivered();
      });
    }
    this.#host.onReceived(this, addressed);
  }

  /**
   * Resolves when publishing may go on. What has been taken from the client is not held back any more, either, once it
   * resumes on another stream, for it must be told then how much has been taken care of. Throws StanzaError.
   */
  waitFor(gate: PublishGate, stanza: Element): Promise<void> {
    return new Promise((resolve) => {
      const pass = gate.wait(stanza, () => {
        this.#waiting.delete(pass);
        resolve();
      });
      this.#waiting.add(pass);
    });
  }

  /** `<enable/>`: stanzas are counted from here on. */
  enable(resumable: boolean): void {
    this.#unacknowledged = new Unacknowledged();
    this.handled = new Handled();
    this.#resumable = resumable;
  }

  /** `<a/>`. Throws OverAcknowledged. */
  acknowledge(h: number): void {
    this.#unacknowledged?.acknowledge(h);
  }

  get awaitsAck(): boolean {
    return (this.#unacknowledged?.waiting.length ?? 0) > 0;
  }

  /** The stream has gone without a goodbye. It may come back within the time, if it is resumable; else this is the end. */
  detach(stream: SessionStream, resumeMs: number): void {
    if (stream !== this.#stream) return;
    this.#stream = undefined;
    if (!this.resumable) {
      this.end(undefined);
      return;
    }
    this.#timer = setTimeout(() => this.end(undefined), resumeMs);
    this.#timer.unref();
  }

  /**
   * Another stream is about to take over: the present one ends, and nothing more is taken from it. Resolves when what came
   * by it has been taken care of, so that it can be said what did; undefined when it has been already.
   */
  suspend(resumeMs: number): Promise<void> | undefined {
    const former = this.#stream;
    this.#stream = undefined;
    former?.end(new StreamError('conflict', 'resumed on another stream'));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(undefined), resumeMs);
    this.#timer.unref();
    for (const pass of [...this.#waiting]) pass();
    return this.handled.untilSettled();
  }

  /** After `suspend`: the stream whose peer has handled `h` stanzas; `announce` comes before what is said again. */
  resume(stream: SessionStream, h: number, announce: () => void): void {
    this.#unacknowledged?.acknowledge(h);
    clearTimeout(this.#timer);
    this.#stream = stream;
    announce();
    for (const { stanza, atMs } of this.#unacknowledged?.waiting ?? []) {
      const isDated = stanza.name !== 'message' || stanza.child('delay', DELAY) !== undefined;
      stream.send(isDated ? stanza : stanza.plus(delayElement(this.jid.domain, atMs)));
    }
    if (this.awaitsAck) stream.requestAck();
  }

  /** It is over: its resource is given up, and what it has not taken is returned. Idempotent. */
  end(error: StreamError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.end(error);
    this.#host.onEnded(this);
    const unwritten = this.#unwritten;
    this.#unwritten = [];
    for (const settlement of unwritten) settlement.returned();
    this.#unacknowledged?.giveUp();
  }

  /** The presence that says so to those who saw it. */
  get goodbye(): Element {
    return element('presence', CLIENT, { type: 'unavailable', from: this.address });
  }
}
