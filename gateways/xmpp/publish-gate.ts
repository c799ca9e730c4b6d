/**
 * Whether messages may be published: not while memory or disk is short (an alarm: it may take hours, and people are told),
 * nor while the broker is behind with writing (a hold: a matter of moments, of which nobody is told).
 *
 * Meanwhile what comes waits here, in order and within bounds. Only publishes wait: acknowledgements, pings and all else
 * go on, so that consumers can make room.
 */
import { type Element, weightOf } from './element.ts';
import { AMQP, PUBSUB } from './namespaces.ts';
import { StanzaError } from './stanza-error.ts';

/** Characters of the stanzas that may wait at a time, of everybody together; one more is refused. */
export const WAITING_WEIGHT_MAX = 64 * 1024 * 1024;
/** Stanzas that may wait while one of another server comes to wait too; it is refused then, for the line is read on. */
export const WAITING_MAX_FOR_SERVERS = 500;

export class PublishGate {
  #alarmed = false;
  /** The connections of ours to the broker that have been told to hold back, and not yet to go on. */
  readonly #holders = new Set<object>();
  readonly #waiting = new Set<() => void>();
  #weight = 0;

  get isOpen(): boolean {
    return !this.#alarmed && this.#holders.size === 0;
  }

  setAlarmed(alarmed: boolean): void {
    this.#alarmed = alarmed;
    this.#letGo();
  }

  /** What the connection of `holder` was told last; of a connection that is gone: false. */
  setHeld(holder: object, held: boolean): void {
    if (held) this.#holders.add(holder);
    else this.#holders.delete(holder);
    this.#letGo();
  }

  /**
   * Calls `go` when publishing may go on, in the order in which was asked; the returned function does so at once. Throws
   * StanzaError when no more may wait.
   */
  wait(stanza: Element, go: () => void): () => void {
    const weight = weightOf(stanza);
    if (this.#weight + weight > WAITING_WEIGHT_MAX) throw tooMuch();
    const pass = (): void => {
      if (!this.#waiting.delete(pass)) return;
      this.#weight -= weight;
      go();
    };
    this.#weight += weight;
    this.#waiting.add(pass);
    return pass;
  }

  /**
   * For a sender whose line cannot be held back, because it is a whole server's. Resolves when `stanza` may be published;
   * undefined: at once. Throws StanzaError while an alarm is in force, and when much waits already.
   */
  admit(stanza: Element): Promise<void> | undefined {
    if (this.#alarmed || this.#waiting.size >= WAITING_MAX_FOR_SERVERS) throw tooMuch();
    if (this.isOpen) return undefined;
    return new Promise((resolve) => {
      this.wait(stanza, resolve);
    });
  }

  #letGo(): void {
    if (!this.isOpen) return;
    for (const pass of [...this.#waiting]) pass();
  }
}

function tooMuch(): StanzaError {
  return new StanzaError('resource-constraint', 'publishers are held back: the broker is short of memory or disk');
}

/** Does a stanza of a client go to an exchange, as far as can be seen, or may it have to be kept in a queue? */
export function mayPublish(stanza: Element): boolean {
  if (stanza.name === 'iq') return stanza.child('pubsub', PUBSUB)?.child('publish') !== undefined;
  return stanza.name === 'message' && (stanza.child('body') ?? stanza.child('amqp', AMQP)) !== undefined;
}
