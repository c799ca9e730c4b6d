/** When a door stops handling what one peer has sent, for a while: the reasons, and when it is the turn of the others. */

/** Reasons to halt, as bits. */
export const Halt = {
  /** a request is being carried out */
  control: 1,
  /** publishers are held back, and this peer publishes */
  publish: 2,
  /** the peer does not read its answers */
  stuck: 4,
  /** the other connections have their turn */
  turn: 8,
} as const;

/** How much of one turn of the event loop the input of one peer may take; the rest is for the next turn. */
const TURN_SHARE_MS = 2;
/** Most frames handled between two looks at the clock. */
const FRAMES_PER_LOOK_MAX = 32;

let turn = 0;
let turnIsCounted = false;

/** The number of this turn of the event loop, of those in which somebody asked. */
function currentTurn(): number {
  if (!turnIsCounted) {
    turnIsCounted = true;
    turn += 1;
    setImmediate(endTurn);
  }
  return turn;
}

function endTurn(): void {
  turnIsCounted = false;
}

/**
 * One peer's share of a turn of the event loop: a publish to thousands of queues, or requests by the thousand, must not
 * keep all other peers waiting.
 */
export class TurnShare {
  #framesPerLook = FRAMES_PER_LOOK_MAX;
  #framesUntilLook = FRAMES_PER_LOOK_MAX;
  /** The last turn in which it looked at the clock, when it did so first, and when last. */
  #turn = 0;
  #turnBegunMs = 0;
  #lookedMs = 0;

  /** Counts a frame that is to be handled. True when this turn has gone to this peer for long enough. */
  isUsedUp(): boolean {
    this.#framesUntilLook -= 1;
    return this.#framesUntilLook === 0 && this.#look();
  }

  #look(): boolean {
    const turn = currentTurn();
    const nowMs = performance.now();
    let isUsedUp = false;
    if (turn !== this.#turn) {
      this.#turn = turn;
      this.#turnBegunMs = nowMs;
    } else {
      // Where few frames take long, each is looked at.
      const isSlow = nowMs - this.#lookedMs > TURN_SHARE_MS / 2;
      this.#framesPerLook = isSlow ? 1 : Math.min(this.#framesPerLook * 2, FRAMES_PER_LOOK_MAX);
      isUsedUp = nowMs - this.#turnBegunMs > TURN_SHARE_MS;
    }
    this.#lookedMs = nowMs;
    this.#framesUntilLook = this.#framesPerLook;
    return isUsedUp;
  }
}
