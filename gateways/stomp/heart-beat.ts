/**
 * Heart-beats [STOMP 1.2 Heart-beating]: each side says how often it can send and how often it wants to hear something,
 * in milliseconds, 0 = not at all; each direction gets the larger of the two numbers.
 *
 * A peer that is late by less than half its interval again and again is no dead one: browsers hold back the timers of
 * hidden tabs. So it is given two and a half intervals. One that is not read for a reason of ours is spared.
 */

/** What this side offers at best, in milliseconds: more often than this is never needed to find a dead peer. */
export const INTERVAL_MIN_MS = 100;
/** Longest interval that a timer can keep; a longer one is taken for none. */
const INTERVAL_MAX_MS = 2 ** 31 - 1;
/** How many intervals may pass in silence. */
export const GRACE = 2.5;
/** An interval is looked at so often, and after so many looks that found nothing said, something is. */
const CHECKS_PER_INTERVAL = 4;
const QUIET_CHECKS_UNTIL_BEAT = 2;

/** Milliseconds; 0 = none. */
export interface Intervals {
  /** How often the server says something. */
  readonly send: number;
  /** How often the client does. */
  readonly receive: number;
}

export const NO_INTERVALS: Intervals = { send: 0, receive: 0 };

/** What a client's `heart-beat:X,Y` comes to; undefined when it is none. The server's own header is `send,receive`. */
export function agreeIntervals(header: string): Intervals | undefined {
  const [, sends, wants] = /^\s*(\d{1,10})\s*,\s*(\d{1,10})\s*$/.exec(header) ?? [];
  if (sends === undefined || wants === undefined) return undefined;
  return { send: agreed(Number(wants)), receive: agreed(Number(sends)) };
}

function agreed(milliseconds: number): number {
  if (milliseconds === 0 || milliseconds > INTERVAL_MAX_MS / GRACE) return 0;
  return Math.max(milliseconds, INTERVAL_MIN_MS);
}

export interface HeartBeatPeer {
  /** Grows whenever octets came. */
  readonly receivedChunks: number;
  /** It is not read, for a reason of ours. */
  readonly halted: boolean;
  /** True when nothing was sent since the last call and nothing waits to be sent. */
  isQuiet(): boolean;
  sendHeartBeat(): void;
  onHeartBeatLost(): void;
}

/** Starts both directions; the returned function ends them. */
export function startHeartBeats(peer: HeartBeatPeer, { send, receive }: Intervals): () => void {
  const timers: NodeJS.Timeout[] = [];
  if (send > 0) {
    let quietChecks = 0;
    const check = (): void => {
      quietChecks = peer.isQuiet() ? quietChecks + 1 : 0;
      if (quietChecks < QUIET_CHECKS_UNTIL_BEAT) return;
      quietChecks = 0;
      peer.sendHeartBeat();
    };
    timers.push(setInterval(check, send / CHECKS_PER_INTERVAL).unref());
  }
  if (receive > 0) {
    let received = peer.receivedChunks;
    let silentChecks = 0;
    const check = (): void => {
      silentChecks = peer.receivedChunks === received && !peer.halted ? silentChecks + 1 : 0;
      received = peer.receivedChunks;
      if (silentChecks >= CHECKS_PER_INTERVAL * GRACE) peer.onHeartBeatLost();
    };
    timers.push(setInterval(check, receive / CHECKS_PER_INTERVAL).unref());
  }
  return () => {
    for (const timer of timers) clearInterval(timer);
  };
}
