/** What a broker knows of the messages that it has given to the store. */
import type { Custody, GrowingPage, Holder, Page, StoredRecord } from '../../../broker/store.ts';

/** A custody as the model of the broker would have it. */
export class TestCustody implements Custody {
  readonly holder: Holder;
  readonly position: number;
  readonly priority: number;
  readonly expiresAtMs: number;
  readonly survives: boolean;
  readonly text: string;
  returnCount = 0;
  heldUntilMs = 0;
  record: StoredRecord | undefined = undefined;
  slot = 0;

  constructor(
    holder: Holder,
    facts: Pick<Custody, 'position' | 'priority' | 'expiresAtMs'>,
    text: string,
    survives: boolean,
  ) {
    this.holder = holder;
    this.position = facts.position;
    this.priority = facts.priority;
    this.expiresAtMs = facts.expiresAtMs;
    this.text = text;
    this.survives = survives;
  }
}

/** A page with what is in it; it may still grow. */
export class TestPage {
  readonly custodies: TestCustody[];
  /** Of what may still be added. */
  readonly priority: number;
  #growing: GrowingPage | undefined;
  #page: Page | undefined;

  constructor(priority: number, page: Page | GrowingPage, custodies: TestCustody[] = []) {
    this.priority = priority;
    this.custodies = custodies;
    if ('close' in page) this.#growing = page;
    else this.#page = page;
  }

  get growing(): GrowingPage | undefined {
    return this.#growing;
  }

  /** It grows no more. */
  get page(): Page {
    this.#page ??= this.#growing?.close();
    this.#growing = undefined;
    if (this.#page === undefined) throw new Error('a page that is none');
    return this.#page;
  }
}
