/** A parked poll: one HTTP request that waits until there is something for it to take away. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Crew, Server } from './crew.ts';
import type { Errand } from './errand.ts';
import type { ResolvedOptions } from './options.ts';

export interface PollEvents {
  readonly waitMs: number;
  onErrands(errands: readonly Errand[]): void;
  /** It has ended without a request; 'lost': there is nobody to tell. */
  onEnd(status: 204 | 410 | 'lost'): void;
}

/** A server that takes as many requests as it has slots, all in one answer, and is gone. */
export class Poll implements Server {
  readonly streams = false;
  readonly changesTo = (): boolean => false;
  readonly #response: ServerResponse;
  readonly #crew: Crew;
  readonly #slots: number;
  readonly #events: PollEvents;
  readonly #taken: Errand[] = [];
  #timer: NodeJS.Timeout | undefined;
  #ended = false;
  readonly #onClose = (): void => this.end('lost');

  constructor(response: ServerResponse, crew: Crew, slots: number, events: PollEvents) {
    this.#response = response;
    this.#crew = crew;
    this.#slots = slots;
    this.#events = events;
  }

  start(): void {
    if (this.#response.destroyed) {
      this.#ended = true;
      this.#events.onEnd('lost');
      return;
    }
    this.#response.once('close', this.#onClose);
    this.#timer = setTimeout(() => this.end(204), this.#events.waitMs);
    this.#crew.enter(this, this.#slots);
  }

  serve(errand: Errand): void {
    this.#taken.push(errand);
    if (this.#slots === 1) this.#handOver();
    // What else is ready comes within this turn.
    else if (this.#taken.length === 1) setImmediate(() => this.#handOver());
  }

  dismiss(): void {
    this.end(410);
  }

  end(status: 204 | 410 | 'lost'): void {
    if (this.#ended) return;
    this.#finish();
    for (const errand of this.#taken) errand.lost(false);
    this.#events.onEnd(status);
  }

  #handOver(): void {
    if (this.#ended) return;
    this.#finish();
    // Somebody may have left in this turn.
    const wanted = this.#taken.filter(({ requestor }) => !requestor.gone);
    for (const errand of this.#taken) if (errand.requestor.gone) errand.finish();
    if (wanted.length > 0) this.#events.onErrands(wanted);
    else this.#events.onEnd(204);
  }

  #finish(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#response.off('close', this.#onClose);
    this.#crew.leave(this);
  }
}

/** How long to wait: as the door has it, or less if the client prefers that. [RFC 7240 §4.3] */
export function waitMs(request: IncomingMessage, url: URL, options: ResolvedOptions): number {
  const [, preferred] = /(?:^|,)\s*wait=(\d{1,6})\s*(?:,|;|$)/i.exec(String(request.headers.prefer ?? '')) ?? [];
  const asked = preferred ?? url.searchParams.get('wait');
  const seconds =
    asked !== null && asked !== undefined && /^\d{1,6}$/.test(asked) ? Number(asked) : options.pollSeconds;
  return Math.min(seconds, options.pollSeconds) * 1000;
}
