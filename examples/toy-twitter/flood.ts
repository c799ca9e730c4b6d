/** Holding back whoever says too much at once: so many in a row, then one every so often. */

interface Allowance {
  left: number;
  at: number;
}

/** People whose allowances are remembered; the one that was used longest ago is forgotten first, which makes it whole. */
const REMEMBERED_MAX = 10_000;

export class Flood {
  readonly #burst: number;
  readonly #everyMs: number;
  readonly #now: () => number;
  readonly #allowances = new Map<string, Allowance>();

  /** `burst` in a row, and another `everyMs` milliseconds later. */
  constructor(burst: number, everyMs: number, now: () => number = () => performance.now()) {
    this.#burst = burst;
    this.#everyMs = everyMs;
    this.#now = now;
  }

  /** Takes one from the allowance of `who`. False: there is none left. */
  allows(who: string): boolean {
    const now = this.#now();
    const before = this.#allowances.get(who) ?? { left: this.#burst, at: now };
    const left = Math.min(this.#burst, before.left + (now - before.at) / this.#everyMs);
    this.#allowances.delete(who);
    this.#allowances.set(who, { left: left >= 1 ? left - 1 : left, at: now });
    const [oldest] = this.#allowances.keys();
    if (this.#allowances.size > REMEMBERED_MAX && oldest !== undefined) this.#allowances.delete(oldest);
    return left >= 1;
  }
}
