/** How much of what a peer has said is being taken care of, and when that is enough for the moment. */
import { type Element, weightOf } from './element.ts';

export interface InHandLimits {
  /** Stanzas in hand at a time. */
  readonly count: number;
  /** The same in characters; see `weightOf`. One more may be in hand than these hold. */
  readonly weight: number;
}

export class InHand {
  readonly #limits: InHandLimits;
  readonly #onChange: (isFull: boolean) => void;
  #count = 0;
  #weight = 0;
  #isFull = false;

  /** `onChange` is told when a limit has been reached, and when half of it is free again. */
  constructor(limits: InHandLimits, onChange: (isFull: boolean) => void) {
    this.#limits = limits;
    this.#onChange = onChange;
  }

  /** Nothing more is to be taken for the moment. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Takes a stanza in hand; the returned function, to be called once, lets it go. */
  begin(stanza: Element): () => void {
    const weight = weightOf(stanza);
    this.#change(1, weight);
    return () => this.#change(-1, -weight);
  }

  #change(count: number, weight: number): void {
    this.#count += count;
    this.#weight += weight;
    const share = Math.max(this.#count / this.#limits.count, this.#weight / this.#limits.weight);
    const isFull = this.#isFull ? share > 1 / 2 : share >= 1;
    if (isFull === this.#isFull) return;
    this.#isFull = isFull;
    this.#onChange(isFull);
  }
}
