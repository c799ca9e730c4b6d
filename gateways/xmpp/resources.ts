/**
 * The resources of somebody that are known to be there, and which of them receives: the one of the highest priority, the
 * latest of equals; one of negative priority never does [RFC 6121 §4.7.2.3].
 */

interface Resource {
  priority: number;
  /** The addresses of ours that were told of it; it is gone when none has it any more. */
  readonly knowers: Set<string>;
  /** Of its last presence. */
  order: number;
}

export class Resources {
  readonly #resources = new Map<string, Resource>();
  #order = 0;

  get empty(): boolean {
    return this.#resources.size === 0;
  }

  /** The full address that receives now; undefined when none does. */
  get best(): string | undefined {
    let best: readonly [string, Resource] | undefined;
    for (const entry of this.#resources) {
      const [, { priority, order }] = entry;
      if (priority < 0) continue;
      const isBetter = best === undefined || priority > best[1].priority;
      if (isBetter || (priority === best?.[1].priority && order > best[1].order)) best = entry;
    }
    return best?.[0];
  }

  /** As `knower` was told, it is there with this priority; or not any more: undefined. */
  set(resource: string, knower: string, priority: number | undefined): void {
    if (priority === undefined) {
      this.#forget(resource, knower);
      return;
    }
    const there = this.#resources.get(resource) ?? { priority, knowers: new Set<string>(), order: 0 };
    there.knowers.add(knower);
    there.priority = priority;
    this.#order += 1;
    there.order = this.#order;
    this.#resources.set(resource, there);
  }

  /** False when it was not there. */
  drop(resource: string): boolean {
    return this.#resources.delete(resource);
  }

  forgetKnower(knower: string): void {
    for (const resource of [...this.#resources.keys()]) this.#forget(resource, knower);
  }

  /** Forgets what was told to the knowers for which `isGone` holds. */
  forgetKnowers(isGone: (knower: string) => boolean): void {
    for (const [resource, { knowers }] of [...this.#resources]) {
      for (const knower of [...knowers].filter(isGone)) this.#forget(resource, knower);
    }
  }

  #forget(resource: string, knower: string): void {
    const there = this.#resources.get(resource);
    there?.knowers.delete(knower);
    if (there?.knowers.size === 0) this.#resources.delete(resource);
  }
}
