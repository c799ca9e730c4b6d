/** Notices when a peer has vanished without a word: asks it for a sign of life, and gives it up when none comes. */
export class SilenceWatch {
  readonly #silenceMs: number;
  readonly #ask: () => void;
  readonly #giveUp: () => void;
  #heard = false;
  #asked = false;
  #timer: NodeJS.Timeout | undefined;

  /** `ask` is called after a silence of at most twice `silenceMs`, `giveUp` after as much again. Begins with `start`. */
  constructor(silenceMs: number, ask: () => void, giveUp: () => void) {
    this.#silenceMs = silenceMs;
    this.#ask = ask;
    this.#giveUp = giveUp;
  }

  start(): void {
    this.stop();
    this.#asked = false;
    this.#wait();
  }

  /** Something has come from the peer. */
  heard(): void {
    this.#heard = true;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #wait(): void {
    this.#timer = setTimeout(() => this.#look(), this.#silenceMs).unref();
  }

  #look(): void {
    const silent = !this.#heard;
    this.#heard = false;
    if (silent && this.#asked) {
      this.#giveUp();
      return;
    }
    this.#asked = silent;
    if (silent) this.#ask();
    this.#wait();
  }
}
