/**
 * Counting what the other side has taken [XEP-0198]. Counters go up by one for each stanza and wrap at 2^32.
 */
import { type Element, weightOf } from './element.ts';
import type { Settlement } from './stanza-router.ts';

const MODULUS = 2 ** 32;

/** A stanza on its way. */
export interface Outgoing {
  readonly stanza: Element;
  readonly settlement: Settlement | undefined;
  /** When it was said first; milliseconds since 1970. */
  readonly atMs: number;
}

/** More was acknowledged than had been sent. */
export class OverAcknowledged extends Error {
  readonly h: number;
  readonly sent: number;

  constructor(h: number, sent: number) {
    super(`acknowledged ${h} stanzas, sent ${sent}`);
    this.h = h;
    this.sent = sent;
  }
}

/** Stanzas of ours that the peer has not acknowledged yet, oldest first. */
export class Unacknowledged {
  #waiting: Outgoing[] = [];
  #acknowledged = 0;
  /** What the waiting ones weigh; see `weightOf`. */
  weight = 0;

  get waiting(): readonly Outgoing[] {
    return this.#waiting;
  }

  add(outgoing: Outgoing): void {
    this.#waiting.push(outgoing);
    this.weight += weightOf(outgoing.stanza);
  }

  /** The peer has handled so many stanzas in all. Throws OverAcknowledged. */
  acknowledge(h: number): void {
    const count = (h - this.#acknowledged + MODULUS) % MODULUS;
    const sent = (this.#acknowledged + this.#waiting.length) % MODULUS;
    if (count > this.#waiting.length) throw new OverAcknowledged(h, sent);
    this.#acknowledged = h;
    for (const { stanza, settlement } of this.#waiting.splice(0, count)) {
      this.weight -= weightOf(stanza);
      settlement?.delivered();
    }
  }

  /** Gives up: what waits is returned, oldest first. */
  giveUp(): void {
    const given = this.#waiting;
    this.#waiting = [];
    this.weight = 0;
    for (const { settlement } of given) settlement?.returned();
  }
}

/** The `h` of an element: a whole number below 2^32; undefined when it is none. */
export function readCount(element: Element): number | undefined {
  const { h = '' } = element.attributes;
  return /^\d{1,10}$/.test(h) && Number(h) < MODULUS ? Number(h) : undefined;
}

/**
 * Stanzas of the peer that have been taken care of. A stanza counts when it and all before it are done: for one that is
 * published, when the broker has taken responsibility.
 */
export class Handled {
  /** Taken care of, without a gap. */
  count = 0;
  #received = 0;
  readonly #early = new Set<number>();
  #onSettled: (() => void)[] = [];

  /** Stanzas that are not done yet. */
  get outstanding(): number {
    return this.#received - this.count;
  }

  /** A stanza has come; its number, for `done`. */
  begin(): number {
    this.#received += 1;
    return this.#received;
  }

  /** That one is done; true when `count` has gone up. */
  done(number: number): boolean {
    this.#early.add(number);
    const before = this.count;
    while (this.#early.delete(this.count + 1)) this.count += 1;
    if (this.outstanding === 0) for (const settled of this.#onSettled.splice(0)) settled();
    return this.count > before;
  }

  /** Resolves when all that has come is done; undefined when it is already. */
  untilSettled(): Promise<void> | undefined {
    if (this.outstanding === 0) return undefined;
    return new Promise((resolve) => {
      this.#onSettled.push(resolve);
    });
  }

  /** As it is said to the peer. */
  get h(): string {
    return String(this.count % MODULUS);
  }
}
