/** Where somebody is there at present, and which of these places is to get what comes. */

export interface Resource {
  /** Full address. */
  readonly address: string;
  /** -128 to 127; below 0: never to be sent anything. */
  readonly priority: number;
}

export class Resources {
  /** The latest to have said something at the end. */
  readonly #known = new Map<string, Resource>();

  get isEmpty(): boolean {
    return this.#known.size === 0;
  }

  has(address: string): boolean {
    return this.#known.has(address);
  }

  set(address: string, priority: number): void {
    this.#known.delete(address);
    this.#known.set(address, { address, priority });
  }

  delete(address: string): void {
    this.#known.delete(address);
  }

  clear(): void {
    this.#known.clear();
  }

  /** The highest priority, and of equals the latest. */
  get best(): Resource | undefined {
    let best: Resource | undefined;
    for (const resource of this.#known.values()) {
      if (resource.priority >= 0 && resource.priority >= (best?.priority ?? 0)) best = resource;
    }
    return best;
  }
}
