import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type HeartbeatPeer, startHeartbeat } from '../../../gateways/amqp/heartbeat.ts';

class Peer implements HeartbeatPeer {
  receivedChunks = 0;
  halted = false;
  quiet = true;
  sent = 0;
  lost = 0;

  isQuiet(): boolean {
    return this.quiet;
  }

  sendHeartbeat(): void {
    this.sent += 1;
  }

  onHeartbeatLost(): void {
    this.lost += 1;
  }
}

describe('heartbeats', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('are sent every half timeout to a quiet peer, and not when other things were', () => {
    const peer = new Peer();
    const stop = startHeartbeat(peer, 10);
    for (let half = 0; half < 6; half += 1) {
      peer.receivedChunks += 1;
      vi.advanceTimersByTime(5000);
    }
    expect(peer.sent).toBe(6);
    peer.quiet = false;
    peer.receivedChunks += 1;
    vi.advanceTimersByTime(5000);
    expect(peer.sent).toBe(6);
    stop();
    vi.advanceTimersByTime(50_000);
    expect(peer.sent).toBe(6);
  });

  it('leave no peer in silence for a whole timeout, whenever the last word was', () => {
    const peer = new Peer();
    const stop = startHeartbeat(peer, 10);
    peer.quiet = false;
    vi.advanceTimersByTime(2500);
    peer.quiet = true;
    vi.advanceTimersByTime(4999);
    expect(peer.sent).toBe(0);
    vi.advanceTimersByTime(1);
    expect(peer.sent).toBe(1);
    stop();
  });

  it('are given up after two timeouts without an octet, not before', () => {
    const peer = new Peer();
    startHeartbeat(peer, 10);
    vi.advanceTimersByTime(19_999);
    expect(peer.lost).toBe(0);
    vi.advanceTimersByTime(1);
    expect(peer.lost).toBe(1);
  });

  it('are not missed while anything comes', () => {
    const peer = new Peer();
    startHeartbeat(peer, 10);
    for (let count = 0; count < 10; count += 1) {
      vi.advanceTimersByTime(15_000);
      peer.receivedChunks += 1;
    }
    expect(peer.lost).toBe(0);
  });

  it('are not missed of a peer that is not being read, and counted anew afterwards', () => {
    const peer = new Peer();
    startHeartbeat(peer, 10);
    peer.halted = true;
    vi.advanceTimersByTime(100_000);
    expect(peer.lost).toBe(0);
    expect(peer.sent).toBe(20);
    peer.halted = false;
    vi.advanceTimersByTime(19_999);
    expect(peer.lost).toBe(0);
    vi.advanceTimersByTime(1);
    expect(peer.lost).toBe(1);
  });
});
