/** One consumer: who takes messages from a queue, how many at a time, and before whom. */

import type { FieldTable } from '../fields.ts';
import type { ConsumerEvents } from '../port.ts';
import type { Queue } from '../queue/queue.ts';
import type { Channel } from './channel.ts';

export class Consumer {
  readonly tag: string;
  readonly queue: Queue;
  readonly channel: Channel;
  readonly events: ConsumerEvents;
  readonly noAck: boolean;
  readonly exclusive: boolean;
  /** Higher ones are served first. */
  readonly priority: number;
  /** Most unacked deliveries; 0 = no limit. */
  readonly prefetch: number;
  readonly arguments: FieldTable;
  /** Longest time that a delivery may stay unacked; 0 = any. */
  readonly timeoutMs: number;
  unacked = 0;
  /** True once the peer knows that it is a consumer. */
  known = false;
  /** True when known, unless it waits behind a single active consumer. */
  active = false;
  /** True while it stands in the queue's round: see `ConsumerRound`. */
  inRound = false;

  constructor(spec: {
    readonly tag: string;
    readonly queue: Queue;
    readonly channel: Channel;
    readonly events: ConsumerEvents;
    readonly noAck: boolean;
    readonly exclusive: boolean;
    readonly priority: number;
    readonly prefetch: number;
    readonly arguments: FieldTable;
    readonly timeoutMs: number;
  }) {
    this.tag = spec.tag;
    this.queue = spec.queue;
    this.channel = spec.channel;
    this.events = spec.events;
    this.noAck = spec.noAck;
    this.exclusive = spec.exclusive;
    this.priority = spec.priority;
    this.prefetch = spec.prefetch;
    this.arguments = spec.arguments;
    this.timeoutMs = spec.timeoutMs;
  }

  /** Whether it would take a message now: that is its credit. */
  get hasCredit(): boolean {
    if (this.channel.paused || !this.active) return false;
    return this.noAck || ((this.prefetch === 0 || this.unacked < this.prefetch) && this.channel.hasRoom);
  }
}
