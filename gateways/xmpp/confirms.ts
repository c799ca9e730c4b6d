/** Who waits for which confirm of one channel. */
export class Confirms {
  #published = 0;
  readonly #waiting = new Map<number, (accepted: boolean) => void>();

  /** True while a confirm is outstanding. */
  get outstanding(): boolean {
    return this.#waiting.size > 0;
  }

  /** Calls `publish`, and resolves to what becomes of it; what `publish` throws, it throws. */
  after(publish: () => void): Promise<boolean> {
    const sequence = this.#published + 1;
    const accepted = new Promise<boolean>((resolve) => {
      // Before the publish: its confirm may come from inside it.
      this.#waiting.set(sequence, resolve);
    });
    try {
      publish();
    } catch (error) {
      this.#waiting.delete(sequence);
      throw error;
    }
    this.#published = sequence;
    return accepted;
  }

  /** As in `ChannelEvents`. */
  onConfirm(sequence: number, multiple: boolean, accepted: boolean): void {
    const settled = multiple ? [...this.#waiting.keys()].filter((one) => one <= sequence) : [sequence];
    for (const one of settled) {
      this.#waiting.get(one)?.(accepted);
      this.#waiting.delete(one);
    }
  }

  /** The channel is gone: nothing more will be confirmed. */
  abandon(): void {
    for (const settle of this.#waiting.values()) settle(false);
    this.#waiting.clear();
  }
}
