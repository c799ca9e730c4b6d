/**
 * Heartbeats both ways [AMQP 4.2.7]: one is sent when nothing else was for half the timeout, and a peer of whom nothing
 * came for two timeouts is dead. A peer that is not being read for a reason of ours (halted) cannot be heard and is spared;
 * one that is not read because it does not read itself is not: whoever takes nothing and says nothing is gone.
 */

export interface HeartbeatPeer {
  /** Grows whenever octets came. */
  readonly receivedChunks: number;
  /** True when nothing was sent since the last call and nothing waits to be sent. */
  isQuiet(): boolean;
  readonly halted: boolean;
  sendHeartbeat(): void;
  onHeartbeatLost(): void;
}

/** The peer is looked at so often in each timeout. */
const CHECKS_PER_TIMEOUT = 4;
/**
 * After so many looks in a row that found nothing said. No more than three quarters of the timeout pass in silence, so
 * that a peer that takes a whole one for death (@cloudamqp/amqp-client) never sees it.
 */
const QUIET_CHECKS_UNTIL_BEAT = 2;
const TIMEOUTS_UNTIL_DEAD = 2;

/** Starts heartbeats with a timeout of `seconds` (> 0); the returned function ends them. */
export function startHeartbeat(peer: HeartbeatPeer, seconds: number): () => void {
  let received = peer.receivedChunks;
  let silentChecks = 0;
  let quietChecks = 0;
  const check = (): void => {
    quietChecks = peer.isQuiet() ? quietChecks + 1 : 0;
    if (quietChecks >= QUIET_CHECKS_UNTIL_BEAT) {
      quietChecks = 0;
      peer.sendHeartbeat();
    }
    silentChecks = peer.receivedChunks === received && !peer.halted ? silentChecks + 1 : 0;
    received = peer.receivedChunks;
    if (silentChecks >= CHECKS_PER_TIMEOUT * TIMEOUTS_UNTIL_DEAD) peer.onHeartbeatLost();
  };
  const timer = setInterval(check, (seconds * 1000) / CHECKS_PER_TIMEOUT).unref();
  return () => clearInterval(timer);
}
